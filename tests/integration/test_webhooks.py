"""SECURITY 16: webhooks over real sockets: signed, guarded at each attempt, bounded, given up in the end."""

from __future__ import annotations

import json
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest
from standardwebhooks import Webhook, WebhookVerificationError
from typer.testing import CliRunner

from embedonce.access.webhooks import secret_of, sign
from embedonce.cli.keys import app as keys
from embedonce.core import ticket as machine
from embedonce.core.deadline import Deadline
from embedonce.core.errors import InvalidRequest, NotFound
from embedonce.core.ticket import WEBHOOK_PAUSES, Stage, Ticket, TicketRef, issue
from embedonce.core.ticket import Webhook as Hook
from embedonce.media.guard import Guard
from embedonce.media.post import PER_HOST, WebhookPoster
from embedonce.ports import Clock
from embedonce.stores.embedded.blobs import DirectoryBlobs
from embedonce.telemetry import LogTelemetry
from embedonce.usecases.jobs.announce import Announcer, body_of
from embedonce.usecases.jobs.tickets import Tickets
from support.clock import FakeClock
from support.origin import DENIED, Asked, Origin, Respond, Wire, certificates, head, ok
from support.upstream import RealClock

PUBLIC = "93.184.216.34"
HOST = "hooks.example"
URL = f"https://{HOST}/in?token=url-canary"
MASTER = b"master-canary" * 3
BODY = b'{"type":"request.completed"}'
SECONDS = 0.3


class Receiver(Origin):
    """An origin that reads what is posted to it before it answers."""

    def __init__(self, respond: Respond, tls: ssl.SSLContext | None = None) -> None:
        self.bodies: list[bytes] = []
        self.left = threading.Event()
        """Set when the other side has closed the connection."""
        super().__init__(respond, tls)

    def __enter__(self) -> Self:
        return self

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.settimeout(5)
            with self._tls.wrap_socket(connection, server_side=True) if self._tls else connection as stream:
                start, _, body = _until(stream, b"\r\n\r\n").partition(b"\r\n\r\n")
                first, *lines = start.decode("latin-1").split("\r\n")
                headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
                while len(body) < int(headers["content-length"]):
                    body += stream.recv(65_536)
                assert first.startswith("POST ")
                asked = Asked(first.split(" ")[1], headers)
                with self._lock:
                    self.asked.append(asked)
                    self.bodies.append(body)
                    self._at_once += 1
                    self.most_at_once = max(self.most_at_once, self._at_once)
                try:
                    for chunk in self.respond(asked):
                        stream.sendall(chunk)
                    stream.recv(1)
                finally:
                    with self._lock:
                        self._at_once -= 1
                    self.left.set()


def _until(stream: socket.socket, end: bytes) -> bytes:
    raw = b""
    while end not in raw:
        chunk = stream.recv(65_536)
        if not chunk:
            raise OSError("it has gone")
        raw += chunk
    return raw


class Net:
    """A sender whose names and network are the test's."""

    def __init__(
        self, receiver: Receiver, client: ssl.SSLContext | None, origins: Iterable[str] = ()
    ) -> None:
        self.receiver = receiver
        self.wire = Wire(receiver.port)
        self.answers: dict[str, list[list[str]]] = {}
        self.looked_up: list[str] = []
        self.telemetry = LogTelemetry()
        self.sender = WebhookPoster(
            Guard(origins),
            RealClock(),
            self.telemetry,
            seconds=SECONDS,
            resolve=self._resolve,
            backend=self.wire,
            tls=client,
        )

    def _resolve(self, host: str, port: int) -> list[str]:
        self.looked_up.append(host)
        queue = self.answers.get(host, [[PUBLIC]])
        return queue.pop(0) if len(queue) > 1 else queue[0]

    def post(self, url: str = URL, key: str = "key_a") -> bool:
        return self.sender.post(url, BODY, sign(secret_of(MASTER, key), "msg_1", int(time.time()), BODY))


