"""What accounting costs a hit: no round trip to a store that the hit waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from embedonce.access.keys import SHARED, issue
from embedonce.accounting.meter import FLUSH_SECONDS
from embedonce.core.deadline import Deadline
from embedonce.core.patience import Patience
from embedonce.http.message import Request
from embedonce.ports import KeyLimits
from fakes.openrouter import FakeOpenRouter
from support.clock import FakeClock
from support.gateway import MODEL, TestGateway, gateway
from support.outage import Outage

TEXTS = ["one", "two", "three"]


@dataclass(frozen=True)
class Hits:
    """A gateway whose stores' calls are counted, and a key with a budget; `TEXTS` were bought."""

    gate: TestGateway
    clock: FakeClock
    outage: Outage
    key: str

    def ask(self, *, patience: Patience = Patience.PROVIDERS, dimensions: int | None = None) -> None:
        """All of them are hits."""
        fields: dict[str, Any] = {"model": MODEL, "input": TEXTS}
        answer = self.gate.app.gateway.handle(
            Request(
                method="POST",
                path="/v1/embeddings",
                headers={"authorization": f"Bearer {self.key}"},
                query={},
                body=orjson.dumps(fields if dimensions is None else {**fields, "dimensions": dimensions}),
                request_id="r",
                deadline=Deadline.after(20.0, self.clock.monotonic()),
                patience=patience,
            )
        )
        assert answer.status == 200
        assert answer.headers["X-Cache"] == "HIT"

    def calls(self) -> dict[str, int]:
        """Since they were last asked for."""
        calls = dict(self.outage.calls)
        self.outage.calls.clear()
        return calls


@pytest.fixture
def hits(tmp_path: Path, fake: FakeOpenRouter) -> Iterator[Hits]:
    clock, outage = FakeClock(), Outage()
    with gateway(tmp_path, fake, clock=clock, stores=outage.opened(tmp_path, clock)) as gate:
        key, record = issue(
            "test",
            namespace=SHARED,
            scopes=frozenset({"embed"}),
            isolated=False,
            now=1,
            limits=KeyLimits(budget=10**10),
        )
        gate.app.parts.stores.access.add(record)
        assert gate.embed(TEXTS, headers={"authorization": f"Bearer {key}"}).status == 200
        gate.app.parts.accounts.settle_up()
        running = Hits(gate, clock, outage, key)
        running.calls()
        yield running


def test_a_hit_in_memory_asks_no_store(hits: Hits) -> None:
    for _ in range(20):
        hits.ask(patience=Patience.MEMORY)
        hits.clock.advance(1)
    assert hits.calls() == {}


def test_a_hit_in_the_store_is_one_look_up(hits: Hits) -> None:
    for _ in range(10):
        hits.gate.app.parts.memory.clear()
        hits.ask()
    assert hits.calls() == {"vectors.get_many": 10}


def test_keys_and_the_operators_wishes_are_read_once_a_minute(hits: Hits) -> None:
    for _ in range(300):
        hits.ask()
        hits.clock.advance(1)
    calls = hits.calls()
    assert calls.keys() <= {"access.find", "access.deployment", "vectors.get_many"}
    assert 4 <= calls["access.find"] <= 5
    assert 4 <= calls["access.deployment"] <= 7


def test_what_is_counted_is_written_by_the_tick(hits: Hits) -> None:
    for _ in range(100):
        hits.ask(patience=Patience.MEMORY)
    accounts = hits.gate.app.parts.accounts
    accounts.tick()
    assert hits.calls() == {}
    hits.clock.advance(FLUSH_SECONDS)
    accounts.tick()
    assert hits.calls() == {"usage.add": 1}


def test_beside_a_request_it_is_written_by_another_thread(hits: Hits) -> None:
    """As on Lambda, where nothing goes on between requests."""
    with ThreadPoolExecutor(1) as pool:
        hits.ask()
        hits.clock.advance(30)
        writers: list[str] = []

        def note(name: str, _: Any) -> None:
            writers.append(f"{name} {threading.current_thread().name}")

        hits.outage.hook = note
        with hits.gate.app.parts.accounts.beside(pool):
            hits.ask(patience=Patience.MEMORY)
        assert hits.calls() == {"usage.add": 1, "access.deployment": 1}
        assert not any("MainThread" in writer for writer in writers)
        with hits.gate.app.parts.accounts.beside(pool):
            hits.ask(patience=Patience.MEMORY)
        assert hits.calls() == {}, "nothing is due"


def test_a_cache_goes_on_without_any_accounts(hits: Hits, fake: FakeOpenRouter) -> None:
    hits.outage.down = {"usage", "quotas"}
    for _ in range(30):
        hits.ask()
        hits.clock.advance(1)
        hits.gate.app.parts.accounts.tick()
    assert fake.calls == 1
    assert hits.gate.telemetry.counts["UsageNotCounted"] > 0
