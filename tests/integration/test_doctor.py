"""`embedonce doctor` as it is run: real folders and databases, fake providers, moto."""

from __future__ import annotations

import functools
import json
import logging
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import botocore.loaders
import botocore.session
import pytest
from aws_lambda_powertools.utilities.parameters.base import clear_caches
from moto import mock_aws
from typer.testing import CliRunner, Result

from embedonce import __version__
from embedonce.access.keys import SHARED, Scope, issue
from embedonce.bootstrap.stores import DATABASE_FILE, open_stores
from embedonce.cli.main import app
from embedonce.clock import SystemClock
from embedonce.config import load
from embedonce.core.ticket import Stage, TicketRef
from embedonce.doctor.answers import composed
from embedonce.doctor.aws import aws_checks
from embedonce.doctor.awscalls import Aws
from embedonce.doctor.check import Check
from embedonce.doctor.comparison import SAME
from embedonce.doctor.examine import examine, machine_checks
from embedonce.stores.aws.access import DynamoAccess
from embedonce.stores.aws.clients import AwsClients
from fakes import openrouter, segmind
from fakes.behaviour import Behaviour
from fakes.google import FakeGoogle
from fakes.openrouter import FakeOpenRouter, closed_port
from fakes.provider import FakeProvider
from fakes.segmind import FakeSegmind
from support import aws
from support.adapters import execute
from support.aws import PatchedClients, refused
from support.clock import FakeClock
from support.process import OURS

CANARY = "canary-said-by-a-provider"
OPENROUTER = "/api/v1/key"
GOOGLE = "/v1beta/models?pageSize=1"
SEGMIND = "/v1/get-user-credits"


@dataclass
class Free:
    """What a fake answers to GETs, by path, and who asked."""

    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    asked: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)

    def on(self, fake: FakeProvider) -> None:
        kind = fake._server.RequestHandlerClass
        free = self

        class Handler(kind):  # type: ignore[misc, valid-type]
            def do_GET(self) -> None:
                if self.path not in free.answers:
                    super().do_GET()
                    return
                free.asked.append((self.path, {n.lower(): v for n, v in self.headers.items()}))
                status, body = free.answers[self.path]
                self._send(status, json.dumps(body).encode())

        fake._server.RequestHandlerClass = Handler


@dataclass
class Providers:
    google: FakeGoogle
    openrouter: FakeOpenRouter
    segmind: FakeSegmind
    free: Free

    def environ(self, *names: str) -> dict[str, str]:
        settings = {"google": ("GEMINI", self.google), "openrouter": ("OPENROUTER", self.openrouter)}
        settings["segmind"] = ("SEGMIND", self.segmind)  # type: ignore[assignment]
        given = {}
        for name in names:
            prefix, fake = settings[name]
            given |= {f"{prefix}_API_KEY": fake.key, f"{prefix}_BASE_URL": fake.base_url}
        return given

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.google.key, self.openrouter.key, self.segmind.key, CANARY)

    @property
    def billed(self) -> int:
        return sum(each.inputs_billed for each in (self.google, self.openrouter, self.segmind))


@pytest.fixture
def providers() -> Iterator[Providers]:
    with FakeGoogle() as google, FakeOpenRouter() as openrouter, FakeSegmind() as segmind:
        free = Free(
            {
                OPENROUTER: (200, {"data": {"label": CANARY, "limit_remaining": 4.5}}),
                GOOGLE: (200, {"models": [{"name": CANARY}]}),
                SEGMIND: (200, {"credits": 0.0, "free-credits": 0.02}),
            }
        )
        for each in (google, openrouter, segmind):
            free.on(each)
        yield Providers(google, openrouter, segmind, free)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(OURS):
            monkeypatch.delenv(name)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def local(data: Path) -> dict[str, str]:
    return {"EMBEDONCE_DATA_DIR": str(data), "PORT": "0"}


