"""Fetching a stranger's URL over real sockets: guarded, pinned, bounded, and refused in one way."""

from __future__ import annotations

import gzip
import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from embedonce.core.content import Content, Draft, RemoteMedia
from embedonce.core.deadline import Deadline
from embedonce.core.errors import DeadlineExceeded, InvalidRequest, ServiceUnavailable
from embedonce.core.fingerprint import Namespace
from embedonce.media.fetch import Busy, Fetched, Fetcher, Known
from embedonce.media.guard import Guard, Refused
from embedonce.media.remote import RemoteMediaSource
from embedonce.media.resolve import Resolver
from embedonce.media.turns import PER_HOST
from embedonce.media.uploads import UploadSource
from embedonce.stores.embedded.blobs import DirectoryBlobs
from embedonce.telemetry import LogTelemetry
from support import media
from support.origin import DENIED, Asked, Origin, Respond, Wire, certificates, head, ok
from support.upstream import RealClock

PUBLIC = "93.184.216.34"
HOST = "media.example"
URL = f"https://{HOST}/a.png?b=c"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return certificates(
        tmp_path_factory.mktemp("tls"), HOST, "other.example", "xn--bcher-kva.example", "*.dead.example"
    )


class Net:
    """A fetcher whose names and network are the test's."""

    def __init__(self, origin: Origin, client: ssl.SSLContext | None) -> None:
        self.origin = origin
        self.wire = Wire(origin.port)
        self.answers: dict[str, list[list[str]]] = {}
        self.looked_up: list[str] = []
        self.fetcher = Fetcher(Guard(), RealClock(), resolve=self._resolve, backend=self.wire, tls=client)

    def _resolve(self, host: str, port: int) -> list[str]:
        self.looked_up.append(host)
        queue = self.answers.get(host, [[PUBLIC]])
        return queue.pop(0) if len(queue) > 1 else queue[0]

    def get(
        self,
        url: str = URL,
        *,
        seconds: float = 5.0,
        max_bytes: int = 100_000,
        known: Known | None = None,
        take: Callable[[int], None] = lambda size: None,
    ) -> Fetched:
        return self.fetcher.get(url, seconds=seconds, max_bytes=max_bytes, known=known, take=take)

    def refused(self, url: str = URL, *, seconds: float = 5.0, max_bytes: int = 100_000) -> None:
        with pytest.raises(Refused) as refused:
            self.get(url, seconds=seconds, max_bytes=max_bytes)
        assert str(refused.value) == ""


Make = Callable[[Respond], Net]


