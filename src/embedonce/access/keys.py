"""API keys: how they are made, recognised and kept.

A key is `eo_` + 43 characters of base64url (256 random bits) + 6 of checksum. The checksum makes a mistyped
or made-up key cost no store read. Only the SHA-256 of a key is ever kept; the key itself is shown once.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import zlib
from enum import StrEnum

from embedonce.ports import AccessKey, KeyLimits

PREFIX = "eo_"
_SECRET_BYTES = 32
_SECRET_CHARS = 43
_CHECKSUM_CHARS = 6


class Scope(StrEnum):
    """What a key may do. `EMBED` is the default; nothing else ever is."""

    EMBED = "embed"
    CACHE_REFRESH = "cache:refresh"
    ADMIN = "admin"


def _checksum(secret: str) -> str:
    crc = zlib.crc32(secret.encode()).to_bytes(4, "big")
    return base64.urlsafe_b64encode(crc).decode().rstrip("=")


def new_key() -> str:
    raw = secrets.token_bytes(_SECRET_BYTES)
    secret = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    return f"{PREFIX}{secret}{_checksum(secret)}"


def well_formed(key: str) -> bool:
    if not key.isascii() or len(key) != len(PREFIX) + _SECRET_CHARS + _CHECKSUM_CHARS:
        return False
    secret = key[len(PREFIX) : -_CHECKSUM_CHARS]
    return key.startswith(PREFIX) and key[-_CHECKSUM_CHARS:] == _checksum(secret)


def hash_of(key: str) -> str:
    """SHA-256 in hex: what is kept and looked up. Keys have 256 bits, so no slow hash is needed."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def issue(
    name: str,
    *,
    namespace: str,
    scopes: frozenset[str],
    isolated: bool,
    now: float,
    limits: KeyLimits | None = None,
) -> tuple[str, AccessKey]:
    """A new key and its record; the first is to be shown once and forgotten.

    An isolated key gets a namespace of its own that no other key can be given.
    """
    key = new_key()
    key_id = f"key_{secrets.token_hex(8)}"
    record = AccessKey(
        id=key_id,
        secret_hash=hash_of(key),
        name=name,
        namespace=f"{ISOLATED}{key_id}" if isolated else namespace,
        scopes=scopes,
        isolated=isolated,
        created=int(now),
        limits=limits or KeyLimits(),
    )
    return key, record


ISOLATED = "isolated/"
"""Namespaces that begin so belong to one key; `checked_namespace` refuses them to everybody else."""
SHARED = "shared"
"""The namespace of keys that were given no other."""


def checked_namespace(name: str) -> str:
    """:raises ValueError: not 1 to 64 of the characters a-z, A-Z, 0-9, dot, dash, underscore"""
    plain = name.isascii() and name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    if not plain or len(name) > 64:
        raise ValueError("a namespace has 1 to 64 of the characters a-z A-Z 0-9 . - _")
    return name