@pytest.fixture
def stored(data: Path, local: dict[str, str]) -> Path:
    """A data folder that was in use."""
    stores = open_stores(load(local), SystemClock())
    stores.close()
    (data / "development.key").touch(0o600)
    return data


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments], env={"COLUMNS": "300", **environ})


def by_name(checks: list[Check], name: str) -> Check:
    (found,) = [each for each in checks if each.name == name]
    return found


def machine(environ: dict[str, str]) -> list[Check]:
    settings = load(environ)
    parts, _ = composed(settings, SystemClock())
    assert parts is not None
    return machine_checks(settings, tuple(rule.terms.payer for rule in parts.rules), SystemClock(), [])


def worst(checks: list[Check], name: str) -> Check:
    order = ["ok", "skipped", "warning", "problem"]
    return max((each for each in checks if each.name == name), key=lambda each: order.index(each.state))


# ---- the command


def test_all_is_well(providers: Providers, stored: Path, local: dict[str, str]) -> None:
    environ = local | providers.environ("google", "openrouter", "segmind")
    done = run(**environ)
    assert done.exit_code == 0, done.stdout
    assert "problem" not in done.stdout
    asked = dict(providers.free.asked)
    assert asked[OPENROUTER]["authorization"] == f"Bearer {providers.openrouter.key}"
    assert asked[GOOGLE]["x-goog-api-key"] == providers.google.key
    assert asked[SEGMIND]["x-api-key"] == providers.segmind.key
    assert providers.billed == 0
    said = json.loads(run("--json", **environ).stdout)
    assert said["ok"] is True
    states = {each["check"]: each["state"] for each in said["checks"]}
    for name in ("data folder", "file modes", "database", "schema", "queues", "API keys", "port", "clock"):
        assert states[name] == "ok", name
    for name in ("google", "openrouter", "segmind"):
        assert states[f"upstream {name}"] == "ok"


def test_settings_that_do_not_load_are_the_problem_and_their_values_are_not_shown() -> None:
    done = run("--json", PORT=CANARY)
    assert done.exit_code == 1
    first = json.loads(done.stdout)["checks"][0]
    assert (first["check"], first["state"]) == ("settings", "problem")
    assert first["said"].startswith("PORT")
    assert CANARY not in done.output


def test_nothing_is_made_and_nothing_changes(data: Path, local: dict[str, str]) -> None:
    assert run(**local).exit_code == 0
    assert not data.exists()
    open_stores(load(local), SystemClock()).close()
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    assert run(**local).exit_code == 0
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before


