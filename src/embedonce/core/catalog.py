"""The models this gateway knows: ids, sizes, limits, modalities, prices.

Facts and their grades are in the model's own documentation: dimensions 128-3072 (default 3072), 8,192 tokens
of text, prices per modality. Preview and GA are different vector spaces and never share a vector.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from embedonce.core.content import Content, MediaPart, Modality, TextPart
from embedonce.core.errors import InvalidRequest, LimitExceeded, NotFound
from embedonce.core.pricing import Price


@dataclass(frozen=True, slots=True)
class Dimensions:
    """`default` None: the model's own size is not known here; a size is sent only when a caller names one."""

    default: int | None
    smallest: int = 1
    largest: int = 4096


@dataclass(frozen=True, slots=True)
class Limits:
    """What a model takes in one content.

    `text_bytes` is the UTF-8 size above which a text is certainly over `tokens` (8 bytes to a token, more
    than any script needs); between the two, the provider's own count decides.
    """

    tokens: int = 8192
    text_bytes: int = 65_536
    images: int = 6
    audio_seconds: float = 180.0
    video_seconds: float = 120.0
    pdfs: int = 1
    pdf_pages: int = 6
    media_types: frozenset[str] = frozenset(
        {
            "image/png",
            "image/jpeg",
            "audio/mpeg",
            "audio/wav",
            "video/mp4",
            "video/quicktime",
            "application/pdf",
        }
    )


@dataclass(frozen=True, slots=True)
class TokenRates:
    """Tokens of media where a provider does not report them, from its prices per piece and per token:
    an image $0.00012, a second of audio $0.00016, a frame of video $0.00079 (1 a second, at most 32)."""

    image: int = 267
    audio_second: float = 24.6
    video_frame: float = 65.8
    video_frames: int = 32
    pdf_page: int = 267


@dataclass(frozen=True, slots=True)
class Model:
    """`derivable`: the provider's smaller sizes are cut + renormalise of the full one (MRL)."""

    id: str
    name: str
    created: int
    dimensions: Dimensions
    modalities: frozenset[Modality]
    derivable: bool
    limits: Limits = Limits()
    prices: Mapping[Modality, Price] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    description: str = ""

    @property
    def owner(self) -> str:
        return self.id.partition("/")[0] if "/" in self.id else "embedonce"

    def price(self, modality: Modality) -> Price:
        return self.prices.get(modality, Price.FREE)


_GEMINI_PRICES = {
    Modality.TEXT: Price.per_million("0.20"),
    Modality.IMAGE: Price.per_million("0.45"),
    Modality.AUDIO: Price.per_million("6.50"),
    Modality.VIDEO: Price.per_million("12.00"),
    Modality.PDF: Price.per_million("0.45"),
}

GEMINI_EMBEDDING_2 = Model(
    id="google/gemini-embedding-2",
    name="Google: Gemini Embedding 2",
    created=1_776_384_000,
    dimensions=Dimensions(default=3072, smallest=128, largest=3072),
    modalities=frozenset(Modality),
    derivable=True,
    prices=_GEMINI_PRICES,
    aliases=("gemini-embedding-2", "models/gemini-embedding-2"),
    description="Multimodal embeddings: text, image, audio, video and PDF in one vector space.",
)

GEMINI_EMBEDDING_2_PREVIEW = replace(
    GEMINI_EMBEDDING_2,
    id="google/gemini-embedding-2-preview",
    name="Google: Gemini Embedding 2 Preview",
    aliases=("gemini-embedding-2-preview", "models/gemini-embedding-2-preview"),
    description="The preview of Gemini Embedding 2: a vector space of its own.",
)


