"""The development key: random, made once per installation, readable by its owner only."""

from __future__ import annotations

import os
from pathlib import Path

from embedonce.access.keys import new_key

FILE_NAME = "development.key"


def development_key(data_dir: Path, given: str | None) -> str:
    """The given key, else the one in the data folder, made if there is none yet.

    :raises OSError: the folder cannot be written
    """
    if given:
        return given
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = data_dir / FILE_NAME
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        kept = path.read_text().strip()
        if kept:
            return kept
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
    key = new_key()
    with os.fdopen(descriptor, "w") as file:
        file.write(key + "\n")
    return key
