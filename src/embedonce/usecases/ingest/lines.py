"""Results as they are written: JSON for a source of one segment, else JSON Lines (docs/ingest.md)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import orjson

from embedonce.core.answer import Origin
from embedonce.core.errors import EmbedonceError
from embedonce.core.manifest import Manifest, Totals
from embedonce.core.pricing import usd_text
from embedonce.core.record import StoredVector
from embedonce.core.rule import Output
from embedonce.core.segment import Segment, Unit
from embedonce.usecases.ingest.pieces import Piece

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Embedded:
    """One piece's vector at the size that was asked for. `made_up`: it means nothing (offline upstream).
    `repeats`: an earlier segment of the same chunk is the same content, and paid for it."""

    piece: Piece
    record: StoredVector
    origin: Origin
    cost: int
    fingerprint: bytes
    made_up: bool = False
    repeats: bool = False

    @property
    def cache(self) -> str:
        if self.origin is Origin.DERIVED:
            return "derived"
        return "miss" if self.origin is Origin.MISS and not self.repeats else "hit"


@dataclass(frozen=True, slots=True)
class Unembedded:
    piece: Piece
    code: str
    message: str


Line = Embedded | Unembedded


def unembedded(piece: Piece, error: EmbedonceError) -> Unembedded:
    return Unembedded(piece, type(error).code, error.message)


def totals_of(lines: list[Line], *, since: float) -> Totals:
    """`since`: what was bought after that may have been bought for this very source, by somebody who died
    before it was written down, so that it is no saving."""
    hits = derived = misses = failed = tokens = cost = saved = 0
    for line in lines:
        if isinstance(line, Unembedded):
            failed += 1
            continue
        tokens += line.record.tokens
        if line.cache == "miss":
            misses += 1
            cost += line.cost
            continue
        hits += line.cache == "hit"
        derived += line.cache == "derived"
        if line.repeats or (line.origin is not Origin.COLLAPSED and line.record.created < int(since)):
            saved += line.record.cost
    return Totals(0, hits, derived, misses, failed, tokens, cost, saved)


def rendered(line: Line, output: Output) -> bytes:
    """One segment as a JSON line."""
    segment = line.piece.segment
    said: dict[str, Any] = {
        "type": "segment",
        "index": line.piece.index,
        "range": _range(segment),
        "modality": segment.modality.value,
    }
    if segment.id is not None:
        said["id"] = segment.id
    if isinstance(line, Unembedded):
        said["error"] = {"code": line.code, "message": line.message}
        return _json(said)
    vector = line.record.data
    said |= {
        "tokens": line.record.tokens,
        "fingerprint": line.fingerprint.hex(),
        "cache": line.cache,
        "cost_usd": usd_text(line.cost if line.cache == "miss" else 0),
        "upstream": line.record.upstream,
        "dimensions": line.record.dimensions,
    }
    if line.made_up:
        said["made_up"] = True
    if output is Output.FLOAT:
        said["embedding"] = np.frombuffer(vector, dtype="<f4")
    else:
        said["embedding"] = base64.b64encode(vector).decode()
    return _json(said)


def part(lines: Sequence[Line], totals: Totals, output: Output) -> bytes:
    """A chunk's part of the result: its totals in the first line, which `parted` takes off. So lines and
    summary agree, whoever wrote the part last."""
    head = orjson.dumps(asdict(totals), option=orjson.OPT_APPEND_NEWLINE)
    return head + b"".join(rendered(line, output) for line in lines)


def parted(data: bytes) -> tuple[Totals, bytes]:
    """A part's totals, and its lines.

    :raises ValueError: it is none
    """
    head, _, lines = data.partition(b"\n")
    try:
        return Totals(**orjson.loads(head)), lines
    except TypeError:
        raise ValueError("no part of a result") from None


def opening(manifest: Manifest) -> dict[str, Any]:
    """What a result says of its source."""
    source, terms = manifest.source, manifest.terms
    return {
        "type": "source",
        "format": FORMAT,
        "bucket": source.bucket,
        "key": source.key,
        "version": source.version or None,
        "etag": source.etag or None,
        "size": source.size,
        "sha256": manifest.sha256,
        "model": terms.model,
        "dimensions": terms.dimensions,
        "task_type": terms.task_type.value if terms.task_type else None,
        "title": terms.title,
        "encoding": terms.output.value,
        "cutter": manifest.cutter,
        "manifest": manifest.id,
    }


def closing(manifest: Manifest, t: Totals, now: float) -> dict[str, Any]:
    """`t`: of all parts together."""
    return {
        "type": "summary",
        "segments": manifest.totals.segments,
        "hits": t.hits,
        "derived": t.derived,
        "misses": t.misses,
        "failed": t.failed,
        "tokens": t.tokens,
        "cost_usd": usd_text(t.cost),
        "saved_usd": usd_text(t.saved),
        "seconds": round(max(0.0, now - manifest.created), 3),
    }


def error_document(manifest: Manifest) -> bytes:
    assert manifest.error is not None
    code, message = manifest.error
    source = {name: value for name, value in opening(manifest).items() if name in _OF_ANY_SOURCE}
    return _json({"source": source, "error": {"code": code, "message": message}})


def document(manifest: Manifest, line: bytes, totals: Totals, now: float) -> bytes:
    """Of a source of one segment."""
    said = {
        "source": opening(manifest),
        "segments": [orjson.loads(line)],
        "summary": closing(manifest, totals, now),
    }
    return _json(said)


def json_line(said: dict[str, Any]) -> bytes:
    return _json(said)


_OF_ANY_SOURCE = ("bucket", "key", "version", "etag", "size", "manifest")


def _range(segment: Segment) -> dict[str, list[float]] | None:
    """None: the whole source."""
    r = segment.range
    if r.unit is Unit.WHOLE:
        return None
    if r.unit is Unit.SECONDS:
        return {r.unit.value: [r.start, r.end]}
    return {r.unit.value: [int(r.start), int(r.end)]}


def _json(said: dict[str, Any]) -> bytes:
    return orjson.dumps(said, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