@pytest.fixture
def net(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[Make]:
    with _nets(*tls) as make:
        yield make


@contextmanager
def _nets(server: ssl.SSLContext, client: ssl.SSLContext) -> Iterator[Make]:
    made: list[Net] = []

    def make(respond: Respond) -> Net:
        made.append(Net(Origin(respond, server), client))
        return made[-1]

    yield make
    for each in made:
        each.fetcher.close()
        each.origin.__exit__(None, None, None)


def plain(asked: Asked) -> Iterable[bytes]:
    return [ok(b"bytes", etag='"1"')]


def test_what_is_fetched_and_how_it_is_asked_for(net: Make) -> None:
    made = net(plain)
    taken: list[int] = []
    fetched = made.get(take=taken.append)
    assert fetched.body == b"bytes"
    assert fetched.headers["etag"] == '"1"'
    assert fetched.source == hashlib.sha256(URL.encode()).digest()
    assert sum(taken) == 5
    assert made.wire.connected == [(PUBLIC, 443)]
    (asked,) = made.origin.asked
    assert asked.path == "/a.png?b=c"
    assert asked.headers["host"] == HOST
    assert asked.headers["accept-encoding"] == "identity"
    assert asked.headers.keys() == {"host", "user-agent", "accept", "accept-encoding", "connection"}


@pytest.mark.parametrize("address", DENIED)
def test_a_denied_address_is_not_connected_to(net: Make, address: str) -> None:
    made = net(plain)
    made.answers["as-name.example"] = [[address]]
    made.answers["among-others.example"] = [[PUBLIC, address]]
    made.refused(f"https://[{address}]/" if ":" in address else f"https://{address}/")
    made.refused("https://as-name.example/")
    made.refused("https://among-others.example/")
    assert made.wire.connected == []
    assert made.origin.asked == []


def test_a_name_is_looked_up_once_and_what_was_checked_is_connected_to(net: Make) -> None:
    made = net(plain)
    made.answers[HOST] = [[PUBLIC], ["127.0.0.1"]]
    assert made.get().body == b"bytes"
    assert (made.looked_up, made.wire.connected) == ([HOST], [(PUBLIC, 443)])
    made.refused()  # it answers differently now
    assert made.wire.connected == [(PUBLIC, 443)]


def test_no_answer_and_no_address(net: Make) -> None:
    made = net(plain)
    made.answers[HOST] = [[]]
    made.refused()
    assert made.wire.connected == []


def test_names_of_other_scripts(net: Make) -> None:
    made = net(plain)
    assert made.get("https://bücher.example/").body == b"bytes"
    assert made.looked_up == ["xn--bcher-kva.example"]


def test_the_certificate_must_be_for_the_name(net: Make) -> None:
    made = net(plain)
    made.refused("https://impostor.example/")
    made.refused("https://8.8.8.8/")
    assert made.origin.asked == []


def test_the_certificate_must_be_trusted(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    with Origin(plain, tls[0]) as origin:
        made = Net(origin, None)
        made.refused()
        assert origin.asked == []
        made.fetcher.close()


def to(location: str, status: int = 302) -> Respond:
    return lambda asked: [head(status, location=location, content_length=0)]


@pytest.mark.parametrize(
    "location",
    [
        *("https://127.0.0.1/", "https://169.254.169.254/latest/meta-data/", "https://[::ffff:10.0.0.1]/"),
        *("https://private.example/", "http://media.example/", "https://media.example:8443/", "ftp://a.com/"),
        *("https://user@media.example/", "//localhost/", "file:///etc/passwd", ""),
    ],
)
def test_redirects_to_what_is_not_allowed(net: Make, location: str) -> None:
    made = net(to(location))
    made.answers["private.example"] = [["10.0.0.1"]]
    made.refused()
    assert made.wire.connected == [(PUBLIC, 443)]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_a_few_times(net: Make, status: int) -> None:
    def respond(asked: Asked) -> Iterable[bytes]:
        left = int(asked.path.removeprefix("/"))
        where = f"/{left - 1}" if left != 2 else "https://other.example/1"
        return [head(status, location=where, content_length=0)] if left else plain(asked)

    made = net(respond)
    fetched = made.get(f"https://{HOST}/3")
    assert fetched.body == b"bytes"
    assert fetched.source == hashlib.sha256(b"https://other.example/0").digest()
    assert [asked.headers["host"] for asked in made.origin.asked] == [HOST] * 2 + ["other.example"] * 2
    made.refused(f"https://{HOST}/4")
    made.refused(f"https://{HOST}/1000000")


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


BOMB = gzip.compress(bytes(5_000_000))


@pytest.mark.parametrize(
    "answer",
    [
        ok(BOMB, content_encoding="gzip"),
        ok(BOMB, content_encoding="identity, gzip"),
        ok(b"", content_encoding="br"),
        head(200, transfer_encoding="gzip, chunked") + chunked(BOMB) + b"0\r\n\r\n",
        head(200, content_length=100_001),
        head(200, content_length="9" * 4000),
        head(200, content_length=10) + b"short",
        head(200, transfer_encoding="chunked") + chunked(b"short"),
        head(200) + bytes(100_001),
        head(206, content_length=5) + b"bytes",
        head(304),
        head(404, content_length=5) + b"bytes",
        head(500, content_length=0),
        head(204),
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 100_000,
        b"HTTP/1.1 200 OK\r\nx: \xff\xff\r\ncontent-length: 0\r\nlocation: a\x00b\r\n\r\n",
    ],
    ids=lambda answer: ascii(answer[:40]),
)
def test_answers_that_are_refused(net: Make, answer: bytes) -> None:
    net(lambda asked: [answer]).refused()


def test_endless_bodies_and_headers_end_at_the_limit(net: Make) -> None:
    sent = [0]

    def endless(asked: Asked) -> Iterator[bytes]:
        yield head(200) if asked.path == "/body" else b"HTTP/1.1 200 OK\r\nx: "
        while True:
            sent[0] += 16_384
            yield b"a" * 16_384

    made = net(endless)
    made.refused(f"https://{HOST}/body")
    made.refused(f"https://{HOST}/headers")
    assert sent[0] < 20_000_000  # what fits into the buffers of the sockets


@pytest.mark.parametrize("path", ["/headers", "/body", "/chunks", "/silence", "/redirects"])
def test_the_deadline_holds_however_slowly_it_comes(net: Make, path: str) -> None:
    def slow(asked: Asked) -> Iterable[bytes]:
        origin = made.origin
        match asked.path:
            case "/headers":
                yield from origin.trickle(ok(b"bytes"))
            case "/body":
                yield head(200, content_length=50_000)
                yield from origin.trickle(bytes(50_000))
            case "/chunks":
                yield head(200, transfer_encoding="chunked")
                yield from origin.trickle(chunked(*[b"a"] * 1000))
            case "/redirects":
                origin.closing.wait(0.2)
                yield head(302, location="/redirects", content_length=0)
            case _:
                origin.closing.wait(5)

    made = net(slow)
    began = time.monotonic()
    made.refused(f"https://{HOST}{path}", seconds=0.4)
    assert time.monotonic() - began < 8


def test_no_proxy_of_the_environment_is_used(net: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.05)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        made = net(plain)
        assert made.get().body == b"bytes"
        with pytest.raises(TimeoutError):
            proxy.accept()


def test_certificates_of_the_environment_are_not_trusted(
    tls: tuple[ssl.SSLContext, ssl.SSLContext], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _ = certificates(tmp_path, HOST)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    with Origin(plain, server) as origin:
        made = Net(origin, None)
        made.refused()
        made.fetcher.close()


def test_few_connections_to_one_host_at_a_time(net: Make) -> None:
    gate = threading.Event()

    def respond(asked: Asked) -> Iterable[bytes]:
        gate.wait(0.05)
        return plain(asked)

    made = net(respond)
    with ThreadPoolExecutor(12) as pool:
        bodies = list(pool.map(lambda _: made.get().body, range(12)))
    assert bodies == [b"bytes"] * 12
    assert 1 < made.origin.most_at_once <= PER_HOST
    assert not made.fetcher._hosts


def test_waiting_for_a_busy_host_ends_with_the_deadline(net: Make) -> None:
    def silent(asked: Asked) -> Iterable[bytes]:
        made.origin.closing.wait(0.6)
        return []

    made = net(silent)
    with ThreadPoolExecutor(PER_HOST + 1) as pool:
        for _ in range(PER_HOST):
            pool.submit(made.refused)
        while len(made.origin.asked) < PER_HOST:
            time.sleep(0.005)
        began = time.monotonic()
        with pytest.raises(Busy):
            made.get(seconds=0.1)
        assert time.monotonic() - began < 8
    assert len(made.origin.asked) == PER_HOST


@pytest.mark.parametrize("hosts", [1, 16])
def test_a_caller_of_dead_hosts_leaves_others_their_fetches(net: Make, hosts: int, tmp_path: Path) -> None:
    def respond(asked: Asked) -> Iterable[bytes]:
        if asked.headers["host"] == "other.example":
            return [ok(media.png())]
        made.origin.closing.wait(3)
        return []

    made = net(respond)
    clock = RealClock()
    remote = RemoteMediaSource(made.fetcher, None, clock, LogTelemetry(), seconds=3, max_bytes=100_000)
    blobs = DirectoryBlobs(tmp_path, clock)
    resolver = Resolver(remote, UploadSource(blobs, max_bytes=1), clock, max_bytes=100_000)

    def resolve(owner: str, urls: list[str], deadline: Deadline) -> tuple[Content, ...]:
        drafts = [Draft((RemoteMedia(url, None, "input"),), "input") for url in urls]
        return resolver.resolve(drafts, namespace=Namespace(owner), owner=owner, deadline=deadline)

    soon = Deadline.after(1.5, clock.monotonic())

    def starve(request: int) -> None:
        urls = [f"https://{HOST if hosts == 1 else f'h{n}.dead.example'}/{request}/{n}" for n in range(16)]
        with pytest.raises((DeadlineExceeded, InvalidRequest)):
            resolve("hostile", urls, soon)

    with ThreadPoolExecutor(6) as pool:
        starving = [pool.submit(starve, n) for n in range(6)]
        while len(made.wire.connected) < PER_HOST:
            time.sleep(0.005)
        time.sleep(0.1)
        began = time.monotonic()
        later = Deadline.after(5.0, began)
        assert len(resolve("other", ["https://other.example/a.png"], later)) == 1
        assert time.monotonic() - began < 8
        for each in starving:
            each.result()
    made.origin.closing.set()
    resolver.close()


def test_a_busy_host_behind_a_redirect_is_a_503_soon(net: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedonce.media.fetch.SLOT_SECONDS", 0.05)

    def respond(asked: Asked) -> Iterable[bytes]:
        if asked.headers["host"] == "other.example":
            return [head(302, location=URL, content_length=0)]
        made.origin.closing.wait(1)
        return []

    made = net(respond)
    clock = RealClock()
    remote = RemoteMediaSource(made.fetcher, None, clock, LogTelemetry(), seconds=3, max_bytes=100_000)
    with ThreadPoolExecutor(PER_HOST) as pool:
        for _ in range(PER_HOST):
            pool.submit(made.refused)
        while len(made.origin.asked) < PER_HOST:
            time.sleep(0.005)
        with pytest.raises(ServiceUnavailable) as busy:
            remote.part(
                RemoteMedia("https://other.example/", None, "input"),
                Namespace("a"),
                whole=False,
                remember=True,
                left=lambda: 5.0,
                take=lambda size: None,
            )
        assert busy.value.retry_after
        made.origin.closing.set()


def test_locations_are_utf_8_or_bytes(net: Make) -> None:
    places = iter(["https://bücher.example/é?ü".encode(), b"/\xe9"])

    def respond(asked: Asked) -> Iterable[bytes]:
        place = next(places, None)
        if place is None:
            return plain(asked)
        return [b"HTTP/1.1 302 Any\r\nContent-Length: 0\r\nLocation: " + place + b"\r\n\r\n"]

    made = net(respond)
    assert made.get().body == b"bytes"
    assert [asked.path for asked in made.origin.asked] == ["/a.png?b=c", "/%C3%A9?%C3%BC", "/%E9"]
    assert made.looked_up == [HOST, *["xn--bcher-kva.example"] * 2]


def test_conditions_are_for_the_url_that_gave_them(net: Make) -> None:
    def respond(asked: Asked) -> Iterable[bytes]:
        if asked.path == "/moved":
            return [head(302, location="/a.png?b=c", content_length=0)]
        return [head(304) if "if-none-match" in asked.headers else ok(b"bytes")]

    made = net(respond)
    known = Known(hashlib.sha256(URL.encode()).digest(), {"if-none-match": '"1"'})
    assert made.get(known=known).body is None
    assert made.get(f"https://{HOST}/moved", known=known).body is None
    asked = made.origin.asked[1:]
    assert ["if-none-match" in each.headers for each in asked] == [False, True]
    elsewhere = Known(hashlib.sha256(b"https://media.example/old").digest(), {"if-none-match": '"1"'})
    assert made.get(known=elsewhere).body == b"bytes"


def test_what_take_raises_ends_the_fetch(net: Make) -> None:
    class Enough(Exception):
        pass

    def take(size: int) -> None:
        raise Enough

    with pytest.raises(Enough):
        net(plain).get(take=take)
