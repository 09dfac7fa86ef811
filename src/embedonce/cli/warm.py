"""`embedonce warm`: options, a progress bar with money, and what it came to."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from embedonce import config
from embedonce.cli import leash
from embedonce.core.pricing import usd_text
from embedonce.core.tasks import TaskType
from embedonce.local.warmrows import Format
from embedonce.telemetry import LogTelemetry
from embedonce.usecases.warm.entry import Failure, Mark, Tally, Wait

if TYPE_CHECKING:
    from embedonce.local.warming import Begun, Finished

LINE_SECONDS = 5.0
"""Between lines where there is no terminal for a bar."""
BAR_SECONDS = 0.1
ERRORS_SHOWN = 20
WAIT_SECONDS = 9.0
"""The same wait, of several batches, is not said again so soon."""
OVER_BUDGET = 3


def warm(  # noqa: PLR0917  # typer calls it by name
    path: Annotated[Path, typer.Argument(help="A file, a folder, or - for standard input.")],
    model: Annotated[str | None, typer.Option(help="Model to embed with.")] = None,
    dimensions: Annotated[int | None, typer.Option(help="Size of the vectors.")] = None,
    task_type: Annotated[TaskType | None, typer.Option(help="What the vectors are for.")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the documents.")] = None,
    namespace: Annotated[str, typer.Option(help="A namespace inside the key's own.")] = "",
    form: Annotated[Format | None, typer.Option("--format", help="Default: by the file's name.")] = None,
    field: Annotated[
        str | None, typer.Option(help="Field or column that is embedded; default: text, input or content.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Id of the API key it is done for; locally the development key.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Batches in flight.")] = 4,
    batch: Annotated[int | None, typer.Option(min=1, max=1000, help="Inputs of one batch.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many inputs.")] = None,
    journal: Annotated[Path | None, typer.Option(help="Where it is noted how far it has come.")] = None,
    errors: Annotated[Path | None, typer.Option(help="Write every refused input to this JSONL file.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Price it, and buy nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Fill the cache from JSONL, CSV, text or a folder (docs/warm.md).

    Stopped or killed, the same command goes on where it was.
    """
    from embedonce.local import warming

    settings = config.load(os.environ)
    logging.basicConfig(level="ERROR", format="%(levelname)s %(name)s %(message)s")
    wish = warming.Wish(
        path=path,
        model=model,
        dimensions=dimensions,
        task_type=task_type,
        title=title,
        namespace=namespace,
        form=form,
        field=field,
        key=key,
        concurrency=concurrency,
        batch=batch,
        limit=limit,
        dry_run=dry_run,
        journal=journal,
    )
    if title is not None and task_type is not TaskType.RETRIEVAL_DOCUMENT:
        typer.echo("embedonce: --title changes nothing without --task-type RETRIEVAL_DOCUMENT", err=True)
    halt = threading.Event()
    leash.on_broken(halt.set)
    with ExitStack() as stack:
        shown = stack.enter_context(Shown(quiet=quiet, dry_run=dry_run))
        refused = _Refused(stack, errors)
        stack.enter_context(_stopped_by_signals(halt))
        told = warming.Told(begun=shown.begun, show=shown.show, failed=refused, waits=shown.waits, halt=halt)
        done = warming.warm(settings, wish, told, LogTelemetry())
    if as_json:
        sys.stdout.write(json.dumps(summary(done), indent=2) + "\n")
    else:
        for line in _report(done, shown.seconds):
            typer.echo(line)
    refused.rest()
    if done.stop is None and not done.tally.inputs:
        typer.echo(f"embedonce: no inputs in {path}", err=True)
    if done.stop is not None:
        again = f" (noted in {done.journal})" if done.journal else ""
        typer.echo(f"embedonce: {done.stop.why}. The same command goes on from here{again}.", err=True)
    if code := exit_code(done):
        raise typer.Exit(code)


def exit_code(done: Finished) -> int:
    if done.stop is not None and done.stop.budget:
        return OVER_BUDGET
    if done.stop is not None and done.stop.interrupted:
        return 130
    return int(done.stop is not None or done.tally.failed > 0)


def summary(done: Finished) -> dict[str, Any]:
    """As JSON. Amounts are in USD, as text."""
    tally, bill = done.tally, done.bill
    said: dict[str, Any] = {
        "files": done.begun.survey.files,
        "skipped": done.begun.survey.skipped,
        "inputs": tally.inputs,
        "failed": tally.failed,
    }
    if bill is None:
        said |= {
            "resumed": done.begun.before.inputs,
            "hits": tally.hits + tally.repeats,
            "derived": tally.derived,
            "misses": tally.misses,
            "tokens": tally.tokens,
            "usd_spent": usd_text(tally.spent),
            "usd_saved": usd_text(tally.saved),
        }
    else:
        said |= {
            "distinct": bill.distinct,
            "cached": bill.cached,
            "new": bill.new,
            "tokens_estimated": bill.tokens,
            "usd_estimated": usd_text(bill.likely),
            "usd_at_most": usd_text(bill.most),
        }
    return said | {"stopped": None if done.stop is None else done.stop.why}


