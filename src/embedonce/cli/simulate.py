"""`embedonce simulate`: a trace of inputs through the gateway's own code, and what it would cost on AWS."""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from embedonce.cli.cost import print_whole, read_prices, refuse
from embedonce.cli.progress import Progress
from embedonce.core import prices as pricefile
from embedonce.core.catalog import GEMINI_EMBEDDING_2
from embedonce.core.content import Modality
from embedonce.core.costcalls import TIERS
from embedonce.core.costmodel import CACHE
from embedonce.core.costtraffic import tokens_of
from embedonce.core.costworth import Policy
from embedonce.core.pricing import PICO, usd_text
from embedonce.simulation.trace import Sight, geometric, zipf

SWEEP = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
AMOUNTS = {Modality.IMAGE: 1.0, Modality.AUDIO: 10.0, Modality.VIDEO: 32.0, Modality.PDF: 1.0}
"""Without --tokens: one image, seconds, seconds, pages."""
TEXT_TOKENS = 20
INPUTS, INPUTS_OF_SWEEP = 20_000, 2000
MOST_PROCESSES = 1000
MOST_DAYS = 3650.0


Head = tuple[str, int, Policy]
"""Tier, processes and policy: a column."""
Run = tuple[str, int, Any]
"""Tier, processes and a `simulation.run.Outcome`, whose module is not loaded for the other commands."""


@dataclass(frozen=True, slots=True)
class Law:
    """Of the trace."""

    inputs: int
    gap_days: float
    days: float
    zipf: float | None
    contents: int
    seed: int

    def trace(self, ratio: float) -> list[Sight]:
        chance = random.Random(self.seed)  # noqa: S311
        if self.zipf is not None:
            return zipf(
                self.inputs, contents=self.contents, exponent=self.zipf, days=self.days, chance=chance
            )
        return geometric(self.inputs, ratio=ratio, gap_days=self.gap_days, days=self.days, chance=chance)


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number.")
    return value


def _processes(numbers: list[int] | None) -> list[int] | None:
    for number in numbers or []:
        if not 1 <= number <= MOST_PROCESSES:
            raise typer.BadParameter(f"{number} is not in the range 1<=x<={MOST_PROCESSES}.")
    return numbers


def simulate(  # noqa: PLR0917  # typer calls it by name
    tier: Annotated[
        list[str] | None, typer.Option(help="dynamodb, s3, express or deployed; may be repeated.")
    ] = None,
    processes: Annotated[
        list[int] | None,
        typer.Option(
            callback=_processes, help="Processes that share the stores, 1 to 1000; may be repeated."
        ),
    ] = None,
    inputs: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Of the trace: 20,000, of each of a sweep 2,000.")
    ] = None,
    hit_ratio: Annotated[
        float,
        typer.Option(min=0.0, max=0.99, callback=_finite, help="Share of inputs that repeat."),
    ] = 0.5,
    sweep: Annotated[bool, typer.Option("--sweep", help="Hit ratios from 0 to 0.95 instead.")] = False,
    gap_days: Annotated[
        float,
        typer.Option(min=0.0, max=MOST_DAYS, callback=_finite, help="Mean days between two sights."),
    ] = 7.0,
    zipf: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=100.0,
            callback=_finite,
            help="Zipf's law with this exponent in place of the geometric.",
        ),
    ] = None,
    contents: Annotated[
        int, typer.Option(min=1, max=10_000_000, help="Different contents there are, for --zipf.")
    ] = 10_000,
    days: Annotated[
        float,
        typer.Option(min=0.01, max=MOST_DAYS, callback=_finite, help="In which contents are first seen."),
    ] = 30.0,
    modality: Annotated[Modality, typer.Option()] = Modality.TEXT,
    tokens: Annotated[
        int | None, typer.Option(min=4, max=GEMINI_EMBEDDING_2.limits.tokens, help="Of each input.")
    ] = None,
    dimensions: Annotated[int, typer.Option(min=128, max=3072)] = 3072,
    ttl_days: Annotated[
        float,
        typer.Option(min=0.1, max=36_500, callback=_finite, help="EMBEDONCE_VECTOR_TTL_DAYS."),
    ] = 180.0,
    memory_mb: Annotated[int, typer.Option(min=0, help="EMBEDONCE_MEMORY_MB of each process.")] = 128,
    lifetime_days: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=MOST_DAYS,
            callback=_finite,
            help="After which a process is replaced by a fresh one.",
        ),
    ] = None,
    expected: Annotated[
        float,
        typer.Option(min=0.0, max=0.99, callback=_finite, help="EMBEDONCE_EXPECTED_HIT_RATIO."),
    ] = 0.5,
    policy: Annotated[list[Policy] | None, typer.Option(help="May be repeated.")] = None,
    prices: Annotated[Path | None, typer.Option(help="AWS prices in the form of prices.json.")] = None,
    seed: Annotated[int, typer.Option(help="Of the trace and of who gets which input.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; amounts in USD, as text.")] = False,
) -> None:
    """Run a made-up trace through the gateway's own plan and use case, and count what the calls to the
    stores would cost on AWS under each policy (docs/cost.md)."""
    from embedonce.simulation import run as simulation

    try:
        priced = read_prices(prices)
    except pricefile.BadPrices as error:
        refuse(str(error))
    tiers = tier or ["dynamodb", "s3", "express"]
    if unknown := [name for name in tiers if name not in TIERS]:
        refuse(f"--tier {unknown[0]}: one of {', '.join(TIERS)}")
    if tokens is None:
        tokens = round(tokens_of(modality, AMOUNTS[modality])) if modality in AMOUNTS else TEXT_TOKENS
    swept = sweep and zipf is None
    law = Law(inputs or (INPUTS_OF_SWEEP if swept else INPUTS), gap_days, days, zipf, contents, seed)
    heads = [
        (name, number, each) for name in tiers for number in processes or [4] for each in policy or Policy
    ]
    ratios = SWEEP if swept else (hit_ratio,)
    runs: list[Run] = []
    with Progress(quiet=False) as progress:
        if swept and not as_json:
            _show_heads(law.inputs, heads)
        for ratio in ratios:
            progress.show(f"makes a trace of {law.inputs:,} inputs")
            trace = law.trace(ratio)
            for name, number, each in heads:
                setup = simulation.Setup(
                    TIERS[name],
                    priced,
                    modality=modality,
                    tokens=tokens,
                    dimensions=dimensions,
                    processes=number,
                    memory_mb=memory_mb,
                    ttl_days=ttl_days,
                    lifetime_days=lifetime_days,
                    expected=expected,
                )
                which = f"run {len(runs) + 1} of {len(ratios) * len(heads)}: {name}, {number} proc., {each}"

                def done(inputs: int, which: str = which) -> None:
                    progress.show(f"{which}, {inputs:,} of {law.inputs:,} inputs")

                runs.append((name, number, simulation.run(trace, each, setup, seed=seed, show=done)))
            if swept and not as_json:
                progress.end()
                _show_row([outcome for _, _, outcome in runs[-len(heads) :]], heads)
    if as_json:
        sys.stdout.write(json.dumps([_said(*run) for run in runs], indent=2) + "\n")
    elif not swept:
        _show(Console(), runs)
    else:
        typer.echo(
            "\nProvider and cache, of what the provider alone costs. The gateway's own costs are not in it."
        )