Make = Callable[[Respond], Net]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return certificates(tmp_path_factory.mktemp("tls"), HOST, "other.example")


@pytest.fixture
def net(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[Make]:
    made: list[Net] = []

    def make(respond: Respond) -> Net:
        made.append(Net(Receiver(respond, tls[0]), tls[1]))
        return made[-1]

    yield make
    for each in made:
        each.sender.close()
        each.receiver.__exit__(None, None, None)


def plain(asked: Asked) -> Iterable[bytes]:
    return [ok(b"")]


def test_the_receiver_verifies_it_and_another_key_s_secret_does_not(net: Make) -> None:
    made = net(plain)
    assert made.post(key="key_a")
    (asked,), (body,) = made.receiver.asked, made.receiver.bodies
    headers = dict(asked.headers)
    assert Webhook(secret_of(MASTER, "key_a")).verify(body, headers) == json.loads(BODY)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_of(MASTER, "key_b")).verify(body, headers)
    assert asked.path == "/in?token=url-canary"
    assert (headers["host"], headers["content-type"]) == (HOST, "application/json")
    ours = {"host", "user-agent", "connection", "content-type", "content-length"}
    assert headers.keys() == ours | {"webhook-id", "webhook-timestamp", "webhook-signature"}
    assert made.wire.connected == [(PUBLIC, 443)]


@pytest.mark.parametrize(
    ("status", "delivered"),
    [*((n, True) for n in (200, 201, 204, 299)), *((n, False) for n in (101, 304, 400, 410, 429, 500, 503))],
)
def test_2xx_is_delivered(net: Make, status: int, delivered: bool) -> None:
    assert net(lambda asked: [head(status, content_length=0)]).post() is delivered


def test_it_is_guarded_anew_at_each_attempt(net: Make) -> None:
    """Rebinding after submit: whatever the name led to before, loopback is not connected to."""
    made = net(plain)
    made.answers[HOST] = [[PUBLIC], ["127.0.0.1"], [PUBLIC, "169.254.169.254"], [PUBLIC]]
    made.sender.check(URL, "webhook")
    assert made.looked_up == []
    assert [made.post() for _ in range(4)] == [True, False, False, True]
    assert made.looked_up == [HOST] * 4
    assert made.wire.connected == [(PUBLIC, 443)] * 2
    assert len(made.receiver.asked) == 2


@pytest.mark.parametrize("address", DENIED)
def test_a_denied_address_is_not_connected_to(net: Make, address: str) -> None:
    made = net(plain)
    made.answers[HOST] = [[address]]
    literal = f"https://[{address}]/" if ":" in address else f"https://{address}/"
    assert not made.post()
    assert not made.post(literal)
    assert made.wire.connected == []
    with pytest.raises(InvalidRequest):
        made.sender.check(literal, "webhook")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["loopback", "https://other.example/x", "/again"])
def test_redirects_are_not_followed(net: Make, status: int, where: str) -> None:
    def respond(asked: Asked) -> Iterable[bytes]:
        place = f"http://127.0.0.1:{made.receiver.port}/x" if where == "loopback" else where
        return [head(status, location=place, content_length=0)]

    made = net(respond)
    assert not made.post()
    assert made.wire.connected == [(PUBLIC, 443)]
    assert len(made.receiver.asked) == 1


