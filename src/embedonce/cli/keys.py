"""`embedonce keys`: make, list and revoke API keys in the configured stores, and their webhook secrets."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from embedonce import config
from embedonce.access.authenticate import DEVELOPMENT
from embedonce.access.keys import SHARED, Scope, checked_namespace, issue
from embedonce.bootstrap import open_access
from embedonce.bootstrap.webhooks import secrets_of
from embedonce.clock import SystemClock
from embedonce.core.errors import ServiceUnavailable, StoreUnavailable
from embedonce.ports import AccessStore

app = typer.Typer(help="API keys: create, list, revoke.", no_args_is_help=True)


@contextmanager
def _access(*, must_exist: bool = False) -> Iterator[AccessStore]:
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
    name: Annotated[str, typer.Argument(help="For people: who or what uses the key.")],
    namespace: Annotated[
        str, typer.Option(help="Keys of one namespace share vectors, and can learn what was embedded.")
    ] = SHARED,
    isolated: Annotated[bool, typer.Option("--isolated", help="Share nothing with any other key.")] = False,
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What the key may do; may be given several times.")
    ] = None,
) -> None:
    """Create a key and show it, this once."""
    if not name.strip():
        raise typer.BadParameter("a key needs a name to be told apart by", param_hint="NAME")
    try:
        checked_namespace(namespace)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--namespace") from None
    if isolated and namespace != SHARED:
        raise typer.BadParameter("an isolated key has a namespace of its own", param_hint="--namespace")
    scopes = frozenset(s.value for s in scope or [Scope.EMBED])
    with _access() as store:
        key, record = issue(
            name, namespace=namespace, scopes=scopes, isolated=isolated, now=SystemClock().now()
        )
        store.add(record)
    typer.echo(key)
    typer.echo(f"{record.id}: keep the key now, it is not shown again", err=True)


@app.command("list")
def list_keys() -> None:
    """List all keys: never the keys themselves."""
    with _access(must_exist=True) as store:
        rows = [
            (k.id, k.name, k.namespace, " ".join(sorted(k.scopes)), _day(k.created), _day(k.revoked))
            for k in store.list()
        ]
    if not sys.stdout.isatty():
        for row in rows:
            typer.echo("\t".join(cell.replace("\t", " ") for cell in row))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("id", "name", "namespace", "scopes", "created", "revoked"):
        table.add_column(heading, no_wrap=heading == "id", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.")]) -> None:
    """Revoke a key; every process refuses it within a minute."""
    with _access(must_exist=True) as store:
        known = store.revoke(key_id, int(SystemClock().now()))
    if not known:
        typer.echo(f"embedonce: there is no key {key_id}", err=True)
        sys.exit(1)
    typer.echo(f"{key_id} is revoked; it stops working everywhere within 60 seconds")


@app.command("webhook-secret")
def webhook_secret(
    key_id: Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it, or `development`.")],
) -> None:
    """Show what the holder of a key verifies webhooks with."""
    settings = config.load(os.environ)
    with _access(must_exist=True) as store:
        known = store.find_by_id(key_id) is not None
    if not known and not (settings.mode == "local" and key_id == DEVELOPMENT.key_id):
        typer.echo(f"embedonce: there is no key {key_id}", err=True)
        sys.exit(1)
    try:
        secret = secrets_of(settings)(key_id)
    except ServiceUnavailable as error:
        typer.echo(f"embedonce: {error}", err=True)
        sys.exit(1)
    typer.echo(secret)


def _day(seconds: int | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
