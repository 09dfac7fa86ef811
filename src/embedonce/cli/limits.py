"""`embedonce limits`: what all keys together may spend, and whether anything is bought at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import typer

from embedonce import config
from embedonce.cli.amounts import money, shown_money
from embedonce.cli.keys import open_keys
from embedonce.core.pricing import from_usd
from embedonce.ports import Deployment

app = typer.Typer(
    help="What all keys together may spend in a day, and whether anything is bought.", no_args_is_help=False
)
DEFAULT = "default"
ATTEMPTS = 5


@app.callback(invoke_without_command=True)
def show(context: typer.Context) -> None:
    """Show the daily cap, where it comes from, and whether buying is paused."""
    if context.invoked_subcommand is None:
        with open_keys(must_exist=True) as store:
            deployment = store.deployment()
        _print(deployment)


@app.command("set")
def set_limits(
    daily_usd: Annotated[
        str,
        typer.Option(metavar="USD|default", help="For all keys in a day (UTC); `default`: as configured."),
    ],
) -> None:
    """Set what all keys together may spend in a day."""
    instead = f"; `{DEFAULT}` goes back to what is configured"
    daily = None if daily_usd == DEFAULT else money(daily_usd, "--daily-usd", instead=instead)
    _change(lambda deployment: replace(deployment, daily=daily))


@app.command()
def pause() -> None:
    """Buy nothing any more; what is cached is still answered."""
    _change(lambda deployment: replace(deployment, paused=True))


@app.command()
def resume() -> None:
    """Buy again."""
    _change(lambda deployment: replace(deployment, paused=False))


def _change(change: Callable[[Deployment], Deployment]) -> None:
    with open_keys(must_exist=True) as store:
        for _ in range(ATTEMPTS):
            wanted = change(store.deployment())
            if store.set_deployment(wanted):
                break
        else:
            typer.echo("embedonce: somebody else keeps changing it; nothing was changed", err=True)
            sys.exit(1)
    _print(wanted)
    typer.echo("in force everywhere within 60 seconds")


def _print(deployment: Deployment) -> None:
    settings = config.load(os.environ)
    daily, source = deployment.daily, "set here"
    if daily is None:
        daily = from_usd(settings.daily_usd)
        source = f"{config.env_of('daily_usd')} of this environment"
        if "daily_usd" not in settings.model_fields_set:
            source = f"the default of {config.env_of('daily_usd')}"
        if settings.mode == "aws":
            source += "; the functions have the stack's DailyUsd"
    typer.echo(f"buying: {'paused' if deployment.paused else 'yes'}")
    typer.echo(f"all keys together: {shown_money(daily)} a day ({source})")
