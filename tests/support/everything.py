"""An upstream that takes every modality and remembers what it was sent."""

from __future__ import annotations

import hashlib

from embedonce.core import vector
from embedonce.core.catalog import Model
from embedonce.core.content import Content, Modality
from embedonce.ports import Offer, UpstreamAnswer, UpstreamCall
from embedonce.upstreams.recipe import prefixed, sends


def vector_of(sent: tuple[bytes, ...], dimensions: int) -> bytes:
    """What it answers for a content of these parts: different for different bytes, at unit length."""
    seed = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in sent)).digest()
    raw = hashlib.shake_256(seed).digest(dimensions)
    numbers = [byte - 127.5 for byte in raw]
    length = sum(n * n for n in numbers) ** 0.5
    return vector.pack([n / length for n in numbers])


class Everything:
    name = "everything"

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, ...]] = []

    def offer(self, model: Model) -> Offer:
        return Offer(
            "everything", model.id, frozenset(Modality), 100, 1 << 30, prefixed, sends(frozenset()), {}
        )

    def embed(self, call: UpstreamCall, *, timeout: float) -> UpstreamAnswer:
        return UpstreamAnswer(tuple(self._one(content, call.dimensions or 3072) for content in call.contents))

    def _one(self, content: Content, dimensions: int) -> bytes:
        sent = tuple(part.sent_bytes for part in content.parts)
        self.sent.append(sent)
        return vector_of(sent, dimensions)

    def close(self) -> None:
        pass
