"""Two gateways in two processes that share nothing but DynamoDB and S3: still one upstream call.

AWS is moto in a process of its own (support.motoserver).
"""

from __future__ import annotations

import os
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import orjson
import pytest

from embedonce.access.keys import SHARED, Scope, issue
from embedonce.clock import SystemClock
from embedonce.stores.aws import clients as aws_clients
from embedonce.stores.aws.access import DynamoAccess
from embedonce.stores.aws.clients import AwsClients
from fakes.behaviour import delay
from fakes.openrouter import FakeOpenRouter
from support import aws, motoserver
from support.motoserver import PATIENCE, SPAWN, be_patient, process, received, serve_aws

GATEWAYS = 2
THREADS = 16
UPSTREAM_SECONDS = 0.7
HARMLESS = {
    "UpstreamCalls",
    "Hits",
    "Misses",
    "FlightsLost",
    "Requests2xx",
    "SpentMicroUSD",
    "SavedMicroUSD",
}


# ---- what the other processes run


@dataclass(frozen=True)
class Asked:
    """`inputs` of each of so many threads at once."""

    inputs: tuple[tuple[str, ...], ...]
    dimensions: int


@dataclass(frozen=True)
class Answered:
    status: int
    cache: str | None
    vectors: tuple[str, ...]


def serve_gateway(pipe: Connection, together: Any) -> None:
    """Takes `Asked`, waits until the other gateway has too, and sends back an `Answered` per thread."""
    from embedonce.bootstrap import build
    from embedonce.config import load
    from embedonce.telemetry import LogTelemetry

    environment, key = pipe.recv()
    os.environ.update(environment)
    be_patient()
    telemetry = LogTelemetry()
    app = build(load(os.environ), telemetry)
    pipe.send("ready")
    with ThreadPoolExecutor(THREADS) as pool:
        while (asked := pipe.recv()) is not None:
            start = threading.Barrier(max(1, len(asked.inputs)))
            together.wait(PATIENCE)
            answers = [pool.submit(_ask, app, key, each, asked.dimensions, start) for each in asked.inputs]
            pipe.send(([answer.result(PATIENCE) for answer in answers], dict(telemetry.counts)))
    app.close()


def _ask(app: Any, key: str, inputs: tuple[str, ...], dimensions: int, start: threading.Barrier) -> Answered:
    from embedonce.core.deadline import Deadline
    from embedonce.http.message import Request

    fields = {"model": "google/gemini-embedding-2", "dimensions": dimensions, "encoding_format": "base64"}
    start.wait(PATIENCE)
    response = app.gateway.handle(
        Request(
            method="POST",
            path="/v1/embeddings",
            headers={"authorization": f"Bearer {key}"},
            query={},
            body=orjson.dumps({"input": inputs, **fields}),
            request_id=uuid.uuid4().hex,
            deadline=Deadline.after(27.0, app.clock.monotonic()),
        )
    )
    data = orjson.loads(response.body).get("data", ())
    return Answered(
        response.status, response.headers.get("X-Cache"), tuple(item["embedding"] for item in data)
    )


# ---- the test's side


@dataclass(frozen=True)
class Fleet:
    pipes: tuple[Connection, ...]
    fake: FakeOpenRouter

    def ask(self, *per_gateway: Asked) -> list[list[Answered]]:
        for pipe, asked in zip(self.pipes, per_gateway, strict=True):
            pipe.send(asked)
        answers = []
        for pipe in self.pipes:
            answered, counts = received(pipe)
            assert not counts.keys() - HARMLESS, "no store failed"
            answers.append(answered)
        return answers


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with (
        pytest.MonkeyPatch.context() as patch,
        FakeOpenRouter() as fake,
        process(serve_aws) as server,
        process(serve_gateway, together := SPAWN.Barrier(GATEWAYS)) as first,
        process(serve_gateway, together) as second,
    ):
        patch.delenv("AWS_PROFILE", raising=False)
        environment = {
            **motoserver.SETTINGS,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{received(server)}",
            "OPENROUTER_API_KEY": fake.key,
            "OPENROUTER_BASE_URL": fake.base_url,
        }
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(aws_clients, "CONFIG", aws_clients.CONFIG)
        be_patient()
        clients = AwsClients()
        aws.create(clients)
        key, record = issue("fleet", namespace=SHARED, scopes=frozenset({Scope.EMBED}), isolated=False, now=0)
        DynamoAccess(clients, aws.ACCESS, SystemClock()).add(record)
        pipes = (first, second)
        for pipe in pipes:
            pipe.send((environment, key))
        for pipe in pipes:
            assert received(pipe) == "ready"
        yield Fleet(pipes, fake)
        clients.close()


@pytest.mark.parametrize("dimensions", [768, 3072])
def test_identical_requests_in_two_processes_are_one_upstream_call(dimensions: int, fleet: Fleet) -> None:
    """768 are kept in DynamoDB, 3072 in S3."""
    fleet.fake.reset()
    fleet.fake.always(delay(UPSTREAM_SECONDS))
    text = f"asked 32 times at once, {dimensions}"
    asked = Asked(((text,),) * THREADS, dimensions)
    answers = [each for answered in fleet.ask(asked, asked) for each in answered]
    assert fleet.fake.calls == 1
    assert fleet.fake.billed == {text: 1}
    assert [answer.status for answer in answers] == [200] * GATEWAYS * THREADS
    assert len({answer.vectors for answer in answers}) == 1
    assert Counter(answer.cache for answer in answers) == {"MISS": 1, "HIT": GATEWAYS * THREADS - 1}


def test_what_one_process_bought_the_other_answers(fleet: Fleet) -> None:
    fleet.fake.reset()
    alone = Asked((("bought by the first",),), 768)
    ((bought,), _) = fleet.ask(alone, Asked((), 768))
    (_, (found,)) = fleet.ask(Asked((), 768), alone)
    assert (bought.cache, found.cache) == ("MISS", "HIT")
    assert found.vectors == bought.vectors
    assert fleet.fake.calls == 1


def test_overlapping_batches_buy_every_text_once(fleet: Fleet) -> None:
    """Each of the 32 requests asks for another selection, in another order."""
    fleet.fake.reset()
    fleet.fake.always(delay(UPSTREAM_SECONDS / 2))
    texts = [f"one of twelve: {i}" for i in range(12)]
    chosen = [tuple(texts[(n * 5 + k) % 12] for k in range(6)) for n in range(GATEWAYS * 6)]
    answers = fleet.ask(Asked(tuple(chosen[0::2]), 768), Asked(tuple(chosen[1::2]), 768))
    assert fleet.fake.billed == dict.fromkeys(texts, 1)
    vectors: dict[str, str] = {}
    for inputs, answer in zip((*chosen[0::2], *chosen[1::2]), [*answers[0], *answers[1]], strict=True):
        assert answer.status == 200
        for text, vector in zip(inputs, answer.vectors, strict=True):
            assert vectors.setdefault(text, vector) == vector
    assert len(set(vectors.values())) == len(texts)
