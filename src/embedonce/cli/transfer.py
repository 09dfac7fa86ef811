"""`embedonce export` and `embedonce import`: files, options, and what came of it."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Annotated

import typer

from embedonce import config
from embedonce.access.keys import SHARED
from embedonce.bootstrap.catalog import catalog_of
from embedonce.bootstrap.stores import Stores, open_stores
from embedonce.bootstrap.upstreams import order_of, upstreams_of
from embedonce.cli import options
from embedonce.cli.amounts import money
from embedonce.cli.progress import Progress
from embedonce.clock import SystemClock
from embedonce.config import ConfigError, Settings
from embedonce.core.catalog import GEMINI_EMBEDDING_2, Catalog, checked_dimensions
from embedonce.core.content import TEXT_ONLY
from embedonce.core.errors import EmbedonceError, StoreUnavailable
from embedonce.core.fingerprint import Namespace
from embedonce.core.options import EmbedOptions
from embedonce.core.pricing import Price
from embedonce.core.purge import model_generations
from embedonce.core.tasks import TaskType
from embedonce.ports import Clock
from embedonce.telemetry import LogTelemetry
from embedonce.upstreams.router import Router
from embedonce.usecases.planning import Planner
from embedonce.usecases.purge import Filter
from embedonce.usecases.transfer import (
    OwnExport,
    PaidElsewhere,
    Reader,
    Tally,
    bring_in,
    exported,
    generations_of,
    is_export,
)

ERRORS_SHOWN = 20
ASSERTION = "--i-assert-they-are-interchangeable"
MILLION = 1_000_000
LINE_BYTES = 4 << 20
"""A line is read no further than this: no vector is as long."""


class _Nothing(Exception):
    """No stored vector is meant."""


def export_vectors(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A new file; compressed if it ends in .gz.")],
    model: Annotated[str | None, typer.Option(help="Only of this model.")] = None,
    upstream: Annotated[str | None, typer.Option(help="Only what this upstream made.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only what was made then or later (ISO 8601).")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Write stored vectors to a file, which `embedonce import` reads (docs/vectors.md)."""
    settings = config.load(os.environ)
    options.check_store(settings)
    if path.exists():
        raise ConfigError(f"{path}: exists")
    clock = SystemClock()
    retired = ". Those of one that is not configured any more are exported without --model"
    wanted = Filter(
        None if model is None else options.model_id(catalog_of(settings), model, more=retired),
        upstream,
        None if since is None else options.when(since, "--since"),
    )
    count = 0
    with closing(open_stores(settings, clock)) as stores, Progress(quiet=quiet) as progress:
        try:
            with _new_file(path) as file:
                purged = model_generations(stores.access.deployment().generations)
                lines = exported(stores.scan, wanted, clock.now(), generations=purged)
                for number, line in enumerate(lines):
                    file.write(line)
                    count = max(0, number - 1)  # without the header and the end
                    progress.show(f"{number:,} vectors")
                if not count:
                    raise _Nothing
        except _Nothing:
            progress.end()
            why = options.unknown_upstream(upstream) or "no stored vector is meant"
            typer.echo(f"embedonce: {why}; {path} was not written", err=True)
            sys.exit(1)
        except StoreUnavailable as failure:
            progress.end()
            typer.echo(f"embedonce: the vectors cannot be read: {failure}; {path} was not written", err=True)
            sys.exit(1)
        except OSError as error:
            progress.end()
            typer.echo(f"embedonce: {path}: {error.strerror}", err=True)
            sys.exit(1)
    typer.echo(f"{count:,} vectors are in {path}")


