"""PDFs, cut into a few pages each.

A segment is a function of what its pages show and nothing else: when one page of a document is changed, the
bytes of the segments of all other pages stay, also when a tool has renumbered or moved the objects. What is
encoded in streams is taken over as it is. Where a producer embeds ONE font for the whole document and changes
it with the text (subsets), all pages that use it change with it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import pypdf
from pypdf.errors import LimitReachedError
from pypdf.generic import DictionaryObject

from embedonce.core.content import Modality
from embedonce.core.segment import CutOptions, Range, Segment, Uncuttable, Unit
from embedonce.segmenting.pdfprune import Pruner
from embedonce.segmenting.pdfwrite import Bundle

_VERSION = 1
_CACHE_BYTES = 32 << 20
"""Of written segments, after which what pypdf keeps of the objects it has read is dropped."""
_CIRCULAR = "Circular xref chain"
_COMPLEX = "is a PDF that takes too much time or memory to read"


def lineage() -> str:
    return f"pdf/{_VERSION} pypdf {pypdf.__version__}"


def cut(file: BinaryIO, options: CutOptions) -> Iterator[Segment]:
    """:raises Uncuttable: encrypted, damaged, or too complex to be read"""
    with _warnings() as said:
        reader, count = _opened(file, said)
        cutter = _Cutter(reader)
        for first in range(1, count + 1, options.pages):
            yield from cutter.segments(first, min(first + options.pages - 1, count))


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What pypdf says of the file, which goes nowhere else."""
    said: list[str] = []

    class Said(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if len(said) < 100:
                said.append(str(record.msg))

    logger, handler, propagated = logging.getLogger("pypdf"), Said(), logging.getLogger("pypdf").propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


def _opened(file: BinaryIO, said: list[str]) -> tuple[pypdf.PdfReader, int]:
    try:
        reader = pypdf.PdfReader(file, strict=False)
        if any(text.startswith(_CIRCULAR) for text in said):
            raise Uncuttable("is a damaged PDF")  # other readers may find other pages
        if reader.is_encrypted:
            raise Uncuttable("is an encrypted PDF")
        count = len(reader.pages)
    except (Uncuttable, MemoryError):
        raise
    except (RecursionError, LimitReachedError):
        raise Uncuttable(_COMPLEX) from None
    except Exception:  # noqa: BLE001  # a parser of hostile bytes may raise anything
        raise Uncuttable("is a damaged PDF") from None
    if count == 0:
        raise Uncuttable("is a damaged PDF")
    return reader, count


class _Cutter:
    def __init__(self, reader: pypdf.PdfReader) -> None:
        self._reader = reader
        self._pruner = Pruner()
        self._written = 0

    def segments(self, first: int, last: int) -> Iterator[Segment]:
        """One, or, where pages cannot be read, one for each stretch that can and each page that cannot."""
        whole = self._segment(first, last)
        if whole.error is None or first == last:
            yield whole
            return
        start = first
        for number in range(first, last + 1):
            alone = self._segment(number, number)
            if alone.error is None:
                continue
            if start < number:
                yield self._segment(start, number - 1)
            yield alone
            start = number + 1
        if start <= last:
            yield self._segment(start, last)

    def _segment(self, first: int, last: int) -> Segment:
        where = Range(Unit.PAGES, first, last)
        try:
            pages = (self._page(number) for number in range(first, last + 1))
            data = Bundle(self._pruner, self._reader.root_object).of(pages)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001
            return Segment(Modality.PDF, where, error=f"page {first} cannot be read")
        self._forget(len(data))
        return Segment(Modality.PDF, where, data=data, media_type="application/pdf", pages=last - first + 1)

    def _page(self, number: int) -> DictionaryObject:
        page: Any = self._reader.pages[number - 1]
        if not isinstance(page, DictionaryObject):
            raise TypeError
        return page

    def _forget(self, written: int) -> None:
        self._written += written
        if self._written > _CACHE_BYTES:
            self._reader.resolved_objects.clear()
            self._pruner.forget()
            self._written = 0
