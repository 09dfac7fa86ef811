"""How often inputs of one kind repeat, estimated from a sample of their contents. Pure.

The sample is of contents, not of sights: what is in it is looked up and kept at every sight and by every
process, so the sights of one content are seen however they are spread over processes. By the law of
`core.sights` the sights that follow a purchase come at ages that are exponential with the mean
gap / (1 - ratio), ratio / (1 - ratio) of them on average; of these a sample that is kept for `window` days
shows those of less age. Both are solved for the ratio and the gap.

Few observations say little, so as many of the prior's are added; old ones count less and less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from embedonce.core.sights import Geometric

PRIOR_WEIGHT = 20.0
"""As many sights the prior counts for."""
PRIOR_GAP_DAYS = 7.0
PRIOR_MEMORY = 0.1
MOST_WEIGHT = 2000.0
"""Beyond as many sights all that were counted are halved."""
FLATTEST = 0.48
"""Ages whose mean is nearer to half the window than this do not say when they would end."""


@dataclass(frozen=True, slots=True)
class Prior:
    """What is assumed before anything was seen. `memory`: the share of repeats that reach a process which
    still remembers the last sight."""

    ratio: float = 0.5
    gap_days: float = PRIOR_GAP_DAYS
    memory: float = PRIOR_MEMORY
    weight: float = PRIOR_WEIGHT


@dataclass(frozen=True, slots=True)
class Repeats:
    """As estimated."""

    ratio: float
    gap_days: float
    memory: float

    @property
    def law(self) -> Geometric:
        return Geometric(1.0, self.ratio, self.gap_days)


class RepetitionEstimate:
    """Not thread-safe."""

    def __init__(self, prior: Prior, *, window_days: float) -> None:
        self._prior = prior
        self._window = window_days
        self._bought = self._hits = self._remembered = self._ages = 0.0
        mean = prior.gap_days / (1.0 - prior.ratio)
        each = prior.ratio / (1.0 - prior.ratio) * _within(mean, window_days)
        self._prior_bought = prior.weight / (1.0 + each)
        self._prior_hits = prior.weight - self._prior_bought
        self._prior_ages = self._prior_hits * _mean_within(mean, window_days)

    @property
    def weight(self) -> float:
        """Sights that were counted, without the prior's."""
        return self._bought + self._hits

    def missed(self) -> None:
        """One of the sample was bought."""
        self._bought += 1.0
        self._decay()

    def hit(self, age_days: float, *, remembered: bool) -> None:
        """One was found, so long after it was bought. `remembered`: also in the process's own memory."""
        if not 0.0 <= age_days < self._window:
            return
        self._hits += 1.0
        self._ages += age_days
        self._remembered += remembered
        self._decay()

    def repeats(self) -> Repeats:
        hits = self._hits + self._prior_hits
        bought = self._bought + self._prior_bought
        if hits <= 0.0:
            return Repeats(0.0, self._prior.gap_days, self._prior.memory)
        mean = _solved((self._ages + self._prior_ages) / hits, self._window)
        all_hits = hits / bought / _within(mean, self._window)
        ratio = all_hits / (1.0 + all_hits)
        # What memory finds is asked of the hits, whose number the prior's ratio should not decide.
        weight = self._prior.weight / 2
        memory = (self._remembered + weight * self._prior.memory) / (self._hits + weight)
        return Repeats(ratio, mean * (1.0 - ratio), memory)

    def _decay(self) -> None:
        if self.weight >= MOST_WEIGHT:
            self._bought /= 2
            self._hits /= 2
            self._remembered /= 2
            self._ages /= 2


def _within(mean: float, window: float) -> float:
    """The share of ages below the window."""
    return -math.expm1(-window / mean)


def _mean_within(mean: float, window: float) -> float:
    """Of the ages below the window."""
    x = window / mean
    return mean - (window / math.expm1(x) if x < 500.0 else 0.0)


def _solved(seen: float, window: float) -> float:
    """The mean of all ages, of which those below the window have the mean `seen`."""
    low, high = window * 1e-6, window / (12.0 * (0.5 - FLATTEST))
    if seen >= _mean_within(high, window):
        return high
    for _ in range(50):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _mean_within(middle, window) < seen else (low, middle)
    return high
