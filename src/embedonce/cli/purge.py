"""`embedonce purge`: what is chosen, the question before it, and what was removed."""

from __future__ import annotations

import codecs
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from embedonce import config
from embedonce.access.keys import SHARED
from embedonce.bootstrap.catalog import catalog_of
from embedonce.bootstrap.stores import Stores, open_stores
from embedonce.bootstrap.upstreams import upstreams_of
from embedonce.cli import options
from embedonce.cli.progress import Progress
from embedonce.clock import SystemClock
from embedonce.config import ConfigError, Settings
from embedonce.core import purge as names
from embedonce.core.catalog import Model
from embedonce.core.content import Content, MediaPart, Modality
from embedonce.core.errors import NotFound, StoreUnavailable
from embedonce.core.fingerprint import Namespace
from embedonce.core.plan import VectorKey
from embedonce.core.pricing import usd_text
from embedonce.core.tasks import TaskType
from embedonce.media.inspect import sniffed
from embedonce.ports import Clock
from embedonce.usecases.contentkeys import TASKS, Reach, keys_of
from embedonce.usecases.purge import FORGOTTEN_SECONDS, Filter, Purge, being_embedded

UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
LARGEST = 1 << 30
"""Dimensions that are in the tier of large vectors wherever that begins."""
NO_TASK = "none"
FILES_SHOWN = 20
PAUSE = f"{FORGOTTEN_SECONDS:g} s, when every process has forgotten"


