"""Sources as files of named folders. A bucket is the name of one, a key the path below it.

A key is parts joined by `/`; none is empty, `.` or `..`, or no valid UTF-8. Nothing leads out of a folder
(`embedded.folder`): symbolic links below it are not followed. What is no regular file is no source.

A file's version is what its descriptor says of it (`version_of`). It is compared after every read, before
what was read is given away. A writer of the file itself is noticed by the times it leaves there, which have
the grain of the kernel's clock (some ms, unless it is a recent one): a change of equal length within one
grain of the change before is not. Whoever replaces files by renaming is always noticed.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from embedonce.core.errors import StoreUnavailable
from embedonce.core.source import Source
from embedonce.ports import SourceGone
from embedonce.stores.embedded.folder import Folder, translated

PIECE = 1 << 20

_NOT_THERE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.ENAMETOOLONG, errno.EISDIR}
)
"""What a missing file, a link (ENOTDIR and ELOOP, BSD: EMLINK), a socket or a device (ENXIO) are refused
with."""


def version_of(about: os.stat_result) -> str:
    """Times of change in ns, size and inode in hexadecimal."""
    return f"{about.st_ctime_ns:x}-{about.st_mtime_ns:x}-{about.st_size:x}-{about.st_ino:x}"


class DirectorySources:
    def __init__(self, folders: Mapping[str, Path]) -> None:
        """:param folders: by bucket; may themselves be reached over links, which are the operator's"""
        self._roots = dict(folders)

    def metadata(self, source: Source) -> Mapping[str, str]:
        """None, of a file that is there."""
        with self.open(source):
            return {}

    @contextmanager
    def open(self, source: Source) -> Iterator[FileReader]:
        """A file that was changed in the meantime raises `SourceGone` at the end too, even in place of what
        else was raised: that may have come of the change."""
        descriptor = self._opened(source)
        reader = FileReader(descriptor, source.version)
        try:
            reader.check()
            try:
                yield reader
            except Exception:
                reader.check()
                raise
            reader.check()
        finally:
            reader.close()
            os.close(descriptor)

    def _opened(self, source: Source) -> int:
        root = self._roots.get(source.bucket)
        parts = _parts(source.key)
        if root is None or parts is None:
            raise SourceGone
        descriptor = None
        with translated("sources"):
            try:
                descriptor = Folder(root).reading(parts)
            except OSError as error:
                if error.errno not in _NOT_THERE:
                    raise
            if descriptor is None and not root.is_dir():
                raise StoreUnavailable("sources: the folder is not there")
        if descriptor is None:
            raise SourceGone
        return descriptor


class FileReader:
    def __init__(self, descriptor: int, version: str) -> None:
        """:param descriptor: stays the caller's"""
        self._descriptor = descriptor
        self._version = version
        self._files: list[BinaryIO] = []
        self._sha256: bytes | None = None
        self.size = os.fstat(descriptor).st_size

    def head(self, size: int) -> bytes:
        return b"".join(self._pieces(min(size, self.size)))

    def pieces(self) -> Iterator[bytes]:
        digest = hashlib.sha256()
        for piece in self._pieces(self.size):
            digest.update(piece)
            yield piece
        self.check()
        self._sha256 = digest.digest()

    def file(self) -> BinaryIO:
        """The file itself, closed with the reader. What is read of it is known to be that version when
        `sha256` answers, or the reader is closed, after it."""
        with translated("sources"):
            descriptor = os.dup(self._descriptor)
            os.lseek(descriptor, 0, os.SEEK_SET)
        self._files.append(os.fdopen(descriptor, "rb"))
        self.check()
        return self._files[-1]

    def sha256(self) -> bytes:
        if self._sha256 is None:
            for _ in self.pieces():
                pass
        self.check()
        assert self._sha256 is not None
        return self._sha256

    def check(self) -> None:
        with translated("sources"):
            about = os.fstat(self._descriptor)
        if version_of(about) != self._version:
            raise SourceGone

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _pieces(self, end: int) -> Iterator[bytes]:
        at = 0
        while at < end:
            with translated("sources"):
                # Not by the descriptor's offset, which the files of `file` share.
                piece = os.pread(self._descriptor, min(PIECE, end - at), at)
            self.check()
            if not piece:
                raise SourceGone
            at += len(piece)
            yield piece


def _parts(key: str) -> tuple[str, ...] | None:
    """None: no key of a file."""
    parts = tuple(key.split("/"))
    try:
        key.encode()
    except UnicodeEncodeError:
        return None
    return None if "\0" in key or not {"", ".", ".."}.isdisjoint(parts) else parts
