"""Commands and how their errors are shown; what they do is elsewhere."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from embedonce import __version__, config
from embedonce.cli import (
    cost,
    doctor,
    ingest,
    keys,
    leash,
    limits,
    purge,
    queues,
    savings,
    simulate,
    transfer,
    warm,
)

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)

app = typer.Typer(
    name="embedonce",
    help="Embed once, reuse everywhere: a shared cache in front of paid multimodal embedding APIs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(keys.app, name="keys")
app.add_typer(limits.app, name="limits")
app.add_typer(queues.app, name="queues")
app.add_typer(doctor.app, name="doctor")
app.command()(ingest.ingest)
app.command()(warm.warm)
app.command()(purge.purge)
app.command("export")(transfer.export_vectors)
app.command("import")(transfer.import_vectors)
app.command()(cost.cost)
app.command()(simulate.simulate)
app.command()(savings.savings)


@app.command()
def serve() -> None:
    """Serve the gateway on this machine (HOST, PORT, EMBEDONCE_DATA_DIR and the like; see `config`)."""
    from embedonce.local.server import serve as run

    run(config.load(os.environ))


@app.command()
def worker() -> None:
    """Run only the worker, beside a server on the same data folder (EMBEDONCE_LOOPS says which it runs)."""
    _alone("worker")


@app.command()
def poller() -> None:
    """Run only the poller, beside a server on the same data folder."""
    _alone("poller")


@app.command()
def janitor() -> None:
    """Run only the janitor, beside a server on the same data folder."""
    _alone("janitor")


def _alone(name: str) -> None:
    from embedonce.local.alone import run_alone

    run_alone(config.load(os.environ), name)


@app.command("config")
def show_config() -> None:
    """Print every setting with its source; secrets are masked. Meanings: docs/configuration.md."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("variable", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("source")
    for variable, value, source, _ in config.table(config.load(os.environ)):
        table.add_row(variable, Text(value), source)
    Console().print(table)


@app.command()
def openapi(
    write: Annotated[bool, typer.Option("--write", help="Write the committed file instead.")] = False,
) -> None:
    """Print the OpenAPI description of the HTTP API."""
    from embedonce.http.openapi import FILE, text

    if write:
        FILE.write_text(text())
    else:
        sys.stdout.write(text())


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    if leash.wanted(sys.argv[1:]):
        sys.exit(leash.run(sys.argv[1:]))
    try:
        app(prog_name="embedonce")
    except config.ConfigError as error:
        typer.echo(f"embedonce: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        if error.filename is not None or error.errno not in UNWRITABLE:
            raise
        _end_without_output(error)
    finally:
        try:
            sys.stdout.flush()
        except OSError as error:
            _end_without_output(error)


def _end_without_output(error: OSError) -> NoReturn:
    with open(os.devnull, "w") as nowhere:  # where Python writes the rest at its end
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        typer.echo(f"embedonce: the output cannot be written: {error.strerror}", err=True)
    sys.exit(1)
