"""From bytes to text, in blocks, strictly: what is not valid is refused with its place, never replaced."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from typing import Protocol

from embedonce.core.segment import Uncuttable

BLOCK = 1 << 18
_SNIFFED = 8192
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NAMES = {"utf-8": "UTF-8", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"} | {
    "utf-32-le": "UTF-32",
    "utf-32-be": "UTF-32",
}


class Readable(Protocol):
    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        ...


def blocks(file: Readable) -> Iterator[bytes]:
    """All of it in blocks of exactly `BLOCK` bytes but for the last, however few bytes a read gives."""
    while True:
        block = bytearray()
        while len(block) < BLOCK and (more := file.read(BLOCK - len(block))):
            block += more
        if block:
            yield bytes(block)
        if len(block) < BLOCK:
            return


def decoded(file: Readable, declared: Callable[[bytes], str] | None = None) -> Iterator[str]:
    """Its text without a byte order mark. `declared` names the encoding of a start without one, else UTF-8.

    :raises Uncuttable: not text, or not valid in its encoding
    """
    source = blocks(file)
    block = next(source, b"")
    mark, encoding = next(((m, e) for m, e in _MARKS if block.startswith(m)), (b"", ""))
    if not encoding:
        if b"\0" in block[:_SNIFFED]:
            raise Uncuttable("is not text")
        encoding = declared(block) if declared else "utf-8"
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    block = block[len(mark) :]
    done = len(mark)
    while True:
        held = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            at = done - held + error.start
            raise Uncuttable(f"is not valid {_NAMES.get(encoding, encoding)} at byte {at}") from None
        done += len(block)
        if text:
            yield text
        if not block:
            return
        block = next(source, b"")


def utf8(file: Readable) -> Iterator[bytes]:
    """Its bytes in UTF-8, without a byte order mark. UTF-8 is passed on as it is, valid or not.

    :raises Uncuttable: not text, or UTF-16 or UTF-32 that is not valid
    """
    source = blocks(file)
    block = next(source, b"")
    encoding = next((e for m, e in _MARKS if block.startswith(m)), "")
    if encoding not in ("", "utf-8"):
        yield from (text.encode() for text in decoded(_Chained(block, source)))
        return
    if not encoding and b"\0" in block[:_SNIFFED]:
        raise Uncuttable("is not text")
    yield block.removeprefix(codecs.BOM_UTF8)
    yield from source


class _Chained:
    """A block that was read already and those after it, as a file. Reads give what is at hand."""

    def __init__(self, first: bytes, rest: Iterator[bytes]) -> None:
        self._next, self._rest = first, rest

    def read(self, size: int, /) -> bytes:
        if not self._next:
            self._next = next(self._rest, b"")
        given, self._next = self._next[:size], self._next[size:]
        return given
