"""What `pays` makes of a kind of input: the estimate of its repetition, the sample, and the decision."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedonce.core.content import Modality
from embedonce.core.costcalls import DYNAMODB, EXPRESS, S3, Tier
from embedonce.core.costworth import Unit, admission, unit
from embedonce.core.kindpolicy import SAMPLE_BUDGET, WINDOW_DAYS, KindPolicy, Size
from embedonce.core.prices import built_in
from embedonce.core.repetition import MOST_WEIGHT, Prior, RepetitionEstimate
from embedonce.core.sights import Geometric

DAY = 86_400
MOST_DAYS = 180.0
PRICES = built_in()

ratios = st.floats(0.0, 0.95)
gaps = st.floats(0.05, 10.0)


def estimate(prior: Prior) -> RepetitionEstimate:
    return RepetitionEstimate(prior, window_days=WINDOW_DAYS)


def flat(ratio: float, gap: float) -> bool:
    """Whether the ages within the window hardly say when they would end."""
    return gap / (1 - ratio) > WINDOW_DAYS


@given(ratios, gaps, st.floats(0.0, 1.0))
def test_before_anything_is_seen_it_says_what_was_assumed(ratio: float, gap: float, memory: float) -> None:
    said = estimate(Prior(ratio, gap, memory)).repeats()
    assert said.memory == pytest.approx(memory)
    assert hits_within(said.law, WINDOW_DAYS) == pytest.approx(
        hits_within(Geometric(1.0, ratio, gap), WINDOW_DAYS), abs=0.02
    )
    if not flat(ratio, gap):
        assert said.ratio == pytest.approx(ratio, abs=0.01)
        assert said.gap_days == pytest.approx(gap, rel=0.02) or not ratio


@settings(max_examples=50)
@given(ratios, gaps, st.floats(0.0, 0.9))
def test_it_finds_the_law_that_a_sample_follows(ratio: float, gap: float, assumed: float) -> None:
    """Hits come at exponential ages of which those within the window are seen, as many as the law has."""
    found = estimate(Prior(assumed, weight=2.0))
    mean = gap / (1 - ratio)
    within = -math.expm1(-WINDOW_DAYS / mean)
    each = ratio / (1 - ratio) * within
    due, quantile = 0.0, 0.5
    for _ in range(math.ceil(1500 / (1 + each))):
        found.missed()
        due += each
        while due >= 1.0:
            due -= 1.0
            quantile = (quantile + GOLDEN) % 1.0
            found.hit(-mean * math.log1p(-quantile * within), remembered=False)
    said = found.repeats()
    law = Geometric(1.0, ratio, gap)
    # What decides is how many hits come within a TTL.
    for ttl in (3.0, 7.0, 30.0):
        assert hits_within(said.law, ttl) == pytest.approx(hits_within(law, ttl), abs=0.05)
    if not flat(ratio, gap):
        assert said.ratio == pytest.approx(ratio, abs=0.03)


def hits_within(law: Geometric, ttl: float) -> float:
    return 1.0 - law.always(ttl, 0.0).bought


GOLDEN = (math.sqrt(5) - 1) / 2
"""Multiples of it, modulo 1, are evenly spread."""


@given(st.lists(st.floats(-5.0, 1000.0) | st.none(), max_size=60), ratios)
def test_whatever_is_seen_the_law_stays_one(seen: list[float | None], assumed: float) -> None:
    found = estimate(Prior(assumed))
    for age in seen:
        if age is None:
            found.missed()
        else:
            found.hit(age, remembered=True)
    said = found.repeats()
    assert 0.0 <= said.ratio < 1.0
    assert said.gap_days > 0.0
    assert 0.0 <= said.memory <= 1.0


def test_old_observations_count_less() -> None:
    found = estimate(Prior())
    for _ in range(5000):
        found.missed()
    assert found.weight <= MOST_WEIGHT
    for _ in range(3000):
        found.hit(1.0, remembered=False)
    assert found.repeats().ratio > 0.6


@pytest.mark.parametrize("age", [-1.0, WINDOW_DAYS, 200.0])
def test_a_hit_outside_of_the_window_is_not_the_samples(age: float) -> None:
    """Its vector was kept for longer; or a clock was set back."""
    found = estimate(Prior())
    before = found.repeats()
    found.hit(age, remembered=True)
    assert (found.weight, found.repeats()) == (0.0, before)


def test_memory_is_what_finds_hits_in_this_process() -> None:
    found = estimate(Prior(memory=0.1))
    for number in range(400):
        found.hit(1.0, remembered=number % 4 == 0)
    assert found.repeats().memory == pytest.approx(0.25, abs=0.02)


# ---- the policy


def units(tier: Tier, modality: Modality = Modality.TEXT, dimensions: int = 3072) -> Callable[[float], Unit]:
    def unit_of(tokens: float) -> Unit:
        return unit(modality, tokens, dimensions, tier, PRICES, lifecycle_days=MOST_DAYS)

    return unit_of


def policy(tier: Tier, tokens: int = 20, *, prior: Prior | None = None, **kind: object) -> KindPolicy:
    return KindPolicy(
        units(tier, **kind),  # type: ignore[arg-type]
        Size.of(tokens),
        most_days=MOST_DAYS,
        prior=prior or Prior(),
    )


def name(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


@given(st.integers(1, 100_000))
def test_a_size_is_between_two_powers_of_two(tokens: int) -> None:
    least = Size.of(tokens).least
    assert least <= tokens < 2 * least
    assert least & (least - 1) == 0


@settings(max_examples=20)
@given(
    st.sampled_from([DYNAMODB, S3, EXPRESS]),
    st.integers(2, 8000),
    st.sampled_from([128, 768, 3072]),
    ratios,
)
def test_the_sample_costs_no_more_than_its_budget_and_is_the_same_for_all(
    tier: Tier, tokens: int, dimensions: int, assumed: float
) -> None:
    one = policy(tier, tokens, dimensions=dimensions)
    other = policy(tier, tokens, dimensions=dimensions, prior=Prior(assumed))
    for _ in range(50):
        other.missed(tokens)
    names = [name(number) for number in range(3000)]
    sampled = [each for each in names if one.samples(each)]
    assert sampled == [each for each in names if other.samples(each)]
    costs = units(tier, dimensions=dimensions)(tokens)
    kept = costs.absent + costs.write + costs.storage(MOST_DAYS if costs.fixed_days else WINDOW_DAYS)
    share = len(sampled) / len(names)
    noise = 4 * math.sqrt(share / len(names)) + 1e-3
    assert (share - noise) * kept <= SAMPLE_BUDGET * costs.upstream


@pytest.mark.parametrize("tier", [DYNAMODB, S3, EXPRESS], ids=lambda tier: tier.name)
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.6, 0.8, 0.95])
def test_what_it_decides_follows_from_what_it_saw(tier: Tier, ratio: float) -> None:
    kind, chance = policy(tier, 200), random.Random(2)
    for _ in range(1504):
        if chance.random() < ratio:
            kind.hit(200, chance.expovariate((1 - ratio) / 7.0) * DAY, remembered=False)
        else:
            kind.missed(200)
    said = kind.repeats
    assert kind.admission == admission(units(tier)(200), said.law, most=MOST_DAYS, memory=said.memory)
    verdict = kind.verdict(next(n for n in map(name, range(1000)) if not kind.samples(n)))
    worth = ratio >= 0.6
    assert (verdict.looks, verdict.keep) == (worth, worth)
    assert verdict.ttl_seconds <= MOST_DAYS * DAY


def test_the_sample_is_kept_whatever_is_decided_and_flies_only_where_that_pays() -> None:
    cheap = policy(DYNAMODB, 20, prior=Prior(0.0))
    sampled = cheap.verdict(next(n for n in map(name, range(5000)) if cheap.samples(n)))
    assert sampled.sampled
    assert sampled.looks
    assert sampled.keep
    assert not sampled.flies
    assert sampled.ttl_seconds == WINDOW_DAYS * DAY


def test_an_image_is_kept_with_a_flight_from_the_start() -> None:
    image = policy(DYNAMODB, 267, modality=Modality.IMAGE)
    verdict = image.verdict(next(n for n in map(name, range(1000)) if not image.samples(n)))
    assert verdict.keep
    assert verdict.flies


def test_a_short_text_at_high_dimensions_is_not_even_looked_for() -> None:
    text = policy(DYNAMODB, 20)
    verdict = text.verdict(next(n for n in map(name, range(1000)) if not text.samples(n)))
    assert not verdict.looks
    assert not verdict.keep
    assert not verdict.flies
