"""Identical requests at once: one upstream call, in one process and across gateways that share the stores."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from embedonce.core import flight
from embedonce.core.content import Content
from embedonce.core.fingerprint import Namespace, Space, fingerprinter
from embedonce.ports import Swap
from embedonce.stores.embedded.database import Database
from embedonce.stores.embedded.flights import EmbeddedFlights
from fakes.behaviour import Behaviour
from fakes.openrouter import FakeOpenRouter
from support.clock import FakeClock
from support.gateway import Answer, ImpatientClock, TestGateway, gateway

MANY = 32


def at_once(works: list[Callable[[], Answer]]) -> list[Answer]:
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], Answer]) -> Answer:
        barrier.wait(10)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


@pytest.fixture(params=[1, 2], ids=["one gateway", "two gateways on one store"])
def gates(request: Any, tmp_path: Path, fake: FakeOpenRouter) -> Iterator[list[TestGateway]]:
    """Two gateways have nothing in common but the files: as two processes, but for the interpreter."""
    with ExitStack() as stack:
        yield [stack.enter_context(gateway(tmp_path, fake)) for _ in range(request.param)]


def test_a_slow_provider_gets_one_call(gates: list[TestGateway], fake: FakeOpenRouter) -> None:
    fake.always(Behaviour(delay=0.5))
    answers = at_once([lambda i=i: gates[i % len(gates)].embed("the same") for i in range(MANY)])
    assert {a.status for a in answers} == {200}
    assert {a.vectors[0] for a in answers} == {fake.vector_for("the same", 3072)}
    assert fake.calls == 1
    assert sorted(a.headers["X-Cache"] for a in answers) == ["HIT"] * (MANY - 1) + ["MISS"]
    assert sum(a.usage["cost"] > 0 for a in answers) == 1


def test_a_refusing_provider_gets_one_call(gates: list[TestGateway], fake: FakeOpenRouter) -> None:
    fake.always(Behaviour("status", 0.3, 400))
    answers = at_once([lambda i=i: gates[i % len(gates)].embed(["one", "two"]) for i in range(MANY)])
    assert {a.status for a in answers} == {400}
    assert fake.calls == 1


def test_overlapping_batches_buy_each_text_once(gates: list[TestGateway], fake: FakeOpenRouter) -> None:
    fake.always(Behaviour(delay=0.2))
    texts = [f"text {i}" for i in range(24)]
    wanted = [[texts[(start + k) % 24] for k in range(12)] for start in range(16)]
    answers = at_once(
        [lambda i=i, w=w: gates[i % len(gates)].embed(w, dimensions=128) for i, w in enumerate(wanted)]
    )
    for asked, answer in zip(wanted, answers, strict=True):
        assert answer.vectors == [fake.vector_for(t, 128) for t in asked]
    assert fake.billed == dict.fromkeys(texts, 1)


def test_a_leader_that_failed_hands_over_to_one_follower(tmp_path: Path, fake: FakeOpenRouter) -> None:
    fake.next(Behaviour("status", 0.3, 500), Behaviour("status", 0.1, 500), Behaviour(delay=0.1))
    with gateway(tmp_path, fake) as gate:
        answers = at_once([lambda: gate.embed("the same", dimensions=128) for _ in range(8)])
    failed = [a for a in answers if a.status != 200]
    assert len(failed) == 1
    assert failed[0].status == 503
    assert fake.calls == 3


def test_no_store_requests_neither_lead_nor_follow(tmp_path: Path, fake: FakeOpenRouter) -> None:
    fake.always(Behaviour(delay=0.3))
    with gateway(tmp_path, fake) as gate:
        private = {"cache-control": "no-store"}
        works = [lambda: gate.embed("x", headers=private)] * 3 + [lambda: gate.embed("x")] * 3
        answers = at_once(works)
    assert {a.status for a in answers} == {200}
    assert fake.calls == 4
    assert all("stored=?0" in a.headers["Cache-Status"] for a in answers[:3])


def test_a_lease_that_ran_out_is_taken_over(tmp_path: Path, fake: FakeOpenRouter) -> None:
    """As after kill -9: the row says that somebody leads, and nobody does."""
    with gateway(tmp_path, fake, clock=ImpatientClock(), upstream_timeout=1) as gate:
        dead_row(tmp_path, gate, "orphan", lease=0.4)
        answer = gate.embed("orphan", dimensions=128)
    assert answer.status == 200
    assert fake.calls == 1


def dead_row(folder: Path, gate: TestGateway, text: str, *, lease: float) -> None:
    """Write a row as a leader would that then died."""
    model = gate.app.catalog.find("gemini-embedding-2")
    offer = gate.app.router.route(model, Content.of_text(text).modalities).offer
    fingerprint = fingerprinter(Namespace("shared"), Space(offer.lineage, model.id), {}).of(
        Content.of_text(text), 128
    )
    now = gate.app.clock.now()
    decision = flight.join(fingerprint, None, owner="dead", batch=b"", now=now, lease=lease)
    assert isinstance(decision, flight.Lead)
    database = Database(folder / "embedonce.sqlite3")
    assert EmbeddedFlights(database, gate.app.clock).swap_many([Swap(decision.flight, 0)]) == [None]
    database.close()


def test_a_living_leader_elsewhere_is_waited_for_until_the_deadline(
    tmp_path: Path, fake: FakeOpenRouter
) -> None:
    with gateway(tmp_path, fake) as gate:
        dead_row(tmp_path, gate, "busy", lease=60)
        answer = gate.embed("busy", dimensions=128, seconds=1.0)
    assert answer.status == 504
    assert int(answer.headers["Retry-After"]) >= 1
    assert fake.calls == 0


def test_own_inputs_are_bought_before_waiting_for_others(tmp_path: Path, fake: FakeOpenRouter) -> None:
    with gateway(tmp_path, fake) as gate:
        dead_row(tmp_path, gate, "busy", lease=60)
        assert gate.embed(["busy", "mine"], dimensions=128, seconds=2.0).status == 504
        assert fake.billed == {"mine": 1}
        assert gate.embed("mine", dimensions=128).headers["X-Cache"] == "HIT"


def test_a_leader_that_outlives_its_lease_changes_nothing(tmp_path: Path, fake: FakeOpenRouter) -> None:
    """The slow leader's answer comes after another has led, bought and stored: the first stored stays."""
    with (
        gateway(tmp_path, fake, upstream_timeout=20) as slow,
        gateway(tmp_path, fake, upstream_timeout=20) as quick,
    ):
        fake.next(Behaviour("hang"), "ok")
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(slow.embed, "contested", dimensions=128)
            while fake.calls < 1:
                pass
            expire_leases(tmp_path)
            first = quick.embed("contested", dimensions=128)
            assert first.headers["X-Cache"] == "MISS"
            fake.release()
            second = late.result(20)
        assert fake.calls == 2
        assert second.vectors == first.vectors
        for gate in (slow, quick):
            assert gate.embed("contested", dimensions=128).vectors == first.vectors
        assert slow.telemetry.counts["FlightsLost"] == 1


