"""What media really are: the type by their first bytes, sizes, durations and pages by what is in them."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

from embedonce.core.content import MediaPart, Modality
from embedonce.core.errors import InvalidRequest, LimitExceeded
from embedonce.media import child
from embedonce.media.audio import mp3_seconds, wav_seconds
from embedonce.media.damage import Damaged
from embedonce.media.images import jpeg_size, png_size
from embedonce.media.video import video_seconds

MAX_PIXELS = 100_000_000
PAGES_REMEMBERED = 4096

_MP4_BRANDS = {
    b"qt  ": (Modality.VIDEO, "video/quicktime"),
    b"M4A ": (Modality.AUDIO, "audio/mp4"),
    b"M4B ": (Modality.AUDIO, "audio/mp4"),
    b"avif": (Modality.IMAGE, "image/avif"),
    b"avis": (Modality.IMAGE, "image/avif"),
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"mif1", b"msf1"), (Modality.IMAGE, "image/heic")),
    **dict.fromkeys((b"3gp4", b"3gp5", b"3gp6", b"3g2a"), (Modality.VIDEO, "video/3gpp")),
}
_RIFF = {
    b"WEBP": (Modality.IMAGE, "image/webp"),
    b"WAVE": (Modality.AUDIO, "audio/wav"),
    b"AVI ": (Modality.VIDEO, "video/x-msvideo"),
}
_HEADS = (
    (b"\x89PNG\r\n\x1a\n", Modality.IMAGE, "image/png"),
    (b"\xff\xd8\xff", Modality.IMAGE, "image/jpeg"),
    (b"GIF87a", Modality.IMAGE, "image/gif"),
    (b"GIF89a", Modality.IMAGE, "image/gif"),
    (b"II*\0", Modality.IMAGE, "image/tiff"),
    (b"MM\0*", Modality.IMAGE, "image/tiff"),
    (b"BM", Modality.IMAGE, "image/bmp"),
    (b"ID3", Modality.AUDIO, "audio/mpeg"),
    (b"fLaC", Modality.AUDIO, "audio/flac"),
    (b"OggS", Modality.AUDIO, "audio/ogg"),
    (b"\x1a\x45\xdf\xa3", Modality.VIDEO, "video/webm"),
)
_OLD_QUICKTIME = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})


def sniffed(data: bytes) -> tuple[Modality, str] | None:
    """Modality and media type; None for what is no media. Also types that no model takes are named."""
    head = data[:16]
    for start, modality, media_type in _HEADS:
        if head.startswith(start):
            return modality, media_type
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _MP4_BRANDS.get(head[8:12], (Modality.VIDEO, "video/mp4"))
    if head[4:8] in _OLD_QUICKTIME:
        return Modality.VIDEO, "video/quicktime"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2:
        return Modality.AUDIO, "audio/mpeg"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return Modality.AUDIO, "audio/aac"
    return (Modality.PDF, "application/pdf") if b"%PDF-" in data[:1024] else None


def inspected(
    data: bytes, expected: Modality | None, param: str, *, seconds: float = child.PATIENCE_SECONDS
) -> MediaPart:
    """`seconds`: how long reading a PDF may take.

    :raises InvalidRequest: an unknown type, not what its field is for, damaged or truncated
    :raises LimitExceeded: more pixels than any provider should be made to decode
    :raises ServiceUnavailable: PDFs cannot be read now
    """
    found = sniffed(data)
    if found is None:
        raise InvalidRequest(f"{param}: is of no known media type", param=param)
    modality, media_type = found
    check_expected(modality, media_type, expected, param)
    duration, pages = 0.0, 0
    try:
        match media_type:
            case "image/png":
                _check_pixels(png_size(data), param)
            case "image/jpeg":
                _check_pixels(jpeg_size(data), param)
            case "audio/wav":
                duration = wav_seconds(data)
            case "audio/mpeg":
                duration = mp3_seconds(data)
            case "video/mp4" | "video/quicktime":
                duration = video_seconds(data)
            case "application/pdf":
                pages = _pages.of(data, seconds)
    except (Damaged, child.Unreadable) as damage:
        raise InvalidRequest(f"{param}: {damage}", param=param) from None
    return MediaPart.of(modality, media_type, data, seconds=duration, pages=pages)


def check_expected(modality: Modality, media_type: str, expected: Modality | None, param: str) -> None:
    """:raises InvalidRequest: not what its field is for"""
    if expected is not None and modality is not expected:
        raise InvalidRequest(f"{param}: is {media_type}, not {expected}", param=param)


def _check_pixels(size: tuple[int, int], param: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        value = f"{width} x {height} ({width * height / 1e6:g} megapixels)"
        raise LimitExceeded(param, limit=f"{MAX_PIXELS / 1e6:g} megapixels", value=value)


class _Pages:
    """Page counts by SHA-256: a PDF whose vector is in the cache should not cost a process each time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, int] = OrderedDict()

    def of(self, data: bytes, seconds: float) -> int:
        key = hashlib.sha256(data).digest()
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        pages = child.pdf_pages(data, timeout=seconds)
        with self._lock:
            self._known[key] = pages
            while len(self._known) > PAGES_REMEMBERED:
                self._known.popitem(last=False)
        return pages


_pages = _Pages()
