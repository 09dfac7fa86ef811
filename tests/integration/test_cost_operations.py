"""What `core.costcalls` says that one input asks of AWS, against what the code asks of moto: every call and
its billed units, by the sizes of the items that go over the wire (moto's own units are constant)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from embedonce.access.authenticate import Caller
from embedonce.access.keys import SHARED, Scope, issue
from embedonce.bootstrap.embedding import embedder_of
from embedonce.core import costcalls as model
from embedonce.core import costtickets as tickets
from embedonce.core.cachecontrol import DEFAULT
from embedonce.core.catalog import GEMINI_EMBEDDING_2
from embedonce.core.content import Draft, Modality, TextPart
from embedonce.core.costcalls import Calls, Place, Size, Tier
from embedonce.core.deadline import Deadline
from embedonce.core.options import EmbedOptions
from embedonce.core.ticket import Completed, Stage, TicketRef
from embedonce.stores.aws import clients as aws_clients
from embedonce.stores.aws.access import DynamoAccess
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.flights import DynamoFlights
from embedonce.stores.aws.s3_vectors import S3Vectors
from embedonce.stores.aws.vectors import DynamoVectors
from embedonce.usecases.embed import EmbedContents
from embedonce.usecases.flights import Flights
from embedonce.usecases.request import EmbedRequest
from support import aws
from support.clock import FakeClock
from support.dynamounits import Puts, half_read_units
from support.media import png, wav
from support.pipeline import Pipeline, Provider, inline
from support.stored import fingerprint, key, record

Billed = Counter[tuple[str, str, int]]
"""How often (service, operation, units): half units where DynamoDB is read."""

FREE = {"DeleteObjects", "DeleteObject"}
ACCOUNTING = ("deployment", "quota")
"""What keys begin with that accounting reads, beside what it updates: not an input's, but a slice's of many
(docs/cost.md)."""


class Meter:
    """Hears of every call of the clients it is attached to."""

    def __init__(self) -> None:
        self.billed: Billed = Counter()
        self._puts = Puts()
        self._lock = threading.Lock()

    def attach(self, client: Any) -> None:
        events = client.meta.events
        events.register("before-parameter-build", self._built, unique_id=f"built-{id(self)}")
        events.register("after-call", self._called, unique_id=f"called-{id(self)}")

    def taken(self) -> Billed:
        with self._lock:
            billed, self.billed = self.billed, Counter()
        return billed

    def _built(self, params: Any, context: Any, **_: Any) -> None:
        context["metered"] = params

    def _called(self, parsed: Any, model: Any, context: Any, **_: Any) -> None:
        service, name, params = model.service_model.service_name, model.name, context["metered"]
        with self._lock:
            for units in self._units(service, name, params, parsed):
                self.billed[service, name, units] += 1

    def _units(self, service: str, name: str, params: Any, parsed: Any) -> list[int]:
        if service != "dynamodb":
            return [] if name in FREE else [1]
        if name == "UpdateItem" or _is_accounting(params):
            return []
        match name:
            case "PutItem":
                return [self._puts.units(params, parsed)]
            case "GetItem":
                return [half_read_units(parsed.get("Item"), strongly=bool(params.get("ConsistentRead")))]
            case "BatchGetItem":
                ((table, asked),) = params["RequestItems"].items()
                items = parsed["Responses"][table]
                found = [*items, *([None] * (len(asked["Keys"]) - len(items)))]
                return [half_read_units(item, strongly=bool(asked["ConsistentRead"])) for item in found]
            case _:
                return [1]


def _is_accounting(params: Any) -> bool:
    return any(value.get("S", "").startswith(ACCOUNTING) for value in params.get("Key", {}).values())


def billed(calls: Calls) -> Billed:
    return Counter((call.service, call.name, call.units) for call in calls)


@pytest.fixture(scope="module")
def meter() -> Iterator[Meter]:
    """Of every client, over moto. Making clients is slow: all tests share one set, and use inputs of their
    own."""
    meter = Meter()
    heard: list[Any] = []
    make = AwsClients._client

    def metered(self: AwsClients, name: str, service: str, config: Any) -> Any:
        client = make(self, name, service, config)
        if client not in heard:
            heard.append(client)
            meter.attach(client)
        return client

    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        patch.setattr(AwsClients, "_client", metered)
        shared = AwsClients()
        aws.create(shared)
        patch.setattr(aws_clients, "AwsClients", lambda: shared)
        yield meter
        shared.close()


@pytest.fixture(scope="module")
def clients(meter: Meter) -> AwsClients:
    return aws_clients.AwsClients()


class Gateway:
    """Cold: nothing in the process's memory, unless `warm`."""

    def __init__(self, folder: Path, clients: AwsClients, large_from: int, *, name: str) -> None:
        self.clock = FakeClock()
        _, self.key = issue("cost", namespace=SHARED, scopes=frozenset({Scope.EMBED}), isolated=False, now=0)
        DynamoAccess(clients, aws.ACCESS, self.clock).add(self.key)
        self.caller = Caller(self.key.id, SHARED, self.key.scopes, isolated=False)
        self._name = name
        self._provider = Provider(submits=False, max_inputs=100)
        self._folder = folder
        self._settings = {
            "mode": "aws",
            "vectors_table": aws.VECTORS,
            "flights_table": aws.FLIGHTS,
            "access_table": aws.ACCESS,
            "jobs_table": aws.JOBS,
            "usage_table": aws.USAGE,
            "cache_bucket": aws.BUCKET,
            "blob_bucket": aws.BLOBS,
            "work_queue_url": aws.queue_url(clients, "work"),
            "poll_queue_url": aws.queue_url(clients, "poll"),
            "s3_min_dimensions": str(large_from),
        }
        self._pool = ThreadPoolExecutor(4)
        self.process: Any = None
        self.restart()

    def restart(self) -> None:
        stores = None if self.process is None else self.process.stores
        self.process = Pipeline(self._folder, self._provider, self.clock, stores=stores, **self._settings)
        self._embed: EmbedContents = embedder_of(self.process.parts, self._pool, lane=None)

    def provide(self, provider: Provider) -> None:
        self._provider = provider
        self.restart()

    def embed(self, *texts: str, dimensions: int, own: bool = True, cold: bool = True) -> None:
        """Texts of this gateway's and size's own."""
        named = (f"{text} {self._name} {dimensions if own else 0}" for text in texts)
        self.ask(*(Draft((TextPart(text),), "input") for text in named), dimensions=dimensions, cold=cold)

    def ask(self, *drafts: Draft, dimensions: int, cold: bool = True) -> None:
        if cold:
            self.restart()
        options = EmbedOptions(GEMINI_EMBEDDING_2, dimensions)
        deadline = Deadline.after(25, self.clock.monotonic())
        self._embed(EmbedRequest(tuple(drafts), options, DEFAULT, self.caller, "", deadline))

    def close(self) -> None:
        self._pool.shutdown()


