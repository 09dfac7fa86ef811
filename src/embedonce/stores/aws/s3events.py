"""What a message of the ingest queue says: a task of ours, or what S3 tells of objects, as users wire it:
S3 to SQS, S3 to SNS to SQS (raw or not), S3 to EventBridge to SQS (as it is, or through SNS).

A message may hold several records, and the same one may come several times and late. Keys are URL-encoded in
S3's own form and plain in EventBridge's. Objects that were put by a copy, a POST or a multipart upload count
like those that were put.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

import orjson

from embedonce.core.source import Source
from embedonce.core.task import Task
from embedonce.stores.messages import task_of


@dataclass(frozen=True, slots=True)
class Told:
    """Sources that were put; `odd`: how many records could not be read beside them."""

    sources: tuple[Source, ...]
    odd: int = 0


News = Task | Told

MAX_DEPTH = 3
"""Envelopes around an event."""


def news_of(body: str) -> News:
    """A task, or sources that were put; none for test events and what else is of no concern (deletions).

    :raises ValueError: it is neither
    """
    try:
        return task_of(body)
    except ValueError:
        found = list(_sources(orjson.loads(body), MAX_DEPTH))
        sources = tuple(each for each in found if each is not None)
        return Told(sources, len(found) - len(sources))


def _sources(said: Any, depth: int) -> Iterable[Source | None]:
    """None: a record that cannot be read, among others that can."""
    match said:
        case {"Type": "Notification", "Message": str(message)} if depth:
            yield from _sources(orjson.loads(message), depth - 1)
        case {"Event": "s3:TestEvent"}:
            return
        case {"Records": [*records]}:
            for record in records:
                try:
                    yield from list(_record(record, depth))
                except (ValueError, KeyError):
                    yield None
        case {"source": "aws.s3", "detail-type": str(kind), "detail": dict(detail)}:
            if kind == "Object Created":
                yield _source(detail["bucket"], detail["object"], plain=True)
        case _:
            raise ValueError("neither a task of ours nor an event of S3")


def _record(record: Any, depth: int) -> Iterable[Source | None]:
    match record:
        case {"eventSource": "aws:s3", "eventName": str(name), "s3": {"bucket": bucket, "object": found}}:
            if name.removeprefix("s3:").startswith("ObjectCreated:"):
                yield _source(bucket, found, plain=False)
        case {"EventSource": "aws:sns", "Sns": {"Message": str(message)}} if depth:
            yield from _sources(orjson.loads(message), depth - 1)
        case _:
            raise ValueError("no record of S3")


def _source(bucket: Any, found: Any, *, plain: bool) -> Source:
    """:raises ValueError: it does not say what was put"""
    match bucket, found:
        case {"name": str(name)}, {"key": str(key), "sequencer": str(sequencer), **others}:
            version = others.get("versionId", others.get("version-id")) or ""
            etag = others.get("eTag", others.get("etag")) or ""
            size = others.get("size", 0)
            if not isinstance(version, str) or not isinstance(etag, str) or type(size) is not int:
                raise ValueError("its version, ETag or size is of another kind")
            int(sequencer, 16)
            # A bucket whose versions are suspended calls each one "null", which names whatever is there now.
            version = "" if version == "null" else version
            where = key if plain else unquote_plus(key, errors="strict")
            return Source(name, where, version, etag, size, sequencer)
    raise ValueError("it does not say what was put")