def test_the_certificate_must_be_for_the_name_and_trusted(
    net: Make, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    made = net(plain)
    assert not made.post("https://impostor.example/")
    with Receiver(plain, tls[0]) as receiver:
        assert not Net(receiver, None).post()
        assert receiver.asked == []
    assert made.receiver.asked == []


@pytest.mark.parametrize("how", ["silence", "header", "informational", "headers"])
def test_a_slow_or_endless_head_ends_with_the_attempt(net: Make, how: str) -> None:
    def respond(asked: Asked) -> Iterator[bytes]:
        match how:
            case "header":
                yield from made.receiver.trickle(ok(b""))
            case "informational":
                while not made.receiver.closing.wait(0.01):
                    yield b"HTTP/1.1 103 Early Hints\r\n\r\n"
            case "headers":
                yield b"HTTP/1.1 200 OK\r\nx: "
                while True:
                    yield b"a" * 16_384
            case _:
                made.receiver.closing.wait(1.5)

    made = net(respond)
    began = time.monotonic()
    assert not made.post()
    assert time.monotonic() - began < 1.5
    made.receiver.closing.set()


@pytest.mark.parametrize(
    "answer", [head(200), head(200, content_length=10**18), head(200, content_encoding="br")]
)
def test_an_endless_body_is_not_read(net: Make, answer: bytes) -> None:
    sent = [0]

    def respond(asked: Asked) -> Iterator[bytes]:
        yield answer
        while True:
            sent[0] += 16_384
            yield b"\xff" * 16_384

    made = net(respond)
    assert made.post()
    assert made.receiver.left.wait(1.5), "the connection is closed"
    assert sent[0] < 20_000_000  # what fits into the buffers of the sockets


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200\x00 OK\r\n\r\n", b"HTTP/9 200 OK\r\n\r\n"]
)
def test_what_is_no_answer_is_no_delivery(net: Make, answer: bytes) -> None:
    made = net(lambda asked: [answer, b"\r\n\r\n"])
    assert not made.post()
    assert made.telemetry.counts == {"WebhooksUnreachable": 1}


def test_nobody_listens(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    with Receiver(plain, tls[0]) as receiver:
        made = Net(receiver, tls[1])
    assert not made.post()
    made.answers[HOST] = [[]]
    assert not made.post()


def test_few_attempts_at_one_host_at_a_time_and_the_rest_fail_at_once(net: Make) -> None:
    gate = threading.Event()

    def respond(asked: Asked) -> Iterable[bytes]:
        if asked.headers["host"] == HOST:
            gate.wait(1.5)
        return [ok(b"")]

    made = net(respond)
    assert PER_HOST == 2
    with ThreadPoolExecutor(PER_HOST) as pool:
        under_way = [pool.submit(made.post) for _ in range(PER_HOST)]
        while len(made.receiver.asked) < PER_HOST:
            time.sleep(0.002)
        assert made.post(f"https://{HOST}/another/path") is None
        assert made.telemetry.counts["WebhooksBusy"] == 1
        assert made.post("https://other.example/")
        gate.set()
        assert [each.result() for each in under_way] == [True] * PER_HOST
    assert made.post()
    assert made.receiver.most_at_once <= PER_HOST + 1
    assert not made.sender._hosts


def test_no_proxy_of_the_environment_is_used(net: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.05)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        assert net(plain).post()
        with pytest.raises(TimeoutError):
            proxy.accept()


def test_own_origins_are_exempt_and_do_not_lead_on() -> None:
    with (
        Receiver(lambda asked: [head(302, location="/y", content_length=0)]) as moved,
        Receiver(plain) as own,
    ):
        made = Net(own, None, [own.url, moved.url])
        made.sender.check(f"{own.url}/x", "webhook")
        assert made.post(f"{own.url}/x")
        assert not made.post(f"http://127.0.0.1:{own.port + 1 if own.port < 65_535 else 1}/x")
        elsewhere = Net(moved, None, [moved.url])
        assert not elsewhere.post(f"{moved.url}/x")
        assert [asked.path for asked in moved.asked] == ["/x"]


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "http://hooks.example/",
            "https://user@hooks.example/",
            "https://hooks.example:8443/",
            "ftp://a.b/",
        ),
        *("https://localhost/", "https://hooks.internal/", "https://127.1/", "http://127.0.0.1:9000/"),
        *(
            "https://hooks.example/" + "a" * 2048,
            "https://hooks.example/a b",
            "//hooks.example/",
            "https://[::1",
        ),
    ],
    ids=lambda url: url[:40],
)
def test_what_can_never_be_delivered_is_said_at_once(url: str) -> None:
    sender = WebhookPoster(Guard(), RealClock(), LogTelemetry())
    with pytest.raises(InvalidRequest, match="fal_webhook: must be an https URL") as refused:
        sender.check(url, "fal_webhook")
    assert refused.value.param == "fal_webhook"
    assert not url or url not in refused.value.message


