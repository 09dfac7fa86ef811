"""Submit + poll as Lambda runs it: API, worker, poller and janitor, each with the environment that the
template gives it and allowed no more than its role, over moto and a fake Segmind.

Messages are those that stand in moto's queues, in the form in which Lambda hands them over.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import botocore.client
import botocore.loaders
import pytest
import requests
from aws_lambda_powertools.utilities.parameters import base as parameters
from botocore.exceptions import ClientError
from moto import mock_aws
from test_config_matches_template import TOLD, deployed
from test_lambda import Context, Stdout, powertools
from test_template import FUNCTIONS, RESOURCES, resources_of, statements

from embedonce.access.keys import SHARED, Scope, issue
from embedonce.clock import SystemClock
from embedonce.core.errors import Unauthenticated
from embedonce.core.ticket import Failed, Open, Stage, Ticket, TicketRef
from embedonce.stores.aws.access import DynamoAccess
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.tickets import DynamoTickets
from embedonce.stores.messages import body_of, ref_of
from fakes.segmind import FakeSegmind
from support import aws
from support.media import wav

__all__ = ["powertools"]

ROOT = Path(__file__).resolve().parents[2]
EVENTS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "events").glob("*.json"))}
RESOURCE_OF = {
    aws.VECTORS: "VectorsTable",
    aws.FLIGHTS: "FlightsTable",
    aws.ACCESS: "AccessTable",
    aws.JOBS: "JobsTable",
    aws.USAGE: "UsageTable",
    aws.BUCKET: "CacheBucket",
    aws.BLOBS: "BlobBucket",
    aws.VERSIONED: "FilesBucket",
}
"""moto's tables and buckets as the template calls them."""
QUEUE_OF = {"work": "WorkQueue", "poll": "PollQueue", "ingest": "IngestQueue", "chunks": "ChunkQueue"}
FUNCTION_OF = {"work": "worker", "poll": "poller", "ingest": "ingest", "chunks": "chunks"}
PREFIXES = {"incoming/": "${IncomingPrefix}", "results/": "${ResultsPrefix}"}
"""Of the files bucket, by the parameters' defaults."""
ACTIONS = {
    "HeadObject": "GetObject",
    "DeleteObjects": "DeleteObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "SendMessageBatch": "SendMessage",
}
"""What IAM calls them, where it calls them something else."""
forget_secrets: Callable[[], None] = parameters.clear_caches
WEBHOOK_KEY = "0123456789abcdef" * 4

Answer = dict[str, Any]
Right = tuple[str, str]
"""(action, resource), as `resources_of` writes resources."""


def rights(function: str) -> set[Right]:
    role = RESOURCES[f"{function.capitalize()}Role"]["Properties"]
    return {
        (action, resource)
        for _, statement in statements(role)
        for action in statement["Action"]
        for resource in resources_of(statement)
    }


RIGHTS = {function: rights(function) for function in TOLD}


def record(body: str, message_id: str, queue: str, receives: int = 1) -> dict[str, Any]:
    """A message as Lambda hands it over."""
    sample: dict[str, Any] = EVENTS["worker_sqs"]["Records"][0]
    return sample | {
        "messageId": message_id,
        "body": body,
        "md5OfBody": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
        "attributes": sample["attributes"] | {"ApproximateReceiveCount": str(receives)},
        "eventSourceARN": f"arn:aws:sqs:us-east-1:123456789012:embedonce-{queue}",
    }


