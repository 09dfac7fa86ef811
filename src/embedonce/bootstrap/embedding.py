"""The use cases that embed at once or accept a ticket, as the API and ingest need them."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import TYPE_CHECKING

from embedonce.bootstrap.parts import Parts
from embedonce.usecases.departure import Departures
from embedonce.usecases.embed import EmbedContents
from embedonce.usecases.jobs.lane import SlowLane
from embedonce.usecases.jobs.results import Results
from embedonce.usecases.jobs.submit import Submit
from embedonce.usecases.purchase import Buyer

if TYPE_CHECKING:
    from embedonce.usecases.admission import Admission


def embedder_of(
    parts: Parts, pool: Executor, *, lane: SlowLane | None, admission: Admission | None = None
) -> EmbedContents:
    """`admission`: what is kept under `pays`; None: everything."""
    held = None if admission is None else admission.held
    timeout = parts.settings.upstream_timeout
    buyer = Buyer(
        parts.router,
        parts.vectors,
        parts.flights,
        parts.clock,
        parts.telemetry,
        parts.accounts.purse,
        ttl_seconds=parts.ttl_seconds,
        held=held,
    )
    departures = Departures(
        buyer,
        parts.vectors,
        parts.flights,
        parts.clock,
        pool,
        attempt_timeout=timeout,
        at_hand=() if held is None else (parts.memory, held),
    )
    return EmbedContents(
        parts.planner,
        parts.vectors,
        parts.memory,
        departures,
        parts.media,
        parts.clock,
        parts.telemetry,
        parts.accounts,
        lane=lane,
        admission=admission,
    )


def submit_of(parts: Parts) -> Submit:
    return Submit(
        parts.tickets,
        parts.planner,
        parts.vectors,
        parts.media,
        parts.clock,
        parts.telemetry,
        parts.accounts,
        patience=parts.settings.job_timeout,
    )


def results_of(parts: Parts) -> Results:
    return Results(parts.tickets, parts.flights, parts.vectors, parts.router, parts.catalog.find, parts.clock)
