"""Results as objects of one bucket, below one prefix: key `<prefix><name>`, and where that has more than 1024
bytes the name is cut as `embedonce.core.resultname` says. Content types are application/json and, for
`.jsonl`, application/x-ndjson.

What is larger than one part is a multipart upload; S3 shows nothing of it before it is complete. One that was
neither completed nor aborted, as its process was killed, is left to a lifecycle rule of the bucket.

Actions: PutObject, AbortMultipartUpload and DeleteObject on the prefix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from embedonce.core.errors import StoreUnavailable
from embedonce.core.resultname import MAX_NAME, MAX_PART, fitted
from embedonce.stores.aws.calls import calling
from embedonce.stores.aws.clients import AwsClients

PART_BYTES = 8 << 20
MAX_PARTS = 9000
"""S3 takes 10,000."""
KEYS_PER_DELETE = 1000


class S3Results:
    def __init__(self, clients: AwsClients, bucket: str, prefix: str) -> None:
        """:raises ValueError: a prefix that leaves a name no room"""
        self._clients = clients
        self._bucket = bucket
        self._prefix = prefix
        self._room = MAX_NAME - len(prefix.encode())
        if self._room < MAX_PART:
            raise ValueError(f"the prefix of results may have {MAX_NAME - MAX_PART} bytes")

    @contextmanager
    def writing(self, name: str) -> Iterator[ObjectWriter]:
        """:raises ValueError: a name that is empty or no valid UTF-8"""
        writer = ObjectWriter(self._clients, {"Bucket": self._bucket, "Key": self._key(name)})
        try:
            yield writer
        finally:
            writer.abort()

    def delete_many(self, names: Sequence[str]) -> None:
        """:raises StoreUnavailable: also when only some could not be deleted
        :raises ValueError: as `writing`
        """
        keys = [self._key(name) for name in names]
        for at in range(0, len(keys), KEYS_PER_DELETE):
            some = [{"Key": key} for key in keys[at : at + KEYS_PER_DELETE]]
            with calling("s3"):
                answer: Any = self._clients.transfers().delete_objects(
                    Bucket=self._bucket,
                    Delete={"Objects": some, "Quiet": True},  # type: ignore[typeddict-item]
                )
            for failure in answer.get("Errors", []):
                raise StoreUnavailable(f"s3: {failure.get('Code', 'unknown')}")

    def _key(self, name: str) -> str:
        if not name:
            raise ValueError("no result can be called that")
        name.encode()
        return self._prefix + fitted(name, self._room)


class ObjectWriter:
    """Raises `StoreUnavailable`, and `ValueError` where it is over already or gets too large."""

    def __init__(self, clients: AwsClients, target: dict[str, str]) -> None:
        self._clients = clients
        self._target = target
        self._waiting = bytearray()
        self._upload: str | None = None
        self._parts: list[dict[str, Any]] = []
        self._open = True

    def write(self, data: bytes) -> None:
        self._check()
        self._waiting += data
        while len(self._waiting) > PART_BYTES:
            self._send_part(bytes(self._waiting[:PART_BYTES]))
            del self._waiting[:PART_BYTES]

    def commit(self) -> None:
        """Durable when it returns."""
        self._check()
        if self._upload is None:
            with calling("s3"):
                self._client().put_object(**self._target, ContentType=self._type(), Body=bytes(self._waiting))
        else:
            self._send_part(bytes(self._waiting))
            with calling("s3"):
                self._client().complete_multipart_upload(
                    **self._target, UploadId=self._upload, MultipartUpload={"Parts": self._parts}
                )
        self._upload = None
        self.abort()

    def abort(self) -> None:
        """Harmless after `commit`, and when repeated."""
        self._open = False
        self._waiting.clear()
        upload, self._upload = self._upload, None
        if upload is not None:
            with suppress(StoreUnavailable), calling("s3"):
                self._client().abort_multipart_upload(**self._target, UploadId=upload)

    def _send_part(self, data: bytes) -> None:
        number = len(self._parts) + 1
        if number > MAX_PARTS:
            raise ValueError(f"a result has at most {MAX_PARTS * PART_BYTES} bytes")
        with calling("s3"):
            if self._upload is None:
                begun = self._client().create_multipart_upload(
                    **self._target, ContentType=self._type(), ChecksumAlgorithm="CRC32"
                )
                self._upload = begun["UploadId"]
            sent = self._client().upload_part(
                **self._target,
                UploadId=self._upload,
                PartNumber=number,
                ChecksumAlgorithm="CRC32",
                Body=data,
            )
        # S3 asks for the checksums again, of an upload that was begun with them.
        said = {name: sent[name] for name in ("ETag", "ChecksumCRC32") if name in sent}
        self._parts.append({"PartNumber": number, **said})

    def _client(self) -> Any:
        return self._clients.transfers()

    def _type(self) -> str:
        return "application/x-ndjson" if self._target["Key"].endswith(".jsonl") else "application/json"

    def _check(self) -> None:
        if not self._open:
            raise ValueError("committed or aborted before")
