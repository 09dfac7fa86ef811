"""Media that were put beforehand: told apart by their beginning, read and hashed when they are sent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from embedonce.core.content import LINK_SECONDS, MediaPart, UploadedMedia
from embedonce.core.errors import InvalidRequest, LimitExceeded, ServiceUnavailable, StoreUnavailable
from embedonce.core.upload import parse, unknown
from embedonce.media.inspect import check_expected, inspected, sniffed
from embedonce.ports import BlobStore

HEAD_BYTES = 1024
"""What telling a type apart takes (a PDF may begin within the first KiB)."""


class UploadSource:
    """`max_bytes` of one upload."""

    def __init__(self, blobs: BlobStore, *, max_bytes: int) -> None:
        self._blobs = blobs
        self.max_bytes = max_bytes

    def part(
        self,
        source: UploadedMedia,
        owner: str,
        *,
        whole: bool,
        left: Callable[[], float],
        take: Callable[[int], None],
    ) -> MediaPart:
        """Without its bytes, and not measured yet, unless `whole`. `take` is told its size before it is read.

        :raises InvalidRequest: this owner has none of that handle, or it is not what its field is for
        :raises ServiceUnavailable: it cannot be read now
        """
        upload = parse(source.handle)
        if upload is None:
            raise unknown(source.param)
        key = upload.blob_key(owner)
        try:
            begun = self._begun(key, upload.sha256, source)
            take(begun.size)
            if not whole:
                return begun
            data = self._blobs.get(key, most=self.max_bytes)
            link = self._blobs.presign_get(key, seconds=LINK_SECONDS)
        except StoreUnavailable:
            raise ServiceUnavailable("uploads cannot be read right now", retry_after=2) from None
        except ValueError:
            raise LimitExceeded(source.param, limit=f"{self.max_bytes} bytes", value="more") from None
        if data is None or hashlib.sha256(data).digest() != upload.sha256:
            raise unknown(source.param)
        part = inspected(data, source.expected, source.param, seconds=left())
        return replace(part, link=link)

    def _begun(self, key: str, sha256: bytes, source: UploadedMedia) -> MediaPart:
        begun = self._blobs.start(key, HEAD_BYTES)
        if begun is None:
            raise unknown(source.param)
        head, size = begun
        if size > self.max_bytes:
            raise LimitExceeded(source.param, limit=f"{self.max_bytes} bytes", value=str(size))
        found = sniffed(head)
        if found is None:
            raise InvalidRequest(f"{source.param}: is of no known media type", param=source.param)
        modality, media_type = found
        check_expected(modality, media_type, source.expected, source.param)
        return MediaPart(modality, media_type, sha256, size)