def purge(  # noqa: PLR0917  # typer calls it by name
    content: Annotated[
        list[Path] | None, typer.Option(help="A file with the content: media, or else text in UTF-8.")
    ] = None,
    text: Annotated[list[str] | None, typer.Option(help="The text itself.")] = None,
    sha256: Annotated[
        list[str] | None, typer.Option(metavar="HEX", help="SHA-256 of an image, audio, video or PDF.")
    ] = None,
    fingerprint: Annotated[
        list[str] | None, typer.Option(metavar="HEX", help="A vector's key, as results name it.")
    ] = None,
    namespace: Annotated[
        list[str] | None, typer.Option(metavar="NAME[/INNER]", help="Alone: everything in it.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Alone: everything of it.")] = None,
    upstream: Annotated[str | None, typer.Option(help="What this upstream made.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Made then or later (ISO 8601).")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Made before (ISO 8601).")] = None,
    older_than: Annotated[str | None, typer.Option(metavar="AGE", help="As in 90m, 12h, 30d, 8w.")] = None,
    dimensions: Annotated[
        list[int] | None, typer.Option(min=1, help="Of contents: only these sizes; default: every one.")
    ] = None,
    task_type: Annotated[
        list[str] | None, typer.Option(help=f"Of contents: only these, or {NO_TASK}; default: every one.")
    ] = None,
    title: Annotated[list[str] | None, typer.Option(help="Of contents: a title it may have had.")] = None,
    parameters: Annotated[
        list[str] | None, typer.Option(metavar="JSON", help="Of contents: parameters it may have had.")
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="With --model alone: delete what is left behind, by a scan.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not look once more when every process has forgotten.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Remove vectors: by content, namespace, model, upstream, time or age (docs/vectors.md).

    Of several options a vector has to meet all; of one that is repeated, any.
    """
    settings = config.load(os.environ)
    options.check_store(settings)
    clock = SystemClock()
    chosen = _Chosen(
        contents=[*_files(content or []), *_texts(text or []), *_hashes(sha256 or [])],
        fingerprints=[_digest(each, "--fingerprint") for each in fingerprint or []],
        namespaces=[options.namespace(each) for each in namespace or []],
        model=model,
        upstream=upstream,
        since=None if since is None else options.when(since, "--since"),
        until=_until(until, older_than, clock),
        sizes=dimensions,
        tasks=None if task_type is None else [_task(each) for each in task_type],
        titles=title or [],
        parameters=[_object(each) for each in parameters or []],
        sweep=sweep,
    )
    stores = open_stores(settings, clock)
    try:
        plan = _Plan(chosen, settings, stores, clock, dry_run=dry_run)
        _run(plan, yes=yes, quiet=quiet, wait=not no_wait)
    except StoreUnavailable as failure:
        typer.echo(f"embedonce: a store cannot be used: {failure}. Nothing was removed.", err=True)
        sys.exit(1)
    finally:
        stores.close()


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The options, read. Times in seconds since 1970.

    :raises ConfigError: options that do not go together
    """

    contents: list[Content]
    fingerprints: list[bytes]
    namespaces: list[tuple[str, str | None]]
    model: str | None
    upstream: str | None
    since: float | None
    until: float | None
    sizes: list[int] | None
    tasks: list[TaskType | None] | None
    titles: list[str]
    parameters: list[dict[str, Any]]
    sweep: bool

    @property
    def by_key(self) -> bool:
        return bool(self.contents or self.fingerprints)

    @property
    def by_record(self) -> bool:
        return self.upstream is not None or self.since is not None or self.until is not None

    @property
    def leaves_behind(self) -> bool:
        return not self.by_key and not self.by_record

    def __post_init__(self) -> None:
        told = self.sizes is not None or self.tasks is not None or self.titles or self.parameters
        if told and not self.contents:
            raise ConfigError(
                "--dimensions, --task-type, --title and --parameters say how a content was asked for: they "
                "need --content, --text or --sha256"
            )
        if not (self.by_key or self.by_record or self.namespaces or self.model):
            raise ConfigError("say what to remove; `embedonce purge --help` lists the options")
        if self.contents and self.fingerprints:
            raise ConfigError("--fingerprint: not together with contents")
        if self.namespaces and not self.contents and (self.by_record or self.fingerprints or self.model):
            raise ConfigError(
                "--namespace: stored vectors do not say whose they are, so a namespace is purged as a whole, "
                "or with --content, --text or --sha256"
            )
        if self.sweep and not (self.leaves_behind and self.model):
            raise ConfigError(
                "--sweep: only with --model alone; all else that can be found is deleted anyway"
            )
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ConfigError("--since: not before the end of the time that is meant")


class _Plan:
    """What the options mean here.

    :raises ConfigError: names that are not known
    """

    def __init__(
        self, chosen: _Chosen, settings: Settings, stores: Stores, clock: Clock, *, dry_run: bool
    ) -> None:
        self.chosen = chosen
        self.dry_run = dry_run
        self.stores = stores
        self.clock = clock
        self._settings = settings
        self._catalog = catalog_of(settings)
        self._owners = list(dict.fromkeys([SHARED, *(key.namespace for key in stores.access.list())]))
        for owner, _ in chosen.namespaces:
            if owner not in self._owners:
                raise ConfigError(f"--namespace: no key has {owner}; there are {', '.join(self._owners)}")
        self.model = None if chosen.model is None else self._model(chosen.model)

    @property
    def counts_first(self) -> bool:
        """Whether what a model's purge leaves behind is counted: by a scan, which costs on AWS. One that is
        swept and only looked at is counted anyway."""
        c = self.chosen
        if self.model is None or not c.leaves_behind or (c.sweep and self.dry_run):
            return False
        return self._settings.mode == "local" or c.sweep or self.dry_run

    @property
    def filter(self) -> Filter:
        c = self.chosen
        # Of contents the model is in the key.
        return Filter(None if c.contents else self.model, c.upstream, c.since, c.until)

    def keys(self, purge: Purge) -> Iterator[VectorKey]:
        c = self.chosen
        for fingerprint in c.fingerprints:  # its size, and so its tier, is not known
            yield VectorKey(fingerprint, None)
            yield VectorKey(fingerprint, LARGEST)
        if not c.contents:
            return
        reach = Reach(
            models=self._models(),
            namespaces=self._namespaces(),
            sizes=c.sizes,
            tasks=TASKS if c.tasks is None else c.tasks,
            titles=c.titles,
            parameters=c.parameters,
        )
        upstreams = upstreams_of(self._settings, self._catalog, self.clock)
        generations = purge.generations()
        try:
            for content in c.contents:
                yield from keys_of(content, reach, upstreams, generations)
        finally:
            for upstream in upstreams:
                upstream.close()

    def said(self) -> str:
        """For people: what goes."""
        c = self.chosen
        if c.leaves_behind:
            what = [
                f"the namespace {owner}" + (f"/{inner}" if inner else "") for owner, inner in c.namespaces
            ]
            return "everything " + " and ".join(
                [f"in {each}" for each in what] or [f"of the model {self.model}"]
            )
        parts = []
        if c.contents:
            parts.append("the vectors of this content")
        elif c.fingerprints:
            parts.append("these vectors")
        else:
            parts.append("every vector")
        if self.model is not None:
            parts.append(f"of the model {self.model}")
        if c.namespaces:
            spelled = (owner + (f"/{inner}" if inner else "") for owner, inner in c.namespaces)
            parts.append(f"in {', '.join(spelled)}")
        if c.upstream is not None:
            parts.append(f"made by {c.upstream}")
        if c.since is not None:
            parts.append(f"since {_shown(c.since)}")
        if c.until is not None:
            parts.append(f"before {_shown(c.until)}")
        return " ".join(parts)

    def _models(self) -> list[Model]:
        return list(self._catalog) if self.model is None else [self._catalog.find(self.model)]

    def _namespaces(self) -> list[Namespace]:
        named = self.chosen.namespaces
        if named:
            return [Namespace(owner, inner or "") for owner, inner in named]
        return [Namespace(owner) for owner in self._owners]

    def _model(self, name: str) -> str:
        """Its id. Vectors of one that is not configured any more can only be found by a scan."""
        try:
            return self._catalog.find(name).id
        except NotFound as unknown:
            if self.chosen.by_record or self.chosen.fingerprints:
                return name
            more = (
                ". Of another one, --since 1970-01-01 finds what there is" if not self.chosen.contents else ""
            )
            raise ConfigError(f"--{unknown.message}{more}") from None


def _run(plan: _Plan, *, yes: bool, quiet: bool, wait: bool) -> None:
    dry_run = plan.dry_run
    typer.echo(f"{'would remove' if dry_run else 'remove'}: {plan.said()}", err=True)
    unknown = options.unknown_upstream(plan.chosen.upstream)
    if unknown is not None:
        typer.echo(f"embedonce: {unknown}, so no vector is of it", err=True)
    if plan.chosen.leaves_behind:
        _tell_what_is_lost(plan, quiet=quiet)
    if not dry_run and not yes:
        typer.confirm("Go on?", abort=True, err=True)
    stores = plan.stores
    with Progress(quiet=quiet) as progress:

        def show(seen: int | None) -> None:
            if seen is not None:
                progress.show(f"{seen:,} looked at, {work.count.vectors:,} found")
            else:
                progress.end()
                typer.echo(f"{_report(work, dry_run=dry_run)}; looking once more in {PAUSE}", err=True)

        work = Purge(
            stores.vectors,
            stores.scan,
            stores.flights,
            stores.access,
            plan.clock,
            dry_run=dry_run,
            patience=FORGOTTEN_SECONDS if wait and not plan.chosen.leaves_behind else 0.0,
            show=show,
        )
        try:
            _remove(plan, work)
        except StoreUnavailable as failure:
            progress.end()
            typer.echo(_report(work, dry_run=dry_run))
            typer.echo(
                f"embedonce: a store failed: {failure}. It is not done; run the same command again.", err=True
            )
            sys.exit(1)
    if not dry_run:
        _tell_of_files(plan)
    if plan.chosen.leaves_behind:
        done = "would be left behind" if dry_run else "is left behind, everywhere within 60 seconds"
        typer.echo(f"{plan.said()} {done}")
        if not plan.chosen.sweep:
            if not dry_run:
                typer.echo("what lies there is no longer found, and is deleted when it expires", err=True)
            return
    typer.echo(_report(work, dry_run=dry_run))


def _tell_what_is_lost(plan: _Plan, *, quiet: bool) -> None:
    if plan.model is None:
        lost = "how much that is cannot be counted: stored vectors do not say whose they are"
    elif plan.counts_first:
        lost = f"stored of it, with what earlier purges left behind: {_counted(plan, quiet=quiet)}"
    elif plan.dry_run:
        lost = None  # said at the end
    else:
        lost = "how much that is, --dry-run counts (a scan, which is billed)"
    if lost is not None:
        typer.echo(lost, err=not plan.dry_run)
    typer.echo("an export made before will not bring them back", err=True)


def _counted(plan: _Plan, *, quiet: bool) -> str:
    stores = plan.stores
    with Progress(quiet=quiet) as progress:
        look = Purge(
            stores.vectors,
            stores.scan,
            stores.flights,
            stores.access,
            plan.clock,
            dry_run=True,
            show=lambda seen: progress.show(f"{seen or 0:,} looked at"),
        )
        look.by_record(Filter(model=plan.model))
    return _vectors(look)


def _tell_of_files(plan: _Plan) -> None:
    if plan.stores.ingest is None:
        return
    try:
        files = being_embedded(plan.stores.ingest.manifests, plan.clock.now())
    except StoreUnavailable:
        typer.echo("embedonce: it cannot be read which files are being embedded right now", err=True)
        return
    for source in files[:FILES_SHOWN]:
        typer.echo(f"is being embedded, may publish what is purged, put it again: {source.key}", err=True)
    if len(files) > FILES_SHOWN:
        typer.echo(f"and {len(files) - FILES_SHOWN:,} more files", err=True)


def _remove(plan: _Plan, work: Purge) -> None:
    chosen = plan.chosen
    if chosen.by_key:
        work.by_key(plan.keys(work), plan.filter)
    elif chosen.by_record:
        work.by_record(plan.filter)
    else:
        now = plan.clock.now()
        for owner, inner in chosen.namespaces:
            now = work.leave_behind(names.namespace_name(owner, inner))
        if plan.model is not None:
            now = work.leave_behind(names.model_name(plan.model))
        if chosen.sweep:
            work.by_record(Filter(model=plan.model, until=now))


def _report(work: Purge, *, dry_run: bool) -> str:
    done = "would remove" if dry_run else "removed"
    return f"{done} {_vectors(work)} and {work.count.flights:,} results of flights"


def _vectors(work: Purge) -> str:
    count = work.count
    return f"{count.vectors:,} vectors ({count.bytes:,} bytes, bought for ${usd_text(count.cost)})"


def _files(paths: Sequence[Path]) -> Iterator[Content]:
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"--content: {path}: {error.strerror}") from None
        kind = sniffed(data)
        if kind is not None:
            yield Content((MediaPart.of(*kind, data),))
            continue
        try:
            text = data.removeprefix(codecs.BOM_UTF8).decode()
        except UnicodeDecodeError:
            raise ConfigError(f"--content: {path} is of no known media type, and no UTF-8 either") from None
        ends = text.removesuffix("\n").removesuffix("\r")
        yield from _texts([text] if ends == text else [text, ends])


def _texts(texts: Sequence[str]) -> Iterator[Content]:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ConfigError("--text: is not valid Unicode") from None
        if text:
            yield Content.of_text(text)


def _hashes(digests: Sequence[str]) -> Iterator[Content]:
    """Of whichever media it may be."""
    for each in digests:
        digest = _digest(each, "--sha256")
        for modality in Modality:
            if modality is not Modality.TEXT:
                yield Content((MediaPart(modality, "", digest, 0),))


def _digest(text: str, option: str) -> bytes:
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise ConfigError(f"{option}: must be 64 hexadecimal digits")
    return bytes.fromhex(text)


def _until(until: str | None, older_than: str | None, clock: Clock) -> float | None:
    if older_than is None:
        return None if until is None else options.when(until, "--until")
    if until is not None:
        raise ConfigError("--older-than: not together with --until")
    age = re.fullmatch("([0-9]{1,6})([mhdw])", older_than)
    if not age:
        raise ConfigError("--older-than: must be a number and m, h, d or w, as in 30d")
    return clock.now() - int(age[1]) * UNITS[age[2]]


def _task(text: str) -> TaskType | None:
    try:
        return None if text == NO_TASK else TaskType(text)
    except ValueError:
        known = ", ".join([*TaskType, NO_TASK])
        raise ConfigError(f"--task-type: there are {known}") from None


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigError('--parameters: must be a JSON object, as in {"input_type": "query"}')
    return found


def _shown(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
