"""Sources as objects of one bucket, below one prefix; no other is read, whatever a `Source` says.

An object is read by its version. Where the bucket keeps none (or only the version `null`, which is replaced
like an object without), it is read on condition of its ETag, so that a new object is refused, not read.

Actions: GetObject and GetObjectVersion on the prefix (HeadObject needs the same), and ListBucket on the
bucket, without which a missing object is a 403.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Any, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError, FlexibleChecksumError
from urllib3.exceptions import HTTPError

from embedonce.core.errors import LimitExceeded, StoreUnavailable
from embedonce.core.source import Source
from embedonce.ports import SourceGone
from embedonce.stores.aws.calls import calling, code_of
from embedonce.stores.aws.clients import AwsClients

PIECE = 1 << 20
RESUMES = 3
"""Of one reading, where the connection breaks."""

# HEAD has no body, and so the status for a code. 405: a version that is a delete marker.
_GONE = frozenset(
    {"NoSuchKey", "NoSuchVersion", "404", "PreconditionFailed", "412", "MethodNotAllowed", "405"}
)


class S3Sources:
    def __init__(self, clients: AwsClients, bucket: str, prefix: str, *, spool_bytes: int) -> None:
        """:param spool_bytes: the most that is copied to a temporary file"""
        self._clients = clients
        self._bucket = bucket
        self._prefix = prefix
        self._spool_bytes = spool_bytes

    def metadata(self, source: Source) -> Mapping[str, str]:
        said: Mapping[str, str] = self._object(source).about()["Metadata"]
        return {name.lower(): _decoded(value) for name, value in said.items()}

    @contextmanager
    def open(self, source: Source) -> Iterator[ObjectReader]:
        there = self._object(source)
        reader = ObjectReader(there, there.about()["ContentLength"], self._spool_bytes)
        try:
            yield reader
        finally:
            reader.close()

    def _object(self, source: Source) -> _Object:
        ours = source.bucket == self._bucket and source.key.startswith(self._prefix)
        version = {"VersionId": source.version} if source.version else {}
        if source.version in ("", "null") and source.etag:
            # Events give it without its quotes.
            version["IfMatch"] = '"' + source.etag.strip('"') + '"'
        if not ours or not _is_key(source.key) or version in ({}, {"VersionId": "null"}):
            raise SourceGone
        return _Object(self._clients, {"Bucket": self._bucket, "Key": source.key, **version})


class _Object:
    """One version of an object. Calls raise `SourceGone` and `StoreUnavailable`."""

    def __init__(self, clients: AwsClients, name: dict[str, str]) -> None:
        self._clients = clients
        self._name = name

    def about(self) -> Any:
        with _asking():
            return self._clients.transfers().head_object(**self._name)  # type: ignore[arg-type]

    def read(self, end: int, size: int) -> Iterator[bytes]:
        """The first `end` bytes of `size`. A broken connection is resumed where it broke."""
        at = 0
        for _ in range(1 + RESUMES):
            try:
                for piece in self._read(at, end, whole=end == size):
                    at += len(piece)
                    yield piece
            except FlexibleChecksumError:
                raise StoreUnavailable("s3: FlexibleChecksumError") from None
            except (BotoCoreError, HTTPError, OSError) as broken:
                why = type(broken).__name__
            else:
                why = "IncompleteRead"
            if at >= end:
                return
        raise StoreUnavailable(f"s3: {why}")

    def _read(self, at: int, end: int, *, whole: bool) -> Iterator[bytes]:
        # Without a range S3 gives the object's checksum along, and botocore checks it.
        part = {} if whole and at == 0 else {"Range": f"bytes={at}-{end - 1}"}
        with _asking():
            answer: Any = self._clients.transfers().get_object(**self._name, **part)  # type: ignore[arg-type]
        with closing(answer["Body"]) as body:
            if part and not answer.get("ContentRange", "").startswith(f"bytes {at}-"):
                raise StoreUnavailable("s3: ContentRange")
            while piece := body.read(PIECE):
                yield piece


class ObjectReader:
    def __init__(self, there: _Object, size: int, spool_bytes: int) -> None:
        self.size = size
        self._there = there
        self._spool_bytes = spool_bytes
        self._spooled: BinaryIO | None = None
        self._files: list[BinaryIO] = []
        self._sha256: bytes | None = None

    def head(self, size: int) -> bytes:
        end = min(size, self.size)
        return b"".join(self._there.read(end, self.size)) if end > 0 else b""

    def pieces(self) -> Iterator[bytes]:
        if self._spooled is not None:
            with self.file() as file:
                while piece := file.read(PIECE):
                    yield piece
            return
        digest = hashlib.sha256()
        for piece in self._there.read(self.size, self.size) if self.size else ():
            digest.update(piece)
            yield piece
        self._sha256 = digest.digest()

    def file(self) -> BinaryIO:
        """A copy without a name, gone with the reader. Those of several calls share one offset."""
        if self.size > self._spool_bytes:
            raise LimitExceeded("file", limit=f"{self._spool_bytes} bytes", value=f"{self.size} bytes")
        try:
            if self._spooled is None:
                self._spooled = self._spool()
            self._spooled.seek(0)
            file = os.fdopen(os.dup(self._spooled.fileno()), "rb")
        except OSError as error:
            raise StoreUnavailable(f"sources: {type(error).__name__}") from None
        self._files.append(file)
        return file

    def sha256(self) -> bytes:
        if self._sha256 is None:
            for _ in self.pieces():
                pass
        assert self._sha256 is not None
        return self._sha256

    def close(self) -> None:
        for file in self._files:
            file.close()
        if self._spooled is not None:
            self._spooled.close()

    def _spool(self) -> BinaryIO:
        spooled: BinaryIO = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # closed with the reader
        try:
            for piece in self.pieces():
                left = memoryview(piece)
                while left:
                    left = left[spooled.write(left) :]
        except BaseException:
            spooled.close()
            raise
        return spooled


@contextmanager
def _asking() -> Iterator[None]:
    with calling("s3"):
        try:
            yield
        except ClientError as error:
            if code_of(error) in _GONE:
                raise SourceGone from None
            raise


def _is_key(key: str) -> bool:
    try:
        return key.encode() != b""
    except UnicodeEncodeError:
        return False


def _decoded(value: str) -> str:
    """S3 answers values that are not ASCII as RFC 2047 has it; what cannot be read so stays as it is."""
    try:
        return str(make_header(decode_header(value)))
    except (ValueError, LookupError, HeaderParseError):
        return value
