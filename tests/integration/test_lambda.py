"""The API function as Lambda runs it: sample events through the real handler, over moto and a fake provider.

moto stands in for AWS below botocore only; our httpx reaches the fake provider on loopback for real. The
functions behind the queues are in test_lambda_jobs.py.
"""

from __future__ import annotations

import base64
import functools
import importlib
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import botocore.client
import botocore.loaders
import pytest
from aws_lambda_powertools.utilities.parameters.base import clear_caches
from moto import mock_aws
from test_template import ALLOWED

from embedonce.access.keys import SHARED, Scope, issue, new_key
from embedonce.clock import SystemClock
from embedonce.core import vector
from embedonce.stores.aws.access import DynamoAccess
from embedonce.stores.aws.clients import AwsClients
from fakes.behaviour import Behaviour, status
from fakes.openrouter import FakeOpenRouter, closed_port
from support import aws

ROOT = Path(__file__).resolve().parents[2]
EVENTS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "events").glob("*.json"))}
ENTRYPOINT = "embedonce.entrypoints.api"
SECRET = "embedonce/openrouter"
LAMBDA_LIMIT = 6_000_000
TIMEOUT_MS = 29_000
DAY = 86_400
# What the function's role allows (template.yaml, by way of its allow-list).
MAY = {action for _, actions, _ in ALLOWED["ApiRole"] for action in actions}

Answer = dict[str, Any]


class Context:
    """What Lambda hands to a handler beside the event."""

    function_name = "embedonce-api"
    function_version = "$LATEST"
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:embedonce-api"
    memory_limit_in_mb = "1024"
    aws_request_id = "8f5a1f5e-0b1c-4a51-9a3e-5f0a8a8f2b10"
    log_group_name = "/aws/lambda/embedonce-api"
    log_stream_name = "2026/11/20/[$LATEST]0"

    def __init__(self, milliseconds: int) -> None:
        self._milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self._milliseconds


class Stdout:
    """Wherever stdout goes now: pytest exchanges it between a test's phases, Powertools' logger keeps it."""

    def write(self, text: str) -> int:
        return sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