def import_vectors(  # noqa: PLR0917  # typer calls it by name
    path: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines; compressed if it ends in .gz.")],
    lineage: Annotated[
        str | None, typer.Option(help="Of vectors paid for elsewhere: which vectors here they are like.")
    ] = None,
    asserted: Annotated[
        bool,
        typer.Option(ASSERTION, help="Nobody can check it: wrong vectors would be served as right ones."),
    ] = False,
    model: Annotated[str | None, typer.Option(help="Of vectors paid for elsewhere: their model.")] = None,
    dimensions: Annotated[int | None, typer.Option(help="Their size; default: the model's.")] = None,
    task_type: Annotated[TaskType | None, typer.Option(help="What they were made for.")] = None,
    title: Annotated[str | None, typer.Option(help="The title they were made with.")] = None,
    namespace: Annotated[
        str | None, typer.Option(metavar="NAME[/INNER]", help=f"Who finds them; default: {SHARED}.")
    ] = None,
    cost_per_million: Annotated[
        str | None, typer.Option(metavar="USD", help="What a million tokens cost; default: nothing.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Put vectors from a file into the cache: exported ones, or paid for elsewhere (docs/vectors.md).

    What is there already stays as it is, so the same command can be run again.
    """
    settings = config.load(os.environ)
    clock = SystemClock()
    with _lines(path) as lines:
        first = next(lines, b"")
        if not first:
            raise ConfigError(f"{path}: is empty")
        try:
            own = is_export(first)
            made_under = generations_of(first) if own else None
        except ValueError as unknown:
            raise ConfigError(f"{path}: {unknown}") from None
        foreign = any(each is not None for each in (lineage, model, dimensions, task_type, title, namespace))
        if own and (foreign or asserted or cost_per_million):
            raise ConfigError(
                f"{path}: is an export, which says itself what its vectors are; name no options"
            )
        catalog = catalog_of(settings)
        with closing(open_stores(settings, clock)) as stores:
            reader: Reader
            if own:
                latest = int(clock.now() + settings.vector_ttl_days * 86_400)
                reader = OwnExport(catalog.find, latest, purged=_purged_since(made_under, stores))
            else:
                reader = _elsewhere(
                    path,
                    settings,
                    stores,
                    catalog,
                    clock,
                    lineage=lineage,
                    asserted=asserted,
                    model=model,
                    dimensions=dimensions,
                    task_type=task_type,
                    title=title,
                    namespace=namespace or SHARED,
                    cost_per_million=cost_per_million,
                )
            _import(chain([first], lines), reader, stores, clock, path, quiet=quiet)


def _purged_since(made_under: Mapping[str, int] | None, stores: Stores) -> frozenset[str]:
    """Models that were purged on one side only. None where the export does not say what it was made under.

    :raises ConfigError: the store of keys fails
    """
    if made_under is None:
        return frozenset()
    try:
        here = model_generations(stores.access.deployment().generations)
    except StoreUnavailable as failure:
        raise ConfigError(f"the store of keys cannot be used: {failure}") from None
    return frozenset(id for id in {*here, *made_under} if here.get(id, 0) != made_under.get(id, 0))


def _import(
    lines: Iterator[bytes], reader: Reader, stores: Stores, clock: Clock, path: Path, *, quiet: bool
) -> None:
    tally = Tally()
    problem: str | None = None
    with Progress(quiet=quiet) as progress:

        def refused(number: int, why: str) -> None:
            if tally.refused <= ERRORS_SHOWN:
                progress.end()
                typer.echo(f"{path}:{number}: {why}", err=True)

        try:
            bring_in(
                lines,
                reader,
                stores.vectors,
                clock,
                refused=refused,
                show=lambda t: progress.show(f"{t.new:,} new, {t.there:,} there, {t.refused:,} refused"),
                tally=tally,
            )
        except StoreUnavailable as failure:
            problem = f"a store failed: {failure}. Run the same command again to go on"
        except (OSError, EOFError, zlib.error) as error:
            problem = f"{path} cannot be read to its end: {getattr(error, 'strerror', None) or error}"
    if tally.refused > ERRORS_SHOWN:
        typer.echo(f"and {tally.refused - ERRORS_SHOWN:,} more lines are refused", err=True)
    typer.echo(f"{tally.new:,} new, {tally.there:,} already there, {tally.refused:,} refused")
    if tally.expired:
        typer.echo(f"{tally.expired:,} have expired and were not kept", err=True)
    if tally.unnormalised:
        typer.echo(f"{tally.unnormalised:,} of the new ones do not have the length 1", err=True)
    unfindable = reader.unfindable if isinstance(reader, OwnExport) else Counter()
    for model, count in unfindable.items():
        typer.echo(
            f"{count:,} are of {model}, which was purged (`embedonce purge --model`) here or there since, so "
            "no request finds them",
            err=True,
        )
    if problem is None and tally.lost:
        problem = f"{tally.lost:,} could not be kept by their store. Run the same command again"
    if problem is None and isinstance(reader, OwnExport):
        read = tally.new + tally.there + tally.refused + tally.expired + tally.lost
        if reader.ends != [read]:
            problem = f"{path} is not complete: its end is missing, or says another number"
    if problem is not None:
        typer.echo(f"embedonce: {problem}", err=True)
    read = tally.new + tally.there + tally.expired + tally.lost
    if problem is not None or tally.refused or (read and unfindable.total() >= read):
        sys.exit(1)


def _elsewhere(
    path: Path,
    settings: Settings,
    stores: Stores,
    catalog: Catalog,
    clock: Clock,
    *,
    lineage: str | None,
    asserted: bool,
    model: str | None,
    dimensions: int | None,
    task_type: TaskType | None,
    title: str | None,
    namespace: str,
    cost_per_million: str | None,
) -> PaidElsewhere:
    """:raises ConfigError: options that are missing, or under which nobody would find the vectors"""
    try:
        found = catalog.find(model or GEMINI_EMBEDDING_2.id)
        size = checked_dimensions(found, dimensions)
        wanted = EmbedOptions(found, size, task_type=task_type, title=title)
        chosen = upstreams_of(settings, catalog, clock)
        router = Router(
            chosen,
            clock,
            LogTelemetry(),
            attempt_timeout=settings.upstream_timeout,
            order=order_of(settings, chosen, catalog),
        )
        used = router.route(found, TEXT_ONLY).sending(wanted).offer.lineage
    except EmbedonceError as error:
        raise ConfigError(error.message) from None
    if lineage is None:
        raise ConfigError(
            f"{path}: is no export, by its first line. For vectors from elsewhere name --lineage: which ones "
            f"they are like; texts of {found.id} have {used} here, as it is set"
        )
    if lineage != used:
        there = sorted({offer.lineage for each in chosen if (offer := each.offer(found)) is not None})
        raise ConfigError(
            f"--lineage: texts of {found.id} have {used} here, as it is set, and vectors of another one "
            f"would never be found. Its upstreams have: {', '.join(there)}"
        )
    if not asserted:
        raise ConfigError(
            f"these vectors will be answered as if they were bought from the upstreams of {used}. If you "
            f"know that they are interchangeable with those, say {ASSERTION}"
        )
    owner, inner = options.namespace(namespace)
    try:
        known = {SHARED, *(key.namespace for key in stores.access.list())}
        deployment = stores.access.deployment()
    except StoreUnavailable as failure:
        raise ConfigError(f"the store of keys cannot be used: {failure}") from None
    if owner not in known:
        raise ConfigError(f"--namespace: no key has {owner}; there are {', '.join(sorted(known))}")
    million = 0 if cost_per_million is None else money(cost_per_million, "--cost-per-million")
    return PaidElsewhere(
        Planner(router, lambda _patience: deployment),
        wanted,
        Namespace(owner, inner or ""),
        used,
        clock,
        names=frozenset({found.id, *found.aliases}),
        price=Price(million // MILLION),
        ttl_seconds=int(settings.vector_ttl_days * 86_400),
    )


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """It is there when it is complete, readable by its owner alone.

    :raises OSError: it cannot be written
    """
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1) as packed:
                    yield packed  # type: ignore[misc]
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _lines(path: Path) -> Iterator[Iterator[bytes]]:
    """:raises ConfigError: it cannot be opened"""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield iter(lambda: file.readline(LINE_BYTES), b"")
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
