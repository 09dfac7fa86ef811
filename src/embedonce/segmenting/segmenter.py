"""The segmenter: tells formats, and cuts each in a process of its own. Images are one segment as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

from embedonce.core.content import Modality
from embedonce.core.errors import InvalidRequest, ServiceUnavailable
from embedonce.core.segment import CutOptions, Format, Range, Segment, Uncuttable, Unit
from embedonce.media.inspect import inspected, sniffed
from embedonce.ports import Cuts, SourceReader
from embedonce.segmenting.cutter import SEEKING
from embedonce.segmenting.run import Limits, TimeUp, segments

IMAGE_LINEAGE = "image/1"
IMAGE_BYTES = 64 << 20

_BY_NAME = {
    **dict.fromkeys((".txt", ".text", ".log", ".rst"), Format.TEXT),
    **dict.fromkeys((".md", ".markdown", ".mdown"), Format.MARKDOWN),
    **dict.fromkeys((".html", ".htm", ".xhtml"), Format.HTML),
    **dict.fromkeys((".jsonl", ".ndjson"), Format.JSONL),
    **dict.fromkeys((".csv", ".tsv"), Format.CSV),
}
_BY_TYPE = {
    "application/pdf": Format.PDF,
    "audio/wav": Format.AUDIO,
    "audio/mpeg": Format.AUDIO,
    "video/mp4": Format.VIDEO,
    "video/quicktime": Format.VIDEO,
    "image/png": Format.IMAGE,
    "image/jpeg": Format.IMAGE,
}


class ChildSegmenter:
    def format_of(self, head: bytes, key: str) -> Format | None:
        """What it is by its first bytes counts, whatever its name; text has no such mark."""
        by_name = _BY_NAME.get(PurePosixPath(key).suffix.lower())
        found = sniffed(head)
        # A text may begin with two bytes that begin frames of MP3 too (a byte order mark), or "BM".
        if found is None or (by_name is not None and not _certain(head)):
            return by_name
        return _BY_TYPE.get(found[1])

    @contextmanager
    def cut(
        self, reader: SourceReader, kind: Format, options: CutOptions, *, most: int, seconds: float
    ) -> Iterator[Cuts]:
        if kind is Format.IMAGE:
            yield _Image(reader)
            return
        source = reader.file() if kind in SEEKING else reader.pieces()
        try:
            with segments(source, kind, options, Limits(seconds=seconds, segments=most)) as cutting:
                yield cutting
        except TimeUp:
            raise ServiceUnavailable("there was not enough time to cut the source", retry_after=2.0) from None


def _certain(head: bytes) -> bool:
    """Whether the mark is one that no text begins with."""
    return head[:4] in (b"RIFF", b"\x89PNG") or head[:5] == b"%PDF-" or head[4:8] == b"ftyp"


class _Image:
    """:raises Uncuttable: it is damaged, or larger than any image that is sent"""

    lineage = IMAGE_LINEAGE

    def __init__(self, reader: SourceReader) -> None:
        self._reader = reader

    def __iter__(self) -> Iterator[Segment]:
        if self._reader.size > IMAGE_BYTES:
            raise Uncuttable(f"is an image of more than {IMAGE_BYTES >> 20} MiB")
        data = b"".join(self._reader.pieces())
        try:
            part = inspected(data, Modality.IMAGE, "it")
        except InvalidRequest as error:
            raise Uncuttable(error.message.removeprefix("it: ")) from None
        whole = Range(Unit.WHOLE, 0, 0)
        yield Segment(Modality.IMAGE, whole, data=data, media_type=part.media_type)
