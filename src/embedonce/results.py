"""Reading what ingest has written (docs/ingest.md): `read` what fits in memory, `iter_segments` anything.

    results = read("results/book.md.embedding.jsonl")
    results.matrix          # (n, d) float32, a row for each segment that has a vector
    results.indexes         # (n,) the segments' numbers

Needs numpy and nothing else, and believes nothing: a result that is cut off or does not add up is refused.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["Range", "Readable", "ResultError", "Results", "Segment", "SegmentError", "iter_segments", "read"]

FORMAT = 1
LINE_BYTES = 64 << 20
"""Of one line, which is held whole: the largest vector as decimal numbers has a few MB."""
_PIECE = 1 << 20

Vector = NDArray[np.float32]


class ResultError(ValueError):
    """No result, or none that can be believed. `code`: of the error that an `.error.json` says, else None."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class Readable(Protocol):
    """A file, or what an SDK gives for one."""

    def read(self, size: int, /) -> bytes | str: ...


class Range(NamedTuple):
    """Where in the source: `characters` and `seconds` half-open from 0, `pages` and `rows` from 1 with both
    ends."""

    unit: str
    start: float
    end: float


class SegmentError(NamedTuple):
    code: str
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Either `vector` or `error`; an error has no tokens, fingerprint, cache, cost, upstream or dimensions.

    `range` None: the whole source. `cache`: `hit`, `miss` or `derived`. `made_up`: the vector means nothing
    (the offline model, for what is not text).
    """

    index: int
    modality: str
    range: Range | None = None
    id: str | None = None
    tokens: int = 0
    fingerprint: str = ""
    cache: str = ""
    cost_usd: Decimal = Decimal(0)
    upstream: str = ""
    dimensions: int = 0
    made_up: bool = False
    error: SegmentError | None = None
    vector: Vector | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """`matrix` (n, d): the vectors in order; `indexes` (n,): whose they are. The vectors of `segments` are
    rows of the matrix, not copies."""

    source: dict[str, Any]
    segments: list[Segment]
    summary: dict[str, Any]
    matrix: Vector = field(repr=False)
    indexes: NDArray[np.int64] = field(repr=False)


def read(where: str | os.PathLike[str] | Readable) -> Results:
    """All of a result.

    :raises ResultError: it says why the source could not be embedded, is no result, or is not complete
    :raises OSError: the file cannot be read
    """
    with _opened(where) as file:
        parts = _Parts(file)
        data = bytearray()
        segments: list[Segment] = []
        rows: list[int] = []
        for segment in parts:
            if segment.vector is not None:
                if rows and segment.dimensions != segments[rows[0]].dimensions:
                    raise ResultError(f"segment {segment.index} has another size than those before")
                data += segment.vector.tobytes()
                rows.append(segment.index)
            segments.append(replace(segment, vector=None))
    size = segments[rows[0]].dimensions if rows else parts.source.get("dimensions") or 0
    matrix = np.frombuffer(data, dtype=np.float32).reshape(len(rows), size)
    for row, index in enumerate(rows):
        segments[index] = replace(segments[index], vector=matrix[row])
    return Results(parts.source, segments, parts.summary, matrix, np.array(rows, dtype=np.int64))


def iter_segments(where: str | os.PathLike[str] | Readable) -> Iterator[Segment]:
    """Segment by segment, of which one is held at a time, however many there are. What is cut off is known
    only at its end: what came before has been given away by then.

    :raises ResultError: as `read`, some of it after the first segments
    :raises OSError: the file cannot be read
    """
    with _opened(where) as file:
        yield from _Parts(file)


class _Parts:
    """The segments; `source` is known from the first one on, `summary` after the last."""

    def __init__(self, file: Readable) -> None:
        self._lines = _lines(file)
        self.source: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}

    def __iter__(self) -> Iterator[Segment]:
        first = self._first()
        if first.get("type") == "source":
            found: Iterable[Any] = self._rest(first)
        elif "segments" in first:
            self._opens(first.get("source"))
            self.summary = _object(first.get("summary"), "summary")
            found = first["segments"]
            if not isinstance(found, list):
                raise ResultError("is no result: `segments` is no list")
        elif isinstance(first.get("error"), dict):
            error = _error(first["error"])
            raise ResultError(error.message, error.code)
        else:
            raise ResultError("is no result")
        count = failed = 0
        for said in found:
            segment = _segment(said)
            if segment.index != count:
                raise ResultError(f"segment {count} is missing: after it comes {segment.index}")
            count += 1
            failed += segment.error is not None
            yield segment
        if not self.summary:
            raise ResultError(f"is cut off after {count} segments: it has no summary")
        for name, number in (("segments", count), ("failed", failed)):
            if self.summary.get(name) != number:
                raise ResultError(f"does not add up: {number} {name}, says {self.summary.get(name)}")

    def _first(self) -> dict[str, Any]:
        line = next(self._lines, b"")
        if not line:
            raise ResultError("is empty")
        try:
            said = json.loads(line)
        except ValueError:  # one document on several lines, as other programs write it
            data = bytearray(line)
            for more in self._lines:
                data += more
                if len(data) > LINE_BYTES:
                    raise ResultError("is no result") from None
            said = _json(data)
        return _object(said, "a result")

    def _opens(self, source: Any) -> None:
        self.source = _object(source, "source")
        if self.source.get("format") != FORMAT:
            raise ResultError(f"has the format {self.source.get('format')!r}; {FORMAT} can be read")

    def _rest(self, first: dict[str, Any]) -> Iterator[Any]:
        self._opens(first)
        for line in self._lines:
            if self.summary:
                raise ResultError("goes on after its summary")
            said = _object(_json(line), "a line")
            if said.get("type") == "summary":
                self.summary = said
            else:
                yield said


def _segment(said: Any) -> Segment:
    try:
        if said["type"] != "segment":
            raise ResultError("is no result: a line is no segment")
        index, modality, where = _number(said["index"]), str(said["modality"]), _range(said["range"])
        segment = Segment(index, modality, where, said.get("id"))
        if "error" in said:
            return replace(segment, error=_error(said["error"]))
        size = _number(said["dimensions"])
        vector = _vector(said["embedding"])
        if len(vector) != size:
            raise ResultError(f"segment {segment.index} has {len(vector)} numbers, not {size}")
        return replace(
            segment,
            tokens=_number(said["tokens"]),
            fingerprint=str(said["fingerprint"]),
            cache=str(said["cache"]),
            cost_usd=Decimal(said["cost_usd"]),
            upstream=str(said["upstream"]),
            dimensions=size,
            made_up=bool(said.get("made_up", False)),
            vector=vector,
        )
    except ResultError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, InvalidOperation) as wrong:
        raise ResultError(f"is no result: a segment cannot be read ({type(wrong).__name__})") from None


def _vector(said: Any) -> Vector:
    """As float32 of this machine, from little-endian bytes or from numbers."""
    if isinstance(said, str):
        try:
            return np.frombuffer(base64.b64decode(said, validate=True), dtype="<f4").astype(np.float32)
        except binascii.Error:
            raise ResultError("is no result: a vector is no base64") from None
    if not isinstance(said, list):
        raise TypeError
    vector = np.array(said, dtype=np.float32)
    if vector.ndim != 1:
        raise TypeError
    return vector


def _range(said: Any) -> Range | None:
    if said is None:
        return None
    ((unit, (start, end)),) = said.items()
    if not all(isinstance(each, int | float) for each in (start, end)):
        raise TypeError
    return Range(unit, start, end)


def _error(said: Any) -> SegmentError:
    return SegmentError(str(said.get("code", "")), str(said.get("message", "")))


def _number(said: Any) -> int:
    if type(said) is not int or said < 0:
        raise TypeError
    return said


def _object(said: Any, what: str) -> dict[str, Any]:
    if not isinstance(said, dict):
        raise ResultError(f"is no result: {what} is no object")
    return cast("dict[str, Any]", said)


def _json(data: bytes | bytearray) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise ResultError("is cut off or damaged: what should be JSON is none") from None


def _lines(file: Readable) -> Iterator[bytes]:
    """With their ends. By large reads: what SDKs give as a file may take each line byte by byte."""
    held = bytearray()
    while piece := file.read(_PIECE):
        held += piece.encode() if isinstance(piece, str) else piece
        start = 0
        while end := held.find(b"\n", start) + 1:
            yield bytes(held[start:end])
            start = end
        del held[:start]
        if len(held) > LINE_BYTES:
            raise ResultError(f"is no result: a line has more than {LINE_BYTES >> 20} MiB")
    if held:
        yield bytes(held)


@contextmanager
def _opened(where: str | os.PathLike[str] | Readable) -> Iterator[Readable]:
    """What was given open stays open."""
    if isinstance(where, str | os.PathLike):
        with open(where, "rb") as file:
            yield file
    else:
        yield where