def test_logs_and_counts_have_no_url_and_no_secret(net: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("canary").debug("logging works")
        for respond in (plain, lambda asked: [head(500)], lambda asked: [head(302, location=URL)]):
            made = net(respond)
            made.post()
            made.answers[HOST] = [["127.0.0.1"]]
            made.post()
            made.post("https://127.0.0.1/in?token=url-canary")
            with pytest.raises(InvalidRequest) as refused:
                made.sender.check("http://hooks.example/in?token=url-canary", "webhook")
            said = f"{caplog.text} {made.telemetry.counts} {refused.value}"
            for secret in ("url-canary", HOST, secret_of(MASTER, "key_a"), "v1,", "request.completed"):
                assert secret not in said
    assert "logging works" in caplog.text


class Rows:
    """One process's tickets."""

    def __init__(self) -> None:
        self.rows: dict[str, Ticket] = {}

    def get(self, ref: TicketRef) -> Ticket | None:
        return self.rows.get(ref.key)

    def swap(self, ticket: Ticket, over: int) -> Ticket | None:
        there = self.rows.get(ticket.ref.key)
        if (there.version if there else 0) != over:
            return there or replace(ticket, version=0)
        self.rows[ticket.ref.key] = ticket
        return None

    def due(self, before: float, limit: int) -> list[TicketRef]:
        raise NotImplementedError


class Sent:
    def __init__(self) -> None:
        self.delays: list[float] = []

    def send(self, ref: TicketRef, *, delay: float = 0.0) -> None:
        self.delays.append(delay)

    def __getattr__(self, name: str) -> object:
        raise NotImplementedError(name)


class Pipeline:
    """A settled ticket, and who announces it by `sender`."""

    def __init__(self, sender: object, clock: Clock, folder: Path, *, url: str = URL) -> None:
        self.clock = clock
        self.rows, self.queue, self.telemetry = Rows(), Sent(), LogTelemetry()
        queues = dict.fromkeys(Stage, self.queue)
        tickets = Tickets(self.rows, queues, DirectoryBlobs(folder, clock), clock, self.telemetry)  # type: ignore[arg-type]
        self.announcer = Announcer(
            tickets,
            sender,  # type: ignore[arg-type]
            lambda owner, *rest: sign(secret_of(MASTER, owner), *rest),
            clock,
            self.telemetry,
        )
        self.ref = TicketRef("key_a", "0123456789abcdef" * 2)
        new = issue(
            self.ref,
            model="google/gemini-embedding-2",
            job="job-canary",
            now=clock.now(),
            patience=60.0,
            webhook=Hook(url),
        )
        self.rows.swap(machine.fail(new, NotFound("why-canary"), now=clock.now()), 0)

    @property
    def ticket(self) -> Ticket:
        return self.rows.rows[self.ref.key]

    def deliver(self) -> None:
        self.announcer.deliver(self.ticket, Deadline.after(30, self.clock.monotonic()))


def test_what_is_announced_is_id_and_status(net: Make, tmp_path: Path) -> None:
    made = net(plain)
    pipeline = Pipeline(made.sender, RealClock(), tmp_path)
    pipeline.deliver()
    (asked,), (body,) = made.receiver.asked, made.receiver.bodies
    said = Webhook(secret_of(MASTER, "key_a")).verify(body, dict(asked.headers))
    assert said == {
        "type": "request.failed",
        "timestamp": said["timestamp"],
        "data": {"request_id": pipeline.ref.id, "status": "FAILED"},
    }
    assert asked.headers["webhook-id"] == f"msg_{pipeline.ref.id}"
    hook = pipeline.ticket.webhook
    assert hook is not None
    assert (hook.url, hook.attempts, hook.done) == (URL, 1, True)
    assert pipeline.queue.delays == []
    assert pipeline.telemetry.counts["WebhooksDelivered"] == 1


def test_it_is_tried_again_after_pauses_and_given_up(tmp_path: Path) -> None:
    posted: list[tuple[bytes, str, str]] = []

    class Deaf:
        def post(self, url: str, body: bytes, headers: dict[str, str]) -> bool:
            posted.append((body, headers["webhook-id"], headers["webhook-timestamp"]))
            return False

    clock = FakeClock()
    pipeline = Pipeline(Deaf(), clock, tmp_path)
    while pipeline.ticket.announces:
        pipeline.deliver()
        clock.advance(pipeline.queue.delays[-1] if pipeline.ticket.announces else 0.0)
    assert tuple(pipeline.queue.delays) == WEBHOOK_PAUSES
    assert len(posted) == len(WEBHOOK_PAUSES) + 1
    assert pipeline.ticket.webhook == Hook(URL, attempts=len(posted), done=True, at=clock.now())
    assert pipeline.ticket.due is None
    assert len({(body, message_id) for body, message_id, _ in posted}) == 1, "the same message each time"
    assert len({timestamp for *_, timestamp in posted}) == len(posted), "signed anew each time"
    assert posted[0][0] == body_of(pipeline.ticket)
    assert pipeline.telemetry.counts["WebhookFailures"] == len(posted)


def test_a_later_attempt_that_is_delivered_ends_it(tmp_path: Path) -> None:
    outcomes = [False, False, True]

    class Waking:
        def post(self, url: str, body: bytes, headers: object) -> bool:
            return outcomes.pop(0)

    clock = FakeClock()
    pipeline = Pipeline(Waking(), clock, tmp_path)
    while pipeline.ticket.announces:
        pipeline.deliver()
    assert outcomes == []
    assert tuple(pipeline.queue.delays) == WEBHOOK_PAUSES[:2]
    assert pipeline.ticket.webhook == Hook(URL, attempts=3, done=True, at=clock.now())


def test_the_operator_is_shown_a_key_s_secret(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        environment = {"EMBEDONCE_DATA_DIR": str(tmp_path), "EMBEDONCE_MODE": "", **key}
        result = CliRunner().invoke(keys, list(arguments), env=environment)
        assert result.exit_code == (1 if "key_0000000000000000" in arguments else 0)
        return result.stdout

    key = {"EMBEDONCE_WEBHOOK_KEY": ""}
    run("create", "one")
    found = re.search(r"key_[0-9a-f]{16}", run("list"))
    assert found is not None
    secret = run("webhook-secret", found[0])
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=\n", secret)
    assert run("webhook-secret", found[0]) == secret
    assert run("webhook-secret", "development") != secret
    assert run("webhook-secret", "key_0000000000000000") == ""
    key = {"EMBEDONCE_WEBHOOK_KEY": "m" * 32}
    assert run("webhook-secret", found[0]).strip() == secret_of(b"m" * 32, found[0])


def test_when_every_attempt_dies_it_is_given_up_after_six(tmp_path: Path) -> None:
    posted = []

    class Deadly:
        def post(self, url: str, body: bytes, headers: object) -> bool:
            posted.append(url)
            raise KeyboardInterrupt

    clock = FakeClock()
    pipeline = Pipeline(Deadly(), clock, tmp_path)
    while pipeline.ticket.announces and len(posted) < 20:
        with suppress(KeyboardInterrupt):
            pipeline.deliver()
        clock.advance(60.0)
    assert len(posted) == len(WEBHOOK_PAUSES) + 1
    assert not pipeline.ticket.announces
    assert pipeline.ticket.due is None
