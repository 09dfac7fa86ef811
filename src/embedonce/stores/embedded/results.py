"""Results as files of a folder, their names as paths below it. What leads out of it is refused
(`embedded.folder`); of two results one of which would be a folder of the other's, the second is
`StoreUnavailable`.

A result that is being written has a name of its own, `~` and 32 hexadecimal digits, in the folder where it
will be. Where the process was killed it stays behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from embedonce.core.resultname import MAX_PART
from embedonce.ports import Clock
from embedonce.stores.embedded.folder import Folder, Writing, translated


class FileWriter:
    def __init__(self, writing: Writing, clock: Clock) -> None:
        self._writing = writing
        self._clock = clock

    def write(self, data: bytes) -> None:
        self._writing.write(data)

    def commit(self) -> None:
        """Durable when it returns."""
        self._writing.commit(self._clock.now(), replace=True)


class DirectoryResults:
    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = root
        self._folder = Folder(root, "results")
        self._clock = clock

    @contextmanager
    def writing(self, name: str) -> Iterator[FileWriter]:
        """:raises ValueError: see `path_of`"""
        parts = path_of(name)
        with translated("results"):
            writing = self._folder.writing(parts)
        with writing:
            yield FileWriter(writing, self._clock)

    def delete_many(self, names: Sequence[str]) -> None:
        """Folders stay, even if empty.

        :raises ValueError: see `path_of`
        """
        paths = [path_of(name) for name in names]
        with translated("results"):
            for parts in paths:
                try:
                    self._folder.unlink(parts)
                except NotADirectoryError:
                    # On the way is a file or a link: nothing of ours is behind it.
                    if not self._root.is_dir():
                        raise


def path_of(name: str) -> tuple[str, ...]:
    """:raises ValueError: no path below a folder: a part that is empty, `.` or `..`, has a NUL, is no valid
    UTF-8 or has more than 255 bytes of it"""
    parts = tuple(name.split("/"))
    if not all(map(_allowed, parts)):
        raise ValueError("no result can be called that")
    return parts


def _allowed(part: str) -> bool:
    return part not in ("", ".", "..") and "\0" not in part and len(part.encode()) <= MAX_PART