class Stack:
    """The deployed functions. One invocation at a time."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, clients: AwsClients, fake: FakeSegmind, secrets: dict[str, str]
    ) -> None:
        self.clients = clients
        self.fake = fake
        self.operations: list[str] = []
        self.refused: list[Right] = []
        """What a role did not allow."""
        self.tickets = DynamoTickets(clients, aws.JOBS)
        self.access = DynamoAccess(clients, aws.ACCESS, SystemClock())
        self.key, self.key_record = issue(
            "tests", namespace=SHARED, scopes=frozenset({Scope.EMBED}), isolated=False, now=0
        )
        self.access.add(self.key_record)
        self.urls = {name: aws.queue_url(clients, name) for name in aws.QUEUES}
        self._monkeypatch = monkeypatch
        self._secrets = secrets
        self._resource_of = RESOURCE_OF | {url: QUEUE_OF[name] for name, url in self.urls.items()}
        self._resource_of |= {
            f"{url}-dead": QUEUE_OF[name].removesuffix("Queue") + "DeadLetters"
            for name, url in self.urls.items()
        }
        self._resource_of |= {arn: name for name, arn in secrets.items()}
        self._running: str | None = None
        self._ahead = 0.0
        self.parameters: dict[str, str] = {}
        """The template's, for functions that start from now on."""
        self.modules: dict[str, ModuleType] = {}

    def start(self, function: str, **parameters: str) -> None:
        """A cold start, with these parameters of the template."""
        forget_secrets()
        given = {"SegmindSecretArn": self._secrets["SegmindSecretArn"], "SegmindBaseUrl": self.fake.base_url}
        named = {f"stack-{logical.lower()}": name for name, logical in self._resource_of.items()}
        for name in list(os.environ):
            if name.startswith(("EMBEDONCE_", "GEMINI_", "SEGMIND_", "OPENROUTER_", "OPENAI_", "PUBLIC_")):
                self._monkeypatch.delenv(name)
        for name, value in deployed(function, **(given | self.parameters | parameters)).items():
            self._monkeypatch.setenv(name, named.get(value, value))
        entrypoint = f"embedonce.entrypoints.{function}"
        sys.modules.pop(entrypoint, None)
        module = self.modules[function] = importlib.import_module(entrypoint)
        for handler in module.telemetry.logger.handlers:
            handler.setStream(Stdout())
        if self._ahead:
            self._move(function)

    def stop(self) -> None:
        self.fake.release()
        for name, module in self.modules.items():
            getattr(module, "app" if name == "api" else "function").close()
            sys.modules.pop(f"embedonce.entrypoints.{name}", None)
        self.modules.clear()

    def later(self, seconds: float) -> None:
        """Move the clocks of all functions."""
        self._ahead = seconds
        for function in self.modules:
            self._move(function)

    def _move(self, function: str) -> None:
        seconds = self._ahead
        clock = getattr(self.modules[function], "app" if function == "api" else "function").clock
        assert isinstance(clock, SystemClock)
        self._monkeypatch.setattr(clock, "now", lambda: time.time() + seconds, raising=False)

    def invoke(self, function: str, event: dict[str, Any]) -> Any:
        if function not in self.modules:
            self.start(function)
        self.operations.clear()
        self._running = function
        try:
            milliseconds = 1000 * FUNCTIONS[f"{function.capitalize()}Function"]["Timeout"]
            answer = self.modules[function].handler(event, Context(milliseconds))
        finally:
            self._running = None
        return json.loads(json.dumps(answer))

    def check(self, service: str, operation: str, given: dict[str, Any]) -> None:
        """:raises ClientError: the running function's role does not allow it"""
        if self._running is None:
            return
        self.operations.append(f"{service}:{operation}")
        for right in self._asked_for(service, operation, given):
            if right not in RIGHTS[self._running]:
                self.refused.append(right)
                raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, operation)

    def _asked_for(self, service: str, operation: str, given: dict[str, Any]) -> list[Right]:
        operation = ACTIONS.get(operation, operation)
        match service:
            case "dynamodb":
                tables = given["RequestItems"] if "RequestItems" in given else [given["TableName"]]
                resources = [f"{self._resource_of[table]}.Arn" for table in tables]
                if "IndexName" in given:
                    resources = [f"${{{each}}}/index/{given['IndexName']}" for each in resources]
            case "s3":
                keys = (
                    [each["Key"] for each in given["Delete"]["Objects"]]
                    if "Delete" in given
                    else [given["Key"]]
                )
                if "VersionId" in given:
                    operation += "Version"
                bucket = self._resource_of[given["Bucket"]]
                folders = [key[: key.index("/") + 1] for key in keys]
                if bucket == "FilesBucket":
                    folders = [PREFIXES.get(folder, folder) for folder in folders]
                resources = [f"${{{bucket}.Arn}}/{folder}*" for folder in folders]
            case "sqs":
                resources = [f"{self._resource_of[given['QueueUrl']]}.Arn"]
            case "s3vectors":
                index = f"bucket/{given['vectorBucketName']}/index/{given['indexName']}"
                resources = [self._resource_of.get(index, index)]
            case _:
                resources = [self._resource_of[given["SecretId"]]]
        return [(f"{service}:{operation}", resource) for resource in resources]

    # ---- what callers and Lambda do

    def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        event = json.loads(json.dumps(EVENTS["submit"]))
        event["rawPath"] = event["requestContext"]["http"]["path"] = path
        event["requestContext"]["http"]["method"] = method
        event["headers"]["x-api-key"] = self.key
        event["body"] = json.dumps(body) if body is not None else ""
        answer = self.invoke("api", event)
        return answer["statusCode"], json.loads(answer["body"])

    def submit(self, **fields: Any) -> TicketRef:
        status, said = self.api("POST", "/v2/gemini-embedding-2", {"output_dimensionality": 768, **fields})
        assert (status, said["status"]) == (200, "QUEUED"), said
        return TicketRef(self.key_record.id, said["request_id"])

    def status(self, ref: TicketRef) -> str:
        code, said = self.api("GET", f"/v2/requests/{ref.id}/status")
        assert code == (422 if said["status"] == "FAILED" else 200)
        return str(said["status"])

    def ticket(self, ref: TicketRef) -> Ticket:
        found = self.tickets.get(ref)
        assert found is not None
        return found

    def messages(self, queue: str) -> list[dict[str, Any]]:
        """What is ready, as records."""
        answer = self.clients.sqs().receive_message(
            QueueUrl=self.urls[queue], MaxNumberOfMessages=10, WaitTimeSeconds=0
        )
        return [record(each["Body"], each["MessageId"], queue) for each in answer.get("Messages", [])]

    def deliver(self, queue: str, seconds: float = 10.0) -> list[dict[str, Any]]:
        """Wait for messages, and let their function handle them as one batch."""
        until = time.monotonic() + seconds
        while not (records := self.messages(queue)):
            assert time.monotonic() < until, f"nothing came into the queue {queue}"
            time.sleep(0.05)
        assert self.invoke(FUNCTION_OF[queue], {"Records": records}) == {"batchItemFailures": []}
        return records

    def blobs(self) -> list[str]:
        listed = self.clients.s3().list_objects_v2(Bucket=aws.BLOBS)
        return [each["Key"] for each in listed.get("Contents", [])]


