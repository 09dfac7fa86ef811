"""What `pays` does with inputs of one kind: by their costs, and by how often they repeat. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from embedonce.core.costworth import Admission, Unit, admission
from embedonce.core.repetition import Prior, Repeats, RepetitionEstimate
from embedonce.core.verdict import Verdict

SAMPLE_BUDGET = 0.03
"""What looking for the sample and keeping it may cost, of what its kind costs at the provider."""
SAMPLE_MOST = 1 / 16
WINDOW_DAYS = 30.0
"""How long the sample is kept, at least. Repeats after that are not seen: they follow from earlier ones."""
RECKON_EVERY = 8
"""Sights of the sample between two reckonings."""
DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Size:
    """Of an input in tokens, as inputs of about that size are taken together: from `least` on, below twice
    that."""

    least: int

    @classmethod
    def of(cls, tokens: int) -> Size:
        return cls(1 << (max(1, tokens).bit_length() - 1))


class KindPolicy:
    """Of one modality, size, model and number of dimensions. Not thread-safe.

    `unit_of`: the costs of an input of so many tokens. `most_days`: the configured TTL.
    """

    def __init__(
        self, unit_of: Callable[[float], Unit], size: Size, *, most_days: float, prior: Prior
    ) -> None:
        self._unit_of = unit_of
        self._most = most_days
        self._window = min(WINDOW_DAYS, most_days)
        self._estimate = RepetitionEstimate(prior, window_days=self._window)
        self._tokens = 1.5 * size.least * prior.weight
        self._counted = prior.weight
        self._since = 0
        # By what every process knows alike, as all of them must have the same sample.
        least = unit_of(size.least)
        days = most_days if least.fixed_days is not None else self._window
        cost = least.absent + least.write + least.storage(days)
        share = SAMPLE_MOST if not cost else min(SAMPLE_MOST, SAMPLE_BUDGET * least.upstream / cost)
        self._below = math.ceil(share * (1 << 32))
        self._sample_days = days
        self._reckon()

    @property
    def repeats(self) -> Repeats:
        return self._estimate.repeats()

    @property
    def admission(self) -> Admission:
        return self._admission

    def samples(self, fingerprint: bytes) -> bool:
        """A fingerprint is a digest, so this share of all contents is in the sample."""
        return int.from_bytes(fingerprint[:4], "big") < self._below

    def verdict(self, fingerprint: bytes) -> Verdict:
        return self._sampled if self.samples(fingerprint) else self._usual

    def missed(self, tokens: int) -> None:
        """One of the sample was bought."""
        self._estimate.missed()
        self._saw(tokens)

    def hit(self, tokens: int, age_seconds: float, *, remembered: bool) -> None:
        """One was found; see `RepetitionEstimate.hit`."""
        self._estimate.hit(age_seconds / DAY_SECONDS, remembered=remembered)
        self._saw(tokens)

    def _saw(self, tokens: int) -> None:
        self._tokens += tokens
        self._counted += 1
        self._since += 1
        if self._since >= RECKON_EVERY:
            self._reckon()

    def _reckon(self) -> None:
        self._since = 0
        one = self._unit_of(self._tokens / self._counted)
        seen = self._estimate.repeats()
        chosen = admission(one, seen.law, most=self._most, memory=min(1.0, seen.memory))
        self._admission = chosen
        flies = chosen.first and one.flies
        seconds = int(chosen.ttl_days * DAY_SECONDS)
        self._usual = Verdict(looks=chosen.looks, keep=chosen.first, flies=flies, ttl_seconds=seconds)
        days = max(self._sample_days, chosen.ttl_days)
        self._sampled = Verdict(
            looks=True, keep=True, flies=flies, ttl_seconds=int(days * DAY_SECONDS), sampled=True
        )
