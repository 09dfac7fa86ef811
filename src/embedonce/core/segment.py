"""Segments: what a document is cut into so that each piece fits the model. Each becomes a content of its own.

Cutting is deterministic: the same bytes, settings and cutter (its version and its libraries') give the same
segments, whose bytes are hashed like any other input's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

from embedonce.core.content import Modality


class Format(StrEnum):
    """How a source is read. Which one it is: by its first bytes for media, by its name for text."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"
    JSONL = "jsonl"
    CSV = "csv"
    PDF = "pdf"
    AUDIO = "audio"
    VIDEO = "video"
    IMAGE = "image"


class Unit(StrEnum):
    """What a range counts. Start and end of CHARACTERS (code points of the decoded source, without a byte
    order mark) and SECONDS are half-open, from 0; PAGES and ROWS are from 1, both ends included."""

    CHARACTERS = "characters"
    PAGES = "pages"
    SECONDS = "seconds"
    ROWS = "rows"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Range:
    """Where in the source a segment is. Together, in order, ranges cover the source; they overlap only where
    overlap was asked for. WHOLE is 0 to 0."""

    unit: Unit
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Segment:
    """Either `text`, or `data` with its `media_type`, or `error`: why this piece cannot be embedded.

    `seconds` and `pages` are the piece's own. `id`: what the source calls a row. Nothing is sent of a piece
    that holds only white space, so there is no segment of it: the range of the one before (of the first: the
    one after) reaches over it.
    """

    modality: Modality
    range: Range
    text: str | None = field(default=None, repr=False)
    data: bytes | None = field(default=None, repr=False)
    media_type: str = ""
    seconds: float = 0.0
    pages: int = 0
    id: str | None = field(default=None, repr=False)
    error: str | None = None

    @property
    def sha256(self) -> bytes:
        """Of the bytes that are embedded; of a piece with an error: of nothing."""
        body = self.data if self.text is None else self.text.encode()
        return hashlib.sha256(body or b"").digest()


@dataclass(frozen=True, slots=True)
class CutOptions:
    """What decides where cuts are, all of it in the manifest's lineage.

    `segment_bytes`: UTF-8 bytes that one text segment may have. A token is at least one byte, so up to 8,192
    (less what the task's prefix takes) it is certainly within the model's 8,192 tokens. `overlap_bytes`: of
    the text before, at most so much is repeated. `field`, `id_field`: of JSONL and CSV rows. `pages`: of one
    PDF segment, 1 to 6. `media_bytes`: that one audio or video segment may have.
    """

    segment_bytes: int = 8000
    overlap_bytes: int = 0
    field: str = "text"
    id_field: str | None = None
    pages: int = 1
    audio_seconds: float = 180.0
    video_seconds: float = 120.0
    media_bytes: int = 14_000_000


class Uncuttable(Exception):
    """The source as a whole cannot be cut, and never will be; `str()` says why, as in "is an encrypted PDF".
    Never quotes the source."""