_read_model = functools.cache(botocore.loaders.JSONFileLoader().load_file)
_list_services = functools.cache(botocore.loaders.Loader().list_available_services)


@pytest.fixture
def fake_segmind() -> Iterator[FakeSegmind]:
    with FakeSegmind() as server:
        server.job_polls = (0, 0)
        yield server


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch, powertools: None, fake_segmind: FakeSegmind) -> Iterator[Stack]:
    for name in list(os.environ):
        if name.startswith(("AWS_", "POWERTOOLS_")):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_LAMBDA_FUNCTION_NAME": Context.function_name,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(botocore.loaders.JSONFileLoader, "load_file", lambda self, path: _read_model(path))
    monkeypatch.setattr(
        botocore.loaders.Loader, "list_available_services", lambda self, type_name: _list_services(type_name)
    )
    # The package on Lambda has neither: whoever imports them there crashes.
    for name in ("wordllama", "embedonce.upstreams.embedded", "embedonce.local", "embedonce.stores.embedded"):
        monkeypatch.setitem(sys.modules, name, None)
    with mock_aws():
        clients = AwsClients()
        aws.create(clients)
        assert clients._session is not None
        manager: Any = clients._session.create_client("secretsmanager")
        secrets = {
            name: manager.create_secret(Name=name, SecretString=text)["ARN"]
            for name, text in (("SegmindSecretArn", fake_segmind.key), ("WebhookKey", WEBHOOK_KEY))
        }
        running = Stack(monkeypatch, clients, fake_segmind, secrets)
        base: Any = botocore.client.BaseClient
        real = base._make_api_call

        def watched(self: Any, operation: str, given: Any) -> Any:
            running.check(self.meta.service_model.service_name, operation, given)
            return real(self, operation, given)

        monkeypatch.setattr(base, "_make_api_call", watched)
        yield running
        running.stop()
        forget_secrets()
        clients.close()


