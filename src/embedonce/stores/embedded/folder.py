"""A tree of files that nothing leads out of.

Every step down is one `open` relative to the folder above that follows no symbolic link, so there is no
moment between a check and its use. Folders are made as 0700 and files as 0600.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from embedonce.core.errors import StoreUnavailable

TEMPORARY = "~"
"""Begins the names of files that are being written; no key has it."""
ATTEMPTS = 5

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BELOW = _FOLDER | os.O_NOFOLLOW
# Without O_NONBLOCK, opening a pipe that somebody put there would wait for ever.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def translated(what: str = "blobs") -> Iterator[None]:
    """Without the path, which holds ids."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"{what}: {type(error).__name__}") from None


class Writing:
    """A file on its way: nobody sees it before `commit`, and leaving the `with` block without that drops it.

    Not thread-safe. Raises `StoreUnavailable`, and `ValueError` where it is over already.
    """

    def __init__(self, folder: int, name: str, what: str = "blobs") -> None:
        """:param folder: descriptor of the folder that holds it; closed with this object"""
        self._what = what
        self._folder = folder
        self._name = name
        self._temporary = TEMPORARY + secrets.token_hex(16)
        self._file = os.open(self._temporary, _NEW, 0o600, dir_fd=folder)
        self._open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def write(self, data: bytes) -> None:
        self._check()
        with translated(self._what):
            left = memoryview(data)
            while left:
                left = left[os.write(self._file, left) :]

    def commit(self, when: float, *, replace: bool) -> None:
        """Durable when it returns. `when` (seconds since 1970) becomes its age.

        :raises FileExistsError: there is one of this name, and it is not to be replaced
        """
        self._check()
        taken = False
        with translated(self._what):
            try:
                os.utime(self._file, (when, when))
                os.fsync(self._file)
                places = {"src_dir_fd": self._folder, "dst_dir_fd": self._folder}
                if replace:
                    os.replace(self._temporary, self._name, **places)
                else:
                    os.link(self._temporary, self._name, follow_symlinks=False, **places)
                os.fsync(self._folder)
            except FileExistsError:
                taken = True
            finally:
                self.abort()
        if taken:
            raise FileExistsError("a file of this name exists")

    def abort(self) -> None:
        """Harmless after `commit`, and when repeated."""
        if self._open:
            self._open = False
            with suppress(OSError):  # renamed; or left to the sweep
                os.unlink(self._temporary, dir_fd=self._folder)
            os.close(self._file)
            os.close(self._folder)

    def _check(self) -> None:
        # The number of a closed descriptor is soon another file's.
        if not self._open:
            raise ValueError("committed or aborted before")


class Folder:
    def __init__(self, root: Path, what: str = "blobs") -> None:
        """:param root: made at the first write; may itself be reached over links, which are the operator's
        :param what: is kept there, for errors
        """
        self._root = root
        self._what = what

    def writing(self, parts: Sequence[str]) -> Writing:
        """:raises OSError: something else than a folder is on the way"""
        for attempt in range(ATTEMPTS):
            try:
                folder = self._made(parts[:-1])
                try:
                    return Writing(folder, parts[-1], self._what)
                except BaseException:
                    os.close(folder)
                    raise
            except FileNotFoundError:
                # A sweep took the folder, empty as it was, before there was a file in it.
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def reading(self, parts: Sequence[str]) -> int | None:
        """A descriptor of the file; None: there is none (a folder is none).

        :raises OSError: something on the way, or the file, is neither folder nor file
        """
        try:
            with self._found(parts[:-1]) as folder:
                file = os.open(parts[-1], _READ, dir_fd=folder)
        except FileNotFoundError:
            return None
        mode = os.fstat(file).st_mode
        if stat.S_ISREG(mode):
            return file
        os.close(file)
        if stat.S_ISDIR(mode):
            return None
        raise OSError(errno.ENXIO, "neither file nor folder")

    def unlink(self, parts: Sequence[str]) -> None:
        with suppress(FileNotFoundError, IsADirectoryError), self._found(parts[:-1]) as folder:
            os.unlink(parts[-1], dir_fd=folder)

    def prune(self, before: float) -> None:
        """Unlinks files last changed before that time, and folders that are empty; links and whatever else is
        there stay as they are."""
        with suppress(FileNotFoundError):
            root = os.open(self._root, _FOLDER)
            try:
                _prune(root, before)
            finally:
                os.close(root)

    @contextmanager
    def _found(self, parts: Sequence[str]) -> Iterator[int]:
        folder = os.open(self._root, _FOLDER)
        try:
            for part in parts:
                above, folder = folder, os.open(part, _BELOW, dir_fd=folder)
                os.close(above)
            yield folder
        finally:
            os.close(folder)

    def _made(self, parts: Sequence[str]) -> int:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(self._root, _FOLDER)
        try:
            for part in parts:
                with suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=folder)
                    os.fsync(folder)
                above, folder = folder, os.open(part, _BELOW, dir_fd=folder)
                os.close(above)
        except BaseException:
            os.close(folder)
            raise
        return folder


def _prune(folder: int, before: float) -> None:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        with suppress(FileNotFoundError):
            about = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(about.st_mode) and about.st_mtime < before:
                os.unlink(name, dir_fd=folder)
            elif stat.S_ISDIR(about.st_mode):
                below = os.open(name, _BELOW, dir_fd=folder)
                try:
                    _prune(below, before)
                finally:
                    os.close(below)
                with suppress(OSError):  # not empty, as most
                    os.rmdir(name, dir_fd=folder)
