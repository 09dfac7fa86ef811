"""What media really are: the type by their first bytes, sizes and durations by their headers."""

from __future__ import annotations

from embedonce.core.content import MediaPart, Modality
from embedonce.core.errors import InvalidRequest

_QUICKTIME = b"qt  "


def sniffed(data: bytes) -> tuple[Modality, str] | None:
    """Modality and media type, or None for what no model here takes."""
    head = data[:16]
    match head:
        case _ if head.startswith(b"\x89PNG\r\n\x1a\n"):
            return Modality.IMAGE, "image/png"
        case _ if head.startswith(b"\xff\xd8\xff"):
            return Modality.IMAGE, "image/jpeg"
        case _ if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return Modality.IMAGE, "image/webp"
        case _ if head.startswith((b"GIF87a", b"GIF89a")):
            return Modality.IMAGE, "image/gif"
        case _ if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
            return Modality.AUDIO, "audio/wav"
        case _ if head.startswith(b"ID3") or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2):
            return Modality.AUDIO, "audio/mpeg"
        case _ if head[4:8] == b"ftyp":
            return Modality.VIDEO, "video/quicktime" if head[8:12] == _QUICKTIME else "video/mp4"
        case _ if b"%PDF-" in data[:1024]:
            return Modality.PDF, "application/pdf"
        case _:
            return None


def inspected(data: bytes, expected: Modality | None, param: str) -> MediaPart:
    """:raises InvalidRequest: an unknown type, or not what its field is for"""
    found = sniffed(data)
    if found is None:
        raise InvalidRequest(f"{param}: is of no known media type", param=param)
    modality, media_type = found
    if expected is not None and modality is not expected:
        raise InvalidRequest(f"{param}: is {media_type}, not {expected}", param=param)
    return MediaPart.of(modality, media_type, data)
