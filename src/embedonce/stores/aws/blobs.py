"""Blobs in S3: keys and bytes as they are. A lifecycle rule of the bucket removes what is a day old.

What is put by a presigned URL is exactly what was agreed: size, type, SHA-256 and `If-None-Match: *` are
signed, and S3 checks the body against the SHA-256.

Actions: GetObject, PutObject, DeleteObject, and ListBucket on the bucket, without which a missing object is a
403.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import closing

from botocore.exceptions import ClientError

from embedonce.core.errors import StoreUnavailable
from embedonce.ports import PresignedPut
from embedonce.stores.aws.calls import calling, code_of
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.blobkeys import checked

KEYS_PER_DELETE = 1000
MAX_PUT_SECONDS = 900

_ABSENT = ("NoSuchKey", "404")
_EMPTY = ("InvalidRange", "416")


class S3Blobs:
    def __init__(self, clients: AwsClients, bucket: str) -> None:
        self._clients = clients
        self._bucket = bucket

    def put(self, key: str, data: bytes) -> None:
        checked(key)
        with calling("s3"):
            self._clients.blobs().put_object(Bucket=self._bucket, Key=key, Body=data)

    def get(self, key: str, *, most: int) -> bytes | None:
        checked(key)
        with calling("s3"):
            try:
                answer = self._clients.blobs().get_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if code_of(error) in _ABSENT:
                    return None
                raise
            with closing(answer["Body"]) as body:
                data = body.read() if answer["ContentLength"] <= most else None
        if data is None:
            raise ValueError(f"the blob has more than {most} bytes")
        return data

    def start(self, key: str, size: int) -> tuple[bytes, int] | None:
        checked(key)
        with calling("s3"):
            try:
                answer = self._clients.blobs().get_object(
                    Bucket=self._bucket, Key=key, Range=f"bytes=0-{max(size, 1) - 1}"
                )
            except ClientError as error:
                if code_of(error) in _ABSENT:
                    return None
                if code_of(error) in _EMPTY:
                    return b"", 0
                raise
            with closing(answer["Body"]) as body:
                data = body.read()
        # `bytes 0-9/1234`
        return data[:size], int(answer["ContentRange"].rpartition("/")[2])

    def delete_many(self, keys: Sequence[str]) -> None:
        """:raises StoreUnavailable: also when only some could not be deleted"""
        for key in keys:
            checked(key)
        for at in range(0, len(keys), KEYS_PER_DELETE):
            some = keys[at : at + KEYS_PER_DELETE]
            with calling("s3"):
                answer = self._clients.blobs().delete_objects(
                    Bucket=self._bucket,
                    Delete={"Objects": [{"Key": key} for key in some], "Quiet": True},
                )
            for failure in answer.get("Errors", []):
                raise StoreUnavailable(f"s3: {failure.get('Code', 'unknown')}")

    def presign_put(
        self, key: str, *, size: int, sha256: bytes, content_type: str, seconds: int
    ) -> PresignedPut:
        """At most 15 minutes count. Temporary credentials may end it sooner.

        :raises StoreUnavailable: there are no credentials to sign with
        """
        checksum = base64.b64encode(sha256).decode()
        with calling("s3"):
            url = self._clients.blobs().generate_presigned_url(
                "put_object",
                Params={
                    "Bucket": self._bucket,
                    "Key": checked(key),
                    "ContentLength": size,
                    "ContentType": content_type,
                    "ChecksumSHA256": checksum,
                    "IfNoneMatch": "*",
                },
                ExpiresIn=min(seconds, MAX_PUT_SECONDS),
            )
        headers = {
            "Content-Length": str(size),
            "Content-Type": content_type,
            "x-amz-checksum-sha256": checksum,
            "If-None-Match": "*",
        }
        return PresignedPut(url, headers)

    def presign_get(self, key: str, *, seconds: int) -> str:
        with calling("s3"):
            return self._clients.blobs().generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": checked(key)}, ExpiresIn=seconds
            )

    def sweep(self, before: float) -> None:
        """Nothing: the bucket's lifecycle rule does it."""
