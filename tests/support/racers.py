"""What the processes of the race tests run; importable, because they are spawned."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from embedonce.core.ticket import TicketRef
from embedonce.ports import AccessStore, Queue, QuotaStore, Swap, TicketStore, UsageStore
from embedonce.stores.embedded.access import EmbeddedAccess
from embedonce.stores.embedded.database import Database
from embedonce.stores.embedded.flights import EmbeddedFlights
from embedonce.stores.embedded.queue import EmbeddedQueue
from embedonce.stores.embedded.quotas import EmbeddedQuotas
from embedonce.stores.embedded.tickets import EmbeddedTickets
from embedonce.stores.embedded.usage import EmbeddedUsage
from embedonce.stores.embedded.vectors import EmbeddedVectors
from embedonce.stores.messages import TICKETS
from support.clock import START, FakeClock
from support.issued import ref, ticket
from support.stored import fingerprint, key, leading, record

THREADS = 4
ROUNDS = 10
STEPS = 5
TAKES = 6
LIMIT = 50
"""Of the quota: less than all of them take together."""
SPENDS = 5
SETS = 1
DAY = "20270115"
SPENT = "settled"
HELD = "r6000006"


def race(path: Path, process: int, barrier: Barrier, answers: Any) -> None:
    """Opens the file at the same moment as the others (nobody has made it yet), then races them."""
    barrier.wait(30)
    database = Database(path)
    clock = FakeClock()
    vectors = EmbeddedVectors(database, clock)
    flights = EmbeddedFlights(database, clock)
    lines: list[dict[str, Any]] = []

    def run(thread: int) -> None:
        me = process * THREADS + thread
        put = [vectors.put_many([(key(n), record(100 + me))])[0] for n in range(ROUNDS)]
        led = [flights.swap_many([Swap(leading(n, owner=str(me)), 0)])[0] for n in range(ROUNDS)]
        lost = sum(_step(flights) for _ in range(STEPS))
        lines.append({"me": me, "put": put, "led": led, "lost": lost})

    _together(run)
    database.close()
    answers.put(lines)


def _step(flights: EmbeddedFlights) -> int:
    """Counts the row of one fingerprint up by one; answers how many swaps were lost on the way."""
    lost = 0
    while True:
        current = flights.get_many([fingerprint(-1)]).get(fingerprint(-1))
        wanted = leading(-1) if current is None else replace(current, version=current.version + 1)
        if flights.swap_many([Swap(wanted, current.version if current else 0)]) == [None]:
            return lost
        lost += 1


@dataclass(frozen=True)
class Money:
    quotas: QuotaStore
    usage: UsageStore
    access: AccessStore


def race_jobs(path: Path, process: int, barrier: Barrier, answers: Any) -> None:
    """On the stores of the pipeline; what is in the queue before is received until there is no more."""
    database = Database(path)
    clock = FakeClock()
    queue = EmbeddedQueue(database, clock, "work", TICKETS, visibility=60, max_receives=5)
    barrier.wait(30)
    money = Money(EmbeddedQuotas(database, clock), EmbeddedUsage(database, clock), EmbeddedAccess(database))
    answers.put(_jobs(EmbeddedTickets(database, clock), money, queue, process))
    database.close()


def race_aws_jobs(environment: Mapping[str, str], process: int, barrier: Barrier, answers: Any) -> None:
    from embedonce.stores.aws.access import DynamoAccess
    from embedonce.stores.aws.clients import AwsClients
    from embedonce.stores.aws.quotas import DynamoQuotas
    from embedonce.stores.aws.tickets import DynamoTickets
    from embedonce.stores.aws.usage import DynamoUsage
    from support import aws
    from support.motoserver import be_patient

    os.environ.update(environment)
    be_patient()
    clients = AwsClients()
    clock = FakeClock()
    money = Money(
        DynamoQuotas(clients, aws.JOBS, clock),
        DynamoUsage(clients, aws.USAGE, clock),
        DynamoAccess(clients, aws.ACCESS, clock),
    )
    barrier.wait(30)
    answers.put(_jobs(DynamoTickets(clients, aws.JOBS), money, None, process))
    clients.close()


def _jobs(
    tickets: TicketStore, money: Money, queue: Queue[TicketRef] | None, process: int
) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []

    def run(thread: int) -> None:
        me = process * THREADS + thread
        won = [tickets.swap(ticket(n, job=str(me)), 0) is None for n in range(ROUNDS)]
        for _ in range(STEPS):
            _change(tickets)
        kept = _spend(money.quotas, money.usage)
        for _ in range(SETS):
            _set(money.access)
        took = [money.quotas.take("q", 1, limit=LIMIT, expires=START + 100) for _ in range(TAKES)]
        received = []
        while queue is not None and (deliveries := queue.receive(3)):
            received += [delivery.message.id for delivery in deliveries]
        lines.append({"me": me, "won": won, "took": sum(took), "kept": kept, "received": received})

    _together(run)
    return lines


def _spend(quotas: QuotaStore, usage: UsageStore) -> int:
    """What it kept of the quota; `SPENT` is that too, `HELD` is 0 in the end."""
    kept = 0
    for n in range(SPENDS):
        if quotas.take("spent", 3, limit=LIMIT, expires=START + 100):
            usage.add("k1", DAY, {HELD: 3})
            quotas.give("spent", 1 + n % 3)
            usage.add("k1", DAY, {HELD: -3, SPENT: 2 - n % 3})
            kept += 2 - n % 3
    return kept


def _set(access: AccessStore) -> None:
    while True:
        current = access.deployment()
        if access.set_deployment(replace(current, purged=current.purged + 1)):
            return


def _change(tickets: TicketStore) -> None:
    while True:
        current = tickets.get(ref(1000))
        wanted = ticket(1000) if current is None else replace(current, version=current.version + 1)
        if tickets.swap(wanted, current.version if current else 0) is None:
            return


def _together(run: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=run, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