def test_no_secret_is_shown_or_logged(
    providers: Providers, local: dict[str, str], stored: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    environ = local | providers.environ("google", "openrouter", "segmind")
    environ |= {"EMBEDONCE_LOG_LEVEL": "DEBUG", "EMBEDONCE_DEV_KEY": CANARY}
    said = ""
    for status, body in ((200, {"error": CANARY}), (401, {"error": {"message": CANARY}}), (500, CANARY)):
        for path in providers.free.answers:
            providers.free.answers[path] = (status, body)
        for more in ((), ("--json",), ("upstreams", "--yes"), ("upstreams", "--yes", "--json")):
            said += run(*more, **environ).output
    providers.google.always(Behaviour("status", code=400, text=CANARY))
    said += run("upstreams", "--yes", **environ).output
    for secret in providers.secrets:
        assert secret not in said
        assert secret not in caplog.text
    assert "ferry" not in said + caplog.text


# ---- upstream keys and the clock


@pytest.mark.parametrize(
    ("name", "path", "answer", "state", "remedy"),
    [
        ("openrouter", OPENROUTER, (401, {}), "problem", "OPENROUTER_API_KEY is wrong"),
        ("openrouter", OPENROUTER, (403, {}), "problem", "allow it this API"),
        ("openrouter", OPENROUTER, (402, {}), "problem", "add credits"),
        ("openrouter", OPENROUTER, (429, {}), "warning", "wait"),
        ("openrouter", OPENROUTER, (502, {}), "warning", "try again"),
        ("openrouter", OPENROUTER, (404, {}), "skipped", "doctor upstreams"),
        ("openrouter", OPENROUTER, (307, {}), "problem", "OPENROUTER_BASE_URL"),
        ("openrouter", OPENROUTER, (200, []), "warning", "base URL"),
        ("openrouter", OPENROUTER, (200, {"data": {"limit_remaining": 0}}), "problem", "add credits"),
        ("openrouter", OPENROUTER, (200, {"data": {"is_management_key": True}}), "problem", "ordinary"),
        (
            "google",
            GOOGLE,
            (400, {"error": {"details": [{"reason": "API_KEY_INVALID"}]}}),
            "problem",
            "wrong",
        ),
        ("google", GOOGLE, (400, {"error": {"status": "INVALID_ARGUMENT"}}), "problem", "report it"),
        ("segmind", SEGMIND, (406, {}), "problem", "spend limit"),
        ("segmind", SEGMIND, (200, {"credits": 0, "free-credits": 0.0}), "problem", "add credits"),
    ],
)
def test_what_a_provider_says_of_the_key(
    name: str, path: str, answer: tuple[int, Any], state: str, remedy: str, providers: Providers
) -> None:
    providers.free.answers[path] = answer
    found = by_name(examine(providers.environ(name) | {"PORT": "0"}), f"upstream {name}")
    assert found.state == state
    assert remedy in found.remedy


def test_a_provider_that_cannot_be_reached_or_has_no_key_is_a_problem(local: dict[str, str]) -> None:
    nowhere = {"GEMINI_API_KEY": "k", "GEMINI_BASE_URL": f"http://127.0.0.1:{closed_port()}"}
    found = examine(local | nowhere | {"EMBEDONCE_UPSTREAMS": "google,segmind"})
    assert "DNS" in by_name(found, "upstream google").remedy
    assert "SEGMIND_API_KEY" in by_name(found, "upstream segmind").remedy


def test_an_openai_compatible_server_lists_its_models_or_does_not(
    providers: Providers, local: dict[str, str]
) -> None:
    environ = local | {
        "OPENAI_COMPATIBLE_BASE_URL": f"{providers.openrouter.origin}/v1",
        "OPENAI_COMPATIBLE_MODEL": "bge-m3",
        "OPENAI_COMPATIBLE_DIMENSIONS": "1024",
        "EMBEDONCE_UPSTREAMS": "openai_compatible",
    }
    line = "upstream openai_compatible"
    assert by_name(examine(environ), line).state == "skipped"
    providers.free.answers["/v1/models"] = (200, {"data": [{"id": "bge-m3"}]})
    assert by_name(examine(environ), line).state == "ok"
    assert "authorization" not in providers.free.asked[-1][1]
    providers.free.answers["/v1/models"] = (200, {"data": [{"id": CANARY}]})
    found = by_name(examine(environ), line)
    assert (found.state, CANARY in str(found)) == ("warning", False)


def test_a_clock_that_is_off_is_a_problem(providers: Providers, local: dict[str, str]) -> None:
    environ = local | providers.environ("google")
    assert by_name(examine(environ), "clock").state == "ok"
    off = by_name(examine(environ, FakeClock(SystemClock().now() - 300)), "clock")
    assert off.state == "problem"
    assert "behind google's" in off.said


# ---- one machine


def test_modes_of_files_and_folder(stored: Path, local: dict[str, str]) -> None:
    (stored / "development.key").chmod(0o644)
    stored.chmod(0o755)
    found = [each for each in machine(local) if each.name == "file modes"]
    assert [each.state for each in found] == ["warning", "problem"]
    assert f"chmod 0600 {stored / 'development.key'}" in found[1].remedy
    (stored / DATABASE_FILE).chmod(0o640)
    assert "others can read embedonce.sqlite3" in str(machine(local))
    assert stat.S_IMODE((stored / "development.key").stat().st_mode) == 0o644, "nothing is changed"


def test_a_folder_that_is_none_or_is_full(
    stored: Path, local: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stored / "inbox").touch()
    assert worst(machine(local), "folders").said == "inbox is no folder"
    (tmp_path / "file").touch()
    inside = local | {"EMBEDONCE_DATA_DIR": str(tmp_path / "file")}
    assert by_name(machine(inside), "data folder").state == "problem"

    def read_only(**_: Any) -> Any:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("embedonce.doctor.folder.tempfile.TemporaryFile", read_only)
    assert "Read-only" in by_name(machine(local), "data folder").said
    for free, state in ((50 << 20, "problem"), (500 << 20, "warning")):
        room = SimpleNamespace(free=free)
        monkeypatch.setattr("embedonce.doctor.folder.shutil.disk_usage", lambda _, room=room: room)
        assert by_name(machine(local), "disk space").state == state


def test_a_home_folder_that_is_not_expanded(local: dict[str, str]) -> None:
    found = by_name(machine(local | {"EMBEDONCE_DATA_DIR": "~/embedonce"}), "data folder")
    assert (found.state, found.remedy) == ("problem", "write the whole path")


def test_a_damaged_a_foreign_and_a_newer_database(stored: Path, local: dict[str, str]) -> None:
    path = stored / DATABASE_FILE
    execute(path, "PRAGMA user_version = 99")
    assert "newer version" in by_name(machine(local), "schema").remedy
    execute(path, "PRAGMA user_version = 2")
    assert by_name(machine(local), "schema").state == "ok"
    execute(path, "CREATE TABLE big (x)")
    execute(path, "INSERT INTO big SELECT hex(randomblob(4000)) FROM (VALUES (1), (2), (3), (4))")
    execute(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    for name in ("-wal", "-shm"):
        (stored / f"{DATABASE_FILE}{name}").unlink(missing_ok=True)
    page = int.from_bytes(whole[16:18], "big")
    path.write_bytes(whole[: page * 4] + b"\xff" * page * 4 + whole[page * 8 :])
    found = worst(machine(local), "database")
    assert (found.state, "put a copy" in found.remedy) == ("problem", True)
    path.write_bytes(b"this is no database at all" * 1000)
    found = worst(machine(local), "database")
    assert (found.state, "NOTADB" in found.said) == ("problem", True)


def test_a_check_that_takes_too_long_is_given_up(
    stored: Path, local: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedonce.doctor.rows.INTEGRITY_SECONDS", -1.0)
    monkeypatch.setattr("embedonce.doctor.rows.STEPS", 1)
    assert worst(machine(local), "database").state == "warning"


def test_dead_letters_and_what_stands_still(stored: Path, local: dict[str, str]) -> None:
    stores = open_stores(load(local), SystemClock())
    stores.queues[Stage.WORK].send(TicketRef("owner", "0" * 32))
    stores.queues[Stage.POLL].send(TicketRef("owner", "1" * 32))
    stores.close()
    path = stored / DATABASE_FILE
    execute(path, "UPDATE messages SET dead = 1 WHERE queue = 'work'")
    execute(path, "UPDATE messages SET ready = ready - 7300 WHERE queue = 'poll'")
    found = {each.said: each.remedy for each in machine(local) if each.name == "queues"}
    assert "embedonce queues redrive work" in found["work: 1 dead letters, the oldest 0 s old"]
    assert "start the server" in found["poll: 1 messages wait, the oldest 2 hours old"]


def test_keys_that_rules_name(stored: Path, local: dict[str, str]) -> None:
    rules = json.dumps([{"prefix": "a/", "key": "key_0000000000000000"}, {"prefix": "b/"}])
    found = worst(machine(local | {"EMBEDONCE_INGEST_RULES": rules}), "API keys")
    assert (found.state, "keys list" in found.remedy) == ("warning", True)
    assert worst(machine(local), "API keys").state == "ok"


def test_a_port_that_is_free_ours_or_taken(local: dict[str, str], providers: Providers) -> None:
    def port(number: int) -> Check:
        return by_name(machine(local | {"PORT": str(number)}), "port")

    assert port(closed_port()).said.endswith("is free")
    taken = providers.openrouter.port
    assert port(taken).state == "problem"
    providers.free.answers["/health"] = (200, {"status": "ok", "version": __version__})
    assert port(taken).said.startswith("embedonce serves on")
    providers.free.answers["/health"] = (200, {"status": "ok", "version": CANARY})
    assert port(taken).state == "warning"
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        elsewhere = local | {"HOST": "192.0.2.1", "PORT": str(silent.getsockname()[1])}
    assert "choose another HOST" in by_name(machine(elsewhere), "port").remedy


# ---- AWS

_read_model = functools.cache(botocore.loaders.JSONFileLoader().load_file)


@dataclass
class Stack:
    clients: AwsClients
    environ: dict[str, str]

    def checks(self, clients: AwsClients | None = None, **environ: str) -> list[Check]:
        settings = load(self.environ | environ)
        return aws_checks(settings, (), Aws(SystemClock()), clients or self.clients)


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch, providers: Providers) -> Iterator[Stack]:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name}", CANARY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(botocore.loaders.JSONFileLoader, "load_file", lambda self, path: _read_model(path))
    clear_caches()
    with mock_aws():
        clients = AwsClients()
        aws.create(clients)
        dynamodb: Any = clients.dynamodb()
        for table in (aws.VECTORS, aws.FLIGHTS, aws.JOBS, aws.USAGE):
            ttl = {"Enabled": True, "AttributeName": "e"}
            dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=ttl)
        _, record = issue("t", namespace=SHARED, scopes=frozenset({Scope.EMBED}), isolated=False, now=0)
        DynamoAccess(clients, aws.ACCESS, SystemClock()).add(record)
        put_secret("google", providers.google.key)
        put_secret("hooks", CANARY * 3)
        environ = {
            "EMBEDONCE_MODE": "aws",
            "EMBEDONCE_VECTORS_TABLE": aws.VECTORS,
            "EMBEDONCE_FLIGHTS_TABLE": aws.FLIGHTS,
            "EMBEDONCE_ACCESS_TABLE": aws.ACCESS,
            "EMBEDONCE_JOBS_TABLE": aws.JOBS,
            "EMBEDONCE_USAGE_TABLE": aws.USAGE,
            "EMBEDONCE_BLOB_BUCKET": aws.BLOBS,
            "EMBEDONCE_CACHE_BUCKET": aws.BUCKET,
            "EMBEDONCE_INGEST_BUCKET": aws.SOURCES,
            "EMBEDONCE_RESULTS_BUCKET": aws.RESULTS,
            "GEMINI_API_KEY_SECRET": "google",
            "GEMINI_BASE_URL": providers.google.base_url,
            "EMBEDONCE_WEBHOOK_KEY_SECRET": "hooks",
        }
        for name, setting in (("work", "WORK"), ("poll", "POLL"), ("ingest", "INGEST"), ("chunks", "CHUNK")):
            environ[f"EMBEDONCE_{setting}_QUEUE_URL"] = aws.queue_url(clients, name)
        yield Stack(clients, environ)
        clients.close()
    clear_caches()


