"""`embedonce queues`: what waits, and dead letters back to work."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from embedonce import config
from embedonce.clock import SystemClock
from embedonce.core.errors import StoreUnavailable

if TYPE_CHECKING:
    from embedonce.bootstrap import Stores
    from embedonce.ports import Queue

app = typer.Typer(help="Queues of submitted requests and of files.", no_args_is_help=False)


def _queues(stores: Stores) -> dict[str, Queue[Any]]:
    queues: dict[str, Queue[Any]] = {stage.value: queue for stage, queue in stores.queues.items()}
    if stores.ingest is not None:
        queues |= {name.value: queue for name, queue in stores.ingest.queues.items()}
    return queues


@app.callback(invoke_without_command=True)
def show(context: typer.Context) -> None:
    """How many messages are ready, delayed, in flight and dead (given up), by queue."""
    if context.invoked_subcommand is not None:
        return
    from embedonce.bootstrap import open_stores

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("queue", "ready", "delayed", "in flight", "dead"):
        table.add_column(column, justify="left" if column == "queue" else "right")
    stores = open_stores(config.load(os.environ), SystemClock())
    try:
        for name, queue in _queues(stores).items():
            depth = queue.depth()
            counts = (depth.ready, depth.delayed, depth.in_flight, depth.dead)
            table.add_row(name, *(str(count) for count in counts))
    except StoreUnavailable as failure:
        raise config.ConfigError(f"the queues cannot be read: {failure}") from None
    finally:
        stores.close()
    Console().print(table)


@app.command()
def redrive(queue: Annotated[str, typer.Argument(help="Name of the queue, as it is shown.")]) -> None:
    """Put dead letters back into their queue (local mode; on AWS see docs/operations.md)."""
    from embedonce.bootstrap import open_stores
    from embedonce.stores.embedded.queue import EmbeddedQueue

    stores = open_stores(config.load(os.environ), SystemClock())
    try:
        queues = _queues(stores)
        if queue not in queues:
            raise config.ConfigError(f"there is no queue {queue}; there are {', '.join(queues)}")
        found = queues[queue]
        if not isinstance(found, EmbeddedQueue):
            raise config.ConfigError("redrive: local mode only; on AWS use aws sqs start-message-move-task")
        typer.echo(f"{found.redrive()} messages are back in the queue {queue}")
    except StoreUnavailable as failure:
        raise config.ConfigError(f"the queue cannot be written: {failure}") from None
    finally:
        stores.close()
