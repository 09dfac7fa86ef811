"""The policy `pays` in one process: what is kept, looked for and flown, and first sights on hold.

A kind is a modality, a size in tokens (by powers of two), a number of dimensions and a model. What a process
learns of a kind it learns from a sample of contents that all processes have in common (`core.kindpolicy`)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from embedonce.core.catalog import Model, estimated_tokens
from embedonce.core.content import Modality
from embedonce.core.costworth import SLOW, Unit
from embedonce.core.kindpolicy import DAY_SECONDS, KindPolicy, Size
from embedonce.core.plan import Item
from embedonce.core.repetition import Prior
from embedonce.core.verdict import Verdict
from embedonce.ports import FirstSights

MOST_KINDS = 1024
"""Clients choose the dimensions; of kinds beyond, the one that was not seen for longest is forgotten."""

_Kind = tuple[str, Modality, int, Size]


class Admission:
    """Thread-safe. `held` are vectors that stand in no store yet; `unit_of` says what an input of a modality,
    tokens, dimensions and model costs. `most_days`: the configured TTL."""

    def __init__(
        self,
        unit_of: Callable[[Modality, float, int, Model], Unit],
        held: FirstSights,
        *,
        most_days: float,
        prior: Prior,
    ) -> None:
        self._unit_of = unit_of
        self.held = held
        self._most_days = most_days
        self._prior = prior
        self._always = Verdict(looks=True, keep=True, flies=True, ttl_seconds=int(most_days * DAY_SECONDS))
        self._lock = threading.Lock()
        self._kinds: OrderedDict[_Kind, KindPolicy] = OrderedDict()

    def verdict(self, item: Item, model: Model) -> Verdict:
        """What is bought through the queue is always kept, and so is what has no known size or price."""
        if (
            item.dimensions is None
            or not SLOW.isdisjoint(item.modalities)
            or not model.price(item.modality).per_token
        ):
            return self._always
        with self._lock:
            return self._policy(item, model).verdict(item.fetch.fingerprint)

    def bought(self, item: Item, model: Model) -> None:
        """One of the sample."""
        with self._lock:
            self._policy(item, model).missed(estimated_tokens(item.content))

    def found(self, item: Item, model: Model, age: float, *, remembered: bool) -> None:
        """One of the sample, `age` seconds after it was bought. `remembered`: it was in this process."""
        with self._lock:
            self._policy(item, model).hit(estimated_tokens(item.content), age, remembered=remembered)

    def policy(self, item: Item, model: Model) -> KindPolicy:
        """Of its kind."""
        with self._lock:
            return self._policy(item, model)

    def _policy(self, item: Item, model: Model) -> KindPolicy:
        modality, dimensions = item.modality, item.dimensions or 0
        size = Size.of(estimated_tokens(item.content))
        kind = (model.id, modality, dimensions, size)
        policy = self._kinds.get(kind)
        if policy is None:
            policy = self._kinds[kind] = KindPolicy(
                lambda tokens: self._unit_of(modality, tokens, dimensions, model),
                size,
                most_days=self._most_days,
                prior=self._prior,
            )
            if len(self._kinds) > MOST_KINDS:
                self._kinds.popitem(last=False)
        else:
            self._kinds.move_to_end(kind)
        return policy
