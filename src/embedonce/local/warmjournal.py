"""How far a run of `embedonce warm` has come, in one small file, so that the next one skips what is done."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from embedonce.usecases.warm.entry import Mark, Tally

FORMAT = 1
FOLDER = "warm"
BELIEVED_SECONDS = 7 * 86_400.0
"""What is older is not believed: vectors may have expired or been purged since."""


@dataclass(frozen=True, slots=True)
class Kept:
    """`started`: when the first of the runs began, in seconds since 1970."""

    mark: Mark
    tally: Tally
    started: float


def key_of(parts: dict[str, Any]) -> str:
    """Of what is embedded and how: another model, field or provider is another run."""
    said = json.dumps(parts, sort_keys=True, default=str).encode()
    return hashlib.sha256(said).hexdigest()


class Journal:
    """`make`: the folder it is in, where that may be made."""

    def __init__(self, path: Path, key: str, *, make: Path | None = None) -> None:
        self.path = path
        self._key = key
        self._make = make

    def read(self, now: float, *, believed: float = BELIEVED_SECONDS) -> Kept | None:
        """None: there is none, of this very run, that can be believed."""
        try:
            said = json.loads(self.path.read_bytes())
            if (said["format"], said["key"]) != (FORMAT, self._key) or not 0 <= now - said["at"] < believed:
                return None
            mark: dict[str, Any] = {
                name: bytes.fromhex(value) if isinstance(value, str) else int(value)
                for name, value in said["mark"].items()
            }
            tally = {each.name: int(said["tally"][each.name]) for each in fields(Tally)}
            return Kept(Mark(**mark), Tally(**tally), float(said["started"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, kept: Kept, now: float) -> None:
        """As a whole or not at all, and on the disk when this returns.

        :raises OSError: it cannot be written
        """
        mark = {k: v.hex() if isinstance(v, bytes) else v for k, v in asdict(kept.mark).items()}
        said = {
            "format": FORMAT,
            "key": self._key,
            "at": now,
            "started": kept.started,
            "mark": mark,
            "tally": asdict(kept.tally),
        }
        if self._make is not None:
            self._make.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = self.path.with_name(f"{self.path.name}.{secrets.token_hex(8)}.tmp")
        try:
            with open(beside, "wb") as file:
                file.write(json.dumps(said).encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self.path)
        finally:
            with suppress(FileNotFoundError):
                beside.unlink()
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
