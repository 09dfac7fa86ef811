"""The cost model: the example of docs/cost.md, the figures that are published elsewhere, and its laws."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from embedonce.cli import costprofile
from embedonce.core import costcalls, costgateway, prices, sights, vector
from embedonce.core.content import Modality
from embedonce.core.costcalls import DEPLOYED, DYNAMODB, EXPRESS, S3, TIERS, Place, Size, Tier
from embedonce.core.costmodel import (
    CACHE,
    GATEWAY,
    Kind,
    Policy,
    Traffic,
    Unit,
    admission,
    best_ttl,
    break_even,
    monthly,
    unit,
    worth_keeping,
    worth_looking,
)
from embedonce.core.costtraffic import tokens_of
from embedonce.core.costworth import simple_break_even
from embedonce.core.prices import BadPrices, built_in
from embedonce.core.pricing import PICO
from embedonce.core.sights import Geometric, Repetition, Sample

PAGE = (Path(__file__).parents[2] / "docs" / "cost.md").read_text()
TIMES = "\N{MULTIPLICATION SIGN}"
MICRO = 10**6
PRICES = built_in()
RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def micro(pico: float) -> float:
    return pico / MICRO


def text(tokens: float = 20, dimensions: int = 3072, tier: Tier = S3) -> Unit:
    return unit(Modality.TEXT, tokens, dimensions, tier, PRICES)


def traffic(ratio: float, *, tokens: float = 20, dimensions: int = 3072, **more: object) -> Traffic:
    kind = Kind(Modality.TEXT, tokens, Geometric(1e6, ratio, 7.0))
    return replace(Traffic((kind,), dimensions=dimensions), **more)  # type: ignore[arg-type]


# ---- the example by hand


def _example() -> tuple[Traffic, dict[str, tuple[str, str]]]:
    """The traffic, and by line the arithmetic and what it comes to, as docs/cost.md has them."""
    section = PAGE.partition("## An example by hand")[2]
    said = re.search(r"```json\n(.*?)\n```", section, re.DOTALL)
    assert said is not None
    rows = re.findall(rf"^\| ([a-zA-Z -]+) \| ([0-9 {TIMES}+/().]+) \| ([0-9.]+) \|$", section, re.MULTILINE)
    return costprofile.Parameters.model_validate(json.loads(said[1])).traffic(), {
        name: (arithmetic, usd) for name, arithmetic, usd in rows
    }


def _worked_out(arithmetic: str) -> Fraction:
    """µUSD, exactly. Only numbers, sums, products, quotients and brackets are there."""
    exact = re.sub(r"\d+(?:\.\d+)?", lambda number: f"Fraction('{number[0]}')", arithmetic)
    return Fraction(eval(exact.replace(TIMES, "*"), {"Fraction": Fraction, "__builtins__": {}}))


def test_the_example_of_the_page_is_right_to_the_last_digit() -> None:
    given, rows = _example()
    month = monthly(given, Policy.ALWAYS, S3, PRICES)
    assert month == monthly(given, Policy.ALWAYS, DEPLOYED, PRICES)
    assert set(rows) == {name for name in month.lines if name != "tickets"}
    assert month.lines["tickets"] == 0
    for name, (arithmetic, usd) in rows.items():
        by_hand = _worked_out(arithmetic)
        assert f"{float(by_hand) / MICRO:.6f}" == usd, f"{name}: the page's arithmetic"
        assert f"{month.lines[name] / PICO:.6f}" == usd, f"{name}: the program"
        assert abs(month.lines[name] - by_hand * MICRO) <= 1_000_000, f"{name}: within a µUSD of a million"
    total = re.search(r"\| \*\*total\*\* \| \| ([0-9.]+) \|", PAGE)
    assert total is not None
    assert f"{month.total / PICO:.6f}" == total[1]
    assert month.direct == 4 * PICO
    assert (month.bought, month.found) == (250_000, 750_000)


# ---- what others have computed: the table and the statements of the price list


@pytest.mark.parametrize(
    ("dimensions", "tier", "write", "hit"),
    [
        (768, DYNAMODB, 2.50, 0.063),
        (768, S3, 5.0, 0.40),
        (768, EXPRESS, 1.14, 0.032),
        (3072, DYNAMODB, 8.13, 0.25),
        (3072, S3, 5.0, 0.40),
        (3072, EXPRESS, 1.17, 0.037),
    ],
)
def test_the_table_of_operations(dimensions: int, tier: Tier, write: float, hit: float) -> None:
    one = text(dimensions=dimensions, tier=tier)
    assert micro(one.write) == pytest.approx(write, abs=0.0051)
    assert micro(one.hit) == pytest.approx(hit, abs=0.00051)


def test_a_dynamodb_miss_costs_half_a_read_unit() -> None:
    assert micro(costcalls.vector_absent(Place.DYNAMODB).cost(PRICES)) == 0.0625


@pytest.mark.parametrize(
    ("modality", "amount", "upstream"),
    [
        (Modality.TEXT, 20, 4),
        (Modality.TEXT, 200, 40),
        (Modality.IMAGE, 1, 120),
        (Modality.AUDIO, 10, 1_600),
        (Modality.VIDEO, 32, 25_280),
    ],
)
def test_what_providers_take_is_the_catalogues(modality: Modality, amount: float, upstream: float) -> None:
    one = unit(modality, tokens_of(modality, amount), 3072, S3, PRICES)
    assert micro(one.upstream) == pytest.approx(upstream, rel=0.0015)


def test_storage_for_a_month() -> None:
    assert micro(text(tier=DYNAMODB).month) == pytest.approx(3.1, abs=0.05)
    assert micro(text(dimensions=768, tier=DYNAMODB).month) == pytest.approx(0.83, abs=0.005)
    # Those are by AWS's larger GB, which is 7% of it.
    assert micro(text(tier=S3).month) == pytest.approx(0.27, rel=0.075)
    assert micro(text(tier=EXPRESS).month) == pytest.approx(1.35, rel=0.075)


def test_the_simple_break_evens() -> None:
    assert simple_break_even(text(tier=DYNAMODB)) == pytest.approx(0.69, abs=0.005)
    assert simple_break_even(text(tier=DYNAMODB)) > 0.69
    assert simple_break_even(text(tier=EXPRESS)) == pytest.approx(0.23, abs=0.005)


def test_a_real_miss_has_two_large_writes() -> None:
    for tier in TIERS.values():
        calls = costcalls.miss(tier, Size(3072, None))
        assert sum(call.units == 13 or call.name == "PutObject" for call in calls) == 2
    assert micro(costcalls.cost(costcalls.miss(S3, Size(3072, None)), PRICES)) == 14.15
    assert break_even(traffic(0.5), Policy.ALWAYS, EXPRESS, PRICES) == pytest.approx(0.82, abs=0.01)


def test_an_answers_text_is_as_long_as_assumed() -> None:
    made = random.Random(7)
    data = vector.pack([made.gauss(0, 0.02) for _ in range(3072)])
    assert costgateway.text_bytes(3072, "base64") == len(vector.to_base64(data)) == 16_384
    assert costgateway.text_bytes(3072, "float") == pytest.approx(len(vector.to_json(data)), rel=0.03)


def test_what_nobody_asks_for_costs_little() -> None:
    assert costgateway.at_rest(PRICES) / PICO == pytest.approx(1.04 + 0.04 + 0.04, abs=0.01)


# ---- laws


def test_every_line_belongs_somewhere_and_sums_are_of_lines() -> None:
    kinds = tuple(Kind(m, 300.0, Geometric(1000.0, 0.4, 3.0)) for m in Modality)
    mixed = Traffic(kinds, dimensions=768, derived_share=0.2, followed_share=0.1, polls=3)
    for tier in TIERS.values():
        for policy in Policy:
            month = monthly(mixed, policy, tier, PRICES)
            assert set(month.lines) == {"provider", *CACHE, *GATEWAY}
            assert month.total == sum(month.lines.values()) == month.direct - month.saving
            assert all(isinstance(pico, int) and pico >= 0 for pico in month.lines.values())
            assert month.bought + month.found == pytest.approx(5000)


@pytest.mark.parametrize("tier", TIERS.values(), ids=lambda tier: tier.name)
@pytest.mark.parametrize("dimensions", [768, 3072])
@pytest.mark.parametrize("memory", [0.0, 0.1, 0.6])
def test_pays_never_costs_more_than_asking_directly(tier: Tier, dimensions: int, memory: float) -> None:
    """Nor more than `always`, a gateway given."""
    for ratio in RATIOS:
        for tokens in (5, 20, 200):
            given = traffic(ratio, tokens=tokens, dimensions=dimensions, memory_share=memory)
            pays = monthly(given, Policy.PAYS, tier, PRICES)
            always = monthly(given, Policy.ALWAYS, tier, PRICES)
            assert pays.beside_gateway <= min(pays.direct, always.beside_gateway) + 10


def test_media_are_kept_at_once_and_short_texts_at_their_second_sight_or_never() -> None:
    image = unit(Modality.IMAGE, 267, 3072, S3, PRICES)
    assert admission(image, Geometric(1, 0.3, 7), most=180, memory=0.1).first
    short = admission(text(tier=DYNAMODB), Geometric(1, 0.3, 7), most=180, memory=0.1)
    assert (short.first, short.ttl_days, short.looks) == (False, 0, False)
    small = text(tokens=40, dimensions=768, tier=DYNAMODB)
    second = admission(small, Geometric(1, 0.7, 7), most=180, memory=0.5)
    assert (second.first, second.looks) == (False, True)


def test_a_row_that_costs_more_than_its_input_is_not_written() -> None:
    assert not text(20).flies
    assert text(200).flies
    assert unit(Modality.AUDIO, 1, 3072, S3, PRICES).flies, "what is bought through the queue always has one"


def test_worth_keeping_grows_with_hits_and_falls_with_days() -> None:
    one = text(200)
    assert not worth_keeping(one, 180, 0.2).keep
    assert worth_keeping(one, 180, 0.5).keep
    dynamodb = text(200, tier=DYNAMODB)
    assert worth_keeping(dynamodb, 30, 1).keep
    assert worth_keeping(dynamodb, 180, 1).saving == worth_keeping(dynamodb, 30, 1).saving
    assert worth_keeping(dynamodb, 180, 1).cost > worth_keeping(dynamodb, 30, 1).cost
    assert worth_keeping(one, 180, 1, flight=False).cost == one.write + one.storage(180)


def test_looking_up_has_a_price_too() -> None:
    assert not worth_looking(text(), 0.09), "S3's GET is a tenth of a text of 20 tokens"
    assert worth_looking(text(), 0.11)
    assert worth_looking(text(tier=DYNAMODB), 0.02)


def test_the_best_ttl_follows_the_price_of_storage() -> None:
    dear, cheap = text(40, tier=DYNAMODB), text(40, dimensions=768, tier=DYNAMODB)
    assert 0 < best_ttl(dear, 0.7, 7) < best_ttl(cheap, 0.7, 7) < 180
    assert best_ttl(cheap, 0.7, 3) < best_ttl(cheap, 0.7, 7), "repeats that come sooner"
    assert best_ttl(text(tier=DYNAMODB), 0.2, 7) == 0, "not at all"
    assert best_ttl(text(200, tier=S3), 0.6, 7) == 180, "the bucket keeps it until then anyway"
    assert best_ttl(text(200, tier=S3), 0.6, 7, most=14) == 14


def test_s3_is_paid_until_its_lifecycle_removes_it() -> None:
    assert text(tier=S3).storage(1) == text(tier=S3).storage(180)
    assert text(tier=DYNAMODB).storage(1) < text(tier=DYNAMODB).storage(180)


def test_break_even_is_where_it_says() -> None:
    at = break_even(traffic(0.5, tokens=200), Policy.ALWAYS, DYNAMODB, PRICES)
    assert at is not None
    for ratio, dearer in ((at - 0.001, True), (at + 0.001, False)):
        month = monthly(traffic(ratio, tokens=200), Policy.ALWAYS, DYNAMODB, PRICES)
        assert (month.beside_gateway > month.direct) is dearer
    assert break_even(traffic(0.5), Policy.ALWAYS, DYNAMODB, PRICES, gateway=True) is None


def test_sizes_are_those_of_the_plan() -> None:
    assert Size.of(768, 3072, text=True) == Size(768, 3072)
    assert Size.of(768, 3072, text=False) == Size(3072, None)
    assert Size.of(3072, 3072, text=True) == Size.of(3072, None, text=True) == Size(3072, None)


# ---- sights


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("gap", [0.0, 2.0, 50.0])
@pytest.mark.parametrize("memory", [0.0, 0.2, 1.0])
def test_the_law_is_what_simulated_inputs_do(ratio: float, gap: float, memory: float) -> None:
    ttl, made = 20.0, random.Random(11)
    seen: Counter[str] = Counter()
    contents = 4000
    for _ in range(contents):
        _simulate(made, ratio, gap, memory, ttl, seen)
    law = Geometric(contents / (1 - ratio), ratio, gap)
    always, second = law.always(ttl, memory), law.second(ttl, memory)
    for said, found in (
        (law.inputs, seen["inputs"]),
        (always.bought, seen["always bought"]),
        (second.bought, seen["second bought"]),
        (second.written, seen["second written"]),
        (second.stores + second.memory, seen["inputs"] - seen["second bought"]),
    ):
        assert said == pytest.approx(found, rel=0.12, abs=80)


def _simulate(
    made: random.Random, ratio: float, gap: float, memory: float, ttl: float, seen: Counter[str]
) -> None:
    """One input. It is remembered where `memory` says so."""
    day, kept_until, second_until, first = 0.0, -1.0, -1.0, True
    while True:
        seen["inputs"] += 1
        if day >= kept_until:
            seen["always bought"] += 1
            kept_until = day + ttl
        if day >= second_until:
            if not first and made.random() < memory:
                seen["second written"] += 1
                second_until = day + ttl
                first = False
            else:
                seen["second bought"] += 1
                first = False
        if made.random() >= ratio:
            return
        day += made.expovariate(1 / gap) if gap else 1e-9
        if second_until >= 0 and day >= second_until:
            first = True  # what was written has expired: a first sight again
            second_until = -1.0


def test_a_sample_is_counted() -> None:
    sample = Sample(((0.0, 1.0, 5.0), (2.0,)), scale=10.0, gap_days=2.5)
    assert (sample.inputs, sample.ratio) == (40.0, 0.5)
    assert sample.always(10.0, 0.0) == sights.Sights(40.0, 20.0, 0.0, 20.0, 20.0)
    assert sample.always(2.0, 0.0).bought == 30.0, "the third sight comes after its expiry"
    second = sample.second(10.0, 1.0)
    assert (second.bought, second.written, second.memory + second.stores) == (20.0, 10.0, 20.0)
    assert sample.never(0.5).bought == 30.0


@pytest.mark.parametrize("law", [Geometric(100.0, 0.6, 3.0), Sample(((0.0,) * 5, (0.0,) * 2))])
def test_nothing_is_lost_between_bought_and_found(law: Repetition) -> None:
    for seen in (law.always(9, 0.3), law.second(9, 0.3), law.second(0, 0.3), law.never(0.3)):
        assert seen.bought + seen.memory + seen.stores == pytest.approx(law.inputs)


# ---- prices


def test_prices_are_those_of_the_list() -> None:
    assert (PRICES.date, PRICES.region) == ("2026-11-20", "us-east-1")
    assert PRICES.of("dynamodb_write_unit_million") == 625_000
    assert PRICES.of("s3_gb_month", 10**9) == 23 * PICO // 1000
    assert PRICES.pico["lambda_gb_second"] == 13_333_400
    assert PRICES.of("express_put_gb", 10**9) == 32 * PICO // 10_000


def test_other_prices_name_what_differs() -> None:
    other = {"date": "2027-01-01", "region": "eu", "source": "list", "usd": {"s3_put_million": 5.4}}
    read = prices.parse(json.dumps(other), PRICES)
    assert read.of("s3_put_million") == 5_400_000
    assert read.of("s3_get_million") == PRICES.of("s3_get_million")
    with pytest.raises(BadPrices, match="no price"):
        prices.parse(json.dumps(other))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"usd": {"s3_put": "1"}}, "unknown price 's3_put'"),
        ({"usd": {"s3_put_million": "-1"}}, "0 or more"),
        ({"usd": {"s3_put_million": "NaN"}}, "0 or more"),
        ({"usd": {"s3_put_million": True}}, "0 or more"),
        ({"usd": {"s3_put_million": "cheap"}}, "0 or more"),
        ({"usd": []}, "object"),
        ({"date": "today"}, "YYYY-MM-DD"),
        ({"region": ""}, "region"),
        ({"extra": 1}, "unknown field 'extra'"),
    ],
)
def test_prices_that_cannot_be_meant(change: dict[str, object], why: str) -> None:
    good: dict[str, object] = {"date": "2027-01-01", "region": "eu", "source": "list", "usd": {}}
    with pytest.raises(BadPrices, match=re.escape(why)):
        prices.parse(json.dumps(good | change), PRICES)
    with pytest.raises(BadPrices, match="JSON"):
        prices.parse("{", PRICES)
