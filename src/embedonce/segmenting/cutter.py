"""Which cutter a format has, and what cutter, in which version, decides the cuts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from embedonce.core.content import Modality
from embedonce.core.segment import CutOptions, Format, Segment, Uncuttable

LINEAGE = {
    Format.TEXT: "text/1",
    Format.MARKDOWN: "markdown/1",
    Format.HTML: "html/1",
    Format.JSONL: "jsonl/1",
    Format.CSV: "csv/1",
}
"""Raised when the same bytes and options are cut differently. PDF and AV name their own, with libraries."""
SEEKING = frozenset((Format.PDF, Format.AUDIO, Format.VIDEO))
"""Need a file; the others are read from a stream."""


def lineage(format_: Format) -> str:
    """Imports the library that cuts: not for a process that must stay small."""
    if format_ is Format.PDF:
        from embedonce.segmenting import pdf

        return pdf.lineage()
    if format_ in SEEKING:
        from embedonce.segmenting import av

        return av.lineage()
    return LINEAGE[format_]


def cut(file: BinaryIO, format_: Format, options: CutOptions) -> Iterator[Segment]:
    """:raises Uncuttable: also while segments are taken"""
    match format_:
        case Format.TEXT:
            from embedonce.segmenting import text

            return text.cut(file, options)
        case Format.MARKDOWN:
            from embedonce.segmenting import text

            return text.cut_markdown(file, options)
        case Format.HTML:
            from embedonce.segmenting import html

            return html.cut(file, options)
        case Format.JSONL:
            from embedonce.segmenting import rows

            return rows.cut_jsonl(file, options)
        case Format.CSV:
            from embedonce.segmenting import rows

            return rows.cut_csv(file, options)
        case Format.PDF:
            from embedonce.segmenting import pdf

            return pdf.cut(file, options)
        case Format.AUDIO:
            from embedonce.segmenting import av

            return av.cut(file, options, Modality.AUDIO)
        case Format.VIDEO:
            from embedonce.segmenting import av

            return av.cut(file, options, Modality.VIDEO)
        case Format.IMAGE:
            raise Uncuttable("is an image, which is not cut")
