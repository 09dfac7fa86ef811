"""Secrets of one installation: random, made once, readable by their owner only."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

SECRET_BYTES = 32


def secret_file(data_dir: Path, name: str) -> bytes:
    """The 32 bytes in that file of the data folder, made if there is none yet.

    Written aside and linked into place: of several processes that make it at once one wins, and none reads
    half of it.

    :raises OSError: the folder cannot be read or written
    :raises ValueError: the file holds something else
    """
    path = data_dir / name
    if not path.exists():
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(prefix=f".{name}.", dir=data_dir)  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(SECRET_BYTES))
                file.flush()
                os.fsync(file.fileno())
            os.link(aside, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(aside)
    kept = path.read_bytes()
    if len(kept) != SECRET_BYTES:
        raise ValueError(f"{name} does not hold {SECRET_BYTES} bytes")
    return kept
