"""`POST /v2/uploads`: leave to put a medium that is too large for a request, and a handle to name it by.

Segmind has no such route. Nothing is remembered about an upload but how much a key may still put that day:
the URL says what may be put, the handle says what was.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from embedonce.access.authenticate import Caller
from embedonce.access.keys import Scope
from embedonce.core.catalog import Catalog
from embedonce.core.errors import (
    InvalidRequest,
    LimitExceeded,
    QuotaExceeded,
    ServiceUnavailable,
    StoreUnavailable,
    WouldBlock,
)
from embedonce.core.patience import Patience
from embedonce.core.upload import Upload
from embedonce.dialects.fields import integer, json_object, string
from embedonce.dialects.segmind.routes import SegmindDialect
from embedonce.http.message import Request, Response
from embedonce.http.routes import Route
from embedonce.ports import BlobStore, Clock, PresignedPut, QuotaStore

URL_SECONDS = 900
ANY_TYPE = "application/octet-stream"
MAX_SHA256_CHARS = 64
MAX_TYPE_CHARS = 100


class UploadsUnavailable(ServiceUnavailable):
    """Not here at all, so coming again does not help."""

    retryable = False


class Uploads:
    """`max_bytes` of one upload; `quota_bytes` of one key and day (UTC)."""

    def __init__(
        self,
        dialect: SegmindDialect,
        blobs: BlobStore,
        quotas: QuotaStore,
        catalog: Catalog,
        clock: Clock,
        *,
        max_bytes: int,
        quota_bytes: int,
    ) -> None:
        self._dialect = dialect
        self._blobs = blobs
        self._quotas = quotas
        self._types = frozenset({ANY_TYPE}).union(*(model.limits.media_types for model in catalog))
        self._clock = clock
        self._max_bytes = max_bytes
        self._quota_bytes = quota_bytes

    def routes(self) -> list[Route]:
        return [Route("POST", "/v2/uploads", Scope.EMBED, self._dialect, self.begin)]

    def begin(self, request: Request, caller: Caller | None, _path: dict[str, str]) -> Response:
        assert caller is not None
        if request.patience < Patience.STORES:
            raise WouldBlock
        fields = json_object(request.body)
        size = self._size(fields.get("size"))
        content_type = self._type(fields.get("content_type"))
        upload = Upload(secrets.token_hex(16), sha256_of(fields.get("sha256")))
        try:
            put = self._presigned(upload, caller, size, content_type)
            self._take(caller, size)
        except StoreUnavailable:
            raise ServiceUnavailable("uploads are not possible right now", retry_after=2) from None
        answer = {
            # A store of our own does not know under which name it is reached.
            "upload_url": request.base_url + put.url if put.url.startswith("/") else put.url,
            "method": "PUT",
            "headers": dict(put.headers),
            "handle": upload.handle,
            "expires_in": URL_SECONDS,
        }
        return Response(200, orjson.dumps(answer))

    def _presigned(self, upload: Upload, caller: Caller, size: int, content_type: str) -> PresignedPut:
        put = self._blobs.presign_put(
            upload.blob_key(caller.key_id),
            size=size,
            sha256=upload.sha256,
            content_type=content_type,
            seconds=URL_SECONDS,
        )
        if put is None:
            raise UploadsUnavailable("uploads are not available here")
        return put

    def _take(self, caller: Caller, size: int) -> None:
        """What is asked for counts, whether or not it is put."""
        now = self._clock.now()
        today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        midnight = (today + timedelta(days=1)).timestamp()
        name = f"uploads/{caller.key_id}/{today:%Y-%m-%d}"
        if not self._quotas.take(name, size, limit=self._quota_bytes, expires=midnight):
            raise QuotaExceeded(
                f"size: this API key may upload {self._quota_bytes} bytes a day (UTC); {size} more would be "
                "over that",
                param="size",
                retry_after=math.ceil(midnight - now),
            )

    def _size(self, value: Any) -> int:
        size = integer(value, "size")
        if size is None or size < 1:
            raise InvalidRequest("size: required, in bytes, at least 1", param="size")
        if size > self._max_bytes:
            raise LimitExceeded("size", limit=f"{self._max_bytes} bytes", value=f"{size} bytes")
        return size

    def _type(self, value: Any) -> str:
        content_type = (string(value, "content_type", MAX_TYPE_CHARS) or "").lower()
        if content_type not in self._types:
            known = ", ".join(sorted(self._types))
            raise InvalidRequest(f"content_type: must be one of {known}", param="content_type")
        return content_type


def sha256_of(value: Any) -> bytes:
    """From hex, or base64 in either alphabet.

    :raises InvalidRequest: not 32 bytes in one of these
    """
    text = string(value, "sha256", MAX_SHA256_CHARS) or ""
    if re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text)
    if re.fullmatch(r"[A-Za-z0-9+/_-]{43}=?", text):
        try:
            return base64.b64decode(text[:43].replace("-", "+").replace("_", "/") + "=", validate=True)
        except binascii.Error:
            pass
    raise InvalidRequest("sha256: must be the SHA-256 of the bytes, in hex or base64", param="sha256")
