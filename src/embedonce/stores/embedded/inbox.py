"""What lies in a folder and may be a source: regular files, by key (see `embedded.sources`).

Left out are: symbolic links and whatever else is no file; files and folders whose names begin with `.` or
`~`, end with `~`, or as names of unfinished downloads and editors do, or are no valid UTF-8; results of ours;
what lies deeper than 64 folders; folders that may not be read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from embedonce.core.errors import StoreUnavailable
from embedonce.core.resultname import SUFFIXES

MAX_DEPTH = 64
TEMPORARY = (".part", ".tmp", ".crdownload", ".download", ".swp", "~")

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BELOW = _FOLDER | os.O_NOFOLLOW


def scan(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Keys, folder by folder in the order of their names, and what `lstat` says of each.

    :raises StoreUnavailable: the folder itself cannot be read
    """
    try:
        folder = os.open(root, _FOLDER)
    except OSError as error:
        raise StoreUnavailable(f"inbox: {type(error).__name__}") from None
    try:
        yield from _below(folder, "", 0)
    finally:
        os.close(folder)


def _below(folder: int, prefix: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError as error:
        raise StoreUnavailable(f"inbox: {type(error).__name__}") from None
    for name in filter(_counts, names):
        try:
            about = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(about.st_mode) and not name.endswith(SUFFIXES):
                yield prefix + name, about
            if not stat.S_ISDIR(about.st_mode) or depth == MAX_DEPTH or name.endswith(SUFFIXES):
                continue
            below = os.open(name, _BELOW, dir_fd=folder)
        except OSError:
            continue  # gone, or another's
        try:
            yield from _below(below, f"{prefix}{name}/", depth + 1)
        finally:
            os.close(below)


def _counts(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return not name.startswith((".", "~")) and not name.lower().endswith(TEMPORARY)