class Function:
    """The deployed stack. `restart` is a cold start: a new process's memory, the same tables."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, clients: AwsClients, fake: FakeOpenRouter, key: str
    ) -> None:
        self.clients = clients
        self.fake = fake
        self.key = key
        self.operations: list[str] = []
        self.module: ModuleType
        self._monkeypatch = monkeypatch
        self._recording = False
        self._running = False

    def restart(self, **environment: str) -> None:
        self.stop()
        clear_caches()
        for name, value in environment.items():
            self._monkeypatch.setenv(name, value)
        sys.modules.pop(ENTRYPOINT, None)
        self.module = importlib.import_module(ENTRYPOINT)
        for handler in self.module.telemetry.logger.handlers:
            handler.setStream(Stdout())
        self._running = True

    def stop(self) -> None:
        if self._running:
            self.fake.release()
            self.module.app.close()
            self._running = False
        sys.modules.pop(ENTRYPOINT, None)

    def later(self, seconds: float) -> None:
        """Move the running function's clock, for everything but the signing of AWS requests."""
        clock = self.module.app.clock
        assert isinstance(clock, SystemClock)
        self._monkeypatch.setattr(clock, "now", lambda: time.time() + seconds, raising=False)
        self._monkeypatch.setattr(clock, "monotonic", lambda: time.monotonic() + seconds, raising=False)

    def record(self, operation: str) -> None:
        if self._recording:
            self.operations.append(operation)

    def invoke(self, event: dict[str, Any], *, key: str | None = None, ms: int = TIMEOUT_MS) -> Answer:
        headers = dict(event["headers"])
        if "authorization" in headers:
            headers["authorization"] = f"Bearer {key or self.key}"
        if "x-api-key" in headers:
            headers["x-api-key"] = key or self.key
        self.operations.clear()
        self._recording = True
        try:
            answer = self.module.handler({**event, "headers": headers}, Context(ms))
        finally:
            self._recording = False
        return _as_lambda_sends_it(answer)

    def embed(
        self,
        inputs: Any,
        *,
        key: str | None = None,
        ms: int = TIMEOUT_MS,
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> Answer:
        event = EVENTS["embeddings"]
        body = {"model": "google/gemini-embedding-2", "input": inputs, "dimensions": 768, **fields}
        event = {**event, "body": json.dumps(body), "headers": event["headers"] | (headers or {})}
        return self.invoke(event, key=key, ms=ms)


def _as_lambda_sends_it(answer: Answer) -> Answer:
    """Lambda writes the answer as JSON, and API Gateway takes text for every header."""
    assert set(answer) == {"statusCode", "headers", "body", "isBase64Encoded"}
    assert all(isinstance(v, str) for v in [*answer["headers"], *answer["headers"].values()])
    assert len(json.dumps(answer).encode()) < LAMBDA_LIMIT
    read: Answer = json.loads(json.dumps(answer))
    assert read == answer
    return read


def body(answer: Answer) -> Any:
    return json.loads(answer["body"])


def vectors(answer: Answer) -> list[bytes]:
    assert answer["statusCode"] == 200, answer
    found = [item["embedding"] for item in body(answer)["data"]]
    return [base64.b64decode(v) if isinstance(v, str) else vector.pack(v) for v in found]


def stored_in_dynamodb(clients: AwsClients) -> list[dict[str, Any]]:
    return clients.dynamodb().scan(TableName=aws.VECTORS)["Items"]


def stored_in_s3(clients: AwsClients) -> list[str]:
    return [each["Key"] for each in clients.s3().list_objects_v2(Bucket=aws.BUCKET).get("Contents", [])]


@pytest.fixture
def powertools() -> Iterator[None]:
    """Powertools configures the logger of that name once and for the process: begin anew, and undo it."""
    logger = logging.getLogger("embedonce")
    before = (list(logger.handlers), list(logger.filters), logger.level)
    _plain(logger)
    yield
    _plain(logger)
    logger.handlers, logger.filters = before[0], before[1]
    logger.setLevel(before[2])
    for handler in logging.root.handlers:
        for each in [f for f in handler.filters if type(f).__name__ == "SuppressFilter"]:
            handler.removeFilter(each)


def _plain(logger: logging.Logger) -> None:
    logger.handlers, logger.filters = [], []
    for name in ("init", "powertools_handler", "powertools_buffer_config", "powertools_buffer_cache"):
        if hasattr(logger, name):
            delattr(logger, name)


_read_model = functools.cache(botocore.loaders.JSONFileLoader().load_file)
_list_services = functools.cache(botocore.loaders.Loader().list_available_services)


@pytest.fixture
def function(
    monkeypatch: pytest.MonkeyPatch,
    powertools: None,
    fake: FakeOpenRouter,
) -> Iterator[Function]:
    for name in list(os.environ):
        if name.startswith(("AWS_", "EMBEDONCE_", "OPENROUTER_", "OPENAI_", "POWERTOOLS_")):
            monkeypatch.delenv(name)
    environment = {
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_LAMBDA_FUNCTION_NAME": Context.function_name,
        "EMBEDONCE_MODE": "aws",
        "EMBEDONCE_VECTORS_TABLE": aws.VECTORS,
        "EMBEDONCE_FLIGHTS_TABLE": aws.FLIGHTS,
        "EMBEDONCE_ACCESS_TABLE": aws.ACCESS,
        "EMBEDONCE_JOBS_TABLE": aws.JOBS,
        "EMBEDONCE_USAGE_TABLE": aws.USAGE,
        "EMBEDONCE_BLOB_BUCKET": aws.BLOBS,
        "EMBEDONCE_CACHE_BUCKET": aws.BUCKET,
        "OPENROUTER_BASE_URL": fake.base_url,
        "POWERTOOLS_SERVICE_NAME": "embedonce",
        "POWERTOOLS_METRICS_NAMESPACE": "embedonce",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    # Every cold start would read botocore's descriptions of the services again: half of the tests' time.
    monkeypatch.setattr(botocore.loaders.JSONFileLoader, "load_file", lambda self, path: _read_model(path))
    monkeypatch.setattr(
        botocore.loaders.Loader, "list_available_services", lambda self, type_name: _list_services(type_name)
    )
    # The package on Lambda has no offline model: whoever imports it there crashes.
    for name in ("wordllama", "embedonce.upstreams.embedded"):
        monkeypatch.setitem(sys.modules, name, None)
    with mock_aws():
        clients = AwsClients()
        aws.create(clients)
        for name in aws.QUEUES:
            monkeypatch.setenv(f"EMBEDONCE_{name.upper()}_QUEUE_URL", aws.queue_url(clients, name))
        secrets = _client(clients, "secretsmanager")
        arn = secrets.create_secret(Name=SECRET, SecretString=f"{fake.key}\n")["ARN"]
        key, record = issue("tests", namespace=SHARED, scopes=frozenset({Scope.EMBED}), isolated=False, now=0)
        DynamoAccess(clients, aws.ACCESS, SystemClock()).add(record)
        running = Function(monkeypatch, clients, fake, key)
        real = botocore.client.BaseClient._make_api_call

        def recorded(self: Any, operation: str, arguments: Any) -> Any:
            running.record(f"{self.meta.service_model.service_name}:{operation}")
            return real(self, operation, arguments)

        monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", recorded)
        running.restart(OPENROUTER_API_KEY_SECRET=arn)
        yield running
        running.stop()
        clear_caches()
        clients.close()


def _client(clients: AwsClients, service: str) -> Any:
    clients.dynamodb()
    assert clients._session is not None
    return clients._session.create_client(service)


# ---- the sample events


EXPECTED = {
    "embeddings": 200,
    "embeddings_base64_body": 200,
    "health": 200,
    "models": 200,
    "openrouter_embeddings": 200,
    "request_status": 404,
    "submit": 200,
    "unauthorized": 401,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_sample_event_is_answered(name: str, function: Function) -> None:
    event = EVENTS[name]
    answer = function.invoke(event)
    assert answer["statusCode"] == EXPECTED[name], answer
    assert answer["isBase64Encoded"] is False
    headers = answer["headers"]
    assert headers["Content-Type"] == "application/json"
    assert headers["Cache-Control"] == "private, no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Request-Id"] == event["requestContext"]["requestId"]
    assert body(answer)
    assert set(function.operations) <= MAY, "the role would refuse it"


def test_health_and_models_touch_no_store_of_vectors(function: Function) -> None:
    assert body(function.invoke(EVENTS["health"]))["status"] == "ok"
    assert function.operations == []
    models = body(function.invoke(EVENTS["models"]))
    assert models["object"] == "list"
    assert "google/gemini-embedding-2" in {model["id"] for model in models["data"]}
    assert function.operations == ["dynamodb:GetItem"], "the key's record, and nothing else"


def test_the_openai_event_is_a_miss_then_a_hit_with_the_same_bits(function: Function) -> None:
    event = EVENTS["embeddings"]
    texts = json.loads(event["body"])["input"]
    miss, hit = function.invoke(event), function.invoke(event)
    assert vectors(miss) == vectors(hit) == [function.fake.vector_for(text, 768) for text in texts]
    assert (miss["headers"]["X-Cache"], hit["headers"]["X-Cache"]) == ("MISS", "HIT")
    assert re.search(r"fwd=miss; stored;", miss["headers"]["Cache-Status"])
    assert hit["headers"]["Cache-Status"].startswith("embedonce; hit;")
    assert float(miss["headers"]["X-Cost-USD"]) > 0 == float(hit["headers"]["X-Cost-USD"])
    assert body(miss)["usage"]["prompt_tokens"] == body(hit)["usage"]["prompt_tokens"]
    assert function.fake.calls == 1


def test_a_base64_body_is_the_same_request_as_a_plain_one(function: Function) -> None:
    event = EVENTS["embeddings_base64_body"]
    plain = {**event, "body": base64.b64decode(event["body"]).decode(), "isBase64Encoded": False}
    first, again = function.invoke(event), function.invoke(plain)
    assert again["headers"]["X-Cache"] == "HIT"
    assert vectors(first) == vectors(again)


def test_openrouters_path_serves_the_same_cache(function: Function) -> None:
    event = EVENTS["openrouter_embeddings"]
    text = json.loads(event["body"])["input"][0]["content"][0]["text"]
    first = function.invoke(event)
    again = function.embed([text], dimensions=3072, encoding_format="base64")
    assert vectors(first) == vectors(again) == [function.fake.vector_for(text)]
    assert again["headers"]["X-Cache"] == "HIT"


def test_no_key_is_401_in_the_dialect(function: Function) -> None:
    answer = function.invoke(EVENTS["unauthorized"])
    error = body(answer)["error"]
    assert (answer["statusCode"], error["code"], error["type"]) == (401, 401, "authentication_error")
    assert answer["headers"]["WWW-Authenticate"] == "Bearer"
    assert function.operations == []


@pytest.mark.parametrize("key", ["eo_" + "A" * 49, "sk-or-v1-0123", "Überschlüssel"])
def test_a_malformed_key_is_401_without_a_read(key: str, function: Function) -> None:
    assert function.embed("a", key=key)["statusCode"] == 401
    assert function.operations == []


def test_a_stage_in_front_of_the_path_is_not_part_of_it(function: Function) -> None:
    event = EVENTS["health"]
    event = {
        **event,
        "rawPath": "/prod/health",
        "requestContext": event["requestContext"] | {"stage": "prod"},
    }
    assert function.invoke(event)["statusCode"] == 200


def test_an_unknown_path_is_404_in_json(function: Function) -> None:
    answer = function.invoke({**EVENTS["models"], "rawPath": "/nothing/here"})
    assert (answer["statusCode"], body(answer)["error"]["code"]) == (404, 404)


# ---- where vectors are kept, and what a cold start reads


def test_small_vectors_go_to_dynamodb_and_large_ones_to_s3(function: Function) -> None:
    function.embed("small", dimensions=768)
    (item,) = stored_in_dynamodb(function.clients)
    assert item["v"]["B"] == function.fake.vector_for("small", 768)
    assert stored_in_s3(function.clients) == []
    function.embed("large", dimensions=3072)
    assert len(stored_in_dynamodb(function.clients)) == 1
    (name,) = stored_in_s3(function.clients)
    stored = function.clients.s3().get_object(Bucket=aws.BUCKET, Key=name)["Body"].read()
    assert stored == function.fake.vector_for("large")


@pytest.mark.parametrize(
    ("dimensions", "reads"), [(768, {"dynamodb:BatchGetItem"}), (3072, {"s3:GetObject"})]
)
def test_a_cold_start_answers_hits_without_provider_secret_or_flight(
    dimensions: int, reads: set[str], function: Function
) -> None:
    texts = ["first", "second", "first"]
    miss = function.embed(texts, dimensions=dimensions)
    assert "secretsmanager:GetSecretValue" in function.operations
    assert set(function.operations) <= MAY
    function.restart()
    hit = function.embed(texts, dimensions=dimensions)
    assert hit["headers"]["X-Cache"] == "HIT"
    assert vectors(hit) == vectors(miss)
    assert function.fake.calls == 1
    assert set(function.operations) == reads | {"dynamodb:GetItem"}, "the vectors, and the key's record"
    again = function.embed(texts, dimensions=dimensions)
    assert vectors(again) == vectors(miss)
    assert function.operations == [], "both are remembered"


def test_a_hit_waits_for_no_accounting(function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is counted is written, and what an operator said is read, at the same time as the answer."""
    function.embed(["x"])
    function.restart()
    waited: list[str] = []
    beside: list[str] = []

    def record(operation: str) -> None:
        if function._recording:
            (waited if threading.current_thread() is threading.main_thread() else beside).append(operation)

    monkeypatch.setattr(function, "record", record)
    assert function.embed(["x"])["headers"]["X-Cache"] == "HIT"
    expected = ["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:GetItem"]
    assert sorted(waited + beside) == expected, "the vector, the key, and what an operator said"
    waited.clear()
    beside.clear()
    for seconds in (11.0, 22.0, 33.0):
        function.later(seconds)
        assert function.embed(["x"])["headers"]["X-Cache"] == "HIT"
    assert waited == []
    assert "dynamodb:UpdateItem" in beside
    assert beside.count("dynamodb:GetItem") == 1


def test_a_hundred_inputs_are_one_round_trip(function: Function) -> None:
    texts = [f"text {i}" for i in range(100)]
    miss = function.embed(texts)
    function.restart()
    hit = function.embed(texts)
    assert vectors(hit) == vectors(miss)
    assert function.operations.count("dynamodb:BatchGetItem") == 1


def test_a_smaller_size_is_derived_from_the_object_in_s3(function: Function) -> None:
    function.embed("large", dimensions=3072)
    function.restart()
    derived = function.embed("large", dimensions=768)
    assert derived["headers"]["X-Cache"] == "HIT"
    assert vectors(derived) == [function.fake.vector_for("large", 768)]
    assert function.fake.calls == 1


@pytest.mark.parametrize("dimensions", [768, 3072])
def test_expired_vectors_that_are_still_in_the_store_are_not_answered(
    dimensions: int, function: Function
) -> None:
    """DynamoDB removes them within days, S3 at midnight; until then they are read."""
    first = function.embed("old", dimensions=dimensions)
    function.restart()
    function.later(179 * DAY)
    assert function.embed("old", dimensions=dimensions)["headers"]["X-Cache"] == "HIT"
    function.restart()
    function.later(181 * DAY)
    again = function.embed("old", dimensions=dimensions)
    assert again["headers"]["X-Cache"] == "MISS"
    assert vectors(again) == vectors(first)
    assert function.fake.calls == 2
    assert "stored;" in again["headers"]["Cache-Status"], "over the expired one"
    function.restart()
    function.later(182 * DAY)
    assert function.embed("old", dimensions=dimensions)["headers"]["X-Cache"] == "HIT"


# ---- size and time


@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_the_largest_accepted_batch_fits_into_lambdas_limit(encoding: str, function: Function) -> None:
    def ask(count: int) -> Answer:
        texts = [f"{i}" for i in range(count)]
        only_answered = {"cache-control": "no-store"}
        return function.embed(texts, dimensions=3072, encoding_format=encoding, headers=only_answered)

    refused = ask(2048)
    assert refused["statusCode"] == 413
    said = re.search(r"at most (\d+) inputs fit", body(refused)["error"]["message"])
    assert said is not None
    assert function.fake.calls == 0, "before anything is paid"
    most = int(said[1])
    assert ask(most + 1)["statusCode"] == 413
    answer = ask(most)
    assert len(vectors(answer)) == most
    assert len(answer["body"]) > LAMBDA_LIMIT / 2, "the limit is not far off what is possible"


def test_the_deadline_shrinks_with_lambdas_remaining_time(function: Function) -> None:
    function.embed("kept")
    function.fake.always(Behaviour("hang"))
    started = time.monotonic()
    answer = function.embed("slow", ms=3_000)
    taken = time.monotonic() - started
    assert answer["statusCode"] == 504
    assert int(answer["headers"]["Retry-After"]) >= 1
    assert 0.5 < taken < 2.7, "before Lambda would have ended it"
    assert function.embed("kept", ms=900)["headers"]["X-Cache"] == "HIT", "hits need no time"
    function.stop()


def test_with_no_time_left_nothing_is_bought(function: Function) -> None:
    answer = function.embed("late", ms=900)
    assert answer["statusCode"] == 504
    assert int(answer["headers"]["Retry-After"]) >= 1
    assert function.fake.calls == 0


# ---- the provider's key


def test_the_secret_is_read_once_for_many_misses(function: Function) -> None:
    function.embed("one")
    assert function.operations.count("secretsmanager:GetSecretValue") == 1
    function.embed("two")
    assert function.operations.count("secretsmanager:GetSecretValue") == 0
    assert function.fake.last.headers["authorization"] == f"Bearer {function.fake.key}"


@pytest.mark.parametrize("name", ["", "embedonce/gone", "/embedonce/gone"])
def test_without_its_secret_hits_are_answered_and_misses_are_503(name: str, function: Function) -> None:
    first = function.embed("known")
    function.restart(OPENROUTER_API_KEY_SECRET=name)
    assert vectors(function.embed("known")) == vectors(first)
    miss = function.embed("new")
    error = body(miss)["error"]
    assert (miss["statusCode"], error["code"], error["type"]) == (503, 503, "service_unavailable_error")
    assert int(miss["headers"]["Retry-After"]) >= 1
    assert function.fake.calls == 1
    both = function.embed(["known", "newer"])
    assert both["statusCode"] == 503
    kept = function.embed("new", headers={"cache-control": "only-if-cached"})
    assert kept["statusCode"] == 504


def test_a_secret_that_appears_is_used_without_a_restart(function: Function) -> None:
    function.restart(OPENROUTER_API_KEY_SECRET="embedonce/later")
    assert function.embed("before")["statusCode"] == 503
    _client(function.clients, "secretsmanager").create_secret(
        Name="embedonce/later", SecretString=function.fake.key
    )
    assert function.embed("after")["statusCode"] == 200


@pytest.mark.parametrize("kind", ["String", "SecureString"])
def test_the_key_may_be_an_ssm_parameter(kind: str, function: Function) -> None:
    ssm = _client(function.clients, "ssm")
    ssm.put_parameter(Name="/embedonce/openrouter", Value=function.fake.key, Type=kind)
    function.restart(OPENROUTER_API_KEY_SECRET="/embedonce/openrouter")
    assert function.embed("one")["statusCode"] == 200
    assert function.operations.count("ssm:GetParameter") == 1
    assert function.embed("one")["headers"]["X-Cache"] == "HIT"
    assert function.operations == []


# ---- stores that fail


def test_without_the_access_table_only_keys_verified_lately_go_on(function: Function) -> None:
    function.embed("known")
    function.clients.dynamodb().delete_table(TableName=aws.ACCESS)
    unknown = function.embed("known", key=new_key())
    assert (unknown["statusCode"], body(unknown)["error"]["code"]) == (503, 503)
    assert int(unknown["headers"]["Retry-After"]) >= 1
    function.later(300)
    assert function.embed("known")["headers"]["X-Cache"] == "HIT"
    assert "dynamodb:GetItem" in function.operations, "the record was no longer fresh"
    function.later(601)
    assert function.embed("known")["statusCode"] == 503


def test_a_revoked_key_is_refused_within_a_minute(function: Function) -> None:
    function.embed("known")
    access = DynamoAccess(function.clients, aws.ACCESS, SystemClock())
    (record,) = access.list()
    assert access.revoke(record.id, int(time.time()))
    function.later(61)
    assert function.embed("known")["statusCode"] == 401


@pytest.mark.parametrize("dimensions", [768, 3072])
def test_without_any_store_requests_are_answered_live(dimensions: int, function: Function) -> None:
    function.embed("warm-up: the key is known now", dimensions=dimensions)
    before = function.fake.calls
    aws.drop(function.clients)
    for _ in range(2):
        answer = function.embed(["a", "b", "a"], dimensions=dimensions)
        assert answer["headers"]["X-Cache"] == "MISS"
        assert "stored=?0" in answer["headers"]["Cache-Status"]
        expected = [function.fake.vector_for(text, dimensions) for text in "aba"]
        assert vectors(answer) == expected
    assert function.fake.calls == before + 2


@pytest.mark.parametrize("table", [aws.VECTORS, aws.FLIGHTS])
def test_without_one_table_requests_are_answered(table: str, function: Function) -> None:
    function.clients.dynamodb().delete_table(TableName=table)
    answer = function.embed("a")
    assert vectors(answer) == [function.fake.vector_for("a", 768)]
    assert ("stored=?0" in answer["headers"]["Cache-Status"]) is (table == aws.VECTORS)


def test_with_the_provider_down_hits_are_answered(function: Function) -> None:
    first = function.embed("known")
    function.restart(OPENROUTER_BASE_URL=f"http://127.0.0.1:{closed_port()}/api/v1")
    assert vectors(function.embed("known")) == vectors(first)
    miss = function.embed("new")
    assert miss["statusCode"] in (502, 503, 504)
    assert int(miss["headers"]["Retry-After"]) >= 1


# ---- metrics and logs


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.err == ""
    return [json.loads(line) for line in captured.out.splitlines()]


def emf(line: dict[str, Any]) -> dict[str, float]:
    """The counts of one line, checked against the embedded metric format. Of what is measured, and of
    requests and upstreams by themselves, test_metrics.py has more."""
    described = line["_aws"]
    assert abs(described["Timestamp"] / 1000 - time.time()) < 60
    (directive,) = described["CloudWatchMetrics"]
    assert directive["Namespace"] == "embedonce"
    assert directive["Dimensions"][0] == ["service"]
    assert line["service"] == "embedonce"
    found = {}
    for metric in directive["Metrics"]:
        if metric["Unit"] != "Count":
            continue
        value = line[metric["Name"]]
        (found[metric["Name"]],) = value if isinstance(value, list) else [value]
    return found


def counted(capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    """By what was printed since the last time: at most one line, and one of the upstream that was asked."""
    metrics = [line for line in lines(capsys) if "_aws" in line]
    assert len(metrics) == len({line.get("Upstream") for line in metrics})
    return {name: value for line in metrics for name, value in emf(line).items()}


def test_what_was_counted_becomes_lines_of_emf(
    function: Function, capsys: pytest.CaptureFixture[str]
) -> None:
    function.invoke(EVENTS["health"])
    assert counted(capsys) == {"Requests2xx": 1}
    function.embed("a")
    assert counted(capsys) == {"Requests2xx": 1, "UpstreamCalls": 1, "Misses": 1, "Hits": 0}
    function.embed("a")
    assert counted(capsys) == {"Requests2xx": 1, "Hits": 1}
    function.clients.dynamodb().delete_table(TableName=aws.VECTORS)
    function.embed(["b", "c"])
    stores = {"VectorStoreErrors": 1, "VectorsNotStored": 2}
    assert counted(capsys) == {"Requests2xx": 1, "UpstreamCalls": 1, "Misses": 2, "Hits": 0, **stores}


def test_logs_are_json_and_name_the_request(function: Function, capsys: pytest.CaptureFixture[str]) -> None:
    function.embed("warm-up: the key is known now, and money is left of what was set aside for this " * 9)
    lines(capsys)
    aws.drop(function.clients)
    for request_id in ("first=", "second="):
        event = EVENTS["embeddings"]
        event = {**event, "requestContext": event["requestContext"] | {"requestId": request_id}}
        function.invoke(event)
        written = [line for line in lines(capsys) if "_aws" not in line]
        assert (written[-1]["message"], written[-1]["level"]) == ("request", "INFO")
        assert written[-1]["request_id"] == request_id
        written = written[:-1]
        assert {(line["message"], line.get("during")) for line in written} >= {
            ("vector_store_unavailable", "get"),
            ("vector_store_unavailable", "put"),  # from a thread of its own
        }
        for line in written:
            assert (line["level"], line["service"]) == ("WARNING", "embedonce")
            assert line["request_id"] == request_id


CANARY = "canary-9d1f66c0"


def _crash(given: bytes, *_: Any) -> Any:
    raise RuntimeError(given.decode())


TELLTALES = [
    {"x-request-id": f"{CANARY} with a space", "user-agent": CANARY, "referer": f"https://x/{CANARY}"},
    {"traceparent": f"00-{CANARY}-0000000000000001-01", "x-amzn-trace-id": CANARY},
]
"""Headers with what must not be in a log either."""


FAILURES: dict[str, Callable[[Function, pytest.MonkeyPatch], None]] = {
    "none": lambda function, _: None,
    "refusal": lambda function, _: function.fake.always(status(400, text=f"bad input: {CANARY}")),
    "our key refused": lambda function, _: function.fake.always(status(401, text=function.fake.key)),
    "error": lambda function, _: function.fake.always(status(500, text=CANARY)),
    "wrong vectors": lambda function, _: function.fake.always(Behaviour("zero")),
    "no secret": lambda function, _: function.restart(OPENROUTER_API_KEY_SECRET=f"/{CANARY}"),
    "no stores": lambda function, _: aws.drop(function.clients),
    "crash": lambda _, patch: patch.setattr("embedonce.dialects.openai.routes.parse", _crash),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_nothing_that_is_printed_or_logged_carries_an_input_or_a_key(
    failure: str,
    function: Function,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    function.embed("warm-up: the key is known now")
    FAILURES[failure](function, monkeypatch)
    answers = [
        function.embed([f"{CANARY} text", "another"], ms=6_000, headers=headers) for headers in TELLTALES
    ]
    captured = capsys.readouterr()
    written = captured.out + captured.err + caplog.text
    own = [r for r in caplog.records if r.name.startswith("embedonce")]
    written += "".join(json.dumps(r.__dict__, default=repr) for r in own)
    if failure not in ("none", "no secret"):
        assert own, "there is something to look through"
        assert captured.out
    assert "Logging error" not in captured.err
    told = "".join(json.dumps(answer["headers"]) for answer in answers)
    for secret in (CANARY, function.key, function.fake.key):
        assert secret not in written
        assert secret not in told
    assert function.fake.key not in "".join(answer["body"] for answer in answers)
    if failure == "crash":
        assert [answer["statusCode"] for answer in answers] == [500, 500]
        assert CANARY not in answers[0]["body"]
        crash = next(r for r in own if r.getMessage() == "crash")
        assert "_crash" in crash.__dict__["where"]


# ---- what the process loads


def test_a_cold_start_loads_neither_the_offline_model_nor_the_local_server() -> None:
    program = f"""
import json, sys
from {ENTRYPOINT} import handler
class Context:
    aws_request_id = "8f5a1f5e"
    def get_remaining_time_in_millis(self): return 29000
answer = handler(json.loads(open({str(ROOT / "events" / "health.json")!r}).read()), Context())
assert answer["statusCode"] == 200
print(json.dumps(sorted(sys.modules)))
"""
    environment = {
        "PYTHONPATH": str(ROOT / "src"),
        "AWS_REGION": "us-east-1",
        "EMBEDONCE_MODE": "aws",
        **{f"EMBEDONCE_{name}_TABLE": "t" for name in ("VECTORS", "FLIGHTS", "ACCESS", "JOBS", "USAGE")},
        **{f"EMBEDONCE_{name}_BUCKET": "b" for name in ("CACHE", "BLOB")},
        **{f"EMBEDONCE_{name}_QUEUE_URL": "https://sqs.example/1/q" for name in ("WORK", "POLL")},
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    unwanted = {
        *("wordllama", "tokenizers", "embedonce.upstreams.embedded"),
        *("embedonce.local", "embedonce.stores.embedded", "sqlite3", "uvicorn", "typer"),
        *("aws_xray_sdk", "aws_lambda_powertools.event_handler"),
        *("boto3", "httpx"),
        *("embedonce.ingestrules", "embedonce.core.manifest", "embedonce.core.rule"),
        *("embedonce.segmenting", "embedonce.usecases.ingest"),
    }
    assert not loaded & unwanted
