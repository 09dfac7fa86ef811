"""Upload handles: `upload://<128 random bits>.<SHA-256>`, both in hex.

The handle says which bytes it stands for, so nothing has to be remembered about it, and what is read under it
is hashed again. It is bound to a key by where its blob lies: under another key the same handle names nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from embedonce.core.errors import InvalidRequest

SCHEME = "upload://"
_FORM = re.compile(r"upload://([0-9a-f]{32})\.([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Upload:
    id: str
    sha256: bytes

    @property
    def handle(self) -> str:
        return f"{SCHEME}{self.id}.{self.sha256.hex()}"

    def blob_key(self, owner: str) -> str:
        return f"uploads/{owner}/{self.id}/{self.sha256.hex()}"


def parse(handle: str) -> Upload | None:
    found = _FORM.fullmatch(handle)
    return Upload(found[1], bytes.fromhex(found[2])) if found else None


def unknown(param: str) -> InvalidRequest:
    """Malformed, foreign, never put and expired ones are all the same to whoever asks."""
    return InvalidRequest(f"{param}: there is no such upload", param=param)
