"""The simulator: it charges what the cost model does, and under `pays` the cache never costs much."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from typer.testing import CliRunner

from embedonce.cli.main import app
from embedonce.core import costcalls as calls
from embedonce.core.catalog import estimated_tokens
from embedonce.core.content import Modality
from embedonce.core.costcalls import TIERS, Tier
from embedonce.core.costworth import Policy, unit
from embedonce.core.kindpolicy import KindPolicy
from embedonce.core.prices import built_in
from embedonce.core.verdict import Verdict
from embedonce.simulation import trace as simtrace
from embedonce.simulation.run import Outcome, Setup, content_of, run
from embedonce.simulation.trace import Sight

PRICES = built_in()
INPUTS = 2000
BOUND = 0.05
tiers = pytest.mark.parametrize(
    "tier", [TIERS[name] for name in ("dynamodb", "s3", "express")], ids=lambda t: t.name
)


def trace(ratio: float, inputs: int = INPUTS, gap_days: float = 7.0) -> list[Sight]:
    return simtrace.geometric(inputs, ratio=ratio, gap_days=gap_days, days=30.0, chance=random.Random(1))


def simulated(sights: list[Sight], policy: Policy, tier: str, **setup: Any) -> Outcome:
    return run(sights, policy, Setup(TIERS[tier], PRICES, **setup))


# ---- traces


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.9])
def test_a_geometric_trace_repeats_as_it_should(ratio: float) -> None:
    sights = trace(ratio, 10_000)
    assert len(sights) == 10_000
    assert simtrace.repeated(sights) == pytest.approx(ratio, abs=0.02)
    assert all(one.day <= other.day for one, other in pairwise(sights))
    seen: dict[int, list[float]] = {}
    for sight in sights:
        seen.setdefault(sight.content, []).append(sight.day)
    gaps = [later - day for days in seen.values() for day, later in pairwise(days)]
    if gaps:
        assert sum(gaps) / len(gaps) == pytest.approx(7.0, rel=0.1)


def test_a_zipf_trace_has_few_that_are_seen_often_and_many_that_are_seen_once() -> None:
    sights = simtrace.zipf(10_000, contents=25_000, exponent=1.0, days=30.0, chance=random.Random(1))
    often = [sum(sight.content == rank for sight in sights) for rank in (0, 9)]
    assert often[0] / often[1] == pytest.approx(10, rel=0.3)
    assert 0.2 < simtrace.repeated(sights) < 0.8


@pytest.mark.parametrize("modality", Modality)
def test_contents_have_the_tokens_that_they_should(modality: Modality) -> None:
    made = {content_of(modality, 267, number) for number in range(50)}
    assert len(made) == 50
    for content in made:
        assert estimated_tokens(content) == pytest.approx(267, rel=0.3)


# ---- what is charged


@tiers
@pytest.mark.parametrize("dimensions", [768, 3072])
def test_a_miss_and_a_hit_are_charged_as_the_cost_model_says(tier: Tier, dimensions: int) -> None:
    sights = [Sight(0.0, 0), Sight(1.0, 0)]
    outcome = simulated(sights, Policy.ALWAYS, tier.name, dimensions=dimensions, processes=1)
    one = unit(Modality.TEXT, 20, dimensions, tier, PRICES, lifecycle_days=180)
    assert outcome.lines == {
        "provider": one.upstream,
        "look-ups": one.absent + one.hit,
        "flights": one.flight,
        "vector writes": one.write,
        "storage": one.storage(180),
    }
    assert (outcome.bought, outcome.calls, outcome.direct) == (1, 1, 2 * one.upstream)
    assert outcome.gateway > 0


def test_what_expires_is_bought_and_written_again_over_a_row_that_is_gone() -> None:
    sights = [Sight(0.0, 0), Sight(190.0, 0)]
    outcome = simulated(sights, Policy.ALWAYS, "dynamodb")
    assert outcome.bought == 2
    assert outcome.operations == {
        "flights: written": 4,
        "look-ups: nothing found": 2,
        "vector writes: written": 2,
    }


def test_a_row_that_stands_in_the_way_is_charged() -> None:
    """Kept for a quarter of an hour, which its row outlives."""
    sights = [Sight(0.0, 0), Sight(0.5, 0)]
    outcome = simulated(sights, Policy.ALWAYS, "dynamodb", ttl_days=0.01)
    assert outcome.bought == 2
    assert outcome.operations["flights: another's stands"] == 1
    one = unit(Modality.TEXT, 20, 3072, TIERS["dynamodb"], PRICES)
    landed = calls.flight_landed(3072).cost(PRICES)
    led = calls.flight_led().cost(PRICES)
    # The refusal, and taking over a row that held a vector, are each billed by what stood there.
    assert outcome.lines["flights"] == 2 * one.flight + 2 * landed - led


# ---- what it says of the policies


@tiers
@pytest.mark.parametrize(("ratio", "processes"), [(0.0, 1), (0.2, 4)])
def test_pays_costs_at_most_a_twentieth_more_than_no_cache(tier: Tier, ratio: float, processes: int) -> None:
    sights = trace(ratio)
    outcome = simulated(sights, Policy.PAYS, tier.name, processes=processes)
    assert outcome.over_direct <= BOUND
    assert outcome.operations["look-ups: nothing found"] > 0, "a few are looked for all the same"
    always = simulated(sights[:500], Policy.ALWAYS, tier.name, processes=processes)
    assert always.over_direct > BOUND, "which is not for nothing"


@pytest.mark.parametrize(("tier", "ratio"), [("dynamodb", 0.70), ("express", 0.24), ("s3", 0.61)], ids=str)
def test_pays_is_below_direct_where_looking_up_and_writing_would_pay(tier: str, ratio: float) -> None:
    for processes in (1, 4):
        assert simulated(trace(ratio), Policy.PAYS, tier, processes=processes).over_direct < 0.0


def test_media_pay_at_once() -> None:
    setup = {"modality": Modality.IMAGE, "tokens": 267}
    outcome = simulated(trace(0.3, 800), Policy.PAYS, "dynamodb", **setup)
    assert outcome.over_direct < -0.05
    assert outcome.bought < 800 * 0.75, "what another process bought is found"


def test_what_repeats_is_kept_for_all_processes_in_the_end() -> None:
    """Longer texts, seen often by processes that remember little: only the stores can find them."""
    sights = trace(0.9, 3000, gap_days=1.0)
    setup = {"tokens": 400, "processes": 16, "memory_mb": 0}
    pays = simulated(sights, Policy.PAYS, "dynamodb", **setup)
    always = simulated(sights, Policy.ALWAYS, "dynamodb", **setup)
    assert pays.over_direct < -0.6
    assert pays.total < always.total, "shorter lives cost less"


def test_a_policy_that_keeps_what_does_not_pay_breaks_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        KindPolicy,
        "verdict",
        lambda self, fingerprint: Verdict(looks=True, keep=True, flies=False, ttl_seconds=86_400),
    )
    assert simulated(trace(0.2, 300), Policy.PAYS, "dynamodb").over_direct > BOUND


def test_processes_that_die_forget() -> None:
    sights = trace(0.5, 600, gap_days=1.0)
    lasting = simulated(sights, Policy.PAYS, "dynamodb", processes=1)
    dying = simulated(sights, Policy.PAYS, "dynamodb", processes=1, lifetime_days=0.5)
    assert lasting.bought < dying.bought <= len(sights)


def test_a_run_can_be_repeated_exactly() -> None:
    one, other = (simulated(trace(0.5, 300), Policy.PAYS, "s3") for _ in range(2))
    assert one == other
    assert run(trace(0.5, 300), Policy.PAYS, replace(Setup(TIERS["s3"], PRICES)), seed=9) != one


# ---- the command


def test_the_command_says_it_as_a_table_and_as_json() -> None:
    few = ["simulate", "--inputs", "60", "--tier", "s3", "--processes", "2"]
    table = CliRunner().invoke(app, few, env={"COLUMNS": "100"})
    assert table.exit_code == 0, table.output
    assert "60 inputs" in table.stdout
    assert "gateway, a month" in table.stdout
    done = CliRunner().invoke(app, [*few, "--json", "--policy", "pays", "--zipf", "1.1"])
    (said,) = json.loads(done.stdout)
    assert (said["tier"], said["processes"], said["policy"], said["inputs"]) == ("s3", 2, "pays", 60)
    assert sum(map(float, said["lines_usd"].values())) == pytest.approx(float(said["total_usd"]))
    sweep = CliRunner().invoke(app, [*few, "--sweep", "--policy", "pays"], env={"COLUMNS": "100"})
    assert sweep.stdout.count("%") == 2 * 11
    assert sweep.stdout.startswith("60 inputs in each row")
    narrow = CliRunner().invoke(app, few, env={"COLUMNS": "30"})
    assert narrow.stdout.partition("\n\n")[2] == table.stdout.partition("\n\n")[2]
    assert CliRunner().invoke(app, ["simulate", "--tier", "tape"]).exit_code == 2


@pytest.mark.parametrize(
    ("option", "value", "bound"),
    [
        ("--processes", "0", "1<=x<=1000"),
        ("--processes", "-1", "1<=x<=1000"),
        ("--processes", "1000000", "1<=x<=1000"),
        ("--gap-days", "inf", "3650"),
        ("--gap-days", "nan", ""),
        ("--days", "1e300", "3650"),
        ("--tokens", "10000000000000", "8192"),
        ("--contents", "1000000000", "10000000"),
        ("--inputs", "1000001", "1000000"),
        ("--hit-ratio", "nan", ""),
        ("--zipf", "inf", ""),
    ],
)
def test_what_cannot_be_simulated_is_refused_with_its_bound(option: str, value: str, bound: str) -> None:
    done = CliRunner().invoke(app, ["simulate", option, value], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert option in done.stderr
    assert bound in done.stderr


def test_while_it_runs_it_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedonce.cli.progress.TERMINAL_SECONDS", 0.0)
    monkeypatch.setattr("embedonce.cli.progress.LINE_SECONDS", 0.0)
    arguments = ["simulate", "--inputs", "30", "--tier", "s3", "--policy", "pays", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert "run 1 of 1: s3, 4 proc., pays, 0 of 30 inputs" in done.stderr
    assert len(json.loads(done.stdout)) == 1