# ---- the sample events


@pytest.mark.parametrize(("function", "name"), [("worker", "worker_sqs"), ("poller", "poller_sqs")])
def test_a_message_about_nothing_is_handled_with_one_read(function: str, name: str, stack: Stack) -> None:
    """A ticket that has expired, or never was: its message is not worth another delivery."""
    event = EVENTS[name]
    assert stack.invoke(function, event) == {"batchItemFailures": []}
    assert stack.operations == ["dynamodb:GetItem"] * len(event["Records"])
    assert stack.refused == []
    assert stack.fake.calls == 0


def test_the_janitor_finds_nothing_to_do(stack: Stack) -> None:
    assert stack.invoke("janitor", EVENTS["janitor_schedule"]) == {"nudged": 0, "settled": 0}
    assert set(stack.operations) == {"dynamodb:Query"}
    assert stack.refused == []


def test_the_sample_submission_is_accepted_and_its_status_told(stack: Stack) -> None:
    event = json.loads(json.dumps(EVENTS["submit"]))
    event["headers"]["x-api-key"] = stack.key
    answer = stack.invoke("api", event)
    said = json.loads(answer["body"])
    host = event["headers"]["host"]
    assert answer["statusCode"] == 200
    assert said["status_url"] == f"https://{host}/v2/requests/{said['request_id']}/status"
    (message,) = stack.messages("work")
    assert ref_of(message["body"]) == TicketRef(stack.key_record.id, said["request_id"])
    event = json.loads(json.dumps(EVENTS["request_status"]))
    event["headers"]["x-api-key"] = stack.key
    assert stack.invoke("api", event)["statusCode"] == 404, "the sample's id is nobody's"
    event["rawPath"] = f"/v2/requests/{said['request_id']}/status"
    assert json.loads(stack.invoke("api", event)["body"])["status"] == "QUEUED"
    assert stack.refused == []


# ---- the way of a ticket


def test_from_submission_to_result(stack: Stack) -> None:
    ref = stack.submit(input="The cat sat on the mat.")
    assert stack.status(ref) == "QUEUED"
    stack.deliver("work")
    assert stack.fake.submissions.total() == 1
    stack.deliver("poll")
    while stack.ticket(ref).open:
        stack.deliver("poll")
    assert stack.status(ref) == "COMPLETED"
    code, said = stack.api("GET", f"/v2/requests/{ref.id}")
    assert code == 200
    assert said["output"]
    assert stack.fake.submissions.total() == 1
    assert stack.fake.requests[-1].headers["x-api-key"] == stack.fake.key
    assert stack.refused == []
    # The vector is in the cache now: the next one is done when it is submitted, without a message.
    again = stack.submit(input="The cat sat on the mat.")
    assert stack.status(again) == "COMPLETED"
    assert stack.messages("work") == []
    assert stack.fake.submissions.total() == 1


def test_a_doubled_message_is_bought_once_and_an_unreadable_one_comes_back(stack: Stack) -> None:
    ref = stack.submit(input="twice")
    (message,) = stack.messages("work")
    records = [message, message | {"messageId": "the-double"}]
    records += [record(body, name, "work") for name, body in (("bad-1", "{}"), ("bad-2", "no JSON"))]
    answer = stack.invoke("worker", {"Records": records})
    assert answer == {"batchItemFailures": [{"itemIdentifier": "bad-1"}, {"itemIdentifier": "bad-2"}]}
    assert stack.fake.submissions.total() == 1
    assert stack.ticket(ref).stage is Stage.POLL
    assert stack.refused == []


