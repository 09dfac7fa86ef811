"""The models this gateway knows: ids, sizes, limits, modalities, prices.

Facts and their grades are in the model's own documentation: dimensions 128-3072 (default 3072), 8,192 tokens
of text, prices per modality. Preview and GA are different vector spaces and never share a vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from embedonce.core.content import Content, Modality, TextPart
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
    """`text_bytes` is the UTF-8 size above which a text is certainly over `tokens` (8 bytes to a token,
    more than any script needs); between the two, the provider's own count decides."""

    tokens: int = 8192
    text_bytes: int = 65_536


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

    :raises InvalidRequest: a modality the model does not know
    :raises LimitExceeded: a text that is certainly over the model's token limit
    """
    for part in content.parts:
        if part.modality not in model.modalities:
            raise InvalidRequest(f"{param}: {model.id} does not take {part.modality}", param=param)
    size = sum(len(p.sent_bytes) for p in content.parts if isinstance(p, TextPart))
    if size > model.limits.text_bytes:
        tokens = f" (about {model.limits.tokens} tokens)" if model.limits.tokens else ""
        limit = f"{model.limits.text_bytes} bytes of text{tokens} for {model.id}"
        raise LimitExceeded(param, limit=limit, value=f"{size} bytes")
