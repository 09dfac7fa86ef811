"""`embedonce savings`: what the cache saved, what was spent, and by whom, from the configured stores."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Annotated

import orjson
import typer
from rich.table import Table
from rich.text import Text

from embedonce import config
from embedonce.access.authenticate import Caller
from embedonce.access.keys import SHARED, Scope
from embedonce.bootstrap.accounts import accounts_of
from embedonce.bootstrap.catalog import catalog_of
from embedonce.bootstrap.reporting import report_from
from embedonce.bootstrap.stores import open_stores
from embedonce.cli import options
from embedonce.clock import SystemClock
from embedonce.core import usage
from embedonce.core.errors import EmbedonceError
from embedonce.core.pricing import PICO
from embedonce.dialects.usage import rendered
from embedonce.telemetry import LogTelemetry
from embedonce.usecases.report import ALL, MOST_DAYS, Period, Report

READERS = 16
BAR = 24
"""Characters of the longest bar."""

OPERATOR = Caller("development", SHARED, frozenset({Scope.EMBED.value, Scope.ADMIN.value}), isolated=False)


def savings(
    days: Annotated[int, typer.Option(min=1, max=MOST_DAYS, help="How many days, with today.")] = 30,
    key: Annotated[str | None, typer.Option(help="Of one API key, by its id; else of all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="What GET /v1/usage answers.")] = False,
) -> None:
    """Show what the cache saved and what was spent, day by day and by key."""
    settings = config.load(os.environ)
    if settings.mode == "local" and not settings.data_dir.is_dir():
        where = settings.data_dir.resolve()
        typer.echo(f"embedonce: there is no store in {where} (EMBEDONCE_DATA_DIR)", err=True)
        sys.exit(1)
    clock, telemetry = SystemClock(), LogTelemetry()
    stores = open_stores(settings, clock)
    try:
        accounts = accounts_of(settings, stores, catalog_of(settings), clock, telemetry)
        now = clock.now()
        today = Period.of(None, None, now).last
        period = Period(today - timedelta(days=days - 1), today)
        with ThreadPoolExecutor(READERS) as pool:
            report = report_from(stores, accounts, clock, pool, upstreams=())(OPERATOR, period, key or ALL)
    except EmbedonceError as error:
        typer.echo(f"embedonce: {error.message}", err=True)
        sys.exit(1)
    finally:
        stores.close()
    if as_json:
        sys.stdout.write(orjson.dumps(rendered(report, now), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        _print(report, now)


def _print(report: Report, now: float) -> None:
    console = options.console()
    total = report.total
    if not total:
        console.print(f"nothing was counted from {report.period.first} to {report.period.last} (UTC)")
        return
    spent = usage.spent(total, now)
    saved, aws = total.get(usage.SAVED, 0), total.get(usage.AWS, 0)
    console.print(f"[bold]{report.period.first} to {report.period.last}[/bold] (UTC)")
    console.print(f"  saved at providers     {_usd(saved)}")
    console.print(f"  cost of the cache      {_usd(aws)}   its own operations at AWS, by the cost model")
    console.print(f"  spent at providers     {_usd(spent.settled)}")
    if spent.reserved:
        console.print(f"  reserved               {_usd(spent.reserved)}   for purchases on their way")
    if spent.unknown:
        console.print(f"  perhaps billed         {_usd(spent.unknown)}   nobody knows: time-outs and crashes")
    console.print(f"  hit ratio              {_ratio(total)}")
    console.print()
    console.print(_by_day(report.days, now))
    if report.keys is not None and len(report.keys) > 1:
        console.print()
        console.print(_by_key(report, now))


def _by_day(days: Mapping[str, Mapping[str, int]], now: float) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("day", "inputs", "hits", "spent", "saved"):
        table.add_column(heading, justify="left" if heading == "day" else "right", no_wrap=True)
    table.add_column("", no_wrap=True)
    most = max((counts.get(usage.SAVED, 0) for counts in days.values()), default=0)
    for day, counts in days.items():
        saved = counts.get(usage.SAVED, 0)
        table.add_row(
            f"{day[:4]}-{day[4:6]}-{day[6:]}",
            f"{counts.get(usage.INPUTS, 0):,}",
            _ratio(counts),
            _usd(usage.spent(counts, now).settled),
            _usd(saved),
            "█" * round(BAR * saved / most) if most else "",
        )
    return table


def _by_key(report: Report, now: float) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("key", "name", "inputs", "hits", "spent", "saved", "budget this month"):
        table.add_column(heading, justify="left" if heading in ("key", "name") else "right", overflow="fold")
    ids = table.columns[0]
    ids.no_wrap, ids.min_width = True, max(len(use.id) for use in report.keys or ())
    for use in report.keys or ():
        budget = use.budget
        table.add_row(
            Text(use.id),
            Text(use.name),
            f"{use.counts.get(usage.INPUTS, 0):,}",
            _ratio(use.counts),
            _usd(usage.spent(use.counts, now).settled),
            _usd(use.counts.get(usage.SAVED, 0)),
            "" if budget is None else f"{_usd(budget.committed)} of {_usd(budget.limit)}",
        )
    return table


def _ratio(counts: Mapping[str, int]) -> str:
    hits = sum(counts.get(name, 0) for name in (usage.HITS, usage.DERIVED, usage.COLLAPSED))
    answered = hits + counts.get(usage.MISSES, 0)
    return f"{100 * hits / answered:.1f}%" if answered else ""


def _usd(pico: int) -> str:
    """Cents where there are dollars, else as many digits as tell something."""
    dollars = pico / PICO
    return f"${dollars:,.2f}" if dollars >= 1 or not pico else f"${dollars:.6f}"