class Catalog:
    """Models by id and alias. Immutable once made."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._models = tuple(models)
        self._by_name: dict[str, Model] = {}
        for model in self._models:
            for name in (model.id, *model.aliases):
                self._by_name[name] = model

    def __iter__(self) -> Any:
        return iter(self._models)

    def find(self, name: str, param: str = "model") -> Model:
        """:raises NotFound: no such model; the message lists the ids there are"""
        model = self._by_name.get(name)
        if model is None:
            known = ", ".join(sorted(m.id for m in self._models))
            raise NotFound(f"{param}: unknown model. Known models: {known}", param=param)
        return model


BUILT_IN: tuple[Model, ...] = (GEMINI_EMBEDDING_2, GEMINI_EMBEDDING_2_PREVIEW)


def checked_dimensions(model: Model, asked: int | None, param: str = "dimensions") -> int | None:
    """The size to embed at: what was asked, or the model's default (absent and explicit default are one).

    :raises InvalidRequest: outside the model's range
    """
    if asked is None:
        return model.dimensions.default
    low, high = model.dimensions.smallest, model.dimensions.largest
    if not low <= asked <= high:
        raise LimitExceeded(param, limit=f"{low} to {high} for {model.id}", value=str(asked))
    return asked


def check_content(model: Model, content: Content, param: str) -> None:
    """Refuse before anything is paid what the model certainly does not take.

    :raises InvalidRequest: a modality or a media type that the model does not know
    :raises LimitExceeded: more text, images, seconds, documents or pages than the model takes in one content
    """
    limits = model.limits
    media: list[MediaPart] = []
    text_bytes = 0
    for part in content.parts:
        if part.modality not in model.modalities:
            raise InvalidRequest(f"{param}: {model.id} does not take {part.modality}", param=param)
        if isinstance(part, TextPart):
            text_bytes += len(part.sent_bytes)
        elif part.media_type not in limits.media_types:
            takes = ", ".join(sorted(limits.media_types))
            raise InvalidRequest(
                f"{param}: {part.media_type} is not taken; {model.id} takes {takes}", param=param
            )
        else:
            media.append(part)
    if text_bytes > limits.text_bytes:
        tokens = f" (about {limits.tokens} tokens)" if limits.tokens else ""
        limit = f"{limits.text_bytes} bytes of text{tokens} for {model.id}"
        raise LimitExceeded(param, limit=limit, value=f"{text_bytes} bytes")
    if media:
        _check_media(limits, media, param)


def _check_media(limits: Limits, media: list[MediaPart], param: str) -> None:
    def check(what: str, value: float, limit: float) -> None:
        if value > limit:
            raise LimitExceeded(param, limit=f"{limit:g} {what}", value=f"{value:g}")

    def of(modality: Modality) -> list[MediaPart]:
        return [part for part in media if part.modality is modality]

    check("images in one content", len(of(Modality.IMAGE)), limits.images)
    check("PDF documents in one content", len(of(Modality.PDF)), limits.pdfs)
    check("PDF pages in one content", sum(p.pages for p in of(Modality.PDF)), limits.pdf_pages)
    audio, video = of(Modality.AUDIO), of(Modality.VIDEO)
    check("seconds of audio in one content", round(sum(p.seconds for p in audio), 2), limits.audio_seconds)
    check("seconds of video in one content", round(sum(p.seconds for p in video), 2), limits.video_seconds)


def estimated_tokens(content: Content, rates: TokenRates = TokenRates()) -> int:
    """At least 1; for what a provider did not count."""
    tokens = 0.0
    for part in content.parts:
        match part:
            case TextPart():
                tokens += len(part.sent_bytes) / BYTES_PER_TOKEN
            case MediaPart(modality=Modality.IMAGE):
                tokens += rates.image
            case MediaPart(modality=Modality.AUDIO):
                tokens += part.seconds * rates.audio_second
            case MediaPart(modality=Modality.VIDEO):
                tokens += min(math.ceil(part.seconds), rates.video_frames) * rates.video_frame
            case _:
                tokens += max(1, part.pages) * rates.pdf_page
    return max(1, math.ceil(tokens))


BYTES_PER_TOKEN = 4
"""UTF-8 bytes of common text to one token."""


def most_tokens(content: Content) -> int:
    """What it certainly does not exceed: a token is at least a byte of text; media at the rates that their
    prices are made of."""
    return content.size if content.is_text else estimated_tokens(content)


def most_billed_tokens(content: Content, limits: Limits, rates: TokenRates = TokenRates()) -> int:
    """What no provider bills more than, whatever a file's headers claim: a token for each byte of text and
    some around it, and of media the most that a model takes of their kind."""
    tokens = 0.0
    for part in content.parts:
        match part:
            case TextPart():
                tokens += len(part.sent_bytes)
            case MediaPart(modality=Modality.IMAGE):
                tokens += rates.image
            case MediaPart(modality=Modality.AUDIO):
                tokens += limits.audio_seconds * rates.audio_second
            case MediaPart(modality=Modality.VIDEO):
                tokens += rates.video_frames * rates.video_frame
            case _:
                tokens += limits.pdf_pages * rates.pdf_page
    return math.ceil(tokens) + TOKENS_AROUND


TOKENS_AROUND = 8
"""What a tokenizer may add to a content: a beginning, an end, a task."""


def most_cost(content: Content, model: Model) -> int:
    """Pico-dollars that embedding it certainly does not exceed, by the model's own prices."""
    return model.price(content.modality).of(most_tokens(content))
