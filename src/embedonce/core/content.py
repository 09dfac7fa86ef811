"""What is embedded. A `Content` is an ordered tuple of parts that become ONE vector.

Dialects make `Draft`s, whose media are still what the client sent (base64, a URL, a handle); resolving turns
them into `Content`s, whose media are bytes with a sniffed type.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
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


LINK_SECONDS = 3600
"""How long a provider may take to fetch what is sent as a link: as long as Segmind keeps a job."""


@dataclass(frozen=True, slots=True)
class MediaPart:
    """Media as resolved. `media_type` is sniffed from the bytes, never what a client declared.

    `data` is None where only the digest is at hand: a URL whose origin said that it has not changed. The
    bytes are fetched when it turns out that they must be sent. `seconds` and `pages` are read from the media.
    `link` is a short-lived URL of our own immutable copy of these bytes, for providers that fetch what is
    too large to be sent.
    """

    modality: Modality
    media_type: str
    sha256: bytes
    size: int
    data: bytes | None = field(default=None, repr=False)
    seconds: float = 0.0
    pages: int = 0
    link: str | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls, modality: Modality, media_type: str, data: bytes, *, seconds: float = 0.0, pages: int = 0
    ) -> MediaPart:
        return cls(
            modality, media_type, hashlib.sha256(data).digest(), len(data), data, seconds=seconds, pages=pages
        )

    def without_data(self) -> MediaPart:
        return replace(self, data=None)

    @property
    def sent_bytes(self) -> bytes:
        """The bytes that were hashed.

        :raises ValueError: they are not at hand
        """
        if self.data is None:
            raise ValueError("the media's bytes are not loaded")
        return self.data


@dataclass(frozen=True, slots=True)
class InlineMedia:
    """Base64 (either alphabet) or a data URL, as a client sent it; `param` names the field it came in.

    `expected`: the modality the field is for; None where the protocol does not say.
    """

    text: str = field(repr=False)
    expected: Modality | None
    param: str


@dataclass(frozen=True, slots=True)
class RemoteMedia:
    """An https URL, to be fetched under guard."""

    url: str = field(repr=False)
    expected: Modality | None
    param: str


@dataclass(frozen=True, slots=True)
class UploadedMedia:
    """What was put to us beforehand, by the handle that was given for it (`upload://…`)."""

    handle: str
    expected: Modality | None
    param: str


Part = TextPart | MediaPart
Source = InlineMedia | RemoteMedia | UploadedMedia


@dataclass(frozen=True, slots=True)
class Draft:
    """One content as a client sent it; `param` names where."""

    parts: tuple[TextPart | Source, ...]
    param: str

    @property
    def is_text(self) -> bool:
        return all(isinstance(part, TextPart) for part in self.parts)


TEXT_ONLY = frozenset({Modality.TEXT})


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
    def modalities(self) -> frozenset[Modality]:
        return TEXT_ONLY if self.is_text else frozenset(part.modality for part in self.parts)

    @property
    def size(self) -> int:
        """Bytes as sent; the measure by which a batch's usage is apportioned."""
        return sum(p.size if isinstance(p, MediaPart) else len(p.sent_bytes) for p in self.parts)

    @property
    def loaded(self) -> bool:
        """Whether all bytes are at hand."""
        return all(isinstance(part, TextPart) or part.data is not None for part in self.parts)


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
    if isinstance(part, MediaPart):
        return part.sha256
    return hashlib.sha256(part.sent_bytes).digest()
