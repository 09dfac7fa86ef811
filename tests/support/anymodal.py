"""An upstream that takes every modality; a vector is the digest of exactly what it was sent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import numpy as np

from embedonce.core import vector
from embedonce.core.catalog import Model
from embedonce.core.content import Content, MediaPart, Modality
from embedonce.core.pricing import Price
from embedonce.ports import Offer, UpstreamAnswer, UpstreamCall
from embedonce.upstreams.recipe import prefixed, sends

FULL = 3072
TOKENS = 7
"""Of every content."""
PRICE = Price.per_million("0.20")


def vector_of(parts: Iterable[str | bytes], dimensions: int = FULL) -> bytes:
    """Of a content with these parts (text or media), at unit length; smaller sizes are cut from the full."""
    state = hashlib.sha256()
    for part in parts:
        kind, data = (b"t", part.encode()) if isinstance(part, str) else (b"m", part)
        state.update(kind + hashlib.sha256(data).digest())
    values = np.random.default_rng(int.from_bytes(state.digest())).standard_normal(FULL)
    full: bytes = (values / np.linalg.norm(values)).astype("<f4").tobytes()
    return full if dimensions == FULL else vector.cut(full, dimensions)


class AnyModal:
    """`parameters`: names of those it forwards (and which are then in its keys)."""

    name = "anymodal"

    def __init__(self, parameters: Iterable[str] = ()) -> None:
        self.calls: list[UpstreamCall] = []
        self.fails: Callable[[], Exception] | None = None
        self._parameters = frozenset(parameters)

    def offer(self, model: Model) -> Offer | None:
        return Offer(
            lineage="anymodal/prefix-1",
            model=model.id,
            modalities=frozenset(Modality),
            max_inputs=100,
            max_bytes=1 << 30,
            recipe=prefixed,
            sends=sends(self._parameters),
            prices=dict.fromkeys(Modality, PRICE),
        )

    def embed(self, call: UpstreamCall, *, timeout: float) -> UpstreamAnswer:
        self.calls.append(call)
        if self.fails is not None:
            raise self.fails()
        vectors = tuple(vector_of(sent(content), call.dimensions or FULL) for content in call.contents)
        return UpstreamAnswer(vectors, tokens=TOKENS * len(vectors))

    def close(self) -> None:
        pass

    @property
    def contents(self) -> list[list[str | bytes]]:
        """All that was ever sent."""
        return [sent(content) for call in self.calls for content in call.contents]


def sent(content: Content) -> list[str | bytes]:
    return [part.sent_bytes if isinstance(part, MediaPart) else part.text for part in content.parts]
