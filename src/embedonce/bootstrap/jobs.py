"""The functions behind the queues, each with no more than it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

from embedonce.bootstrap.parts import Parts, parts_of
from embedonce.bootstrap.stores import Stores, open_stores
from embedonce.bootstrap.tending import tend_of
from embedonce.bootstrap.webhooks import webhooks_of
from embedonce.clock import SystemClock
from embedonce.config import Settings
from embedonce.core.deadline import Deadline
from embedonce.core.pricing import from_usd
from embedonce.core.ticket import TicketRef
from embedonce.ports import Clock, Message, Telemetry
from embedonce.telemetry import quieten_libraries
from embedonce.usecases.flights import Flights
from embedonce.usecases.jobs.announce import Announcer
from embedonce.usecases.jobs.harvest import Harvester
from embedonce.usecases.jobs.janitor import Janitor, Rounds
from embedonce.usecases.jobs.load import Loader
from embedonce.usecases.jobs.poll import Poller
from embedonce.usecases.jobs.purchase import Shopper
from embedonce.usecases.jobs.tickets import Tickets
from embedonce.usecases.jobs.work import Worker
from embedonce.usecases.purchase import Buyer


@dataclass(frozen=True, slots=True)
class Handler(Generic[Message]):
    """Takes one message at a time, each within its deadline. `done`: to be called after each batch of them;
    never fails."""

    handle: Callable[[Message, Deadline], None]
    clock: Clock
    close: Callable[[], None]
    done: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Ticker:
    """Makes its round, as far as it gets until the deadline."""

    tick: Callable[[Deadline], Rounds]
    clock: Clock
    close: Callable[[], None]


def worker_of(parts: Parts) -> Worker:
    settings = parts.settings
    patient = parts.router.with_timeout(settings.job_upstream_timeout)
    purse = parts.accounts.purse
    buyer = Buyer(
        patient,
        parts.vectors,
        parts.flights,
        parts.clock,
        parts.telemetry,
        purse,
        ttl_seconds=parts.ttl_seconds,
    )
    shopper = Shopper(
        buyer,
        parts.flights,
        parts.clock,
        parts.telemetry,
        purse,
        submit_timeout=settings.job_upstream_timeout,
    )
    return Worker(
        parts.tickets,
        parts.flights,
        parts.vectors,
        patient,
        parts.planner,
        shopper,
        Loader(parts.media, parts.tickets),
        parts.authenticator,
        parts.catalog.find,
        parts.clock,
        parts.telemetry,
        parts.accounts.rates,
        resubmit_below=None if settings.on_unknown is None else from_usd(settings.on_unknown),
    )


def poller_of(parts: Parts) -> Poller:
    settings = parts.settings
    webhooks = webhooks_of(settings, parts.clock, parts.telemetry)
    harvester = Harvester(
        parts.router,
        parts.flights,
        parts.vectors,
        parts.catalog.find,
        parts.clock,
        parts.telemetry,
        parts.accounts.purse,
        ttl_seconds=parts.ttl_seconds,
        poll_timeout=settings.upstream_timeout,
    )
    announcer = Announcer(parts.tickets, webhooks.sender, webhooks.sign, parts.clock, parts.telemetry)
    return Poller(parts.tickets, parts.flights, harvester, announcer, parts.clock)


def janitor_of(parts: Parts) -> Janitor:
    return _janitor(parts.stores, parts.tickets, parts.flights, parts.clock, parts.telemetry)


def _janitor(
    stores: Stores, tickets: Tickets, flights: Flights, clock: Clock, telemetry: Telemetry
) -> Janitor:
    tend = None if stores.ingest is None else tend_of(stores.ingest, clock, telemetry)
    return Janitor(tickets, flights, stores.blobs, clock, telemetry, tend=tend)


def build_worker(settings: Settings, telemetry: Telemetry) -> Handler[TicketRef]:
    """:raises ConfigError: settings that cannot work"""
    parts = parts_of(settings, telemetry)
    return Handler(worker_of(parts).handle, parts.clock, parts.close, parts.accounts.settle_up)


def build_poller(settings: Settings, telemetry: Telemetry) -> Handler[TicketRef]:
    """:raises ConfigError: settings that cannot work"""
    parts = parts_of(settings, telemetry)
    return Handler(poller_of(parts).handle, parts.clock, parts.close, parts.accounts.settle_up)


def build_janitor(settings: Settings, telemetry: Telemetry) -> Ticker:
    """Without upstreams, keys or vectors.

    :raises ConfigError: settings that cannot work
    """
    quieten_libraries()
    clock = SystemClock()
    stores = open_stores(settings, clock)
    tickets = Tickets(stores.tickets, stores.queues, stores.blobs, clock, telemetry)
    flights = Flights(stores.flights, clock, telemetry)
    janitor = _janitor(stores, tickets, flights, clock, telemetry)
    return Ticker(janitor.tick, clock, stores.close)