def put_secret(name: str, text: str) -> None:
    botocore.session.get_session().create_client("secretsmanager").create_secret(Name=name, SecretString=text)


def test_a_sound_stack(stack: Stack, providers: Providers, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    found = examine(stack.environ)
    bad = [each for each in found if each.state not in ("ok", "skipped")]
    assert [each.said for each in bad] == [
        "files are picked up and no rule says how: each result is an error"
    ]
    assert by_name(found, "upstream google").state == "ok"
    assert by_name(found, "clock").state == "ok"
    lines = {each.name for each in found}
    assert {"table jobs", "expiry jobs", f"bucket {aws.BUCKET}", "queue work", "API keys"} <= lines
    for secret in providers.secrets:
        assert secret not in str(found)
        assert secret not in caplog.text


def test_what_is_not_there_is_named_by_its_setting(stack: Stack) -> None:
    found = stack.checks(
        EMBEDONCE_VECTORS_TABLE="gone",
        EMBEDONCE_JOBS_TABLE=aws.FLIGHTS,
        EMBEDONCE_CACHE_BUCKET="gone-bucket",
        EMBEDONCE_WORK_QUEUE_URL=f"{stack.environ['EMBEDONCE_WORK_QUEUE_URL']}-gone",
        GEMINI_API_KEY_SECRET="gone-secret",
    )
    for line, setting in (
        ("table gone", "EMBEDONCE_VECTORS_TABLE"),
        ("bucket gone-bucket", "EMBEDONCE_CACHE_BUCKET"),
        ("queue work-gone", "EMBEDONCE_WORK_QUEUE_URL"),
        ("secret GEMINI_API_KEY_SECRET", "GEMINI_API_KEY_SECRET"),
    ):
        one = by_name(found, line)
        assert one.state == "problem"
        assert f"correct {setting}" in one.remedy
    assert not [each for each in found if each.name == "expiry gone"], "said once"
    wrong = worst(found, f"table {aws.FLIGHTS}")
    assert "EMBEDONCE_JOBS_TABLE seems to name something else" in wrong.remedy


def test_what_is_forbidden_is_named_by_its_action(stack: Stack) -> None:
    def always(real: Any, **_: Any) -> Any:
        raise refused("AccessDeniedException")

    def s3_forbids(real: Any, **_: Any) -> Any:
        raise refused("AccessDenied")

    calls = dict.fromkeys(("batch_get_item", "get_queue_attributes", "describe_time_to_live"), always)
    found = stack.checks(PatchedClients(stack.clients, **calls, get_object=s3_forbids))
    assert "dynamodb:BatchGetItem" in by_name(found, f"table {aws.VECTORS}").remedy
    assert "sqs:GetQueueAttributes" in by_name(found, "queue work").remedy
    assert by_name(found, f"expiry {aws.JOBS}").state == "skipped"
    assert by_name(found, "API keys").state == "skipped"
    assert "allow s3:GetObject below vectors/v1/ " in by_name(found, f"bucket {aws.BUCKET}").remedy
    found = stack.checks(PatchedClients(stack.clients, get_object=s3_forbids, head_bucket=s3_forbids))
    assert "what is not there yet looks forbidden" in by_name(found, f"bucket {aws.BUCKET}").remedy
    assert by_name(found, f"bucket {aws.RESULTS}").state == "skipped"
    assert "secret data" not in str(found)
    found = stack.checks(PatchedClients(stack.clients, query=always))
    assert "allow dynamodb:Query on the index due" in by_name(found, "table jobs").remedy


def test_queues_expiry_and_secrets_that_are_odd(stack: Stack) -> None:
    sqs, dynamodb = stack.clients.sqs(), stack.clients.dynamodb()
    dead = aws.queue_url(stack.clients, "work-dead")
    sqs.send_message(QueueUrl=dead, MessageBody="x")
    sqs.set_queue_attributes(
        QueueUrl=stack.environ["EMBEDONCE_POLL_QUEUE_URL"], Attributes={"VisibilityTimeout": "5"}
    )
    off: Any = {"Enabled": False, "AttributeName": "e"}
    dynamodb.update_time_to_live(TableName=aws.FLIGHTS, TimeToLiveSpecification=off)
    on: Any = {"Enabled": True, "AttributeName": "e"}
    dynamodb.update_time_to_live(TableName=aws.ACCESS, TimeToLiveSpecification=on)
    put_secret("json", '{"key": "x"}')
    put_secret("short", "x")
    found = stack.checks(OPENROUTER_API_KEY_SECRET="json", EMBEDONCE_WEBHOOK_KEY_SECRET="short")
    assert "redrive" in by_name(found, "queue work").remedy
    assert "visibility" in by_name(found, "queue poll").remedy
    assert "update-time-to-live" in by_name(found, f"expiry {aws.FLIGHTS}").remedy
    assert by_name(found, f"expiry {aws.ACCESS}").state == "problem"
    assert "JSON" in by_name(found, "secret OPENROUTER_API_KEY_SECRET").said
    assert "less than 32" in by_name(found, "secret EMBEDONCE_WEBHOOK_KEY_SECRET").said
    ssm = botocore.session.get_session().create_client("ssm")
    ssm.put_parameter(Name="/key", Value="sk-or-x", Type="SecureString")
    found = stack.checks(OPENROUTER_API_KEY_SECRET="/key", SEGMIND_API_KEY_SECRET="/nowhere")
    assert by_name(found, "secret OPENROUTER_API_KEY_SECRET").state == "ok"
    assert "correct SEGMIND_API_KEY_SECRET" in by_name(found, "secret SEGMIND_API_KEY_SECRET").remedy
    found = stack.checks(EMBEDONCE_CACHE_BUCKET="No Bucket")
    assert by_name(found, "bucket No Bucket").said == "EMBEDONCE_CACHE_BUCKET is malformed"


def test_no_credentials_and_no_keys(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    aws_access = DynamoAccess(stack.clients, aws.ACCESS, SystemClock())
    aws_access.revoke(aws_access.list()[0].id, 1)
    assert "keys create" in by_name(stack.checks(), "API keys").remedy
    monkeypatch.setattr(botocore.session.Session, "get_credentials", lambda self: None)
    found = stack.checks()
    assert (found[0].state, "AWS_PROFILE" in found[0].remedy, len(found)) == ("problem", True, 2)


# ---- doctor upstreams


def compared(*arguments: str, **environ: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    done = run("upstreams", "--yes", "--json", *arguments, **environ)
    said = json.loads(done.stdout)
    return done.exit_code, said, {each["check"]: each["said"] for each in said["checks"]}


def test_one_space_is_confirmed_and_another_is_apart(providers: Providers, local: dict[str, str]) -> None:
    environ = local | providers.environ("google", "openrouter", "segmind")
    code, said, lines = compared("--media", **environ)
    assert code == 0
    assert lines["same space google, openrouter"].startswith("confirmed: declared as one space")
    assert "7 of 7 are equal bit for bit" in lines["same space google, openrouter"]
    assert lines["same space google, segmind"].startswith("confirmed: declared as two spaces")
    pair = said["measured"][0]
    assert (pair["pair"], pair["agree"], pair["bit_equal"]) == (["google", "openrouter"], True, 7)
    cuts = [each for each in said["measured"] if "truncation" in each]
    assert len(cuts) == 6
    assert all(each["largest_difference"] < 1e-6 for each in cuts)
    assert lines["truncation google"].startswith("confirmed")
    assert lines["task segmind"].startswith("confirmed, the parameter counts")
    assert float(said["spent_usd"]) <= float(said["most_usd"]) < 0.01
    assert not Path(local["EMBEDONCE_DATA_DIR"]).exists(), "nothing is stored"
    assert providers.openrouter.calls == 7
    assert providers.segmind.calls == 19


def test_an_assertion_that_is_wrong_is_contradicted(providers: Providers, local: dict[str, str]) -> None:
    environ = local | providers.environ("google", "segmind") | {"SEGMIND_SPACE": "google"}
    code, _, lines = compared(**environ)
    assert code == 1
    assert lines["same space google, segmind"].startswith("CONTRADICTED: declared as one space")


def test_spaces_that_agree_more_than_is_declared(
    providers: Providers, local: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmind, "MODEL", "google/gemini-embedding-2")
    right = segmind.vector_for
    monkeypatch.setattr(
        segmind,
        "vector_for",
        lambda parts, size, *, task_type, **more: right(
            parts, size, **more, **({} if task_type == "RETRIEVAL_DOCUMENT" else {"task_type": task_type})
        ),
    )
    code, said, lines = compared(**local, **providers.environ("google", "segmind"))
    assert code == 0
    assert "more than is declared" in lines["same space google, segmind"]
    assert said["measured"][0]["least_cosine"] > SAME
    remedies = [each["remedy"] for each in said["checks"] if each["check"].startswith("same space")]
    assert "SEGMIND_SPACE=google" in remedies[0]


@pytest.mark.parametrize(
    ("kind", "line", "said"),
    [
        ("rotated_space", "same space google, openrouter", "CONTRADICTED"),
        ("constant", "upstream openrouter", "cannot be used"),
        ("status:401", "upstream openrouter", "HTTP 401"),
        ("html", "upstream openrouter", "not JSON"),
    ],
)
def test_an_upstream_that_misbehaves_is_found(
    kind: str, line: str, said: str, providers: Providers, local: dict[str, str]
) -> None:
    providers.openrouter.always(kind)
    code, _, lines = compared(**local, **providers.environ("google", "openrouter"))
    assert code == 1
    assert said in lines[line]
    assert lines["truncation google"].startswith("confirmed")


def test_a_provider_that_does_not_cut_is_contradicted(
    providers: Providers, local: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = openrouter.vector_for

    def elsewhere(parts: Any, size: int | None, **more: Any) -> bytes:
        full = right(parts, None, **more)
        return full if size in (None, 3072) else full[-4 * size :]

    monkeypatch.setattr(openrouter, "vector_for", elsewhere)
    code, _, lines = compared(**local, **providers.environ("openrouter"))
    assert code == 1
    assert lines["truncation openrouter"].startswith("CONTRADICTED")
    assert "fewer than two" in lines["same space"]
    monkeypatch.setattr(
        openrouter, "vector_for", lambda parts, size, **more: right(parts, None, **more)[: 4 * (size or 3072)]
    )
    code, _, lines = compared(**local, **providers.environ("openrouter"))
    assert code == 0
    assert "not 1" in lines["truncation openrouter"]


def test_the_offline_model_is_compared_for_free_and_unasked(local: dict[str, str]) -> None:
    done = run("upstreams", "--media", **local)
    assert done.exit_code == 0, done.output
    assert "5 of 5 equal bit for bit" in done.output


def test_a_server_whose_price_is_not_known_is_asked_about(
    providers: Providers, local: dict[str, str]
) -> None:
    environ = local | {
        "OPENAI_COMPATIBLE_BASE_URL": f"{providers.openrouter.origin}/v1",
        "OPENAI_COMPATIBLE_MODEL": "m",
        "OPENAI_COMPATIBLE_DIMENSIONS": "3072",
        "OPENAI_COMPATIBLE_API_KEY": providers.openrouter.key,
        "EMBEDONCE_UPSTREAMS": "openai_compatible",
    }
    done = run("upstreams", "--model", "m", **environ)
    assert (done.exit_code, "price that is not known" in done.output) == (1, True)
    assert providers.openrouter.calls == 0
    _, _, lines = compared("--model", "m", **environ)
    assert "more than is declared" in lines["truncation openai_compatible"]
    assert "heeds `input_type`" in lines["task openai_compatible"]


def test_nothing_is_bought_before_it_is_agreed(providers: Providers, local: dict[str, str]) -> None:
    environ = local | providers.environ("google")
    done = run("upstreams", **environ)
    assert done.exit_code == 1
    assert "at most $0.0002" in done.output
    assert providers.google.calls == 0
    agreed = CliRunner().invoke(app, ["doctor", "upstreams"], env=environ, input="y\n")
    assert agreed.exit_code == 0
    assert providers.google.calls == 6
    unknown = run("upstreams", "--model", "nobody", **environ)
    assert "unknown model" in str(unknown.exception)
