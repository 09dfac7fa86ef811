"""Blobs as files of a folder, their keys as paths. What leads out of it is refused (`embedded.folder`).

A folder and a file cannot share a name, so `a` and `a/b` are not both possible here: `StoreUnavailable`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from embedonce.ports import Clock, PresignedPut
from embedonce.stores.blobkeys import checked, segments
from embedonce.stores.embedded.folder import Folder, Writing, translated

Signer = Callable[[str, int, bytes, str, int], PresignedPut | None]
"""(key, size, sha256, content type, seconds), as `BlobStore.presign_put` is asked."""


class BlobWriter:
    """A blob that comes in pieces. Leaving the `with` block without `commit` drops it.

    Not thread-safe. Raises `StoreUnavailable`, and `ValueError` where it is over already.
    """

    def __init__(self, writing: Writing, clock: Clock) -> None:
        self._writing = writing
        self._clock = clock

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def write(self, data: bytes) -> None:
        self._writing.write(data)

    def commit(self) -> None:
        """Durable when it returns.

        :raises FileExistsError: there is one of this key by now; that one stays
        """
        self._writing.commit(self._clock.now(), replace=False)

    def abort(self) -> None:
        """Harmless after `commit`, and when repeated."""
        self._writing.abort()


class DirectoryBlobs:
    def __init__(self, folder: Path, clock: Clock, sign: Signer | None = None) -> None:
        """:param sign: makes URLs to put blobs by; None: they are not reached by URL"""
        self._folder = Folder(folder)
        self._clock = clock
        self._sign = sign

    def create(self, key: str) -> BlobWriter:
        """To write a blob that must not exist yet, piece by piece; it does so from `commit` on.

        :raises ValueError: a key of another form
        """
        parts = segments(key)
        with translated():
            return BlobWriter(self._folder.writing(parts), self._clock)

    def put(self, key: str, data: bytes) -> None:
        parts = segments(key)
        with translated():
            writing = self._folder.writing(parts)
        with writing:
            writing.write(data)
            writing.commit(self._clock.now(), replace=True)

    def get(self, key: str, *, most: int) -> bytes | None:
        read = self._read(key, most + 1)
        if read is None:
            return None
        data, size = read
        if size > most or len(data) > most:
            raise ValueError(f"the blob has more than {most} bytes")
        return data

    def start(self, key: str, size: int) -> tuple[bytes, int] | None:
        return self._read(key, size)

    def delete_many(self, keys: Sequence[str]) -> None:
        """Empty folders are left to `sweep`."""
        paths = [segments(key) for key in keys]
        with translated():
            for parts in paths:
                self._folder.unlink(parts)

    def presign_put(
        self, key: str, *, size: int, sha256: bytes, content_type: str, seconds: int
    ) -> PresignedPut | None:
        checked(key)
        return self._sign(key, size, sha256, content_type, seconds) if self._sign else None

    def presign_get(self, key: str, *, seconds: int) -> str | None:  # noqa: ARG002
        checked(key)
        return None

    def sweep(self, before: float) -> None:
        """Also what was begun and neither committed nor aborted, and empty folders."""
        with translated():
            self._folder.prune(before)

    def _read(self, key: str, most: int) -> tuple[bytes, int] | None:
        """The first `most` bytes, and how many there are."""
        parts = segments(key)
        with translated():
            descriptor = self._folder.reading(parts)
            if descriptor is None:
                return None
            with os.fdopen(descriptor, "rb") as file:
                return file.read(most), os.fstat(file.fileno()).st_size
