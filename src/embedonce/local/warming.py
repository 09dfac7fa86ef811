"""`embedonce warm`: a bulk fill of the cache by this process, through the use case of every request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path

from embedonce.access.authenticate import DEVELOPMENT, Caller
from embedonce.access.keys import Scope
from embedonce.bootstrap.embedding import embedder_of, results_of, submit_of
from embedonce.bootstrap.parts import Parts, parts_of
from embedonce.bootstrap.stores import Stores, open_stores
from embedonce.clock import SystemClock
from embedonce.config import ConfigError, Settings
from embedonce.core.catalog import GEMINI_EMBEDDING_2, check_content, checked_dimensions
from embedonce.core.content import Content, Modality
from embedonce.core.errors import EmbedonceError, InvalidRequest, StoreUnavailable, Unauthenticated
from embedonce.core.options import EmbedOptions
from embedonce.core.tasks import TaskType
from embedonce.local.loops import Loops
from embedonce.local.server import local_key
from embedonce.local.warmfiles import Source, Survey
from embedonce.local.warmjournal import BELIEVED_SECONDS, FOLDER, Journal, Kept, key_of
from embedonce.local.warmrows import Format, Unreadable
from embedonce.local.warmwaits import WatchedFlights
from embedonce.ports import Clock, Telemetry
from embedonce.usecases.jobs.lane import SlowLane, is_slow
from embedonce.usecases.warm.buying import Buy, Order
from embedonce.usecases.warm.entry import Entry, Failure, Mark, Stop, Tally, Wait, Waits
from embedonce.usecases.warm.pricing import Bill, Price
from embedonce.usecases.warm.run import Hooks, Run

USUAL_BATCH = 100
MAX_NAMESPACE_CHARS = 128


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be warmed, as the command line says it. `path` "-": standard input."""

    path: Path
    model: str | None = None
    dimensions: int | None = None
    task_type: TaskType | None = None
    title: str | None = None
    namespace: str = ""
    form: Format | None = None
    field: str | None = None
    key: str | None = None
    concurrency: int = 4
    batch: int | None = None
    limit: int | None = None
    dry_run: bool = False
    journal: Path | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """`start`: where it goes on, with the `before` of earlier runs."""

    survey: Survey
    start: Mark
    before: Tally


@dataclass(frozen=True, slots=True)
class Finished:
    """`bill` of a dry run only. `journal`: what the next run goes on from, if that is needed."""

    begun: Begun
    tally: Tally
    bill: Bill | None
    stop: Stop | None
    journal: Path | None


@dataclass(frozen=True, slots=True)
class Told:
    """Called as the run goes on. `halt` is set by whoever wants it to end."""

    begun: Callable[[Begun], None] = lambda _begun: None
    show: Callable[[Tally, Mark], None] = lambda _tally, _mark: None
    failed: Callable[[Failure], None] = lambda _failure: None
    waits: Callable[[Wait], None] = lambda _wait: None
    halt: threading.Event = field(default_factory=threading.Event)


def warm(
    settings: Settings,
    wish: Wish,
    told: Told,
    telemetry: Telemetry,
    *,
    clock: Clock | None = None,
    stores: Stores | None = None,
) -> Finished:
    """Until all is done or nothing more can be. `clock` and `stores` are given by tests only.

    :raises ConfigError: settings, options or paths that cannot work
    """
    if wish.key is None and settings.mode != "local":
        raise ConfigError("--key: say which API key it is done for (`embedonce keys list`)")
    if len(wish.namespace) > MAX_NAMESPACE_CHARS:
        raise ConfigError(f"--namespace: limit is {MAX_NAMESPACE_CHARS} characters")
    try:
        source = Source(wish.path, wish.form, wish.field, settings.media_mb << 20)
    except Unreadable as error:
        raise ConfigError(f"{wish.path}: {error}") from None
    if wish.journal is not None:
        _check_journal(wish.journal)
    waits = Waits(told.waits)
    clock = clock or SystemClock()
    with ExitStack() as open_things:
        key = local_key(settings) if settings.mode == "local" else None
        stores = stores or open_stores(settings, clock)
        watched = replace(stores, flights=WatchedFlights(stores.flights, clock, waits))
        parts = parts_of(settings, telemetry, development_key=key, clock=clock, stores=watched)
        open_things.callback(parts.close)
        return _Warming(parts, wish, source, told, waits, open_things).run()


def _check_journal(path: Path) -> None:
    if path.is_dir():
        raise ConfigError(f"--journal {path}: is a folder, say a file")
    if not path.parent.is_dir():
        raise ConfigError(f"--journal {path}: there is no folder {path.parent}")


