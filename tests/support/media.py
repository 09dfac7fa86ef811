"""Small media, valid and deterministic, from the standard library alone. Sizes are a few KB a minute.

The MP4 has correct boxes and sample tables, but its samples are no pictures: nothing here decodes them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

# ---- images -----------------------------------------------------------------------------------------------


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int = 4, height: int = 4, shade: int = 128) -> bytes:
    """Grey; different shades are different files."""
    rows = b"".join(b"\0" + bytes([shade % 256]) * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(kind, data) for kind, data in chunks)


def png_claiming(width: int, height: int) -> bytes:
    """A few bytes that say they are that large."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(kind, data) for kind, data in chunks)


def _segment(marker: int, data: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg(width: int = 8, height: int = 8, shade: int = 40) -> bytes:
    """Baseline, grey, one colour: DC coefficients only. `shade` -127 to 127, 0 is middle grey."""
    table = _segment(0xDB, b"\0" + bytes([8] * 64))
    frame = _segment(0xC0, struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00")
    dc = _segment(0xC4, b"\x00" + bytes([0, 0, 0, 12] + [0] * 12) + bytes(range(12)))
    ac = _segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\x00")
    scan = _segment(0xDA, b"\x01\x01\x00\x00\x3f\x00")
    size = abs(shade).bit_length()
    value = shade if shade >= 0 else shade + (1 << size) - 1
    first = f"{size:04b}" + (f"{value:0{size}b}" if size else "") + "0"
    blocks = -(-width // 8) * -(-height // 8)
    bits = first + "00000" * (blocks - 1)
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    jfif = _segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0")
    return b"\xff\xd8" + jfif + table + frame + dc + ac + scan + data + b"\xff\xd9"


def webp() -> bytes:
    """1 x 1, lossless."""
    data = bytes.fromhex("2f00000010071011118888fe0700")
    return b"RIFF" + struct.pack("<I", 4 + 8 + len(data)) + b"WEBPVP8L" + struct.pack("<I", len(data)) + data


def gif() -> bytes:
    """1 x 1."""
    return bytes.fromhex(
        "47494638396101000100800000000000ffffff21f90401000000002c000000000100010000020144003b"
    )


# ---- audio ------------------------------------------------------------------------------------------------


def wav(seconds: float = 1.0, *, rate: int = 1000, claimed: float | None = None, tone: int = 0) -> bytes:
    """8-bit mono PCM, 1 KB a second. `claimed`: the seconds its header says; `tone` makes files differ."""
    samples = bytes([128 + tone % 100]) * round(seconds * rate)
    size = len(samples) if claimed is None else min(round(claimed * rate), 0xFFFFFFFF)
    form = struct.pack("<HHIIHH", 1, 1, rate, rate, 1, 8)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size) + samples
    return b"RIFF" + struct.pack("<I", min(36 + size, 0xFFFFFFFF)) + body + b"\0" * (len(samples) % 2)


MP3_FRAME_SECONDS = 0.036
"""MPEG-2 layer III, 8 kbit/s, 16 kHz, mono: 36 bytes and 576 samples a frame."""


def mp3(seconds: float = 1.0, *, xing_frames: int | None = None, id3: bool = False, tone: int = 0) -> bytes:
    """1 KB a second of silence. `xing_frames`: what a Xing header in the first frame says there were."""
    frame = b"\xff\xf3\x18\xc4" + bytes(32)
    frames = [frame] * round(seconds / MP3_FRAME_SECONDS)
    if xing_frames is not None:
        frames.insert(0, frame[:13] + b"Xing" + struct.pack(">II", 1, xing_frames) + bytes(36 - 13 - 12))
    frames[-1] = frames[-1][:-1] + bytes([tone % 256])
    tag = b"TIT2" + struct.pack(">IH", 5, 0) + b"\0tone"
    head = b"ID3\x03\0\0" + bytes([0, 0, 0, len(tag)]) + tag if id3 else b""
    return head + b"".join(frames)


# ---- video ------------------------------------------------------------------------------------------------


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_TIMESCALE = 1000


def _stsd(video: bool) -> bytes:
    if video:
        picture = bytes(16) + struct.pack(">HHIII", 16, 16, 0x480000, 0x480000, 0) + struct.pack(">H", 1)
        entry = box(b"avc1", bytes(6) + struct.pack(">H", 1), picture, bytes(32), struct.pack(">Hh", 24, -1))
    else:
        sound = struct.pack(">8xHHHHI", 1, 16, 0, 0, 16000 << 16)
        entry = box(b"mp4a", bytes(6) + struct.pack(">H", 1), sound)
    return box(b"stsd", struct.pack(">II", 0, 1), entry)


def _track(number: int, seconds: float, *, video: bool, offset: int, frames: int) -> bytes:
    duration = round(seconds * _TIMESCALE)
    tkhd = struct.pack(">IIIIII8xHHHH", 7, 0, 0, number, 0, duration, 0, 0, 0 if video else 0x100, 0)
    tkhd += _MATRIX + struct.pack(">II", 16 << 16, 16 << 16)
    mdhd = struct.pack(">IIIIIHH", 0, 0, 0, _TIMESCALE, duration, 0x55C4, 0)
    hdlr = struct.pack(">II4s12x", 0, 0, b"vide" if video else b"soun") + b"handler\0"
    dref = box(b"dref", struct.pack(">II", 0, 1), box(b"url ", struct.pack(">I", 1)))
    stbl = box(
        b"stbl",
        _stsd(video),
        box(b"stts", struct.pack(">IIII", 0, 1, frames, duration // frames)),
        box(b"stsc", struct.pack(">IIIII", 0, 1, 1, frames, 1)),
        box(b"stsz", struct.pack(">III", 0, 1, frames)),
        box(b"stco", struct.pack(">III", 0, 1, offset)),
    )
    media_head = box(b"vmhd", struct.pack(">I8x", 1)) if video else box(b"smhd", bytes(8))
    minf = box(b"minf", media_head, box(b"dinf", dref), stbl)
    mdia = box(b"mdia", box(b"mdhd", mdhd), box(b"hdlr", hdlr), minf)
    return box(b"trak", box(b"tkhd", tkhd), mdia)


def mp4(
    seconds: float = 1.0,
    *,
    claimed: float | None = None,
    video: bool = True,
    audio: bool = False,
    brand: bytes = b"isom",
    tone: int = 0,
) -> bytes:
    """`claimed`: what the movie header says instead of `seconds`; `brand` `qt  ` makes it a MOV."""
    frames = max(1, round(seconds))
    ftyp = box(b"ftyp", brand, struct.pack(">I", 512), brand)
    mdat = box(b"mdat", bytes([tone % 256]) * frames)
    kinds = [True] * video + [False] * audio
    tracks = [
        _track(number, seconds, video=kind, offset=len(ftyp) + 8, frames=frames)
        for number, kind in enumerate(kinds, 1)
    ]
    duration = round((seconds if claimed is None else claimed) * _TIMESCALE)
    mvhd = struct.pack(">IIIIIIH10x", 0, 0, 0, _TIMESCALE, duration, 0x10000, 0x100)
    mvhd += _MATRIX + struct.pack(">24xI", len(kinds) + 1)
    return ftyp + mdat + box(b"moov", box(b"mvhd", mvhd), *tracks)


def mov(seconds: float = 1.0, *, tone: int = 0) -> bytes:
    return mp4(seconds, brand=b"qt  ", tone=tone)


# ---- PDF --------------------------------------------------------------------------------------------------


def pdf_of_objects(objects: Sequence[bytes], *, trailer: bytes = b"/Root 1 0 R") -> bytes:
    """A PDF with a correct cross-reference table; the n-th object gets number n + 1."""
    out = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d %s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, start)
    return bytes(out)


def pdf_stream(data: bytes, extra: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n" % (len(data), extra) + data + b"\nendstream"


def pdf(pages: int | Sequence[str] = 1) -> bytes:
    """One line of ASCII text a page; a number makes up its texts ("Page 1 of 2")."""
    texts = [f"Page {n} of {pages}" for n in range(1, pages + 1)] if isinstance(pages, int) else list(pages)
    kids = b" ".join(b"%d 0 R" % (4 + 2 * n) for n in range(len(texts)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(texts)),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for n, text in enumerate(texts):
        shown = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)").encode("ascii")
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % (5 + 2 * n)
        )
        objects.append(pdf_stream(b"BT /F1 12 Tf 72 720 Td (%s) Tj ET" % shown))
    return pdf_of_objects(objects)
