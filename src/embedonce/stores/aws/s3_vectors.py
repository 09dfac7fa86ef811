"""Vectors in S3 (Standard or Express One Zone): cheaper to keep and, for large vectors, to write.

Object: key `vectors/v1/<first 2 hex>/<64 hex of the fingerprint>`, body the little-endian float32 bytes, user
metadata as `StoredVector.metadata()` names it. Values are percent-encoded (UTF-8; letters, digits and
`_.-~/:@+=,` stand for themselves), because header values are ASCII and lose spaces at their ends.

Expiry is checked on read; a lifecycle rule on `vectors/` removes what nobody asks for.

Actions: GetObject, PutObject, and ListBucket on the bucket, without which a missing object is a 403;
DeleteObject only for a purge. Express One Zone: s3express:CreateSession instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from botocore.exceptions import ClientError

from embedonce.core.errors import StoreUnavailable
from embedonce.core.plan import VectorKey
from embedonce.core.record import StoredVector, size_of
from embedonce.ports import Clock
from embedonce.stores.aws.calls import calling, code_of, in_parallel, pause
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.rows import chunks, settle

PREFIX = "vectors/v1"
PUT_ATTEMPTS = 5
KEYS_PER_DELETE = 1000
PLAIN = "_.-~/:@+=,"
SCANNED_AT_ONCE = 64
"""Objects read side by side: what is not read within seconds counts as unavailable."""

_KEY = re.compile(f"{PREFIX}/[0-9a-f]{{2}}/([0-9a-f]{{64}})")
_ABSENT = ("NoSuchKey", "404")
_TAKEN = ("PreconditionFailed", "412")
_CONFLICT = ("ConditionalRequestConflict", "409", "OperationAborted")


@dataclass(frozen=True, slots=True)
class _Standing:
    """An object as read; `record` is None where it is expired or cannot be read back."""

    etag: str
    record: StoredVector | None


class S3Vectors:
    def __init__(self, clients: AwsClients, bucket: str, clock: Clock) -> None:
        self._clients = clients
        self._bucket = bucket
        self._clock = clock

    def get_many(self, keys: Sequence[VectorKey]) -> dict[bytes, StoredVector]:
        different = list(dict.fromkeys(key.fingerprint for key in keys))
        found: dict[bytes, StoredVector] = {}
        outcomes = in_parallel(self._clients.pool, self._read, different)
        for fingerprint, standing in zip(different, outcomes, strict=True):
            if isinstance(standing, _Standing) and standing.record is not None:
                found[fingerprint] = standing.record
        return found

    def put_many(
        self, entries: Sequence[tuple[VectorKey, StoredVector]], *, overwrite: bool = False
    ) -> list[StoredVector | None]:
        put = self._replace if overwrite else self._put
        return settle(
            entries,
            lambda chosen: in_parallel(self._clients.pool, put, chosen),
            overwrite=overwrite,
            now=self._clock.now(),
        )

    def delete_many(self, keys: Sequence[VectorKey]) -> None:
        """:raises StoreUnavailable: also when only some could not be deleted"""
        for some in chunks((key.fingerprint for key in keys), KEYS_PER_DELETE):
            with calling("s3"):
                response = self._clients.s3().delete_objects(
                    Bucket=self._bucket,
                    Delete={"Objects": [{"Key": object_key(each)} for each in some], "Quiet": True},
                )
            for failure in response.get("Errors", []):
                raise StoreUnavailable(f"s3: {failure.get('Code', 'unknown')}")

    def scan(self, *, vectors: bool) -> Iterator[tuple[VectorKey, StoredVector]]:
        """A HEAD (with vectors a GET) for each object."""
        read = self._scanned if vectors else self._described
        for page in self._listed():
            for some in chunks(page, SCANNED_AT_ONCE):
                for each in in_parallel(self._clients.pool, read, some):
                    if isinstance(each, StoreUnavailable):
                        raise each
                    if each is not None:
                        yield each

    def _listed(self) -> Iterator[list[bytes]]:
        """Fingerprints, up to 1,000 at a time."""
        more: Any = {}
        while True:
            with calling("s3"):
                page = self._clients.s3().list_objects_v2(Bucket=self._bucket, Prefix=f"{PREFIX}/", **more)
            found = (_KEY.fullmatch(each["Key"]) for each in page.get("Contents", []))
            yield [bytes.fromhex(match[1]) for match in found if match]
            if "NextContinuationToken" not in page:
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _scanned(self, fingerprint: bytes) -> tuple[VectorKey, StoredVector] | None:
        standing = self._read(fingerprint)
        if standing is None or standing.record is None:
            return None
        return VectorKey(fingerprint, standing.record.dimensions), standing.record

    def _described(self, fingerprint: bytes) -> tuple[VectorKey, StoredVector] | None:
        with calling("s3"):
            try:
                response = self._clients.s3().head_object(Bucket=self._bucket, Key=object_key(fingerprint))
            except ClientError as error:
                if code_of(error) in _ABSENT:
                    return None
                raise
        try:
            metadata = _plain(response["Metadata"])
            record = StoredVector.from_metadata(metadata, None)
            if response["ContentLength"] != size_of(metadata) or not record.live(self._clock.now()):
                return None
            return VectorKey(fingerprint, int(metadata["d"])), record
        except (ValueError, TypeError):
            return None

    def _read(self, fingerprint: bytes) -> _Standing | None:
        with calling("s3"):
            try:
                response = self._clients.s3().get_object(Bucket=self._bucket, Key=object_key(fingerprint))
                data = response["Body"].read()
            except ClientError as error:
                if code_of(error) in _ABSENT:
                    return None
                raise
        try:
            record = StoredVector.from_metadata(_plain(response["Metadata"]), data)
        except (ValueError, TypeError):
            return _Standing(response["ETag"], None)
        return _Standing(response["ETag"], record if record.live(self._clock.now()) else None)

    def _replace(self, entry: tuple[VectorKey, StoredVector]) -> StoredVector:
        key, record = entry
        with calling("s3"):
            self._clients.s3().put_object(
                Bucket=self._bucket,
                Key=object_key(key.fingerprint),
                Body=record.data,
                Metadata=_metadata(record),
            )
        return record

    def _put(self, entry: tuple[VectorKey, StoredVector]) -> StoredVector:
        key, record = entry
        over: str | None = None
        """The ETag of the dead object to replace; None: there must be none."""
        for attempt in range(PUT_ATTEMPTS):
            code = self._put_over(key.fingerprint, record, over)
            if code is None:
                return record
            if code in _CONFLICT:
                # Another conditional write of this key is under way.
                pause(self._clock, attempt)
                continue
            standing = self._read(key.fingerprint)
            if standing is not None and standing.record is not None:
                return standing.record
            over = standing.etag if standing is not None else None
        raise StoreUnavailable("s3: ConditionalRequestConflict")

    def _put_over(self, fingerprint: bytes, record: StoredVector, over: str | None) -> str | None:
        """None if it was written, else the code of the condition that failed."""
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if over is None else {"IfMatch": over}
        with calling("s3"):
            try:
                self._clients.s3().put_object(
                    Bucket=self._bucket,
                    Key=object_key(fingerprint),
                    Body=record.data,
                    Metadata=_metadata(record),
                    **condition,
                )
            except ClientError as error:
                code = code_of(error)
                if code in _TAKEN or code in _CONFLICT or (over is not None and code in _ABSENT):
                    return code
                raise
        return None


def object_key(fingerprint: bytes) -> str:
    name = fingerprint.hex()
    return f"{PREFIX}/{name[:2]}/{name}"


def _metadata(record: StoredVector) -> dict[str, str]:
    return {name: quote(value, safe=PLAIN) for name, value in record.metadata().items()}


def _plain(metadata: dict[str, str]) -> dict[str, str]:
    return {name: unquote(value, errors="strict") for name, value in metadata.items()}