TIERS = [(model.DEPLOYED, 1537), (model.DYNAMODB, 4096), (model.S3, 1)]


@pytest.fixture(scope="module", params=TIERS, ids=lambda param: param[0].name)
def laid(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, clients: AwsClients
) -> Iterator[tuple[Tier, Gateway]]:
    tier, large_from = request.param
    gateway = Gateway(tmp_path_factory.mktemp("cost"), clients, large_from, name=tier.name)
    yield tier, gateway
    gateway.close()


@pytest.fixture(autouse=True)
def silent(meter: Meter, request: pytest.FixtureRequest) -> None:
    if "laid" in request.fixturenames:
        request.getfixturevalue("laid")
    meter.taken()


FULL = 3072


@pytest.mark.parametrize("dimensions", [768, 1536, 3072])
def test_a_texts_miss_and_hit_are_the_calls_of_the_model(
    dimensions: int, laid: tuple[Tier, Gateway], meter: Meter
) -> None:
    tier, gateway = laid
    size = Size.of(dimensions, FULL, text=True)
    gateway.embed("a text of some words", dimensions=dimensions)
    assert meter.taken() == billed(model.miss(tier, size))
    gateway.embed("a text of some words", dimensions=dimensions)
    assert meter.taken() == billed(model.hit(tier, size))