def test_only_what_cannot_be_done_now_comes_back_from_the_poller(stack: Stack) -> None:
    ref = stack.submit(input="once")
    stack.deliver("work")
    records = [record(body_of(ref), "good", "poll"), record("[]", "bad", "poll")]
    assert stack.invoke("poller", {"Records": records}) == {"batchItemFailures": [{"itemIdentifier": "bad"}]}
    stack.clients.dynamodb().delete_table(TableName=aws.JOBS)
    records = [record(body_of(ref), f"{i}", "poll") for i in range(2)]
    answer = stack.invoke("poller", {"Records": records})
    assert answer == {"batchItemFailures": [{"itemIdentifier": "0"}, {"itemIdentifier": "1"}]}


def test_a_key_revoked_before_the_worker_comes_pays_for_nothing(stack: Stack) -> None:
    ref = stack.submit(input="too late")
    assert stack.access.revoke(stack.key_record.id, int(time.time()))
    stack.deliver("work")
    assert stack.fake.calls == 0
    state = stack.ticket(ref).state
    assert isinstance(state, Failed)
    assert state.code == Unauthenticated.code
    assert stack.refused == []


def test_media_travel_as_a_blob_which_is_deleted_after_use(stack: Stack) -> None:
    ref = stack.submit(audio=base64.b64encode(wav(seconds=1)).decode())
    (payload,) = stack.blobs()
    assert payload.startswith(f"payloads/{ref.key}/")
    stack.deliver("work")
    assert stack.refused == []
    while stack.ticket(ref).open:
        stack.deliver("poll")
    assert stack.refused == []
    assert stack.blobs() == []
    assert stack.status(ref) == "COMPLETED"


def test_the_api_deletes_the_payload_of_what_it_finds_done(stack: Stack) -> None:
    sound = base64.b64encode(wav(seconds=1)).decode()
    first, second = stack.submit(audio=sound), stack.submit(audio=sound)
    stack.deliver("work")
    for message in stack.messages("work"):
        stack.invoke("worker", {"Records": [message]})
    while stack.ticket(first).open:
        stack.invoke("poller", {"Records": [record(body_of(first), "first", "poll")]})
        time.sleep(0.1)
    assert stack.ticket(second).open
    assert stack.status(second) == "COMPLETED"
    assert not any(second.id in key for key in stack.blobs())
    assert stack.fake.submissions.total() == 1


