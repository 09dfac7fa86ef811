"""Bodies of requests. What is large is written while it is sent: base64 of a medium is never held whole."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

STREAM_FROM_BYTES = 1_000_000
"""A body of this many bytes is streamed; a smaller one is made at once."""
CHUNK_BYTES = 48 * 1024
"""Of a medium at a time, 64 KiB in base64. A multiple of 3, so that only the last chunk is padded."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """Exactly `size` bytes. `chunks` begins anew each time it is called."""

    size: int
    chunks: Callable[[], Iterable[bytes]]


Body = bytes | Streamed


@dataclass(frozen=True, slots=True)
class Base64Text:
    """A JSON text: `head` (ASCII that JSON does not escape), then `data` in the standard alphabet."""

    data: bytes = field(repr=False)
    head: str = ""

    @property
    def size(self) -> int:
        """Characters after `head`."""
        return -(-len(self.data) // 3) * 4

    def chunks(self) -> Iterator[bytes]:
        view = memoryview(self.data)
        for start in range(0, len(view), CHUNK_BYTES):
            yield base64.b64encode(view[start : start + CHUNK_BYTES])


def json_body(fields: Mapping[str, Any], stream_from: int = STREAM_FROM_BYTES) -> Body:
    """A JSON object, byte for byte as orjson writes it. A value may be a `Base64Text` or a list of them."""
    pieces = list(_pieces(fields))
    size = sum(len(piece) if isinstance(piece, bytes) else piece.size for piece in pieces)

    def chunks() -> Iterator[bytes]:
        for piece in pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                yield from piece.chunks()

    return b"".join(chunks()) if size < stream_from else Streamed(size, chunks)


def _pieces(fields: Mapping[str, Any]) -> Iterator[bytes | Base64Text]:
    mark = b"{"
    for name, value in fields.items():
        yield mark + orjson.dumps(name) + b":"
        yield from _value(value)
        mark = b","
    yield b"}" if fields else b"{}"


def _value(value: Any) -> Iterator[bytes | Base64Text]:
    if isinstance(value, Base64Text):
        yield b'"' + value.head.encode("ascii")
        yield value
        yield b'"'
    elif isinstance(value, list):
        mark = b"["
        for each in value:
            yield mark
            yield from _value(each)
            mark = b","
        yield b"]" if value else b"[]"
    else:
        yield orjson.dumps(value)
