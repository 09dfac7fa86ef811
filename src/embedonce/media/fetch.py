"""Bytes behind a stranger's URL: one GET with its redirects, guarded, bounded in time and size.

With httpcore rather than httpx: nothing here reads proxies or certificates from the environment, follows
redirects or inflates bodies by itself. Names are looked up once per connection, every address found must be
public, and the address that was checked is the one that is connected to, so a name that answers differently
the next time gains nothing. TLS is verified for the name. Connections are not kept.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedonce.media.addresses import is_public
from embedonce.media.guard import Guard, Refused, Target
from embedonce.media.turns import PER_HOST
from embedonce.ports import Clock

if TYPE_CHECKING:
    import ssl

    import httpcore

    from embedonce.net.bounded import Deadline

MAX_REDIRECTS = 3
CONNECT_SECONDS = 5.0
SLOT_SECONDS = 1.0
"""Hardly anybody waits: what is fetched has had its turn (`turns`); only redirects come on top."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Busy(Exception):
    """As much as may be is being fetched from the host."""


@dataclass(frozen=True, slots=True)
class Known:
    """What was said of a URL before: `conditions` are sent only to `source`, the SHA-256 of the URL that
    said it, because another URL's equal ETag means nothing."""

    source: bytes
    conditions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Fetched:
    """`body` None: not changed since `Known`. `source`: SHA-256 of the URL that answered, after redirects.
    `headers` by lower-cased name."""

    body: bytes | None
    source: bytes
    headers: Mapping[str, str]


class Fetcher:
    """Thread-safe. `resolve` (host, port → addresses), `allowed`, `backend` and `tls` are given by tests."""

    def __init__(
        self,
        guard: Guard,
        clock: Clock,
        *,
        resolve: Callable[[str, int], list[str]] | None = None,
        allowed: Callable[[str], bool] = is_public,
        backend: httpcore.NetworkBackend | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._guard = guard
        self._clock = clock
        self._resolve = resolve
        self._allowed = allowed
        self._backend = backend
        self._tls = tls
        self._lock = threading.Lock()
        self._opened: tuple[_Pools, Deadline] | None = None
        self._hosts: defaultdict[str, _Host] = defaultdict(_Host)
        logging.getLogger("httpcore").setLevel(logging.WARNING)  # logs headers and URLs at DEBUG

    def get(
        self, url: str, *, seconds: float, max_bytes: int, known: Known | None, take: Callable[[int], None]
    ) -> Fetched:
        """`take` is told of every chunk's size before the next is read; what it raises ends the fetch.

        :raises Refused: whatever goes wrong, but
        :raises Busy: no connection to the host was free soon
        """
        import httpcore

        target = self._guard.target(url)
        pools, deadline = self._open()
        end = self._clock.monotonic() + seconds
        deadline.set(seconds)
        try:
            for _ in range(MAX_REDIRECTS + 1):
                with self._slot(target.host, end):
                    answer = _ask(pools.of(target), target, max_bytes, known, take)
                if isinstance(answer, Fetched):
                    return answer
                target = self._guard.redirected(target, answer)
        except (
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.TimeoutException,
            OSError,
            ValueError,
        ):
            raise Refused from None
        raise Refused

    def host(self, url: str) -> str:
        """Whom `get` asks first; empty if nobody."""
        try:
            return self._guard.target(url).host
        except Refused:
            return ""

    def close(self) -> None:
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened[0].close()

    def _open(self) -> tuple[_Pools, Deadline]:
        with self._lock:
            if self._opened is None:
                from embedonce.net.bounded import Deadline
                from embedonce.net.tls import own_context

                deadline = Deadline(self._clock)
                self._opened = (
                    _Pools(deadline, self._tls or own_context(), self._backend, self._addresses),
                    deadline,
                )
            return self._opened

    def _addresses(self, host: str, port: int) -> list[str]:
        from embedonce.net.bounded import addresses_of

        addresses = (self._resolve or addresses_of)(host, port)
        if not addresses or not all(self._allowed(address) for address in addresses):
            raise Refused
        return addresses

    @contextmanager
    def _slot(self, host: str, end: float) -> Iterator[None]:
        """One of a few connections to this host at a time."""
        with self._lock:
            entry = self._hosts[host]
            entry.users += 1
        try:
            left = end - self._clock.monotonic()
            if not entry.slots.acquire(timeout=min(max(0.0, left), SLOT_SECONDS)):
                raise Busy
            try:
                yield
            finally:
                entry.slots.release()
        finally:
            with self._lock:
                entry.users -= 1
                if entry.users == 0:
                    self._hosts.pop(host, None)


class _Host:
    def __init__(self) -> None:
        self.slots = threading.BoundedSemaphore(PER_HOST)
        self.users = 0


class _Pools:
    """Two pools, which keep no connection: for strangers, and for the operator's own origins."""

    def __init__(
        self,
        deadline: Deadline,
        tls: ssl.SSLContext,
        backend: httpcore.NetworkBackend | None,
        addresses: Callable[[str, int], list[str]],
    ) -> None:
        import httpcore

        from embedonce.net.bounded import BoundedBackend

        def pool(network: httpcore.NetworkBackend) -> httpcore.ConnectionPool:
            return httpcore.ConnectionPool(
                ssl_context=tls,
                max_connections=64,
                max_keepalive_connections=0,
                http2=False,
                retries=0,
                network_backend=network,
            )

        self._strangers = pool(BoundedBackend(deadline, addresses, backend))
        self._own = pool(BoundedBackend(deadline, None, backend))

    def of(self, target: Target) -> httpcore.ConnectionPool:
        return self._own if target.local else self._strangers

    def close(self) -> None:
        self._strangers.close()
        self._own.close()


def _ask(
    pool: httpcore.ConnectionPool,
    target: Target,
    max_bytes: int,
    known: Known | None,
    take: Callable[[int], None],
) -> Fetched | str:
    """What is there, or where a redirect leads."""
    import httpcore

    source = hashlib.sha256(target.url.encode()).digest()
    conditions = known.conditions if known is not None and known.source == source else {}
    headers = {
        "host": target.host_header,
        "user-agent": "embedonce",
        "accept": "*/*",
        "accept-encoding": "identity",
        "connection": "close",
        **conditions,
    }
    url = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
    timeouts: dict[str, Any] = {"timeout": {"connect": CONNECT_SECONDS, "pool": CONNECT_SECONDS}}
    sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    with pool.stream("GET", url, headers=sent, extensions=timeouts) as response:
        got = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        if response.status in _REDIRECTS:
            return _location(got.get("location", ""))
        if response.status == 304 and conditions:
            return Fetched(None, source, got)
        if response.status != 200 or got.get("content-encoding", "identity").strip().lower() not in (
            "",
            "identity",
        ):
            raise Refused
        return Fetched(_body(response, got.get("content-length", ""), max_bytes, take), source, got)


def _location(header: str) -> str:
    """From bytes as latin-1: UTF-8 if they are, else percent-encoded as they are, as browsers do."""
    raw = header.encode("latin-1")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in raw)


def _body(response: httpcore.Response, length: str, max_bytes: int, take: Callable[[int], None]) -> bytes:
    if length.isdecimal() and (len(length) > 18 or int(length) > max_bytes):
        raise Refused
    body = bytearray()
    for chunk in response.iter_stream():
        if len(body) + len(chunk) > max_bytes:
            raise Refused
        take(len(chunk))
        body += chunk
    return bytes(body)