def test_an_upload_is_put_by_url_and_fetched_by_the_provider(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 MB: ten times what Lambda takes or gives, and none of it passes through the API function."""
    sound = wav(150, rate=400_000, tone=7)
    asked = {"size": len(sound), "sha256": hashlib.sha256(sound).hexdigest(), "content_type": "audio/wav"}
    code, leave = stack.api("POST", "/v2/uploads", asked)
    assert code == 200
    assert "dynamodb:UpdateItem" in stack.operations
    key = urlsplit(leave["upload_url"]).path.removeprefix("/")
    assert key.startswith(f"uploads/{stack.key_record.id}/")
    # moto answers `requests` too; it takes the URL without checking what is signed.
    assert requests.put(leave["upload_url"], data=sound, headers=leave["headers"], timeout=30).ok
    stored = stack.clients.blobs().head_object(Bucket=aws.BLOBS, Key=key)
    assert stored["ContentLength"] == len(sound) >= 60_000_000
    links: list[str] = []

    def fetched(given: str) -> str:
        """What is too large to be sent is a short-lived URL of our own copy."""
        links.append(given)
        return base64.b64encode(requests.get(given, timeout=30).content).decode()

    monkeypatch.setattr(stack.fake, "fetches", True)
    monkeypatch.setattr(stack.fake, "_fetched", fetched)
    ref = stack.submit(audio=leave["handle"])
    stack.deliver("work")
    while stack.ticket(ref).open:
        stack.deliver("poll")
    assert stack.status(ref) == "COMPLETED"
    assert stack.fake.submissions == {f"sha256:{hashlib.sha256(sound).hexdigest()}": 1}
    assert [urlsplit(link).path.removeprefix("/") for link in links] == [key]
    assert stack.refused == []
    code, _ = stack.api("POST", "/v2/gemini-embedding-2", {"audio": leave["handle"][:-1] + "x"})
    assert code == 400
    assert stack.refused == []


def test_the_api_tells_a_keys_webhook_secret(stack: Stack) -> None:
    code, said = stack.api("GET", "/v2/webhooks/secret")
    assert code == 200
    assert said["secret"].startswith("whsec_")
    assert WEBHOOK_KEY not in said["secret"]
    assert "secretsmanager:GetSecretValue" in stack.operations
    assert stack.refused == []


# ---- the janitor


def test_a_lost_message_is_sent_anew(stack: Stack) -> None:
    ref = stack.submit(input="forgotten")
    stack.clients.sqs().purge_queue(QueueUrl=stack.urls["work"])
    tick = EVENTS["janitor_schedule"]
    assert stack.invoke("janitor", tick) == {"nudged": 0, "settled": 0}, "it is not overdue yet"
    stack.later(90)
    assert stack.invoke("janitor", tick) == {"nudged": 1, "settled": 0}
    assert stack.invoke("janitor", tick) == {"nudged": 0, "settled": 0}, "not again before two minutes"
    (message,) = stack.messages("work")
    assert ref_of(message["body"]) == ref
    assert isinstance(stack.ticket(ref).state, Open)
    assert stack.refused == []


def test_what_is_past_its_deadline_fails_and_its_payload_is_deleted(stack: Stack) -> None:
    stack.start("api", JobTimeout="60")
    ref = stack.submit(audio=base64.b64encode(wav(seconds=1)).decode())
    stack.start("janitor")
    stack.later(61)
    assert stack.invoke("janitor", EVENTS["janitor_schedule"]) == {"nudged": 0, "settled": 1}
    assert stack.status(ref) == "FAILED"
    assert stack.blobs() == []
    assert stack.fake.calls == 0
    assert stack.refused == []


# ---- metrics, and what the processes load


def test_failed_messages_are_counted(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    stack.invoke("worker", {"Records": [record("{}", "bad", "work")]})
    counted = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "_aws" in line]
    assert [line["MessagesFailed"] for line in counted] == [[1.0]]
    assert all(line["service"] == "embedonce" for line in counted)


@pytest.mark.parametrize("function", ["worker", "poller", "janitor", "ingest", "chunks"])
def test_a_cold_start_loads_nothing_that_is_not_in_the_package(function: str) -> None:
    program = f"import embedonce.entrypoints.{function}, json, sys; print(json.dumps(sorted(sys.modules)))"
    environment = {"PYTHONPATH": str(ROOT / "src"), "AWS_REGION": "us-east-1", **deployed(function)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    unwanted = {
        *("wordllama", "tokenizers", "embedonce.upstreams.embedded"),
        *("embedonce.local", "embedonce.stores.embedded", "sqlite3", "uvicorn", "typer"),
        *("aws_xray_sdk", "aws_lambda_powertools.event_handler", "boto3"),
    }
    if function == "janitor":
        unwanted |= {"httpx", "embedonce.upstreams.transport"}
    # Who cuts starts parsers, and loads none itself.
    unwanted |= {"av", "pypdf"} if function == "ingest" else {"embedonce.segmenting"}
    assert not loaded & unwanted


def test_usage_is_reported_by_what_the_roles_allow(stack: Stack) -> None:
    """Of the key that asks, and of all for an administrator, queues included."""
    stack.submit(input="counted")
    for queue in ("work", "poll"):
        stack.deliver(queue)
    status, own = stack.api("GET", "/v1/usage")
    assert (status, own["scope"]) == (200, "key")
    assert own["total"]["jobs"] == {"submitted": 1, "completed": 1, "failed": 0}
    assert own["total"]["usd"]["settled"] > own["total"]["usd"]["reserved"] == 0
    administrator, record = issue(
        "administrator", namespace=SHARED, scopes=frozenset({Scope.ADMIN}), isolated=False, now=1
    )
    stack.access.add(record)
    stack.key = administrator
    status, everything = stack.api("GET", "/v1/usage")
    assert (status, everything["scope"]) == (200, "all"), everything
    assert {key["id"] for key in everything["keys"]} == {stack.key_record.id, record.id}
    assert everything["total"] == own["total"]
    assert [queue["name"] for queue in everything["queues"]] == ["work", "poll"]
    assert everything["deployment"]["today_committed_usd"] == own["total"]["usd"]["settled"]
