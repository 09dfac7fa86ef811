"""`embedonce doctor`: how what was found is shown."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from embedonce import config
from embedonce.core.catalog import GEMINI_EMBEDDING_2
from embedonce.core.errors import NotFound

if TYPE_CHECKING:
    from embedonce.doctor.check import Check
    from embedonce.doctor.plan import Plan

app = typer.Typer(no_args_is_help=False)

COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red", "skipped": "dim"}
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback(invoke_without_command=True)
def doctor(context: typer.Context, as_json: Json = False) -> None:
    """Check settings, stores, clock, keys and permissions; costs nothing and changes nothing.

    The exit code is 1 if there is a problem, else 0.
    """
    if context.invoked_subcommand is not None:
        return
    from embedonce.doctor.examine import examine

    _end(examine(os.environ), as_json)


@app.command()
def upstreams(
    model: Annotated[str, typer.Option(help="Model to compare the upstreams of.")] = GEMINI_EMBEDDING_2.id,
    media: Annotated[bool, typer.Option("--media", help="Embed a tiny image, too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before paying.")] = False,
    as_json: Json = False,
) -> None:
    """Embed a few short texts on each upstream: whether their vectors agree, and whether cutting is right.

    Costs a fraction of a cent, which is said first. Nothing is stored.
    """
    from embedonce.clock import SystemClock
    from embedonce.core.pricing import usd_text
    from embedonce.doctor.comparison import compare
    from embedonce.doctor.plan import plan_of

    try:
        plan = plan_of(config.load(os.environ), model, SystemClock(), media=media)
    except NotFound as error:
        raise config.ConfigError(error.message) from None
    try:
        if not plan.asked:
            raise config.ConfigError(f"no upstream is configured for {plan.model.id}")
        _announce(plan)
        free = not plan.most and all(each.priced for each in plan.asked)
        if not free and not yes:
            typer.confirm("Go on?", abort=True, err=True)
        found = compare(plan)
    finally:
        plan.close()
    spent = None if found.spent is None else usd_text(found.spent)
    if not as_json:
        typer.echo(f"spent: {'not said by every provider' if spent is None else f'${spent}'}", err=True)
    _end(
        found.checks,
        as_json,
        model=plan.model.id,
        most_usd=usd_text(plan.most),
        spent_usd=spent,
        measured=found.numbers,
    )


def _announce(plan: Plan) -> None:
    """On stderr, before anything is paid."""
    from embedonce.core.pricing import usd_text

    for each in plan.asked:
        price = f"at most ${usd_text(each.most)}" if each.priced else "at a price that is not known here"
        typer.echo(f"{each.name}: {each.calls} calls, {price}", err=True)
    typer.echo(f"{plan.model.id}: at most ${usd_text(plan.most)} in all, by this program's prices", err=True)


def _end(checks: Sequence[Check], as_json: bool, **more: Any) -> None:
    from embedonce.doctor.check import healthy

    good = healthy(checks)
    if as_json:
        rows = [
            {"check": each.name, "state": each.state.value, "said": each.said, "remedy": each.remedy}
            for each in checks
        ]
        said = orjson.dumps({"ok": good, **more, "checks": rows}, option=orjson.OPT_INDENT_2)
        typer.echo(said.decode())
    else:
        _show(checks)
    if not good:
        raise typer.Exit(1)


def _show(checks: Sequence[Check]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("check", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("what was found, and what to do", overflow="fold")
    for each in checks:
        said = Text(each.said)
        if each.remedy:
            said.append(f"\n→ {each.remedy}")
        table.add_row(Text(each.name), Text(each.state.value, style=COLOURS[each.state.value]), said)
    Console().print(table)
