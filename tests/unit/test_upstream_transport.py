"""The transport against a provider that misbehaves on the wire: bounded, not fooled, nothing leaked."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpcore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedonce.net.bounded import BoundedBackend, Deadline
from embedonce.upstreams.failure import Kind
from embedonce.upstreams.transport import Reply, Transport, bearer, checked_base_url, retry_after
from fakes.behaviour import Behaviour
from fakes.openrouter import FakeOpenRouter, closed_port
from fakes.segmind import FakeSegmind
from support.clock import START, FakeClock
from support.upstream import RealClock, failure_of, shown

BRIEF = 0.2
REQUEST = json.dumps({"model": "m", "input": ["hello"], "dimensions": 8}).encode()


@pytest.fixture(scope="module")
def server() -> Iterator[FakeOpenRouter]:
    with FakeOpenRouter(key=None) as fake:
        yield fake


@pytest.fixture
def fake(server: FakeOpenRouter) -> Iterator[FakeOpenRouter]:
    server.reset()
    yield server
    server.release()


@pytest.fixture(scope="module")
def transport() -> Iterator[Transport]:
    transport = Transport(RealClock())
    yield transport
    transport.close()


def post(
    transport: Transport,
    fake: FakeOpenRouter,
    *,
    url: str | None = None,
    headers: dict[str, str | bytes] | None = None,
    timeout: float = 5.0,
    max_bytes: int = 100_000,
) -> Reply:
    return transport.post_json(
        url or f"{fake.base_url}/embeddings", REQUEST, headers or {}, timeout, max_bytes, upstream="fake"
    )


def test_reply_and_what_is_sent(transport: Transport, fake: FakeOpenRouter) -> None:
    reply = post(transport, fake, headers={"x-title": "Café".encode("latin-1")})
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert json.loads(reply.body)["model"] == "m"
    assert reply.retry_after is None
    assert fake.last.raw == REQUEST
    assert fake.last.headers["accept-encoding"] == "identity"
    assert fake.last.headers["x-title"] == "Café"


def test_error_statuses_are_replies(transport: Transport, fake: FakeOpenRouter) -> None:
    fake.next(Behaviour("status", code=429, retry_after="7"))
    reply = post(transport, fake)
    assert (reply.status, reply.retry_after) == (429, 7.0)
    assert json.loads(reply.body)["error"]["code"] == 429


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("hang", Kind.TIMEOUT),
        ("trickle", Kind.TIMEOUT),
        ("trickle_headers", Kind.TIMEOUT),
        ("disconnect", Kind.BROKEN),
        ("truncate", Kind.BROKEN),
        ("garbage", Kind.BROKEN),
        ("endless_headers", Kind.BROKEN),
        ("endless", Kind.INVALID),
        ("gzip_bomb", Kind.INVALID),
        ("redirect", Kind.MISCONFIGURED),
    ],
)
def test_misbehaviour(transport: Transport, fake: FakeOpenRouter, kind: str, expected: Kind) -> None:
    fake.next(Behaviour(kind))
    timeout = BRIEF if expected is Kind.TIMEOUT else 5.0
    began = time.monotonic()
    failure = failure_of(lambda: post(transport, fake, timeout=timeout))
    assert failure.kind is expected
    assert time.monotonic() - began < 1.5
    assert fake.calls == 1


def get(transport: Transport, url: str, *, timeout: float = 5.0, max_bytes: int = 100_000) -> Reply:
    return transport.get_json(url, {"x-api-key": "secret"}, timeout, max_bytes, upstream="fake")


def test_a_get_says_what_a_post_says_but_for_a_body(transport: Transport) -> None:
    with FakeSegmind(key="secret") as asked:
        reply = get(transport, f"{asked.origin}/v2/requests/none")
        assert (reply.status, json.loads(reply.body)) == (404, {"error": "Request none not found"})
        headers = asked.polled[-1].headers
    assert (headers["x-api-key"], headers["accept-encoding"]) == ("secret", "identity")
    assert not headers.keys() & {"content-type", "content-length", "transfer-encoding", "cookie"}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("hang", Kind.TIMEOUT),
        ("trickle_headers", Kind.TIMEOUT),
        ("disconnect", Kind.BROKEN),
        ("truncate", Kind.BROKEN),
        ("garbage", Kind.BROKEN),
        ("endless", Kind.INVALID),
        ("gzip_bomb", Kind.INVALID),
        ("redirect", Kind.MISCONFIGURED),
    ],
)
def test_a_get_fails_as_a_post_does(transport: Transport, kind: str, expected: Kind) -> None:
    with FakeSegmind(key=None) as asked:
        asked.next_poll(kind)
        timeout = BRIEF if expected is Kind.TIMEOUT else 5.0
        failure = failure_of(lambda: get(transport, f"{asked.origin}/v2/requests/none", timeout=timeout))
        assert failure.kind is expected
        assert len(asked.polled) == 1


def test_a_get_needs_time_and_somebody_who_listens(transport: Transport) -> None:
    url = f"http://127.0.0.1:{closed_port()}/"
    assert failure_of(lambda: get(transport, url)).kind is Kind.REFUSED
    assert failure_of(lambda: get(transport, url, timeout=0.0)).kind is Kind.REFUSED


def test_a_late_answer_is_a_timeout_and_the_next_call_is_not_confused(
    transport: Transport, fake: FakeOpenRouter
) -> None:
    fake.next(Behaviour("hang"))
    assert failure_of(lambda: post(transport, fake, timeout=BRIEF)).kind is Kind.TIMEOUT
    fake.release()
    assert json.loads(post(transport, fake).body)["model"] == "m"


@pytest.mark.parametrize("kind", ["hang_after_error", "gzip_error"])
def test_an_error_status_counts_also_without_its_body(
    transport: Transport, fake: FakeOpenRouter, kind: str
) -> None:
    fake.next(Behaviour(kind))
    reply = post(transport, fake, timeout=BRIEF)
    assert (reply.status, reply.body) == (503 if kind == "hang_after_error" else 429, b"")


def test_too_large_by_one_byte(transport: Transport, fake: FakeOpenRouter) -> None:
    size = len(post(transport, fake).body)
    assert post(transport, fake, max_bytes=size).status == 200
    assert failure_of(lambda: post(transport, fake, max_bytes=size - 1)).kind is Kind.INVALID


def test_a_redirect_is_not_followed(transport: Transport, fake: FakeOpenRouter) -> None:
    with FakeOpenRouter() as elsewhere:
        for code in (301, 302, 303, 307, 308):
            fake.next(Behaviour("redirect", code=code, text=f"{elsewhere.base_url}/embeddings"))
            failure = failure_of(lambda: post(transport, fake, headers={"authorization": "Bearer secret"}))
            assert failure.kind is Kind.MISCONFIGURED
            assert str(elsewhere.port) not in shown(failure)
        assert elsewhere.calls == 0


def test_nobody_listens(transport: Transport, fake: FakeOpenRouter) -> None:
    url = f"http://127.0.0.1:{closed_port()}/embeddings"
    assert failure_of(lambda: post(transport, fake, url=url)).kind is Kind.REFUSED


def test_no_such_host(transport: Transport, fake: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror("canary.example is unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    failure = failure_of(lambda: post(transport, fake, url="http://canary.example/embeddings"))
    assert failure.kind is Kind.REFUSED
    assert "canary" not in shown(failure)


def test_no_time_left_sends_nothing(transport: Transport, fake: FakeOpenRouter) -> None:
    for timeout in (0.0, -1.0):
        assert failure_of(lambda t=timeout: post(transport, fake, timeout=t)).kind is Kind.REFUSED  # type: ignore[misc]
    assert fake.calls == 0


def test_a_header_that_cannot_be_sent_is_not_quoted(transport: Transport, fake: FakeOpenRouter) -> None:
    failure = failure_of(lambda: post(transport, fake, headers={"authorization": "Bearer can\nary"}))
    assert failure.kind is Kind.MISCONFIGURED
    assert "ary" not in str(failure)
    assert fake.calls == 0


def test_no_free_connection_is_refused(fake: FakeOpenRouter) -> None:
    transport = Transport(RealClock(), max_connections=1)
    fake.next(Behaviour("hang"))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, transport, fake)
        while not fake.in_flight:
            time.sleep(0.002)
        assert failure_of(lambda: post(transport, fake, timeout=BRIEF)).kind is Kind.REFUSED
        fake.release()
        assert first.result(5).status == 200
    assert fake.calls == 1
    transport.close()


def test_a_provider_that_does_not_read_cannot_exceed_the_deadline(transport: Transport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/embeddings"
        failure = failure_of(lambda: transport.post_json(url, b" " * 20_000_000, {}, BRIEF, 1000))
    assert failure.kind is Kind.TIMEOUT


def test_connections_are_reused_unless_the_server_closed_them(fake: FakeOpenRouter) -> None:
    transport = Transport(RealClock())
    for _ in range(3):
        post(transport, fake)
    assert len(fake.connections) == 1
    fake.disconnect_all()
    assert post(transport, fake).status == 200
    assert fake.calls == 4
    transport.close()


def test_a_reused_connection_that_breaks_is_perhaps_billed_and_not_retried(
    transport: Transport, fake: FakeOpenRouter
) -> None:
    post(transport, fake)
    fake.next(Behaviour("disconnect"))
    failure = failure_of(lambda: post(transport, fake))
    assert failure.kind is Kind.BROKEN
    assert failure.billed
    assert fake.calls == 2


def test_cookies_are_not_kept(transport: Transport, fake: FakeOpenRouter) -> None:
    assert "set-cookie" in post(transport, fake).headers
    post(transport, fake)
    assert "cookie" not in fake.last.headers


def test_proxies_of_the_environment_are_not_used(
    fake: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as recorder:
        recorder.setblocking(False)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{recorder.getsockname()[1]}")
            monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{recorder.getsockname()[1]}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        transport = Transport(RealClock())
        assert post(transport, fake).status == 200
        transport.close()
        with pytest.raises(BlockingIOError):
            recorder.accept()


def test_closed_transport_opens_again(fake: FakeOpenRouter) -> None:
    transport = Transport(RealClock())
    transport.close()
    assert post(transport, fake).status == 200
    transport.close()
    assert post(transport, fake).status == 200
    transport.close()


def test_logs_say_nothing_of_urls_and_headers(
    transport: Transport, fake: FakeOpenRouter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    post(transport, fake, url=f"{fake.base_url}/embeddings?canary=1", headers={"x-canary": "canary"})
    assert "canary" not in caplog.text
    assert fake.origin not in caplog.text


def test_httpx_is_imported_by_the_first_call_only() -> None:
    code = (
        "import sys, embedonce.upstreams.openrouter as o, embedonce.upstreams.openai_compatible, "
        "embedonce.upstreams.embedded, time\n"
        "o.Transport(time).close()\n"
        "assert not {'httpx', 'httpcore', 'numpy', 'tokenizers', 'wordllama'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


class SlowNetwork(httpcore.NetworkBackend):
    """No address ever answers; waiting takes the fake clock's time."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.asked: list[tuple[str, float]] = []

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, *more: object) -> None:  # type: ignore[override]
        assert timeout is not None
        self.asked.append((host, timeout))
        self.clock.advance(timeout)
        raise httpcore.ConnectTimeout


