"""`embedonce cost`: what a month costs without and with the cache, as a table, as JSON and as a chart."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from embedonce.cli import costchart, costprofile, costunits
from embedonce.core import prices as pricefile
from embedonce.core.costcalls import DEPLOYED, Tier
from embedonce.core.costmodel import CACHE, GATEWAY, TIERS, Month, Policy, Traffic, break_even, monthly
from embedonce.core.prices import Prices
from embedonce.core.pricing import PICO, usd_text


@dataclass(frozen=True, slots=True)
class Row:
    """`cache_pays`, `all_pays`: break-even hit ratios, beside the gateway and with it."""

    tier: Tier
    policy: Policy
    month: Month
    cache_pays: float | None
    all_pays: float | None


def cost(  # typer calls it by name
    profile: Annotated[
        Path | None, typer.Option(help="traffic.json (parameters) or traffic.jsonl (a sample).")
    ] = None,
    units: Annotated[
        bool, typer.Option("--units", help="Print what single operations cost instead.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; amounts in USD, as text.")] = False,
    chart: Annotated[Path | None, typer.Option(help="Write a chart (SVG) to this file.")] = None,
    prices: Annotated[Path | None, typer.Option(help="AWS prices in the form of prices.json.")] = None,
    dimensions: Annotated[int | None, typer.Option(help="Size of the vectors.")] = None,
    encoding: Annotated[str | None, typer.Option(help="base64 or float: how they are answered.")] = None,
    inputs_per_request: Annotated[float | None, typer.Option(help="Inputs of one request.")] = None,
) -> None:
    """Compute what a month of traffic costs without and with the cache, by tier and policy (docs/cost.md)."""
    given = {
        "dimensions": dimensions,
        "encoding": encoding,
        "inputs_per_request": inputs_per_request,
    }
    if chart is not None and chart.suffix.lower() != ".svg":
        refuse(f"--chart {chart}: only SVG is written, so its name has to end in .svg")
    try:
        priced = read_prices(prices)
        if units:
            sys.stdout.write(costunits.text(priced))
            return
        if profile is None:
            refuse("say --profile FILE, or --units")
        traffic = costprofile.read(profile, given)
    except (costprofile.BadProfile, pricefile.BadPrices) as error:
        refuse(str(error))
    rows = rows_of(traffic, priced)
    if chart is not None:
        try:
            chart.write_text(costchart.svg(traffic, priced, [row.tier for row in rows]), encoding="utf-8")
        except OSError as error:
            refuse(f"--chart {chart}: {error.strerror}")
    if as_json:
        sys.stdout.write(json.dumps(said(traffic, rows, priced), indent=2) + "\n")
    else:
        show(Console(), traffic, rows, priced)


def rows_of(traffic: Traffic, prices: Prices) -> list[Row]:
    """By tier and policy; the tiers as deployed only where that is not one of the others."""
    rows = [
        Row(
            tier,
            policy,
            monthly(traffic, policy, tier, prices),
            break_even(traffic, policy, tier, prices),
            break_even(traffic, policy, tier, prices, gateway=True),
        )
        for tier in TIERS.values()
        for policy in Policy
    ]
    others = [r.month.lines for r in rows if r.tier is not DEPLOYED and r.policy is Policy.ALWAYS]
    deployed = next(r.month.lines for r in rows if r.tier is DEPLOYED and r.policy is Policy.ALWAYS)
    return [r for r in rows if r.tier is not DEPLOYED] if deployed in others else rows


def read_prices(path: Path | None) -> Prices:
    """:raises pricefile.BadPrices:"""
    if path is None:
        return pricefile.built_in()
    try:
        return pricefile.parse(path.read_bytes(), pricefile.built_in())
    except OSError as error:
        raise pricefile.BadPrices(f"{path}: {error.strerror}") from None
    except pricefile.BadPrices as error:
        raise pricefile.BadPrices(f"{path}: {error}") from None


def refuse(why: str) -> NoReturn:
    typer.echo(f"embedonce: {' '.join(why.split())}", err=True)
    raise typer.Exit(2)


def print_whole(console: Console, table: Table) -> None:
    """Wider than the console where its numbers need it: none of them is cut or folded."""
    wide = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    if wide > console.width:
        console = Console(file=console.file, width=wide)
    console.print(table, crop=False)


def show(console: Console, traffic: Traffic, rows: list[Row], prices: Prices) -> None:
    direct = rows[0].month.direct
    each = direct / max(traffic.inputs, 1) / 1e6
    console.print(
        f"{traffic.inputs:,.0f} inputs a month, {traffic.inputs_per_request:g} to a request, "
        f"{100 * traffic.ratio:.1f}% of them seen before; {traffic.dimensions} dimensions in "
        f"{traffic.encoding}; {each:,.2f} µUSD each at the provider.",
        highlight=False,
    )
    console.print(f"AWS prices of {prices.region}, {prices.date}. USD a month.\n", highlight=False)
    digits = 2 if direct >= 100 * PICO else 4

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("provider", "cache", "gateway", "total", "saved"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("pays above", justify="right")
    table.add_column("with gateway", justify="right")
    table.add_row("without the cache", *(_usd(pico, digits) for pico in (direct, 0, 0, direct, 0)), "", "")
    for row in rows:
        month = row.month
        amounts = (month.lines["provider"], month.cache, month.gateway, month.total, month.saving)
        table.add_row(
            f"{row.tier.name}, {row.policy.value}",
            *(_usd(pico, digits) for pico in amounts),
            _ratio(row.cache_pays),
            _ratio(row.all_pays),
        )
    print_whole(console, table)
    console.print(
        "\npays above: the share of repeats from which on the cache costs no more than it saves, where the "
        "gateway stands there anyway (under pays: from which on it keeps vectors); with gateway: where it "
        "does not. EMBEDONCE_ADMISSION says which of the two is followed.\n",
        highlight=False,
    )
    items = Table(box=None, header_style="bold", pad_edge=False)
    items.add_column("", no_wrap=True)
    for row in rows:
        items.add_column(f"{row.tier.name}\n{row.policy.value}", justify="right")
    items.add_row("bought, inputs", *(f"{row.month.bought:,.0f}" for row in rows))
    for name in ("provider", *CACHE, *GATEWAY):
        if any(row.month.lines[name] for row in rows):
            items.add_row(name, *(_usd(row.month.lines[name], digits) for row in rows))
    items.add_row("total", *(_usd(row.month.total, digits) for row in rows), style="bold")
    print_whole(console, items)


def said(traffic: Traffic, rows: list[Row], prices: Prices) -> dict[str, Any]:
    return {
        "prices": {"date": prices.date, "region": prices.region, "source": prices.source},
        "inputs": traffic.inputs,
        "seen_before": traffic.ratio,
        "dimensions": traffic.dimensions,
        "direct_usd": usd_text(rows[0].month.direct),
        "rows": [
            {
                "tier": row.tier.name,
                "policy": row.policy.value,
                "bought": row.month.bought,
                "lines_usd": {name: usd_text(pico) for name, pico in row.month.lines.items()},
                "cache_usd": usd_text(row.month.cache),
                "gateway_usd": usd_text(row.month.gateway),
                "total_usd": usd_text(row.month.total),
                "saving_usd": usd_text(row.month.saving),
                "pays_above": row.cache_pays,
                "pays_above_with_gateway": row.all_pays,
            }
            for row in rows
        ],
    }


def _usd(pico: int, digits: int) -> str:
    return f"{pico / PICO:,.{digits}f}"


def _ratio(ratio: float | None) -> str:
    return "never" if ratio is None else f"{100 * ratio:.1f}%"
