"""What `doctor upstreams` sends, what that can cost at most, and what came back. Nothing is stored, nothing
is tried twice.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from embedonce.core.catalog import Model, estimated_tokens
from embedonce.core.content import Content, MediaPart, Modality
from embedonce.core.errors import EmbedonceError
from embedonce.core.tasks import TaskType, with_prefix
from embedonce.core.validation import checked_vectors
from embedonce.ports import Offer, Upstream, UpstreamAnswer, UpstreamCall
from embedonce.upstreams.failure import UpstreamFailure

TEXTS = (
    "The ferry to the island leaves at nine, but not in a storm.",
    "Der Vertrag verlängert sich um ein Jahr, wenn niemand kündigt.",
    "SELECT name, count(*) FROM orders GROUP BY name HAVING count(*) > 3;",
    "東京の桜は三月の終わりに咲きます。",
    "invoice 2024-117: 3 x hinge, 12.50 EUR",
)
SIZES = (768, 1536)
TASK = TaskType.RETRIEVAL_QUERY
PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "google": {"taskType": TASK.value},
    "openrouter": {"input_type": "search_query"},
    "segmind": {"task_type": TASK.value},
    "openai_compatible": {"input_type": "query"},
}
"""How each is told the task beside the text. The offline model is told nothing."""

PLAIN = "plain"
AGAIN = "again"
PREFIXED = "prefixed"
PARAMETER = "parameter"
IMAGE = "image"


def cut_to(size: int) -> str:
    return f"at {size}"


@dataclass(frozen=True, slots=True)
class Probe:
    """One group of contents that is sent alike. The names are those of its vectors in the answers."""

    name: str
    contents: tuple[Content, ...]
    dimensions: int | None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Answers:
    """`vectors` by the probe's name; `refused` by the same, with our own text. `spent` in pico-dollars, as
    far as the provider said; `unsaid`: there were calls of which it did not."""

    vectors: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    spent: int = 0
    unsaid: bool = False


def probes_for(upstream: Upstream, offer: Offer, model: Model, *, media: bool) -> list[Probe]:
    """All without a task parameter but the one that tests it: as upstreams of one space would be asked."""
    texts = tuple(Content.of_text(text) for text in TEXTS)
    full = model.dimensions.default
    probes = [
        Probe(PLAIN, texts, full),
        # Asked twice, so that what varies by itself is not taken for a difference.
        Probe(AGAIN, texts[:1], full),
        Probe(PREFIXED, (with_prefix(texts[0], TASK, None),), full),
    ]
    if told := PARAMETERS.get(upstream.name):
        probes.append(Probe(PARAMETER, texts[:1], full, told))
    probes += [Probe(cut_to(size), texts, size) for size in smaller_sizes(model)]
    if media and Modality.IMAGE in offer.modalities:
        probes.append(Probe(IMAGE, (Content((_image(),)),), full))
    return probes


def smaller_sizes(model: Model) -> list[int]:
    full = model.dimensions.default
    return [size for size in SIZES if full is not None and model.dimensions.smallest <= size < full]


def most_cost(probes: Sequence[Probe], offer: Offer) -> int:
    """Pico-dollars by our prices; a token is at least a byte of text."""
    total = 0
    for content in (content for probe in probes for content in probe.contents):
        price = offer.prices.get(content.modality)
        tokens = content.size if content.is_text else estimated_tokens(content)
        total += price.of(tokens) if price is not None else 0
    return total


def asked(
    upstream: Upstream, offer: Offer, model: Model, probes: Sequence[Probe], *, timeout: float
) -> Answers:
    """After a plain probe that fails nothing more is bought there."""
    answers = Answers()
    for probe in probes:
        try:
            answers.vectors[probe.name] = tuple(_bought(upstream, offer, model, probe, timeout, answers))
        except UpstreamFailure as failure:
            answers.refused[probe.name] = failure.message
            answers.unsaid |= failure.billed
        except EmbedonceError as failure:
            answers.refused[probe.name] = failure.message
        except Exception as odd:  # noqa: BLE001  # an answer of a shape that no reader expected
            answers.refused[probe.name] = f"an answer that cannot be read ({type(odd).__name__})"
        if PLAIN in answers.refused:
            break
    return answers


def _bought(
    upstream: Upstream, offer: Offer, model: Model, probe: Probe, timeout: float, answers: Answers
) -> Iterator[bytes]:
    for at in range(0, len(probe.contents), offer.max_inputs):
        some = probe.contents[at : at + offer.max_inputs]
        call = UpstreamCall(model, some, probe.dimensions, probe.parameters)
        answer: UpstreamAnswer = upstream.embed(call, timeout=timeout)
        answers.spent += answer.cost or 0
        answers.unsaid |= answer.cost is None
        checked_vectors(
            answer.vectors, some, probe.dimensions, upstream=upstream.name, distinct=offer.distinct
        )
        yield from answer.vectors


def _image() -> MediaPart:
    """64 by 64, four grey fields."""
    side = 64
    rows = b"".join(
        b"\0" + bytes(40 + 80 * (x >= side // 2) + 60 * (y >= side // 2) for x in range(side))
        for y in range(side)
    )
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)
    return MediaPart.of(Modality.IMAGE, "image/png", data)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