def expire_leases(folder: Path) -> None:
    """Make every lease in the file one that ran out long ago."""
    connection = sqlite3.connect(folder / "embedonce.sqlite3", isolation_level=None)
    connection.execute(
        "UPDATE flights SET state = json_set(state, '$.until', 1.0) "
        "WHERE json_extract(state, '$.s') = 'leading'"
    )
    connection.close()


def test_what_a_dead_leader_stored_is_not_bought_again(tmp_path: Path, fake: FakeOpenRouter) -> None:
    """It died after storing and before landing: the row still says that it leads."""
    with gateway(tmp_path, fake, clock=ImpatientClock()) as gate, gateway(tmp_path, fake) as other:
        dead_row(tmp_path, gate, "stored", lease=1.0)
        clock = threading.Thread(
            target=lambda: (threading.Event().wait(0.3), other.embed("stored", dimensions=128, headers=FRESH))
        )
        clock.start()
        answer = gate.embed("stored", dimensions=128)
        clock.join()
    assert answer.status == 200
    assert answer.headers["X-Cache"] == "HIT"
    assert fake.billed == {"stored": 1}


FRESH = {"cache-control": "no-cache"}
"""Flies alone, so it buys and stores past the row."""


def test_a_landed_vector_that_is_too_old_for_the_caller_is_bought_anew(
    tmp_path: Path, fake: FakeOpenRouter
) -> None:
    clock = FakeClock()
    with gateway(tmp_path, fake, clock=clock) as gate:
        gate.embed("x", dimensions=128)
        sqlite3.connect(tmp_path / "embedonce.sqlite3", isolation_level=None).execute("DELETE FROM vectors")
    clock.advance(20)
    with gateway(tmp_path, fake, clock=clock) as gate:
        answer = gate.embed("x", dimensions=128, headers={"cache-control": "max-age=10"})
        assert answer.headers["X-Cache"] == "MISS"
        assert gate.embed("x", dimensions=128, headers={"cache-control": "max-age=30"}).status == 200
    assert fake.calls == 2


def test_a_request_without_time_penalises_nobody(tmp_path: Path, fake: FakeOpenRouter) -> None:
    with gateway(tmp_path, fake) as gate:
        late = gate.embed("x", dimensions=128, seconds=0.6)
        assert late.status == 504
        assert fake.calls == 0
        assert gate.embed("x", dimensions=128, seconds=3).status == 200


def test_a_purchase_that_waited_for_a_thread_keeps_its_lead(tmp_path: Path, fake: FakeOpenRouter) -> None:
    """One thread for all purchases; the second batch waits longer than its first lease lasts."""
    fake.always(Behaviour(delay=1.5))
    with (
        gateway(tmp_path, fake, upstream_timeout=2) as narrow,
        gateway(tmp_path, fake, upstream_timeout=2) as other,
    ):
        pool = narrow.app.pool
        pool._max_workers = 1
        answers = at_once(
            [
                lambda: narrow.embed([f"text {i}" for i in range(200)], dimensions=128),
                lambda: other.embed([f"text {i}" for i in range(100, 200)], dimensions=128),
            ]
        )
    assert {a.status for a in answers} == {200}
    assert set(fake.billed.values()) == {1}