@pytest.mark.parametrize(("call", "total"), [(60.0, 5.0), (2.0, 2.0)])
def test_connecting_to_all_addresses_takes_no_longer_than_to_one(
    monkeypatch: pytest.MonkeyPatch, call: float, total: float
) -> None:
    addresses = ["2001:db8::1", "192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3"]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    clock = FakeClock()
    deadline = Deadline(clock)
    backend = BoundedBackend(deadline)
    network = backend._inner = SlowNetwork(clock)  # type: ignore[assignment]
    deadline.set(call)
    with pytest.raises(httpcore.ConnectTimeout):
        backend.connect_tcp("host.example", 443, timeout=5.0)
    assert [host for host, _ in network.asked] == list(dict.fromkeys(addresses))
    assert sum(seconds for _, seconds in network.asked) == pytest.approx(total)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": " 2.5 "}, 2.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "99999"}, 3600.0),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, 30.0),
        ({"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}, 0.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 -0000"}, 30.0),
        ({"retry-after": "Fri, 15 Jan 9999 08:00:30 GMT"}, 3600.0),
        ({"retry-after": "Fri, 99 Jan 2027 08:00:30 GMT"}, None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "much", "retry-after": "9"}, 9.0),
    ],
)
def test_retry_after(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after(headers, START) == expected


@settings(max_examples=50, deadline=None)
@given(st.text(), st.text())
def test_retry_after_survives_anything(milliseconds: str, text: str) -> None:
    wait = retry_after({"retry-after-ms": milliseconds, "retry-after": text}, START)
    assert wait is None or 0.0 <= wait <= 3600.0


def test_base_urls() -> None:
    assert checked_base_url("http://tei:8080/v1/") == "http://tei:8080/v1"
    bad = ["tei:8080", "ftp://tei", "https://", "https://user:pw@tei", "https://tei/?key=1", "https://tei/#x"]
    for url in bad:
        with pytest.raises(ValueError, match="base URL"):
            checked_base_url(url)


def test_bearer() -> None:
    assert bearer(" sk-1 \n", "fake") == b"Bearer sk-1"
    for key in ("", " ", "sk\ncanary", "sk canary", "sk-canäry"):
        failure = failure_of(lambda k=key: bearer(k, "fake"))  # type: ignore[misc]
        assert failure.kind is Kind.MISCONFIGURED
        assert "ary" not in str(failure)
