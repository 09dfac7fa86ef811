"""Sizes of PNG and JPEG by their headers, and whether they are all there. Nothing is decoded."""

from __future__ import annotations

import re

from embedonce.media.damage import Damaged

MAX_PNG_CHUNKS = 100_000
MAX_JPEG_SEGMENTS = 10_000

_PNG_HEAD = 8 + 8 + 13 + 4
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}
"""Markers without a length: RST and TEM."""
_EOI = b"\xff\xd9"
_MARKER = re.compile(rb"\xff+[^\xff]", re.DOTALL)
"""With the fill bytes before it."""


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height.

    :raises Damaged: no IHDR first, no IDAT, or cut off before IEND
    """
    if len(data) < _PNG_HEAD or data[12:16] != b"IHDR" or data[8:12] != b"\0\0\0\x0d":
        raise Damaged("has no PNG header")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    position, pixels = 8, False
    for _ in range(MAX_PNG_CHUNKS):
        kind = data[position + 4 : position + 8]
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if len(kind) < 4 or end > len(data):
            raise Damaged("is a truncated PNG")
        if kind == b"IEND":
            if not pixels or not width or not height:
                raise Damaged("is a PNG without a picture")
            return width, height
        pixels = pixels or kind == b"IDAT"
        position = end
    raise Damaged("is a PNG of too many chunks")


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height, of the largest frame it declares.

    :raises Damaged: no frame, no scan, or cut off before its end
    """
    position, size = 2, (0, 0)
    for _ in range(MAX_JPEG_SEGMENTS):
        found = _MARKER.match(data, position)
        if found is None:
            raise Damaged("is a truncated JPEG" if position >= len(data) - 1 else "is a damaged JPEG")
        marker, position = data[found.end() - 1], found.end() - 2
        if marker in (0x00, 0xD8, 0xD9):
            raise Damaged("is a damaged JPEG")
        if marker in _BARE:
            position += 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        end = position + 2 + length
        if position + 4 > len(data) or length < 2 or end > len(data):
            raise Damaged("is a truncated JPEG")
        if marker in _SOF:
            height = int.from_bytes(data[position + 5 : position + 7], "big")
            width = int.from_bytes(data[position + 7 : position + 9], "big")
            if length < 8 or not width or not height:
                raise Damaged("is a JPEG that does not say its size")
            size = max(size, (width, height), key=lambda s: s[0] * s[1])
        if marker == 0xDA:
            if size == (0, 0):
                raise Damaged("is a JPEG without a picture")
            if data.rfind(_EOI, end) < 0:
                raise Damaged("is a truncated JPEG")
            return size
        position = end
    raise Damaged("is a JPEG of too many segments")
