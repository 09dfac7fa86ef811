"""Wrong vectors, and those that must not be kept, are found and removed, wherever one lies."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws
from typer.testing import CliRunner, Result

from embedonce.access.keys import issue
from embedonce.bootstrap.stores import Stores, open_stores
from embedonce.cli.main import app
from embedonce.config import ConfigError, load
from embedonce.core import manifest as machine
from embedonce.core.cachecontrol import CacheControls
from embedonce.core.errors import NotFound, StoreUnavailable
from embedonce.core.flight import Leading, land
from embedonce.core.manifest import Totals
from embedonce.core.plan import VectorKey
from embedonce.core.record import StoredVector
from embedonce.core.rule import Terms
from embedonce.core.source import Source
from embedonce.ports import Swap
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.flights import DynamoFlights
from embedonce.stores.aws.s3_vectors import S3Vectors
from embedonce.stores.aws.vectors import DynamoVectors
from embedonce.stores.tiered import TieredScan, TieredVectors
from embedonce.usecases.purge import Filter, Purge
from fakes.google import FakeGoogle
from fakes.openrouter import FakeOpenRouter
from support import aws, media
from support.clock import START, FakeClock
from support.gateway import gateway
from support.pipeline import Pipeline, Provider
from support.stored import fingerprint, key, leading, record

SOON = 46.0
"""After so long a process has seen that something was purged; it would remember vectors for 60 s."""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def stores(tmp_path: Path, clock: FakeClock) -> Iterator[Stores]:
    stores = open_stores(load({"EMBEDONCE_DATA_DIR": str(tmp_path)}), clock)
    yield stores
    stores.close()


def url(shade: int) -> str:
    return "data:image/png;base64," + base64.b64encode(media.png(shade=shade)).decode()


def purge_of(stores: Stores, clock: FakeClock, **more: Any) -> Purge:
    return Purge(stores.vectors, stores.scan, stores.flights, stores.access, clock, **more)


def run(folder: Path, *arguments: str, **environment: str) -> Result:
    env = {"EMBEDONCE_DATA_DIR": str(folder), "COLUMNS": "200", **environment}
    return CliRunner().invoke(app, ["purge", "--no-wait", *arguments], env=env, catch_exceptions=False)


@pytest.mark.parametrize("wrong", ["constant", "rotated_space"])
def test_plausible_wrong_vectors_of_one_upstream_and_time(
    tmp_path: Path, fake: FakeOpenRouter, clock: FakeClock, wrong: str
) -> None:
    """Two upstreams of one lineage, one of which made wrong vectors for an hour."""
    with FakeGoogle() as google:
        keys = {"gemini_api_key": google.key, "gemini_base_url": google.base_url}
        with gateway(tmp_path, clock=clock, **keys) as gate:
            gate.embed(["early"])
            clock.advance(3600)
            google.always(wrong)
            assert gate.embed(["bad"]).vectors != [google.vector_for("bad")]
            google.reset()
            clock.advance(3600)
            gate.embed(["late"])
    with gateway(tmp_path, fake, clock=clock) as gate:
        gate.embed(["other"])
        bad = gate.embed(["bad"])
        assert (bad.headers["X-Cache"], fake.calls) == ("HIT", 1)

        purge = purge_of(gate.app.parts.stores, clock)
        purge.by_record(Filter(upstream="google", since=START + 1800, until=START + 5400))
        assert (purge.count.vectors, purge.count.bytes) == (1, 4 * 3072)

        clock.advance(SOON)
        again = gate.embed(["bad", "early", "late", "other"])
        assert again.vectors == [fake.vector_for(text) for text in ("bad", "early", "late", "other")]
        assert fake.calls == 2
        assert fake.last.body["input"] == ["bad"]


def test_the_flights_outcome_goes_too(tmp_path: Path, fake: FakeOpenRouter, clock: FakeClock) -> None:
    """It is kept for a minute, and would be taken by the next request."""
    with gateway(tmp_path, fake, clock=clock) as gate:
        fake.always("rotated_space")
        gate.embed(["bad"])
        fake.reset()
        purge = purge_of(gate.app.parts.stores, clock)
        purge.by_record(Filter(upstream="openrouter"))
        assert (purge.count.vectors, purge.count.flights) == (1, 1)
        assert purge.count.cost == 200_000  # its one token
        clock.advance(SOON)
        assert gate.embed(["bad"]).vectors == [fake.vector_for("bad")]
        assert fake.calls == 1


@pytest.mark.parametrize("no_store", [False, True])
def test_a_ticket_has_no_result_any_more(tmp_path: Path, clock: FakeClock, no_store: bool) -> None:
    provider = Provider()
    pipeline = Pipeline(tmp_path, provider, clock)
    controls = CacheControls(no_store=no_store)
    done = pipeline.ask("hello", controls=controls)
    pipeline.run()
    assert pipeline.vector_of(done.ref)
    purge = purge_of(pipeline.stores, clock)
    purge.by_record(Filter(upstream="fake"))
    assert (purge.count.vectors, purge.count.flights) == (int(not no_store), 1)
    clock.advance(SOON)
    pipeline.parts.accounts.deployment.tick()
    with pytest.raises(NotFound):
        pipeline.vector_of(done.ref)
    again = pipeline.ask("hello", controls=controls)
    pipeline.run()
    assert pipeline.vector_of(again.ref)
    assert provider.submissions.total() == 2
    pipeline.parts.close()


def test_what_is_being_bought_is_left_alone(tmp_path: Path, clock: FakeClock) -> None:
    provider = Provider(pending=3)
    pipeline = Pipeline(tmp_path, provider, clock)
    ticket = pipeline.ask("hello")
    pipeline.run(until=lambda: provider.submissions.total() == 1)
    purge = purge_of(pipeline.stores, clock)
    purge.by_record(Filter())
    assert purge.count.flights == 0
    pipeline.run()
    assert pipeline.state(ticket.ref) == "COMPLETED"
    assert provider.submissions.total() == 1
    pipeline.parts.close()


def test_a_namespace_is_left_behind(tmp_path: Path, fake: FakeOpenRouter, clock: FakeClock) -> None:
    with gateway(tmp_path, fake, clock=clock) as gate:
        inner = {"cache": {"namespace": "blue"}}
        gate.embed(["a"])
        gate.embed(["a"], **inner)
        gate.embed(["a"], cache={"namespace": "red"})
        assert fake.calls == 3
        done = run(tmp_path, "--namespace", "shared/blue", "--yes")
        assert (done.exit_code, "cannot be counted" in done.stderr) == (0, True)
        clock.advance(SOON)
        assert [gate.embed(["a"], **each).headers["X-Cache"] for each in ({}, inner)] == ["HIT", "MISS"]
        assert gate.embed(["a"], **inner).headers["X-Cache"] == "HIT"

        assert run(tmp_path, "--namespace", "shared", "--yes").exit_code == 0
        clock.advance(SOON)
        others = ({}, inner, {"cache": {"namespace": "red"}})
        assert [gate.embed(["a"], **each).headers["X-Cache"] for each in others] == ["MISS"] * 3


def test_a_model_is_left_behind_and_swept(tmp_path: Path, fake: FakeOpenRouter, clock: FakeClock) -> None:
    preview = "google/gemini-embedding-2-preview"
    with gateway(tmp_path, fake, clock=clock) as gate:
        gate.embed(["a", "b"], dimensions=128)
        gate.embed(["a"], model=preview, dimensions=128)
        done = run(tmp_path, "--model", "gemini-embedding-2", "--yes")
        assert (done.exit_code, "left behind" in done.stdout) == (0, True)
        looked = run(tmp_path, "--model", "gemini-embedding-2", "--dry-run")
        assert "2 vectors (1,024 bytes, bought for $0.0000004)" in looked.stdout
        stores = gate.app.parts.stores
        assert len(list(stores.scan.scan(vectors=False))) == 3
        clock.advance(SOON)
        assert gate.embed(["a"], dimensions=128).headers["X-Cache"] == "MISS"
        assert gate.embed(["a"], model=preview, dimensions=128).headers["X-Cache"] == "HIT"

        purge = purge_of(stores, clock)
        purge.by_record(Filter(model="google/gemini-embedding-2", until=START + 1))
        assert purge.count.vectors == 2
        assert {each.model for _, each in stores.scan.scan(vectors=False)} == {preview, preview[:-8]}
        assert gate.embed(["a"], dimensions=128).headers["X-Cache"] == "HIT"


def test_a_content_at_every_size_and_for_every_task(
    tmp_path: Path, fake: FakeOpenRouter, clock: FakeClock
) -> None:
    with gateway(tmp_path, fake, clock=clock) as gate:
        ways: list[dict[str, Any]] = [
            {"dimensions": 777},
            {"dimensions": 128, "task_type": "CLUSTERING"},
            {"dimensions": 256, "input_type": "search_query"},
            {"dimensions": 256, "cache": {"namespace": "blue"}},
        ]
        for way in ways:
            gate.embed(["secret", "other"], **way)
        environment = {"OPENROUTER_API_KEY": fake.key or "", "OPENROUTER_BASE_URL": fake.base_url}
        file = tmp_path / "secret.txt"
        file.write_text("secret\n")

        tasks = ("--model", "gemini-embedding-2", "--task-type", "none", "--task-type", "CLUSTERING")
        asked = run(tmp_path, "--content", str(file), *tasks, "--dry-run", **environment)
        assert "would remove 2 vectors" in asked.stdout
        done = run(tmp_path, "--content", str(file), *tasks, "--yes", **environment)
        assert "removed 2 vectors" in done.stdout, done.output
        parameters = ("--parameters", '{"input_type": "search_query"}', "--dimensions", "256")
        done = run(tmp_path, "--text", "secret", *parameters, "--yes", **environment)
        assert "removed 1 vectors" in done.stdout, done.output
        within = ("--namespace", "shared/blue", "--dimensions", "256", "--dimensions", "512")
        done = run(tmp_path, "--text", "secret", *within, "--yes", **environment)
        assert "removed 1 vectors" in done.stdout, done.output

        clock.advance(SOON)
        assert len(list(gate.app.parts.stores.scan.scan(vectors=False))) == 4
        for way in ways:
            before = fake.calls
            assert gate.embed(["other"], **way).headers["X-Cache"] == "HIT"
            gate.embed(["secret"], **way)
            assert fake.calls == before + 1


def test_media_by_their_hash_and_vectors_by_their_key(
    tmp_path: Path, fake: FakeOpenRouter, clock: FakeClock
) -> None:
    def image(shade: int) -> list[dict[str, Any]]:
        return [{"content": [{"type": "image_url", "image_url": {"url": url(shade)}}]}]

    environment = {"OPENROUTER_API_KEY": fake.key or "", "OPENROUTER_BASE_URL": fake.base_url}
    with gateway(tmp_path, fake, clock=clock) as gate:
        for shade in (1, 2):
            gate.embed(image(shade), dimensions=256)
        data = media.png(shade=1)
        done = run(tmp_path, "--sha256", hashlib.sha256(data).hexdigest(), "--yes", **environment)
        assert "removed 1 vectors" in done.stdout, done.output
        [(left, _)] = gate.app.parts.stores.scan.scan(vectors=False)
        done = run(tmp_path, "--fingerprint", left.fingerprint.hex(), "--upstream", "google", "--yes")
        assert "removed 0 vectors" in done.stdout
        done = run(tmp_path, "--fingerprint", left.fingerprint.hex(), "--yes")
        assert "removed 1 vectors" in done.stdout
        assert list(gate.app.parts.stores.scan.scan(vectors=False)) == []


def test_isolated_keys_and_others_are_reached(tmp_path: Path, fake: FakeOpenRouter, clock: FakeClock) -> None:
    with gateway(tmp_path, fake, clock=clock) as gate:
        for isolated in (True, False):
            secret, made = issue(
                "k", namespace="team", scopes=frozenset({"embed"}), isolated=isolated, now=clock.now()
            )
            gate.app.parts.stores.access.add(made)
            gate.embed(["secret"], dimensions=128, headers={"authorization": f"Bearer {secret}"})
        done = run(
            tmp_path,
            *("--text", "secret", "--dimensions", "128", "--yes"),
            OPENROUTER_API_KEY=fake.key or "",
            OPENROUTER_BASE_URL=fake.base_url,
        )
        assert "removed 2 vectors" in done.stdout, done.output


def fill(stores: Stores, count: int) -> None:
    stores.vectors.put_many([(key(n), record(n, ttl=10**8)) for n in range(count)])
    landed = [land(leading(n), record(n), now=START) for n in range(count)]
    stores.flights.swap_many([Swap(flight, 0) for flight in landed])


def test_a_dry_run_counts_and_changes_nothing(stores: Stores, clock: FakeClock) -> None:
    fill(stores, 5)
    purge = purge_of(stores, clock, dry_run=True)
    purge.by_record(Filter(upstream="openrouter"))
    purge.leave_behind("model/x")
    assert (purge.count.vectors, purge.count.bytes, purge.count.flights) == (5, 80, 5)
    assert purge.count.cost == 5 * 1_400_000 + 10
    assert len(list(stores.scan.scan(vectors=False))) == len(list(stores.flights.landed())) == 5
    assert stores.access.deployment().version == 0


def test_age_and_time_are_half_open(stores: Stores, clock: FakeClock) -> None:
    now = int(START)
    stores.vectors.put_many([(key(n), record(n, created=now + n, ttl=1000)) for n in range(6)])
    purge_of(stores, clock).by_record(Filter(since=now + 2, until=now + 4))
    left = {each.created - now for _, each in stores.scan.scan(vectors=False)}
    assert left == {0, 1, 4, 5}


class Failing:
    """A vector store whose deletions fail after so many."""

    def __init__(self, inner: Any, after: int) -> None:
        self._inner = inner
        self._left = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def delete_many(self, keys: Sequence[VectorKey]) -> None:
        self._left -= 1
        if self._left < 0:
            raise StoreUnavailable("down")
        self._inner.delete_many(keys)


def test_stopped_halfway_it_is_run_again(stores: Stores, clock: FakeClock) -> None:
    fill(stores, 250)
    halfway = purge_of(replace(stores, vectors=Failing(stores.vectors, 2)), clock)
    with pytest.raises(StoreUnavailable):
        halfway.by_record(Filter(upstream="openrouter"))
    assert halfway.count.vectors == 200
    assert stores.access.deployment().purged == START  # processes have begun to forget
    again = purge_of(stores, clock)
    again.by_record(Filter(upstream="openrouter"))
    assert (again.count.vectors, again.count.flights) == (50, 250)
    assert list(stores.scan.scan(vectors=False)) == []
    assert stores.access.deployment().purged > START + 1


class Late:
    """A scan at whose end a request that was under way stores one more."""

    def __init__(self, stores: Stores, late: list[int]) -> None:
        self._stores = stores
        self._late = late

    def scan(self, *, vectors: bool) -> Iterator[tuple[VectorKey, StoredVector]]:
        yield from self._stores.scan.scan(vectors=vectors)
        if self._late:
            n = self._late.pop()
            self._stores.vectors.put_many([(key(n), record(n))])


def test_what_is_stored_meanwhile_is_found_by_another_scan(stores: Stores, clock: FakeClock) -> None:
    fill(stores, 1)
    purge = purge_of(replace(stores, scan=Late(stores, [7, 8])), clock)
    purge.by_record(Filter(upstream="openrouter"))
    assert purge.count.vectors == 3
    assert list(stores.scan.scan(vectors=False)) == []


class Busy(FakeClock):
    """Whoever waits finds afterwards that a process has stored once more what it remembered."""

    stores: Stores

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.stores.vectors.put_many([(key(1), record(1))])


@pytest.mark.parametrize("by_key", [False, True])
def test_what_a_process_stores_before_it_forgets(tmp_path: Path, by_key: bool) -> None:
    clock = Busy()
    clock.stores = stores = open_stores(load({"EMBEDONCE_DATA_DIR": str(tmp_path)}), clock)
    fill(stores, 2)
    purge = purge_of(stores, clock, patience=60.0)
    if by_key:
        purge.by_key(key(n) for n in range(2))
    else:
        purge.by_record(Filter(upstream="openrouter"))
    assert clock.sleeps == [60.0]
    assert list(stores.scan.scan(vectors=False)) == []
    assert (purge.count.vectors, purge.count.flights) == (2, 2)  # each counts once
    stores.close()


def test_both_tiers_and_flights_on_aws(
    stores: Stores, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        clients = AwsClients()
        aws.create(clients)
        small, large = DynamoVectors(clients, aws.VECTORS, clock), S3Vectors(clients, aws.BUCKET, clock)
        vectors = TieredVectors(small, large, large_from=1537)
        there = replace(
            stores,
            vectors=vectors,
            scan=TieredScan(small, large, large_from=1537),
            flights=DynamoFlights(clients, aws.FLIGHTS, clock),
        )
        sizes = {1: 4, 2: 3072, 3: 4, 4: 3072}
        other = {3, 4}
        for n, size in sizes.items():
            made = replace(record(n, dimensions=size), upstream="google" if n in other else "openrouter")
            vectors.put_many([(key(n, size), made)])
            flight = land(leading(n), made, now=START)
            there.flights.swap_many([Swap(flight, 0)])
        there.flights.swap_many([Swap(leading(9), 0)])
        purge = purge_of(there, clock)
        purge.by_record(Filter(upstream="openrouter"))
        assert (purge.count.vectors, purge.count.bytes, purge.count.flights) == (2, 4 * 3076, 2)
        left = {each.fingerprint for each, _ in there.scan.scan(vectors=False)}
        assert left == {fingerprint(n) for n in other}
        by_key = purge_of(there, clock)
        by_key.by_key(VectorKey(fingerprint(n), size) for n in other for size in (None, 1 << 30))
        assert (by_key.count.vectors, by_key.count.flights) == (2, 2)
        rows = there.flights.get_many([fingerprint(n) for n in (*sizes, 9)])
        assert {fp: type(row.state) for fp, row in rows.items()} == {fingerprint(9): Leading}
        vectors.close()
        clients.close()


def test_what_a_model_loses_is_counted_on_aws_only_where_it_is_asked_for(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        clients = AwsClients()
        aws.create(clients)
        made = record(1, model="google/gemini-embedding-2", ttl=10**8)
        DynamoVectors(clients, aws.VECTORS, clock).put_many([(key(1), made)])
        environment = {
            "EMBEDONCE_MODE": "aws",
            "EMBEDONCE_VECTORS_TABLE": aws.VECTORS,
            "EMBEDONCE_FLIGHTS_TABLE": aws.FLIGHTS,
            "EMBEDONCE_ACCESS_TABLE": aws.ACCESS,
            "EMBEDONCE_JOBS_TABLE": aws.JOBS,
            "EMBEDONCE_USAGE_TABLE": aws.USAGE,
            "EMBEDONCE_CACHE_BUCKET": aws.BUCKET,
            "EMBEDONCE_BLOB_BUCKET": aws.BLOBS,
            "EMBEDONCE_WORK_QUEUE_URL": aws.queue_url(clients, "work"),
            "EMBEDONCE_POLL_QUEUE_URL": aws.queue_url(clients, "poll"),
        }
        looked = run(tmp_path, "--model", "gemini-embedding-2", "--dry-run", **environment)
        assert "1 vectors (16 bytes, bought for $" in looked.stdout, looked.output
        done = run(tmp_path, "--model", "gemini-embedding-2", "--yes", **environment)
        assert (done.exit_code, "a scan, which is billed" in done.stderr) == (0, True)
        assert "1 vectors" not in done.output
        swept = run(tmp_path, "--model", "gemini-embedding-2", "--sweep", "--yes", **environment)
        assert "1 vectors (16 bytes, bought for $" in swept.stderr
        clients.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "say what to remove"),
        (("--namespace", "shared", "--upstream", "google"), "as a whole"),
        (("--namespace", "shared", "--model", "gemini-embedding-2"), "as a whole"),
        (("--namespace", "nobody"), "no key has nobody; there are shared"),
        (("--namespace", "shared/"), "NAME or NAME/INNER"),
        (("--model", "nobody's"), "unknown model"),
        (("--sweep", "--upstream", "google"), "--sweep"),
        (("--dimensions", "128"), "need --content"),
        (("--since", "yesterday"), "--since"),
        (("--since", "2026-02-01", "--until", "2026-01-01"), "not before"),
        (("--older-than", "30"), "--older-than"),
        (("--older-than", "30d", "--until", "2026-01-01"), "not together"),
        (("--sha256", "abc"), "64 hexadecimal"),
        (("--text", "a", "--task-type", "X"), "--task-type: there are"),
        (("--text", "a", "--parameters", "[]"), "JSON object"),
        (("--content", "/nowhere/at/all"), "No such file"),
    ],
)
def test_options_that_do_not_go_together(
    stores: Stores, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        run(tmp_path, *arguments)


def test_the_command_asks_first_and_says_what_went(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(stores, 3)
    env = {"EMBEDONCE_DATA_DIR": str(tmp_path)}
    refused = CliRunner().invoke(
        app, ["purge", "--no-wait", "--upstream", "openrouter"], env=env, input="n\n"
    )
    assert (refused.exit_code, len(list(stores.scan.scan(vectors=False)))) == (1, 3)
    assert "every vector made by openrouter" in refused.stderr
    # Made long after this machine's clock, so none of them is that old.
    assert "removed 0 vectors" in run(tmp_path, "--older-than", "1m", "--yes").stdout
    done = CliRunner().invoke(app, ["purge", "--no-wait", "--upstream", "openrouter"], env=env, input="y\n")
    assert done.exit_code == 0
    assert "removed 3 vectors (48 bytes, bought for $0.000004200003) and 3 results of flights" in done.stdout
    again = run(tmp_path, "--upstream", "openrouter", "--yes")
    assert "removed 0 vectors" in again.stdout
    assert "no upstream is called" not in again.stderr
    assert "no upstream is called nope" in run(tmp_path, "--upstream", "nope", "--yes").stderr

    def down(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("sqlite: disk I/O error")

    monkeypatch.setattr("embedonce.stores.embedded.vectors.EmbeddedVectors.scan", down)
    failed = run(tmp_path, "--upstream", "openrouter", "--yes")
    assert failed.exit_code == 1
    assert "run the same command again" in failed.stderr


def test_files_that_are_being_embedded_are_named(stores: Stores, tmp_path: Path) -> None:
    """A part of their results may hold what is purged now."""
    assert stores.ingest is not None
    for n in range(3):
        source = Source("inbox", f"in/{n}.txt", "v", "", 1, "00")
        new = machine.announced(f"{n:032x}", source, "0" * 32, Terms("key", "model"), now=START)
        if n:
            new = machine.cut(
                machine.cut_begins(new, now=START, lease=30),
                terms=new.terms,
                chunks=1,
                totals=Totals(segments=1),
                sha256="00" * 32,
                cutter="1",
                now=START,
            )
        if n == 2:
            new = machine.published(
                machine.assembly_begins(machine.chunk_done(new, 0, Totals(), now=START), now=START, lease=9),
                now=START,
            )
        assert stores.ingest.manifests.swap(replace(new, version=1), 0) is None
    done = run(tmp_path, "--upstream", "google", "--yes")
    assert [line.rsplit(": ", 1)[1] for line in done.stderr.splitlines() if "put it again" in line] == [
        "in/1.txt"
    ]
    assert "put it again" not in run(tmp_path, "--upstream", "google", "--dry-run").stderr


def test_there_must_be_a_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no store"):
        run(tmp_path / "nowhere", "--upstream", "google", "--yes")
    assert not (tmp_path / "nowhere").exists()