def _report(done: Finished, seconds: float) -> Iterator[str]:
    tally, bill, survey = done.tally, done.bill, done.begun.survey
    if bill is not None:
        yield f"inputs          {tally.inputs:>14,}"
        yield f"  distinct      {bill.distinct:>14,}"
        yield f"  cached        {bill.cached:>14,}"
        yield f"  new           {bill.new:>14,}"
        yield f"  refused       {tally.failed:>14,}"
        yield f"tokens          {bill.tokens:>14,}  estimated, of what is new"
        yield f"estimated     $ {usd_text(bill.likely):>14}"
        yield f"at most       $ {usd_text(bill.most):>14}"
    else:
        yield f"inputs          {tally.inputs:>14,}"
        yield f"  hits          {tally.hits + tally.derived + tally.repeats:>14,}"
        yield f"  bought        {tally.misses:>14,}"
        yield f"  failed        {tally.failed:>14,}"
        yield f"spent         $ {usd_text(tally.spent):>14}"
        yield f"saved         $ {usd_text(tally.saved):>14}"
    if survey.skipped:
        yield f"files skipped   {survey.skipped:>14,}"
    rate = (tally.inputs - done.begun.before.inputs) / max(seconds, 0.001)
    yield f"seconds         {seconds:>14,.1f}  {rate:,.0f} inputs/s"


class _Refused:
    """Says the first few on stderr; all of them go to `errors`, one JSON object a line."""

    def __init__(self, stack: ExitStack, errors: Path | None) -> None:
        self.count = 0
        self._file: IO[str] | None = None
        if errors is not None:
            try:
                self._file = stack.enter_context(errors.open("a", encoding="utf-8"))
            except OSError as error:
                raise config.ConfigError(f"--errors {errors}: {error.strerror}") from None

    def __call__(self, failure: Failure) -> None:
        self.count += 1
        if self._file is not None:
            said = {"where": failure.where, "code": failure.code, "error": failure.why}
            self._file.write(json.dumps(said) + "\n")
        if self.count <= ERRORS_SHOWN:
            typer.echo(f"{failure.where}: {failure.why}", err=True)

    def rest(self) -> None:
        if self.count > ERRORS_SHOWN:
            typer.echo(f"and {self.count - ERRORS_SHOWN:,} more (--errors FILE lists all)", err=True)


class Shown:
    """Progress on stderr: a bar on a terminal, else a line every few seconds."""

    def __init__(self, *, quiet: bool, dry_run: bool) -> None:
        self._quiet = quiet
        self._dry_run = dry_run
        self._console = Console(stderr=True)
        self._begun: Begun | None = None
        self._since = self._last = time.monotonic()
        self._bar: Progress | None = None
        self._task: Any = None
        self._lock = threading.Lock()
        self._said: dict[tuple[str, str], float] = {}

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._since

    def __enter__(self) -> Shown:
        if not self._quiet and self._console.is_terminal:
            self._bar = Progress(
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[said]}"),
                console=self._console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=None, said="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begun(self, begun: Begun) -> None:
        self._begun = begun
        self._since = time.monotonic()
        if begun.before.inputs and not self._quiet:
            typer.echo(f"going on after {begun.before.inputs:,} inputs", err=True)
        if not self._quiet:
            self._passed(begun)
        if self._bar is not None:
            total = begun.survey.size or None
            self._bar.update(self._task, total=total, completed=begun.start.size)

    @staticmethod
    def _passed(begun: Begun) -> None:
        survey = begun.survey
        for said in survey.passed:
            typer.echo(f"skipped: {said}", err=True)
        if (rest := survey.skipped - len(survey.passed)) > 0:
            typer.echo(f"skipped: {rest:,} more", err=True)

    def waits(self, wait: Wait) -> None:
        """From any thread."""
        if self._quiet:
            return
        now = time.monotonic()
        with self._lock:
            if now - self._said.get((wait.why, wait.then), -math.inf) < WAIT_SECONDS:
                return
            self._said[wait.why, wait.then] = now
        typer.echo(f"{wait.why}{wait.then} {math.ceil(wait.seconds)} s", err=True)

    def show(self, tally: Tally, mark: Mark) -> None:
        now = time.monotonic()
        pause = LINE_SECONDS if self._bar is None else BAR_SECONDS
        if self._quiet or self._begun is None or now - self._last < pause:
            return
        self._last = now
        rate = (tally.inputs - self._begun.before.inputs) / max(self.seconds, 0.001)
        said = f"{tally.inputs:,} inputs, {rate:,.0f}/s"
        said += f", {tally.hits + tally.derived + tally.repeats:,} hits, {tally.misses:,} misses"
        if not self._dry_run:
            said += f", spent ${usd_text(tally.spent)}, saved ${usd_text(tally.saved)}"
        if tally.failed:
            said += f", {tally.failed:,} failed"
        if self._bar is not None:
            self._bar.update(self._task, completed=mark.size, said=said)
            return
        typer.echo(self._left(mark) + said, err=True)

    def _left(self, mark: Mark) -> str:
        """By the bytes that were read: nothing has to be counted beforehand."""
        assert self._begun is not None
        total, done = self._begun.survey.size, mark.size - self._begun.start.size
        if not total or not done:
            return ""
        seconds = self.seconds / done * (total - mark.size)
        return f"{mark.size / total:.0%}, about {seconds:,.0f} s left: "


@contextmanager
def _stopped_by_signals(halt: threading.Event) -> Iterator[None]:
    """The first one ends the run when what is in flight has come; the second one at once."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        if halt.is_set():
            os._exit(130)
        halt.set()
        os.write(2, b"\nstopping: what is in flight is waited for (again: at once)\n")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
