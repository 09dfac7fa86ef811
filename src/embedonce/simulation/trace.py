"""Traces with a known law of repetition: which content is seen when. Times are days from the start."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sight:
    day: float
    content: int


def geometric(
    inputs: int, *, ratio: float, gap_days: float, days: float, chance: random.Random
) -> list[Sight]:
    """The law of `core.sights`: contents are first seen evenly over `days`, and after each sight another
    one comes with the chance `ratio`, after an exponential time. As many contents as there have to be for
    `inputs` sights, none of which is cut off."""
    sights: list[Sight] = []
    content = 0
    while len(sights) < inputs:
        day = chance.uniform(0.0, days)
        sights.append(Sight(day, content))
        while len(sights) < inputs and chance.random() < ratio:
            day += chance.expovariate(1.0 / gap_days) if gap_days else 0.0
            sights.append(Sight(day, content))
        content += 1
    return sorted(sights, key=lambda sight: sight.day)


def zipf(inputs: int, *, contents: int, exponent: float, days: float, chance: random.Random) -> list[Sight]:
    """Each input is the content of rank r with a probability that goes as r to the power of -`exponent`, at
    any time alike: some are seen all the time, many once."""
    weights = list(itertools.accumulate((rank + 1) ** -exponent for rank in range(contents)))
    chosen = chance.choices(range(contents), cum_weights=weights, k=inputs)
    times = sorted(chance.uniform(0.0, days) for _ in range(inputs))
    return [Sight(day, content) for day, content in zip(times, chosen, strict=True)]


def repeated(trace: list[Sight]) -> float:
    """The share of sights that are not the first of their content."""
    return 1.0 - len({sight.content for sight in trace}) / len(trace)


def spread(trace: list[Sight], processes: int, chance: random.Random) -> Iterator[tuple[Sight, int]]:
    """Each sight reaches any of the processes alike."""
    for sight in trace:
        yield sight, chance.randrange(processes)
