"""A provider that misbehaves, and stores that fail: nothing wrong is stored or answered, nothing leaks."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from embedonce.bootstrap import Stores, build
from embedonce.clock import SystemClock
from embedonce.config import load
from embedonce.core.errors import StoreUnavailable
from embedonce.core.flight import MAX_PAID_ATTEMPTS
from embedonce.core.ticket import Stage
from embedonce.ports import AccessKey, Deployment
from embedonce.stores.embedded.database import Database
from embedonce.stores.embedded.quotas import EmbeddedQuotas
from embedonce.stores.embedded.usage import EmbeddedUsage
from embedonce.telemetry import LogTelemetry
from fakes.behaviour import status
from fakes.openrouter import FakeOpenRouter, closed_port
from support.clock import FakeClock
from support.gateway import DEV_KEY, ImpatientClock, TestGateway, gateway

POISON = [
    "shuffle_without_index",
    "duplicate_index",
    "null_index",
    "one_index_missing",
    "index_out_of_range",
    "shorten",
    "lengthen",
    "no_vectors",
    "zero",
    "nan_null",
    "nan_literal",
    "infinite",
    "text_number",
    "nested",
    "null_vector",
    "repeat",
    "constant",
    "wrong_dims",
    "one_wrong_dims",
    "invalid_json",
    "html",
    "empty",
    "error_under_200:502",
    "other_model:google/gemini-embedding-001",
]


@pytest.mark.parametrize("behaviour", POISON)
def test_a_poisoned_answer_is_never_stored_or_returned(
    gate: TestGateway, fake: FakeOpenRouter, behaviour: str
) -> None:
    texts = ["first text", "second text", "third text"]
    fake.always(behaviour)
    failed = gate.embed(texts, dimensions=128)
    assert failed.status in (502, 503), failed.body
    assert int(failed.headers["Retry-After"]) >= 1
    assert "invalid_request_error" not in str(failed.body)
    fake.always("ok")
    good = gate.embed(texts, dimensions=128, headers={"cache-control": "only-if-cached"})
    assert good.status == 504
    gate.app.clock.sleep(120)
    assert gate.embed(texts, dimensions=128).vectors == [fake.vector_for(t, 128) for t in texts]


def test_one_constant_vector_is_caught_within_a_batch(gate: TestGateway, fake: FakeOpenRouter) -> None:
    fake.next("constant")
    assert gate.embed(["one", "two"], dimensions=128).status == 502


@pytest.mark.parametrize(
    ("behaviour", "answer", "calls"),
    [
        (status(400), 400, 1),
        (status(413), 400, 1),
        (status(422), 400, 1),
        (status(401), 502, 1),
        (status(402), 502, 1),
        (status(403), 502, 1),
        (status(404), 502, 1),
        (status(429), 429, 3),
        (status(529), 429, 3),
        (status(503), 503, 3),
        (status(500), 503, 2),
        (status(502), 503, 2),
        (status(504), 503, 2),
        ("disconnect", 503, 2),
        ("truncate", 503, 2),
        ("redirect", 502, 1),
        ("gzip_bomb", 502, 1),
        ("error_under_200:429", 429, 3),
        ("error_under_200:400", 400, 1),
    ],
    ids=str,
)
def test_what_is_retried_and_what_the_caller_sees(
    gate: TestGateway, fake: FakeOpenRouter, behaviour: Any, answer: int, calls: int
) -> None:
    """Certainly not accepted: three tries. Perhaps accepted: one more. Refused or garbage: none."""
    fake.always(behaviour)
    failed = gate.embed("text")
    assert (failed.status, fake.calls) == (answer, calls)
    assert failed.error["code"] == answer
    if answer in (429, 503):
        assert int(failed.headers["Retry-After"]) >= 1
    if answer == 502 and failed.error["metadata"]["reason"] == "upstream_misconfigured":
        assert failed.headers["x-should-retry"] == "false"


def test_a_retry_that_succeeds_is_not_seen_by_the_caller(gate: TestGateway, fake: FakeOpenRouter) -> None:
    fake.next(status(429, retry_after="1"), status(503))
    assert gate.embed("text").status == 200
    assert fake.calls == 3


def test_retry_after_beyond_the_deadline_is_passed_on(gate: TestGateway, fake: FakeOpenRouter) -> None:
    fake.always(status(429, retry_after="40"))
    failed = gate.embed("text", seconds=5)
    assert failed.status == 429
    assert fake.calls == 1
    assert int(failed.headers["Retry-After"]) == 40


def test_a_provider_that_is_down(tmp_path: Path, fake: FakeOpenRouter) -> None:
    """Hits are answered, misses get 503 with Retry-After."""
    with gateway(tmp_path, fake, clock=ImpatientClock()) as gate:
        gate.embed("kept", dimensions=128)
    down = f"http://127.0.0.1:{closed_port()}/api/v1"
    settings = {"openrouter_api_key": "k", "openrouter_base_url": down}
    with gateway(tmp_path, clock=ImpatientClock(), **settings) as gate:
        assert gate.embed("kept", dimensions=128).vectors == [fake.vector_for("kept", 128)]
        for _ in range(2):
            missed = gate.embed(["kept", "new"], dimensions=128)
            assert missed.status == 503
            assert int(missed.headers["Retry-After"]) >= 1
            assert missed.error["type"] == "service_unavailable_error"


def test_a_provider_that_hangs(tmp_path: Path, fake: FakeOpenRouter) -> None:
    """A text is tried once more after a timeout; then 504."""
    fake.always("hang")
    with gateway(tmp_path, fake, upstream_timeout=0.3) as gate:
        failed = gate.embed("text", seconds=5)
        assert failed.status == 504
        assert int(failed.headers["Retry-After"]) >= 1
        assert fake.calls == 2


def test_paid_attempts_are_bounded_and_retry_after_grows(tmp_path: Path, fake: FakeOpenRouter) -> None:
    fake.always("nan_null")
    clock = FakeClock()
    began = clock.now()
    with gateway(tmp_path, fake, clock=clock) as gate:
        waits = []
        for _ in range(7):
            failed = gate.embed("text", dimensions=128)
            assert failed.status in (502, 503)
            waits.append(int(failed.headers["Retry-After"]))
            clock.advance(waits[-1])
        assert fake.calls == MAX_PAID_ATTEMPTS == 6
        assert waits[:6] == [1, 2, 4, 8, 16, 32]
        assert began + 3600 <= clock.now() <= began + 3602


def test_one_bad_input_does_not_lock_its_neighbours(tmp_path: Path, fake: FakeOpenRouter) -> None:
    """After two attempts in company each is bought alone: the innocent land, the guilty is named."""
    fake.always("one_wrong_dims")
    clock = FakeClock()
    with gateway(tmp_path, fake, clock=clock) as gate:
        for _ in range(2):
            failed = gate.embed(["innocent", "poison"], dimensions=128)
            assert failed.status == 502
            clock.advance(int(failed.headers["Retry-After"]))
        fake.next("ok", "one_wrong_dims")
        assert gate.embed(["innocent", "poison"], dimensions=128).status == 502
        assert [len(r.body["input"]) for r in fake.requests] == [2, 2, 1, 1]
        fake.always("ok")
        # The two calls go out at the same time: the one that came first to the provider is the innocent.
        cached = {"cache-control": "only-if-cached"}
        kept = [
            text
            for text in ("innocent", "poison")
            if gate.embed(text, dimensions=128, headers=cached).status == 200
        ]
        assert len(kept) == 1
        assert gate.embed(["other", *kept], dimensions=128).status == 200


def test_an_input_that_is_given_up_is_named(tmp_path: Path, fake: FakeOpenRouter) -> None:
    fake.always("nan_null")
    clock = FakeClock()
    with gateway(tmp_path, fake, clock=clock) as gate:
        for _ in range(6):
            clock.advance(int(gate.embed("poison", dimensions=128).headers["Retry-After"]))
        failed = gate.embed(["new", "poison"], dimensions=128)
        assert failed.status == 503
        assert failed.error["param"] == "input[1]"
        assert fake.calls == 6


def test_a_thread_that_cannot_be_started_locks_nothing(
    gate: TestGateway, fake: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as broken:
        broken.setattr(gate.app.pool, "submit", refuse)
        assert gate.embed("x", dimensions=128).status == 500
    assert gate.embed("x", dimensions=128).status == 200
    assert fake.calls == 1


def test_a_held_write_lock_does_not_keep_misses_from_being_answered(
    tmp_path: Path, fake: FakeOpenRouter
) -> None:
    with gateway(tmp_path, fake) as gate:
        gate.embed("kept", dimensions=128)
        gate.embed("what is set aside for this is more than it costs, and pays for more " * 3, dimensions=128)
        holder = sqlite3.connect(tmp_path / "embedonce.sqlite3", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda n: gate.embed(f"text {n}", dimensions=128), range(4)))
        assert [a.status for a in answers] == [200] * 4
        assert all("stored=?0" in a.headers["Cache-Status"] for a in answers)
        assert gate.embed("kept", dimensions=128).headers["X-Cache"] == "HIT"
        holder.execute("ROLLBACK")
        holder.close()


def test_a_wrong_key_that_was_put_right_is_not_remembered(tmp_path: Path, fake: FakeOpenRouter) -> None:
    clock = FakeClock()
    fake.next(status(401))
    with gateway(tmp_path, fake, clock=clock) as gate:
        assert gate.embed("x").status == 502
        clock.advance(2)
        assert gate.embed("x").status == 200


def test_a_batch_that_is_refused_does_not_condemn_its_members(
    gate: TestGateway, fake: FakeOpenRouter
) -> None:
    fake.next(status(400))
    assert gate.embed(["innocent", "guilty"], dimensions=128).status == 400
    assert gate.embed(["innocent", "guilty"], dimensions=128).status == 400
    assert fake.calls == 1
    assert gate.embed("innocent", dimensions=128).status == 200


def test_batches_that_succeeded_are_kept_when_another_fails(gate: TestGateway, fake: FakeOpenRouter) -> None:
    texts = [f"text {i}" for i in range(200)]
    fake.next(status(400))
    assert gate.embed(texts, dimensions=128).status == 400
    assert fake.calls == 2
    assert gate.embed([*texts[1:99], *texts[101:]], dimensions=128).status == 200
    assert fake.inputs_billed <= 200


class Broken:
    """Every call of every store fails."""

    def __getattr__(self, name: str) -> Any:
        def fail(*args: Any, **kwargs: Any) -> Any:
            raise StoreUnavailable("down")

        return fail


class NoKeys:
    def find(self, secret_hash: str) -> AccessKey | None:
        return None

    def deployment(self) -> Deployment:
        return Deployment()


def failing_but_for(folder: Path, store: Any, access: Any) -> Stores:
    """`store` keeps vectors and flights; money is counted; all others fail."""
    broken: Any = Broken()
    queues = dict.fromkeys(Stage, broken)
    database, clock = Database(folder / "money.sqlite3"), SystemClock()
    quotas, used = EmbeddedQuotas(database, clock), EmbeddedUsage(database, clock)
    return Stores(store, store, access, broken, queues, broken, quotas, used, broken, database.close)


def test_with_vector_and_flight_stores_failing_requests_are_answered(
    tmp_path: Path, fake: FakeOpenRouter
) -> None:
    with gateway(tmp_path, fake, stores=failing_but_for(tmp_path, Broken(), NoKeys())) as gate:
        texts = ["a", "b", "a"]
        for _ in range(2):
            answer = gate.embed(texts, dimensions=128)
            assert answer.status == 200
            assert answer.vectors == [fake.vector_for(t, 128) for t in texts]
            assert "stored=?0" in answer.headers["Cache-Status"]
        assert fake.calls == 2
        assert gate.telemetry.counts["VectorStoreErrors"] >= 1
        assert gate.telemetry.counts["FlightStoreErrors"] >= 1


def test_where_money_cannot_be_counted_nothing_is_bought(tmp_path: Path, fake: FakeOpenRouter) -> None:
    stores = replace(failing_but_for(tmp_path, Broken(), NoKeys()), quotas=cast("Any", Broken()))
    with gateway(tmp_path, fake, stores=stores) as gate:
        refused = gate.embed("a", dimensions=128)
        assert (refused.status, refused.headers["Retry-After"]) == (503, "2")
        assert "nothing is bought" in refused.error["message"]
        assert fake.calls == 0


def test_a_store_that_keeps_only_some_says_so(tmp_path: Path, fake: FakeOpenRouter) -> None:
    class Half(Broken):
        def get_many(self, keys: Sequence[Any]) -> dict[bytes, Any]:
            return {}

        def put_many(self, entries: Sequence[Any], *, overwrite: bool = False) -> list[Any]:
            return [record if i % 2 else None for i, (_, record) in enumerate(entries)]

    with gateway(tmp_path, fake, stores=failing_but_for(tmp_path, Half(), NoKeys())) as gate:
        answer = gate.embed(["a", "b"], dimensions=128)
        assert answer.vectors == [fake.vector_for(t, 128) for t in "ab"]
        assert "stored=?0" in answer.headers["Cache-Status"]


def test_a_missing_provider_key_is_a_503_never_a_made_up_vector(
    tmp_path: Path,
) -> None:
    settings = load({"EMBEDONCE_UPSTREAMS": "openrouter", "EMBEDONCE_DATA_DIR": str(tmp_path)})
    app = build(settings, LogTelemetry(), development_key=DEV_KEY)
    failed = TestGateway(app, LogTelemetry()).embed("text")
    app.close()
    assert failed.status == 503
    assert "OPENROUTER_API_KEY is not set" in failed.error["message"]


def test_a_crash_is_a_500_without_its_text(gate: TestGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("canary in an exception")

    monkeypatch.setattr(gate.app.router, "route", crash)
    answer = gate.embed("text")
    assert answer.status == 500
    assert "canary" not in str(answer.body)
    assert answer.error["type"] == "server_error"
    assert gate.telemetry.counts["Crashes"] == 1


CANARY = "canary-0123456789-éè"


@pytest.mark.parametrize(
    "behaviour",
    ["ok", "shorten", "html", "hang_after_error", "redirect", "disconnect", status(400, text=CANARY)],
    ids=str,
)
def test_logs_and_errors_carry_no_input_key_or_upstream_text(
    tmp_path: Path, fake: FakeOpenRouter, behaviour: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fake.always(behaviour)
    with gateway(tmp_path, fake, clock=ImpatientClock(), upstream_timeout=0.5) as gate:
        answers = [
            gate.embed(CANARY, seconds=3),
            gate.embed([CANARY, {"content": [{"type": CANARY}]}]),
            gate.embed("x", task_type=CANARY, headers={"authorization": f"Bearer {CANARY}"}),
        ]
    said = caplog.text + "".join(str(a.response.headers) + a.response.body.decode() for a in answers)
    assert CANARY not in said
    assert fake.key not in said
