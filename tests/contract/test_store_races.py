"""Several processes of several threads on one embedded file, or one AWS: exactly one of them wins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedonce.core.flight import Leading
from embedonce.ports import Depth, TicketStore
from embedonce.stores.aws import clients as aws_clients
from embedonce.stores.aws.access import DynamoAccess
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.quotas import DynamoQuotas
from embedonce.stores.aws.tickets import DynamoTickets
from embedonce.stores.aws.usage import DynamoUsage
from embedonce.stores.embedded.access import EmbeddedAccess
from embedonce.stores.embedded.database import Database
from embedonce.stores.embedded.flights import EmbeddedFlights
from embedonce.stores.embedded.queue import EmbeddedQueue
from embedonce.stores.embedded.quotas import EmbeddedQuotas
from embedonce.stores.embedded.tickets import EmbeddedTickets
from embedonce.stores.embedded.usage import EmbeddedUsage
from embedonce.stores.embedded.vectors import EmbeddedVectors
from embedonce.stores.messages import TICKETS
from support import aws, motoserver
from support.clock import FakeClock
from support.issued import ref
from support.motoserver import SPAWN, be_patient, process, received, serve_aws
from support.racers import (
    DAY,
    LIMIT,
    ROUNDS,
    SETS,
    SPENT,
    STEPS,
    TAKES,
    THREADS,
    Money,
    race,
    race_aws_jobs,
    race_jobs,
)
from support.stored import fingerprint, key

PROCESSES = 3


def raced_by(target: Callable[..., None], where: Any) -> list[dict[str, Any]]:
    barrier, answers = SPAWN.Barrier(PROCESSES), SPAWN.Queue()
    processes = [SPAWN.Process(target=target, args=(where, n, barrier, answers)) for n in range(PROCESSES)]
    for each in processes:
        each.start()
    lines = [line for _ in processes for line in answers.get(timeout=60)]
    for each in processes:
        each.join(30)
        assert each.exitcode == 0
        each.close()
    answers.close()
    answers.join_thread()
    assert len(lines) == PROCESSES * THREADS
    return lines


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    path = tmp_path_factory.mktemp("races") / "data" / "embedonce.db"
    return path, raced_by(race, path)


def test_everyone_is_answered_the_one_vector_that_stands(raced: tuple[Path, list[dict[str, Any]]]) -> None:
    path, lines = raced
    database = Database(path)
    standing = EmbeddedVectors(database, FakeClock()).get_many([key(n) for n in range(ROUNDS)])
    database.close()
    assert len(standing) == ROUNDS
    for n in range(ROUNDS):
        assert {line["put"][n] for line in lines} == {standing[fingerprint(n)]}


def test_one_leads_each_flight_and_all_others_see_it(raced: tuple[Path, list[dict[str, Any]]]) -> None:
    path, lines = raced
    database = Database(path)
    standing = EmbeddedFlights(database, FakeClock()).get_many([fingerprint(n) for n in range(ROUNDS)])
    database.close()
    for n in range(ROUNDS):
        leaders = [line["me"] for line in lines if line["led"][n] is None]
        assert len(leaders) == 1
        state = standing[fingerprint(n)].state
        assert isinstance(state, Leading)
        assert state.owner == str(leaders[0])
        assert {line["led"][n] for line in lines} == {None, standing[fingerprint(n)]}


def test_no_swap_is_lost(raced: tuple[Path, list[dict[str, Any]]]) -> None:
    path, _ = raced
    database = Database(path)
    row = EmbeddedFlights(database, FakeClock()).get_many([fingerprint(-1)])[fingerprint(-1)]
    database.close()
    assert row.version == PROCESSES * THREADS * STEPS


def check_money(money: Money, lines: list[dict[str, Any]]) -> None:
    """No reservation is lost, and none counted twice."""
    assert money.quotas.total("spent") == sum(line["kept"] for line in lines) <= LIMIT
    spent = {DAY: {SPENT: sum(line["kept"] for line in lines)}}
    assert money.usage.read("k1", DAY, DAY) == spent
    deployment = money.access.deployment()
    assert deployment.version == deployment.purged == PROCESSES * THREADS * SETS


MESSAGES = 80


def check_jobs(tickets: TicketStore, lines: list[dict[str, Any]]) -> None:
    for n in range(ROUNDS):
        [winner] = [line["me"] for line in lines if line["won"][n]]
        standing = tickets.get(ref(n))
        assert standing is not None
        assert (standing.version, standing.job) == (1, str(winner))
    changed = tickets.get(ref(1000))
    assert changed is not None
    assert changed.version == PROCESSES * THREADS * STEPS
    assert LIMIT < PROCESSES * THREADS * TAKES
    assert sum(line["took"] for line in lines) == LIMIT


def test_tickets_quotas_and_messages_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "data" / "embedonce.db"
    database = Database(path)
    clock = FakeClock()
    queue = EmbeddedQueue(database, clock, "work", TICKETS, visibility=60, max_receives=5)
    for n in range(MESSAGES):
        queue.send(ref(n))
    lines = raced_by(race_jobs, path)
    check_jobs(EmbeddedTickets(database, clock), lines)
    quotas, usage = EmbeddedQuotas(database, clock), EmbeddedUsage(database, clock)
    check_money(Money(quotas, usage, EmbeddedAccess(database)), lines)
    assert sorted(each for line in lines for each in line["received"]) == [ref(n).id for n in range(MESSAGES)]
    assert queue.depth() == Depth(0, 0, MESSAGES, 0)
    database.close()


def test_tickets_and_quotas_of_one_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    with process(serve_aws) as server:
        environment = {
            **motoserver.ENVIRONMENT,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{received(server)}",
        }
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(aws_clients, "CONFIG", aws_clients.CONFIG)
        be_patient()
        clients = AwsClients()
        aws.create(clients)
        lines = raced_by(race_aws_jobs, environment)
        check_jobs(DynamoTickets(clients, aws.JOBS), lines)
        clock = FakeClock()
        quotas, usage = DynamoQuotas(clients, aws.JOBS, clock), DynamoUsage(clients, aws.USAGE, clock)
        check_money(Money(quotas, usage, DynamoAccess(clients, aws.ACCESS, clock)), lines)
        clients.close()