def test_a_derived_hit_looks_twice(laid: tuple[Tier, Gateway], meter: Meter) -> None:
    tier, gateway = laid
    gateway.embed("a text to be cut", dimensions=FULL, own=False)
    meter.taken()
    gateway.embed("a text to be cut", dimensions=256, own=False)
    assert meter.taken() == billed(model.derived(tier, Size.of(256, FULL, text=True)))


def test_an_image_is_kept_at_the_full_size_and_looked_up_once(
    laid: tuple[Tier, Gateway], meter: Meter
) -> None:
    tier, gateway = laid
    size = Size.of(768, FULL, text=False)
    assert size == Size(FULL, None)
    shade = 1 + [each for each, _ in TIERS].index(tier)
    draft = Draft((inline(png(shade=shade), Modality.IMAGE, "input"),), "input")
    gateway.ask(draft, dimensions=768)
    assert meter.taken() == billed(model.miss(tier, size))
    gateway.ask(draft, dimensions=768)
    assert meter.taken() == billed(model.hit(tier, size)) == billed(model.derived(tier, size))


def test_several_inputs_cost_as_much_as_each_alone(laid: tuple[Tier, Gateway], meter: Meter) -> None:
    """But for the number of BatchGetItem calls, whose units are those of their keys."""
    tier, gateway = laid
    gateway.embed("one", "two", "one", dimensions=768)
    size = Size.of(768, FULL, text=True)
    assert meter.taken() == billed(model.miss(tier, size) * 2), "and equal ones of a request are one"


def test_memory_answers_for_nothing(laid: tuple[Tier, Gateway], meter: Meter) -> None:
    _, gateway = laid
    gateway.embed("again", dimensions=768)
    meter.taken()
    gateway.embed("again", dimensions=768, cold=False)
    assert meter.taken() == Counter()


def test_a_key_is_read_once_a_minute(clients: AwsClients, tmp_path: Path, meter: Meter) -> None:
    gateway = Gateway(tmp_path, clients, 1537, name="keys")
    key, found = issue("a", namespace=SHARED, scopes=frozenset({Scope.EMBED}), isolated=False, now=0)
    DynamoAccess(clients, aws.ACCESS, gateway.clock).add(found)
    meter.taken()
    authenticator = gateway.process.parts.authenticator
    for _ in range(3):
        authenticator.identify(key)
    assert meter.taken() == billed((model.key_found(),))
    gateway.clock.advance(61)
    authenticator.identify(key)
    assert meter.taken() == billed((model.key_found(),))
    gateway.close()


# ---- failed conditions


@pytest.mark.parametrize("place", [Place.DYNAMODB, Place.S3])
def test_a_vector_that_another_has_stored(place: Place, clients: AwsClients, meter: Meter) -> None:
    clock = FakeClock()
    store = (
        DynamoVectors(clients, aws.VECTORS, clock)
        if place is Place.DYNAMODB
        else S3Vectors(clients, aws.BUCKET, clock)
    )
    first, second = (record(n, dimensions=FULL) for n in (1, 2))
    store.put_many([(key(1, FULL), first)])
    meter.taken()
    assert store.put_many([(key(1, FULL), second)]) == [first]
    assert meter.taken() == billed(model.vector_lost(place, FULL))


