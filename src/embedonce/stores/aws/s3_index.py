"""Sinks in Amazon S3 Vectors: vectors for others to search, in an index that is theirs.

Values are sent as the shortest decimal text of each float32, which is what S3 Vectors reads them back to.

Actions: s3vectors:PutVectors and s3vectors:DeleteVectors on the index.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
from botocore.exceptions import ClientError

from embedonce.core.errors import InvalidRequest
from embedonce.core.rule import Sink
from embedonce.core.vector import unpack
from embedonce.ports import SinkEntry
from embedonce.stores.aws.calls import calling, code_of
from embedonce.stores.aws.clients import AwsClients

VECTORS_PER_PUT = 250
BYTES_PER_PUT = 15_000_000
"""Of JSON, as estimated; S3 Vectors takes 20 MiB, and 500 vectors."""
KEYS_PER_DELETE = 500
MAX_METADATA = 40_960
MAX_FILTERABLE = 2_048
"""Bytes of a vector's metadata, all of them and those that can be filtered by."""

_NO_INDEX = "NotFoundException"
_UNFIT = "ValidationException"


class S3VectorsSink:
    def __init__(self, clients: AwsClients, *, unfilterable: Collection[str] = ()) -> None:
        """:param unfilterable: names of metadata that the indexes were made not to filter by"""
        self._clients = clients
        self._unfilterable = frozenset(unfilterable)

    def put_many(self, sink: Sink, entries: Sequence[SinkEntry]) -> None:
        """:raises ValueError: metadata that S3 Vectors does not take, or values that are no numbers"""
        vectors: list[dict[str, Any]] = []
        size = 0
        for entry in entries:
            vector, weight = self._vector(entry)
            if vectors and (len(vectors) == VECTORS_PER_PUT or size + weight > BYTES_PER_PUT):
                self._put(sink, vectors)
                vectors, size = [], 0
            vectors.append(vector)
            size += weight
        if vectors:
            self._put(sink, vectors)

    def delete_many(self, sink: Sink, keys: Sequence[str]) -> None:
        """Nothing is in an index that is not there.

        :raises InvalidRequest: what is there is no such index
        """
        for at in range(0, len(keys), KEYS_PER_DELETE):
            with _asking(sink):
                try:
                    self._clients.s3vectors().delete_vectors(
                        vectorBucketName=sink.bucket,
                        indexName=sink.index,
                        keys=list(keys[at : at + KEYS_PER_DELETE]),
                    )
                except ClientError as error:
                    if code_of(error) != _NO_INDEX:
                        raise

    def _put(self, sink: Sink, vectors: list[dict[str, Any]]) -> None:
        with _asking(sink):
            self._clients.s3vectors().put_vectors(
                vectorBucketName=sink.bucket, indexName=sink.index, vectors=vectors
            )

    def _vector(self, entry: SinkEntry) -> tuple[dict[str, Any], int]:
        """With about how many bytes of JSON it is."""
        import numpy as np

        array = unpack(entry.data)
        if not np.isfinite(array).all():
            raise ValueError("a vector of numbers only")
        text = orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
        metadata = orjson.dumps(dict(entry.metadata))
        filterable = {name: v for name, v in entry.metadata.items() if name not in self._unfilterable}
        if len(metadata) > MAX_METADATA or len(orjson.dumps(filterable)) > MAX_FILTERABLE:
            raise ValueError("too much metadata for S3 Vectors")
        vector = {
            "key": entry.key,
            "data": {"float32": orjson.loads(text)},
            "metadata": dict(entry.metadata),
        }
        # botocore puts a space after each comma, and makes up to 6 bytes of 2 where it escapes.
        return vector, len(text) + len(array) + 3 * (len(metadata) + len(entry.key)) + 100


@contextmanager
def _asking(sink: Sink) -> Iterator[None]:
    with calling("s3vectors"):
        try:
            yield
        except ClientError as error:
            if code_of(error) not in (_NO_INDEX, _UNFIT):
                raise
            raise InvalidRequest(
                f"the vector index {sink.bucket}/{sink.index} does not exist, or does not take such vectors"
            ) from None
