"""`embedonce ingest`: options, a progress bar, and what it came to."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from embedonce import config
from embedonce.core.manifest import Assembling, Cutting, Embedding, Ended, Manifest, Outcome
from embedonce.core.pricing import usd_text
from embedonce.core.tasks import TaskType
from embedonce.ingestrules import RuleSetting


def ingest(  # noqa: PLR0917  # typer calls it by name
    paths: Annotated[list[Path], typer.Argument(help="Files and folders.", show_default=False)],
    results: Annotated[Path, typer.Option(help="Folder that results are written to.")] = Path("results"),
    model: Annotated[str | None, typer.Option(help="Model to embed with.")] = None,
    dimensions: Annotated[int | None, typer.Option(help="Size of the vectors.")] = None,
    task_type: Annotated[TaskType | None, typer.Option(help="What the vectors are for.")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the documents.")] = None,
    field: Annotated[str | None, typer.Option(help="Field of JSONL and CSV rows that is embedded.")] = None,
    id_field: Annotated[str | None, typer.Option(help="Field that identifies a row in results.")] = None,
    output: Annotated[str | None, typer.Option(help="base64 or float: how vectors are written.")] = None,
    max_usd: Annotated[str | None, typer.Option(help="Files that may cost more are refused.")] = None,
) -> None:
    """Embed files and folders, and write a result for each.

    Stopped or killed, the same command goes on where it was. What was embedded before, by anybody who shares
    the data folder, costs nothing. Without options the rules of EMBEDONCE_INGEST_RULES hold.
    """
    from embedonce.local.ingesting import Progress as Now
    from embedonce.local.ingesting import ingest as run

    settings = config.load(os.environ)
    chosen: dict[str, Any] = {
        "model": model,
        "dimensions": dimensions,
        "task_type": task_type,
        "title": title,
        "field": field,
        "id_field": id_field,
        "output": output,
        "max_usd": max_usd,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    if given:
        settings = settings.model_copy(update={"ingest_rules": (_rule(given),)})
    logging.basicConfig(level="WARNING", format="%(levelname)s %(name)s %(message)s")
    console = Console()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("segments"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[money]}"),
        console=console,
        transient=True,
    )
    try:
        with bar:
            task = bar.add_task("cutting", total=None, money="")

            def show(now: Now) -> None:
                _show(bar, task, now.manifests.values())

            done = run(settings, paths, results, show)
    except KeyboardInterrupt:
        console.print("Stopped. The same command goes on from here.")
        raise typer.Exit(130) from None
    _report(console, done.manifests, results)
    if any(_failed(m) for m in done.manifests.values()):
        raise typer.Exit(1)


def _rule(given: dict[str, Any]) -> RuleSetting:
    from pydantic import ValidationError

    try:
        return RuleSetting.model_validate(given)
    except ValidationError as errors:
        first = errors.errors()[0]
        name = "--" + str(first["loc"][0]).replace("_", "-")
        raise config.ConfigError(f"{name}: {first['msg']}") from None


def _show(bar: Progress, task: Any, manifests: Any) -> None:
    total = done = cost = saved = 0
    cutting = 0
    for manifest in manifests:
        t = manifest.totals
        total += t.segments
        done += t.hits + t.derived + t.misses + t.failed
        cost, saved = cost + t.cost, saved + t.saved
        cutting += isinstance(manifest.state, Cutting)
    money = f"spent ${usd_text(cost)}, saved ${usd_text(saved)}"
    what = f"cutting {cutting} files" if cutting else "embedding"
    bar.update(task, description=what, total=total or None, completed=done, money=money)


def _report(console: Console, manifests: Any, results: Path) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("file", overflow="fold")
    for name in ("segments", "hits", "misses", "failed", "spent $", "saved $"):
        table.add_column(name, justify="right")
    sums = [0] * 6
    for path, manifest in manifests.items():
        t = manifest.totals
        failed = t.failed or int(_is_error(manifest))
        row = [t.segments, t.hits + t.derived, t.misses, failed, t.cost, t.saved]
        sums = [one + other for one, other in zip(sums, row, strict=True)]
        table.add_row(Text(path), *_cells(row))
    if len(manifests) > 1:
        table.add_row("", *_cells(sums))
    console.print(table)
    for path, manifest in manifests.items():
        if said := _ending(manifest):
            console.print(f"{path}: {said}", soft_wrap=True, markup=False, highlight=False)
    console.print(f"Results are in {results.resolve()}", soft_wrap=True, markup=False, highlight=False)


def _cells(row: list[int]) -> list[str]:
    return [*(str(count) for count in row[:4]), *(usd_text(pico) for pico in row[4:])]


def _failed(manifest: Manifest) -> bool:
    published = isinstance(manifest.state, Ended) and manifest.state.outcome is Outcome.PUBLISHED
    return not published or manifest.totals.failed > 0


def _is_error(manifest: Manifest) -> bool:
    return isinstance(manifest.state, Ended) and manifest.state.outcome is Outcome.FAILED


def _ending(manifest: Manifest) -> str:
    match manifest.state:
        case Ended(outcome=Outcome.PUBLISHED) if manifest.totals.failed:
            return f"{manifest.totals.failed} segments failed; its result says why, each by itself"
        case Ended(outcome=Outcome.SUPERSEDED):
            return "changed meanwhile: run it again"
        case Ended(outcome=Outcome.FAILED) if manifest.error is not None:
            return manifest.error[1]
        case Embedding(paused=str(why)):
            return f"paused: {why}"
        case Cutting() | Embedding() | Assembling():
            return "not done"
        case _:
            return manifest.note or ""