class _Warming:
    def __init__(
        self, parts: Parts, wish: Wish, source: Source, told: Told, waits: Waits, open_things: ExitStack
    ) -> None:
        self._parts = parts
        self._wish = wish
        self._source = source
        self._told = told
        self._waits = waits
        self._open = open_things
        self._most: dict[frozenset[Modality], int] = {}
        self._options = self._optioned()

    def run(self) -> Finished:
        parts, wish, told = self._parts, self._wish, self._told
        caller = self._caller(wish.key or DEVELOPMENT.key_id)
        now = parts.clock.now()
        journal = None if wish.dry_run or self._source.stdin else self._journal()
        kept, survey = self._resumed(journal, now)
        start, before = (kept.mark, kept.tally) if kept else (Mark(), Tally())
        begun = Begun(survey, start, before)
        started = kept.started if kept else now
        order = Order(self._options, caller, wish.namespace, started, now)
        price = Price(order, parts.planner, parts.vectors) if wish.dry_run else None

        def save(mark: Mark, tally: Tally) -> None:
            if journal is not None:
                journal.write(Kept(mark, tally, started), parts.clock.now())

        hooks = Hooks(self._admit, price or self._buy(order, survey), save, told.show, told.failed, told.halt)
        told.begun(begun)
        run = Run(hooks, parts.clock, wish.concurrency, start=start, before=before)
        try:
            stop = run.go(self._entries(start))
        except OSError as error:
            raise ConfigError(f"{error.filename or wish.path}: {error.strerror}") from None
        if stop is not None and stop.interrupted and self._waits.last is not None:
            stop = replace(stop, why=f"{stop.why}; last: {self._waits.last}")
        left = None
        if journal is not None and stop is None:
            journal.remove()
        elif journal is not None and journal.path.exists():
            left = journal.path
        return Finished(begun, run.live, price.bill if price else None, stop, left)

    def _caller(self, key_id: str) -> Caller:
        try:
            caller = self._parts.authenticator.recall(key_id).unhurried
            caller.require(Scope.EMBED)
        except Unauthenticated as error:
            try:
                known = self._parts.stores.access.find_by_id(key_id) is not None
            except StoreUnavailable:
                raise ConfigError(f"--key: {error.message}") from None
            said = f"the API key {key_id} is revoked" if known else f"there is no API key {key_id}"
            raise ConfigError(f"--key: {said} (`embedonce keys list`)") from None
        except EmbedonceError as error:
            raise ConfigError(f"--key: {error.message}") from None
        return caller

    def _optioned(self) -> EmbedOptions:
        wish = self._wish
        try:
            model = self._parts.catalog.find(wish.model or GEMINI_EMBEDDING_2.id)
            dimensions = checked_dimensions(model, wish.dimensions)
            options = EmbedOptions(model, dimensions, task_type=wish.task_type, title=wish.title)
            self._parts.router.route(model, next(iter(self._routed(model.modalities))))
        except EmbedonceError as error:
            raise ConfigError(error.message) from None
        return options

    @staticmethod
    def _routed(modalities: frozenset[Modality]) -> list[frozenset[Modality]]:
        """Text first: what every upstream of a model is likely to take."""
        ordered = sorted(modalities, key=lambda m: (m is not Modality.TEXT, m))
        return [frozenset({modality}) for modality in ordered]

    def _admit(self, content: Content, where: str) -> int:
        check_content(self._options.model, content, where)
        known = self._most.get(content.modalities)
        if known is None:
            offer = self._parts.router.route(self._options.model, content.modalities, where).offer
            batch = min(self._wish.batch or USUAL_BATCH, max(1, offer.max_inputs))
            known = self._most[content.modalities] = 1 if is_slow(content) else batch
        return known

    def _buy(self, order: Order, survey: Survey) -> Buy:
        """What is slow rides the queue, as everywhere; on AWS its functions see to it, here this process."""
        parts = self._parts
        pool = ThreadPoolExecutor(2 * self._wish.concurrency, thread_name_prefix="purchase")
        self._open.callback(pool.shutdown, wait=True, cancel_futures=True)
        here = survey.slow and parts.settings.mode == "local"
        loops = Loops(parts, ("worker", "poller", "janitor") if here else ())  # accounts are always kept
        self._open.callback(loops.stop)
        loops.start()
        lane = SlowLane(submit_of(parts), results_of(parts), parts.clock) if survey.slow else None
        embed = embedder_of(parts, pool, lane=lane)
        deployment = parts.accounts.deployment
        return Buy(
            order,
            embed,
            parts.clock,
            self._told.halt.is_set,
            paused=lambda: deployment.look().paused,
            waits=self._waits,
        )

    def _entries(self, start: Mark) -> Iterator[Entry]:
        limit = self._wish.limit
        entries = self._source.entries(start)
        return entries if limit is None else takewhile(lambda e: e.mark.inputs <= limit, entries)

    def _resumed(self, journal: Journal | None, now: float) -> tuple[Kept | None, Survey]:
        believed = min(BELIEVED_SECONDS, self._parts.ttl_seconds / 2)
        kept = journal.read(now, believed=believed) if journal is not None else None
        survey, holds = self._source.survey(kept.mark if kept else None)
        return (kept if holds else None), survey

    def _journal(self) -> Journal:
        parts, wish, options = self._parts, self._wish, self._options
        lineages = {}
        for modality in Modality:
            try:
                route = parts.router.route(options.model, frozenset({modality})).sending(options)
                lineages[modality.value] = route.offer.lineage
            except InvalidRequest:
                continue
        settings = parts.settings
        on_aws = settings.mode == "aws"
        key = key_of(
            {
                "path": self._source.name,
                "model": options.model.id,
                "dimensions": options.dimensions,
                "task_type": wish.task_type,
                "title": wish.title,
                "namespace": wish.namespace,
                "form": wish.form,
                "field": wish.field,
                "key": wish.key or DEVELOPMENT.key_id,
                "limit": wish.limit,
                "lineages": lineages,
                "purged": dict(parts.accounts.deployment.current().generations),
                "store": settings.vectors_table if on_aws else str(settings.data_dir.resolve()),
            }
        )
        if wish.journal is not None:
            return Journal(wish.journal, key)
        folder = settings.data_dir / FOLDER
        return Journal(folder / f"{key[:32]}.json", key, make=folder)
