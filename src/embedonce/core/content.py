"""What is embedded. A `Content` is an ordered tuple of parts that become ONE vector."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from embedonce.core.errors import InvalidRequest


class Modality(StrEnum):
    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"
    PDF = "pdf"


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str

    @property
    def modality(self) -> Modality:
        return Modality.TEXT

    @property
    def sent_bytes(self) -> bytes:
        return self.text.encode()


@dataclass(frozen=True, slots=True)
class MediaPart:
    """Media as resolved to bytes; `media_type` is sniffed from them, never what a client declared."""

    modality: Modality
    media_type: str
    data: bytes

    @property
    def sent_bytes(self) -> bytes:
        return self.data


Part = TextPart | MediaPart


@dataclass(frozen=True, slots=True)
class Content:
    parts: tuple[Part, ...]

    @classmethod
    def of_text(cls, text: str) -> Content:
        return cls((TextPart(text),))

    @property
    def is_text(self) -> bool:
        return all(isinstance(part, TextPart) for part in self.parts)

    @property
    def modality(self) -> Modality:
        """The modality that decides routing and price: the first one that is not text."""
        for part in self.parts:
            if part.modality is not Modality.TEXT:
                return part.modality
        return Modality.TEXT

    @property
    def size(self) -> int:
        """Bytes as sent; the measure by which a batch's usage is apportioned."""
        return sum(len(part.sent_bytes) for part in self.parts)


def text_part(text: str, param: str) -> TextPart:
    """A text part, checked: not empty and valid Unicode.

    :raises InvalidRequest: empty text, or a lone surrogate (it has no UTF-8: refused, never replaced)
    """
    if not text:
        raise InvalidRequest(f"{param}: text must not be empty", param=param)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{param}: not valid Unicode (lone surrogate at character {error.start})", param=param
        ) from None
    return TextPart(text)


def digest(part: Part) -> bytes:
    """SHA-256 (32 bytes) of the bytes as they will be sent."""
    return hashlib.sha256(part.sent_bytes).digest()
