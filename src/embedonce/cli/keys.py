"""`embedonce keys`: make, list, limit and revoke API keys in the configured stores, and their webhook
secrets."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, NoReturn

import typer
from rich.table import Table
from rich.text import Text

from embedonce import config
from embedonce.access.authenticate import DEVELOPMENT
from embedonce.access.keys import SHARED, Scope, checked_namespace, issue
from embedonce.bootstrap import open_access
from embedonce.bootstrap.webhooks import secrets_of
from embedonce.cli import options
from embedonce.cli.amounts import MOST, count_or_none, money, money_or_none, shown_count, shown_money
from embedonce.clock import SystemClock
from embedonce.core.errors import ServiceUnavailable, StoreUnavailable
from embedonce.ports import AccessKey, AccessStore, KeyLimits

HEADINGS = (
    *("id", "name", "namespace", "scopes", "created", "state"),
    *("budget a month", "requests a minute", "tokens a minute"),
)
MOST_NAME = 64
"""Characters."""

app = typer.Typer(help="API keys: create, list, limit, revoke.", no_args_is_help=True)


@contextmanager
def open_keys(*, must_exist: bool = False) -> Iterator[AccessStore]:
    """The configured store of keys; says on stderr which one that is."""
    settings = config.load(os.environ)
    if settings.mode == "local":
        where = settings.data_dir.resolve()
        if must_exist and not where.is_dir():
            typer.echo(f"embedonce: there is no store in {where} (EMBEDONCE_DATA_DIR)", err=True)
            sys.exit(1)
        typer.echo(f"keys in {where}", err=True)
    store, close = open_access(settings, SystemClock())
    try:
        yield store
    except StoreUnavailable as error:
        typer.echo(f"embedonce: the store of keys cannot be used: {error}", err=True)
        sys.exit(1)
    finally:
        close()


@app.command()
def create(
    name: Annotated[
        str, typer.Argument(help=f"For people: who or what uses the key; at most {MOST_NAME} characters.")
    ],
    namespace: Annotated[
        str, typer.Option(help="Keys of one namespace share vectors, and can learn what was embedded.")
    ] = SHARED,
    isolated: Annotated[bool, typer.Option("--isolated", help="Share nothing with any other key.")] = False,
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What the key may do; may be given several times.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="USD", help="What it may spend in a month (UTC).")
    ] = None,
    rpm: Annotated[int | None, typer.Option(min=1, max=MOST, help="Requests a minute.")] = None,
    tpm: Annotated[int | None, typer.Option(min=1, max=MOST, help="Tokens a minute.")] = None,
) -> None:
    """Create a key and show it, this once."""
    if not name.strip() or not name.isprintable() or len(name) > MOST_NAME:
        raise typer.BadParameter(
            f"must be 1 to {MOST_NAME} printable characters, without line breaks, to tell the key apart by",
            param_hint="NAME",
        )
    try:
        checked_namespace(namespace)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--namespace") from None
    if isolated and namespace != SHARED:
        raise typer.BadParameter("an isolated key has a namespace of its own", param_hint="--namespace")
    limits = KeyLimits(None if budget is None else money(budget, "--budget"), rpm, tpm)
    scopes = frozenset(s.value for s in scope or [Scope.EMBED])
    with open_keys() as store:
        key, record = issue(
            name,
            namespace=namespace,
            scopes=scopes,
            isolated=isolated,
            now=SystemClock().now(),
            limits=limits,
        )
        store.add(record)
        try:
            typer.echo(key)
        except OSError:
            _take_back(store, record.id)
            raise
    typer.echo(f"{record.id}: keep the key now, it is not shown again", err=True)


@app.command("list")
def list_keys() -> None:
    """List all keys: never the keys themselves."""
    with open_keys(must_exist=True) as store:
        rows = [
            (
                *(k.id, k.name, k.namespace, " ".join(sorted(k.scopes)), _day(k.created), _state(k)),
                *_shown(k.limits),
            )
            for k in store.list()
        ]
    if not sys.stdout.isatty():
        for row in (HEADINGS, *rows):
            typer.echo("\t".join(cell.replace("\t", " ") for cell in row))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    ids = table.columns[0]
    ids.no_wrap, ids.min_width = True, max((len(row[0]) for row in rows), default=0)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    options.console().print(table)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.")]) -> None:
    """Revoke a key; every process refuses it within a minute."""
    with open_keys(must_exist=True) as store:
        known = store.revoke(key_id, int(SystemClock().now()))
    if not known:
        _unknown(key_id)
    typer.echo(f"{key_id} is revoked; it stops working everywhere within 60 seconds")


@app.command()
def limit(
    key_id: Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.")],
    budget: Annotated[
        str | None, typer.Option(metavar="USD|none", help="What it may spend in a month (UTC).")
    ] = None,
    rpm: Annotated[str | None, typer.Option(metavar="N|none", help="Requests a minute.")] = None,
    tpm: Annotated[str | None, typer.Option(metavar="N|none", help="Tokens a minute.")] = None,
) -> None:
    """Change what a key may spend and do: only what is named, `none` for no limit of its own."""
    if budget is None and rpm is None and tpm is None:
        raise typer.BadParameter("name at least one of --budget, --rpm, --tpm")
    changed: dict[str, int | None] = {}
    if budget is not None:
        changed["budget"] = money_or_none(budget, "--budget")
    if rpm is not None:
        changed["requests_per_minute"] = count_or_none(rpm, "--rpm")
    if tpm is not None:
        changed["tokens_per_minute"] = count_or_none(tpm, "--tpm")
    with open_keys(must_exist=True) as store:
        key = store.find_by_id(key_id)
        limits = replace(key.limits if key else KeyLimits(), **changed)
        known = key is not None and store.limit(key_id, limits)
    if not known:
        _unknown(key_id)
    money_shown, requests, tokens = _shown(limits)
    typer.echo(f"{key_id}: {money_shown} a month, requests a minute: {requests}, tokens a minute: {tokens}")
    typer.echo("in force everywhere within 60 seconds")


@app.command("webhook-secret")
def webhook_secret(
    key_id: Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it, or `development`.")],
) -> None:
    """Show what the holder of a key verifies webhooks with."""
    settings = config.load(os.environ)
    with open_keys(must_exist=True) as store:
        known = store.find_by_id(key_id) is not None
    if not known and not (settings.mode == "local" and key_id == DEVELOPMENT.key_id):
        _unknown(key_id)
    try:
        secret = secrets_of(settings)(key_id)
    except ServiceUnavailable as error:
        typer.echo(f"embedonce: {error}", err=True)
        sys.exit(1)
    typer.echo(secret)


def _unknown(key_id: str) -> NoReturn:
    typer.echo(f"embedonce: there is no key {key_id} (`embedonce keys list`)", err=True)
    sys.exit(1)


def _take_back(store: AccessStore, key_id: str) -> None:
    """Of a key that nobody has seen."""
    try:
        store.revoke(key_id, int(SystemClock().now()))
    except StoreUnavailable:
        typer.echo(f"embedonce: the key could not be shown; `embedonce keys revoke {key_id}`", err=True)
        raise
    typer.echo(f"embedonce: the key could not be shown, so {key_id} is revoked", err=True)


def _state(key: AccessKey) -> str:
    return "live" if key.live else f"revoked {_day(key.revoked)}"


def _shown(limits: KeyLimits) -> tuple[str, str, str]:
    return (
        shown_money(limits.budget),
        shown_count(limits.requests_per_minute),
        shown_count(limits.tokens_per_minute),
    )


def _day(seconds: int | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
