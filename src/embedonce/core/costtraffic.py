"""What a month of traffic is, for the cost model. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from embedonce.core.catalog import GEMINI_EMBEDDING_2, Model, TokenRates
from embedonce.core.content import Modality
from embedonce.core.sights import Geometric, Repetition

RATES = TokenRates()


def tokens_of(modality: Modality, amount: float, rates: TokenRates = RATES) -> float:
    """Of `amount` images, seconds of audio or video, or pages, as `core.catalog.estimated_tokens`."""
    match modality:
        case Modality.IMAGE:
            return amount * rates.image
        case Modality.AUDIO:
            return amount * rates.audio_second
        case Modality.VIDEO:
            return min(math.ceil(amount), rates.video_frames) * rates.video_frame
        case Modality.PDF:
            return amount * rates.pdf_page
        case _:
            return amount


@dataclass(frozen=True, slots=True)
class Kind:
    """Inputs of one modality and size (tokens each), and how they repeat in a month."""

    modality: Modality
    tokens: float
    repetition: Repetition


@dataclass(frozen=True, slots=True)
class Traffic:
    """A month (30 days). A request has inputs of one kind only.

    `dimensions`, `encoding`: what is asked for. `memory_share`: of repeats that reach a process which
    remembers the last sight. `derived_share`: of hits in the stores that are cut from the full size.
    `followed_share`: of repeats that come while another process is buying the same. `internet`: answers
    leave AWS. `ttl_days`: the configured TTL, and the bucket's lifecycle. `provider_ms`, `slow_ms`: what a
    provider takes for text and images, and for what goes through the queue; `polls`: how often it is asked
    there, 0 where it answers at once."""

    kinds: tuple[Kind, ...]
    inputs_per_request: float = 1.0
    dimensions: int = 3072
    encoding: str = "base64"
    memory_mb: int = 1024
    ttl_days: float = 180.0
    memory_share: float = 0.1
    derived_share: float = 0.0
    followed_share: float = 0.0
    internet: bool = True
    keys: int = 1
    cold_share: float = 0.01
    provider_ms: float = 500.0
    slow_ms: float = 5000.0
    polls: int = 0
    model: Model = GEMINI_EMBEDDING_2

    @property
    def inputs(self) -> float:
        return sum(kind.repetition.inputs for kind in self.kinds)

    @property
    def ratio(self) -> float:
        """The share of inputs that were seen before."""
        return sum(k.repetition.inputs * k.repetition.ratio for k in self.kinds) / self.inputs

    def at(self, ratio: float) -> Traffic:
        """The same with another repetition, by the law. Many sizes of one modality are taken together as
        those between two powers of 2, at their mean."""
        groups: dict[tuple[Modality, float], list[Kind]] = {}
        few = len(self.kinds) <= MANY_KINDS
        for k in self.kinds:
            groups.setdefault((k.modality, k.tokens if few else math.frexp(k.tokens)[1]), []).append(k)
        return replace(self, kinds=tuple(_merged(group, ratio) for group in groups.values()))


MANY_KINDS = 16


def _merged(kinds: list[Kind], ratio: float) -> Kind:
    inputs = sum(k.repetition.inputs for k in kinds)
    tokens = sum(k.repetition.inputs * k.tokens for k in kinds) / inputs
    return Kind(kinds[0].modality, tokens, Geometric(inputs, ratio, kinds[0].repetition.gap_days))