def test_following_another_process(clients: AwsClients, meter: Meter) -> None:
    clock = FakeClock()
    store = DynamoFlights(clients, aws.FLIGHTS, clock)
    name = fingerprint(1)
    boarding: Callable[[], Any] = lambda: Flights(store, clock, _Deaf()).board(  # noqa: E731
        [name], {name: b"batch"}, lease=15
    )
    leader = Flights(store, clock, _Deaf())
    led = leader.board([name], {name: b"batch"}, lease=15)[name]
    flights = {name: led.flight}  # type: ignore[union-attr]
    meter.taken()
    boarding()
    for _ in range(2):
        store.get_many([name])
    leader_calls = meter.taken()
    leader.land(flights, {name: record(1, dimensions=FULL)})
    meter.taken()
    store.get_many([name])
    assert leader_calls + meter.taken() == billed(model.flight_followed(FULL, 2))


class _Deaf:
    def count(self, name: str, number: int = 1) -> None:
        pass

    def event(self, name: str, **about: Any) -> None:
        pass


# ---- tickets


@pytest.fixture
def queued(clients: AwsClients, meter: Meter, tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path, clients, 1537, name="tickets")
    meter.taken()
    yield gateway
    gateway.close()


AUDIO = Size.of(768, FULL, text=False)


def submitted(gateway: Gateway, seconds: float) -> TicketRef:
    audio = inline(wav(seconds), Modality.AUDIO, "input")
    return gateway.process.ask(audio, dimensions=768, caller=gateway.caller).ref


def asked(gateway: Gateway, stage: Stage) -> None:
    """Each function has a memory of its own."""
    gateway.restart()
    assert gateway.process.step(stage) == 1
    gateway.restart()


def answered(gateway: Gateway, ref: TicketRef) -> None:
    ticket = gateway.process.results.look(ref)
    assert isinstance(ticket.state, Completed)
    gateway.process.results.result(ticket)


def test_a_ticket_whose_provider_answers_at_once(queued: Gateway, meter: Meter) -> None:
    ref = submitted(queued, 0.31)
    assert meter.taken() == billed(tickets.submitted(model.DEPLOYED, AUDIO))
    queued.process.results.look(ref)
    assert meter.taken() == billed(tickets.looked(handed_over=False))
    asked(queued, Stage.WORK)
    assert meter.taken() == billed(tickets.worked(model.DEPLOYED, AUDIO))
    answered(queued, ref)
    assert meter.taken() == billed(tickets.result(model.DEPLOYED, AUDIO))


def test_a_ticket_whose_provider_takes_jobs(
    queued: Gateway, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedonce.stores.aws.queue.MAX_DELAY_SECONDS", 0)  # moto's clock is the real one
    queued.provide(Provider(pending=1))
    ref = submitted(queued, 0.32)
    meter.taken()
    asked(queued, Stage.WORK)
    assert meter.taken() == billed(tickets.handed_over(model.DEPLOYED, AUDIO))
    queued.process.results.look(ref)
    assert meter.taken() == billed(tickets.looked(handed_over=True))
    for calls in (tickets.polled(), tickets.harvested(model.DEPLOYED, AUDIO)):
        queued.clock.advance(30)
        asked(queued, Stage.POLL)
        assert meter.taken() == billed(calls)
    answered(queued, ref)
    assert meter.taken() == billed(tickets.result(model.DEPLOYED, AUDIO))


def test_a_bought_ticket_is_its_parts() -> None:
    at_once = billed(tickets.bought(model.DEPLOYED, AUDIO, seconds=0.04, polls=0))
    parts = tickets.submitted(model.DEPLOYED, AUDIO) + tickets.worked(model.DEPLOYED, AUDIO)
    looked = tickets.looked(handed_over=False) + tickets.result(model.DEPLOYED, AUDIO)
    assert at_once == billed(parts + looked)
    assert [tickets.looks(seconds) for seconds in (0.04, 0.1, 0.7, 5.0)] == [1, 2, 4, 10]
