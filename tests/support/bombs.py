"""Media that hurt whoever parses them without care: deep, wide, looping, lying and inflating.

`BOMBS` are all that is not PDF, by name; every one must be refused.
"""

from __future__ import annotations

import struct
import zlib

from support import media

FONT = b"<< /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
PAGE = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R /Resources " + FONT + b" >>"
CATALOG = b"<< /Type /Catalog /Pages 2 0 R >>"
ONE_PAGE = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"


def deflated(unit: bytes, size: int, levels: int) -> bytes:
    """`size` bytes of `unit`, deflated again and again."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(unit) for _ in range(size // len(unit))) + packer.flush()
    for _ in range(levels - 1):
        data = zlib.compress(data, 9)
    return data


def nested_flate() -> bytes:
    """200 MB of zeros in 1 KB; the page tree itself is said to lie in it."""
    filters = b"/Type /ObjStm /N 1 /First 4 /Filter [/FlateDecode /FlateDecode /FlateDecode]"
    stream = media.pdf_stream(deflated(bytes(1 << 20), 200 << 20, 3), filters)
    return media.pdf_of_objects([CATALOG, b"<< /Type /Pages /Kids 5 0 R /Count 1 >>", PAGE, stream])


def content_bomb(unit: bytes = b"0 " * 500_000, size: int = 200 << 20) -> bytes:
    stream = media.pdf_stream(deflated(unit, size, 2), b"/Filter [/FlateDecode /FlateDecode]")
    return media.pdf_of_objects([CATALOG, ONE_PAGE, PAGE, stream])


def xref_loop() -> bytes:
    """A table whose /Prev is itself."""
    data = media.pdf(1)
    start = data.index(b"xref\n")
    return data.replace(b"trailer\n<< ", b"trailer\n<< /Prev %d " % start)


def page_tree_loop() -> bytes:
    return media.pdf_of_objects([CATALOG, b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 2 >>"])


def wide_tree(fan: int = 60, levels: int = 5) -> bytes:
    """fan ** levels pages in a few hundred bytes."""
    objects = [CATALOG]
    for level in range(levels):
        kids = b"%d 0 R " % (level + 3) * fan
        objects.append(b"<< /Type /Pages /Kids [%s] /Count 1 >>" % kids)
    return media.pdf_of_objects([*objects, b"<< /Type /Page /MediaBox [0 0 9 9] >>"])


def encrypted() -> bytes:
    objects = [CATALOG, ONE_PAGE, PAGE, media.pdf_stream(b"")]
    objects.append(b"<< /Filter /Standard /V 1 /R 2 /O (%s) /U (%s) /P -4 >>" % (b"o" * 32, b"u" * 32))
    return media.pdf_of_objects(objects, trailer=b"/Root 1 0 R /Encrypt 5 0 R /ID [(a) (a)]")


def nested(kind: bytes, depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = media.box(kind, data)
    return data


FTYP = media.box(b"ftyp", b"isom\0\0\0\0")
BOMBS = {
    "mp4 deep": FTYP + nested(b"moov", 3000),
    "mp4 many": FTYP + media.box(b"free") * 1_000_000,
    "mp4 huge size": FTYP + struct.pack(">I4sQ", 1, b"mdat", 2**63),
    "mp4 size below its head": FTYP + struct.pack(">I4s", 4, b"moov") + bytes(100),
    "mp4 endless zero": FTYP + bytes(1_000_000),
    "mp4 samples": media.mp4().replace(
        media.box(b"stts", struct.pack(">IIII", 0, 1, 1, 1000)),
        media.box(b"stts", struct.pack(">IIII", 0, 0xFFFFFFFF, 1, 1000)),
    ),
    "mp4 no time scale": media.mp4().replace(struct.pack(">II", 1000, 1000), struct.pack(">II", 0, 1000)),
    "mp3 all sync": b"\xff" * 5_000_000,
    "mp3 bad frames": b"\xff\xfb\xf0\x00" * 1_000_000,
    "mp3 far frames": (b"\xff\xf3\x18\xc4" + bytes(60_000)) * 50,
    "png many": media.png()[:33] + b"\0\0\0\0tEXt\0\0\0\0" * 500_000 + media.png()[33:],
    "jpeg many": b"\xff\xd8" + b"\xff\xfe\0\2" * 1_000_000 + b"\xff\xd9",
    "jpeg fill": b"\xff\xd8" + b"\xff" * 5_000_000,
    "wav many": media.wav()[:36] + b"junk\0\0\0\0" * 500_000,
    "wav no rate": media.wav().replace(struct.pack("<II", 1000, 1000), bytes(8)),
}
