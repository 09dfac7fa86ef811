"""A chunk's blob: its segments as JSON lines. Media lie beside it, each as a blob of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from embedonce.core.content import Content, MediaPart, Modality
from embedonce.core.segment import Range, Segment, Unit


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment by its number in the source (from 0); the bytes of media are looked up by that number."""

    index: int
    segment: Segment = field(repr=False)
    sha256: bytes = b""
    size: int = 0

    @property
    def is_text(self) -> bool:
        return self.segment.text is not None

    def content(self, data: bytes | None = None) -> Content:
        """`data`: the bytes of media, where they are at hand."""
        segment = self.segment
        if segment.text is not None:
            return Content.of_text(segment.text)
        part = MediaPart(
            segment.modality,
            segment.media_type,
            self.sha256,
            self.size,
            data,
            seconds=segment.seconds,
            pages=segment.pages,
        )
        return Content((part,))


def piece_of(index: int, segment: Segment) -> Piece:
    body = segment.data or b""
    return Piece(index, segment, segment.sha256, len(body))


def encode(pieces: Iterable[Piece]) -> bytes:
    return b"".join(orjson.dumps(_said(piece), option=orjson.OPT_APPEND_NEWLINE) for piece in pieces)


def decode(data: bytes) -> list[Piece]:
    """:raises ValueError: damaged, or a later version's"""
    try:
        return [_piece(orjson.loads(line)) for line in data.splitlines()]
    except (KeyError, TypeError) as wrong:
        raise ValueError(f"the chunk cannot be read: {wrong}") from None


def _said(piece: Piece) -> dict[str, Any]:
    s = piece.segment
    return {
        "index": piece.index,
        "modality": s.modality.value,
        "range": [s.range.unit.value, s.range.start, s.range.end],
        "text": s.text,
        "media_type": s.media_type,
        "sha256": piece.sha256.hex(),
        "size": piece.size,
        "seconds": s.seconds,
        "pages": s.pages,
        "id": s.id,
        "error": s.error,
    }


def _piece(said: dict[str, Any]) -> Piece:
    unit, start, end = said["range"]
    segment = Segment(
        modality=Modality(said["modality"]),
        range=Range(Unit(unit), start, end),
        text=said["text"],
        media_type=said["media_type"],
        seconds=said["seconds"],
        pages=said["pages"],
        id=said["id"],
        error=said["error"],
    )
    return Piece(said["index"], segment, bytes.fromhex(said["sha256"]), said["size"])