def _said(tier: str, processes: int, outcome: Any) -> dict[str, Any]:
    return {
        "tier": tier,
        "processes": processes,
        "policy": outcome.policy.value,
        "inputs": outcome.inputs,
        "repeated": outcome.repeated,
        "bought": outcome.bought,
        "upstream_calls": outcome.calls,
        "operations": dict(outcome.operations),
        "lines_usd": {name: usd_text(pico) for name, pico in outcome.lines.items()},
        "total_usd": usd_text(outcome.total),
        "direct_usd": usd_text(outcome.direct),
        "gateway_usd": usd_text(outcome.gateway),
        "over_direct": outcome.over_direct,
    }


def _widths(heads: Sequence[Head]) -> list[int]:
    return [
        max(len(tier), len(f"{number} proc."), len(policy), len("1,000.0%")) for tier, number, policy in heads
    ]


def _show_heads(inputs: int, heads: Sequence[Head]) -> None:
    typer.echo(f"{inputs:,} inputs in each row.\n")
    for first, names in (
        ("", [tier for tier, _, _ in heads]),
        ("", [f"{number} proc." for _, number, _ in heads]),
        ("repeated", [policy.value for _, _, policy in heads]),
    ):
        _show_cells(first, names, heads)


def _show_row(outcomes: Sequence[Any], heads: Sequence[Head]) -> None:
    """What provider and cache cost, of what the provider alone does, of one trace."""
    cells = [f"{100 * (1 + outcome.over_direct):,.1f}%" for outcome in outcomes]
    _show_cells(f"{100 * outcomes[0].repeated:.1f}%", cells, heads)


def _show_cells(first: str, cells: Sequence[str], heads: Sequence[Head]) -> None:
    """A line as long as it has to be: rows are shown as they come, before all of a table is known."""
    padded = (cell.rjust(width) for cell, width in zip(cells, _widths(heads), strict=True))
    typer.echo("  ".join([first.rjust(len("repeated")), *padded]))
    sys.stdout.flush()


def _show(console: Console, runs: list[Run]) -> None:
    first = runs[0][2]
    console.print(
        f"{first.inputs:,} inputs, {100 * first.repeated:.1f}% of them seen before; the provider alone: "
        f"{first.direct / PICO:.6f} USD.\n",
        highlight=False,
    )
    for n, part in enumerate(_fitting(console, runs)):
        if n:
            console.print()
        print_whole(console, _table(part, runs))


def _fitting(console: Console, runs: list[Run]) -> Iterator[list[Run]]:
    """All columns together, on a terminal as many as fit into its width, at least one."""
    start = 0
    while start < len(runs):
        end = len(runs)
        while console.is_terminal and end > start + 1:
            table = _table(runs[start:end], runs)
            if (
                console.measure(table, options=console.options.update(max_width=10_000)).maximum
                <= console.width
            ):
                break
            end -= 1
        yield runs[start:end]
        start = end


def _table(runs: list[Run], among: list[Run]) -> Table:
    """`among`: all runs, whose rows it has."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("USD", no_wrap=True)
    for tier, number, outcome in runs:
        table.add_column(f"{tier}\n{number} proc.\n{outcome.policy.value}", justify="right", no_wrap=True)
    outcomes = [outcome for _, _, outcome in runs]
    for name in ("provider", *CACHE):
        table.add_row(name, *(f"{o.lines[name] / PICO:.6f}" for o in outcomes))
    table.add_row("total", *(f"{o.total / PICO:.6f}" for o in outcomes), style="bold")
    table.add_row("of direct", *(f"{100 * (1 + o.over_direct):.1f}%" for o in outcomes))
    table.add_row("gateway, a month", *(f"{o.gateway / PICO:.4f}" for o in outcomes))
    table.add_section()
    table.add_row("upstream calls", *(f"{o.calls:,}" for o in outcomes))
    for name in sorted({name for _, _, o in among for name in o.operations}):
        table.add_row(name, *(f"{o.operations.get(name, 0):,}" for o in outcomes))
    return table


__all__ = ["simulate"]
