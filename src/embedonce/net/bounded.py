"""Sockets that keep one deadline for a whole call, whatever the other side does.

httpx counts its timeouts per read: a server that sends one header byte a second would never run into one.
Here every read and write gets what remains of the call that runs in this thread. The one thing that cannot be
interrupted is the resolver (`getaddrinfo`), which has limits of its own.

Imports httpcore, so it is itself imported only with the first call (`upstreams.transport`, `media.connect`).
"""

from __future__ import annotations

import math
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpcore

from embedonce.ports import Clock

WRITE_BYTES = 16 * 1024
CONNECT_SECONDS = 5.0
MAX_CONNECTIONS = 64

Backend = httpcore.NetworkBackend
Response = httpcore.Response
TROUBLE: tuple[type[Exception], ...] = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    OSError,
    ValueError,
)
"""All that a call over `SingleUse` ends with when the other side or the network is at fault."""


class Deadline(threading.local):
    """When the call of this thread must have ended, on `clock.monotonic()`."""

    at = math.inf

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> float:
        return self._clock.monotonic()

    def set(self, seconds: float) -> None:
        self.at = self.now() + seconds

    def shorten(self, seconds: float) -> None:
        self.at = min(self.at, self.now() + seconds)

    def left(self, late: type[Exception]) -> float:
        """Seconds that remain; more than 0 because a socket takes 0 for "do not block"."""
        seconds = self.at - self.now()
        if seconds <= 0:
            raise late("the deadline of the call has passed")
        return min(seconds, threading.TIMEOUT_MAX)


class BoundedStream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._inner.read(max_bytes, self._deadline.left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        for start in range(0, len(buffer), WRITE_BYTES):
            left = self._deadline.left(httpcore.WriteTimeout)
            self._inner.write(buffer[start : start + WRITE_BYTES], left)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            left = _smaller(self._deadline.left(httpcore.ConnectTimeout), timeout)
        except BaseException:
            self._inner.close()  # httpcore closes what start_tls itself could not make
            raise
        return BoundedStream(self._inner.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class BoundedBackend(httpcore.NetworkBackend):
    """Connects within `timeout` over all addresses of the host, not within `timeout` for each of them.

    What `addresses` answers is connected to as it is, so who checks there has checked what is connected to.
    """

    def __init__(
        self,
        deadline: Deadline,
        addresses: Callable[[str, int], list[str]] | None = None,
        inner: httpcore.NetworkBackend | None = None,
    ) -> None:
        self._deadline = deadline
        self._addresses = addresses or addresses_of
        self._inner = inner or httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = self._addresses(host, port)
        end = self._deadline.now() + _smaller(self._deadline.left(httpcore.ConnectTimeout), timeout)
        failure: Exception = httpcore.ConnectError("the host has no address")
        for i, address in enumerate(addresses):
            share = (end - self._deadline.now()) / (len(addresses) - i)
            if share <= 0:
                break
            try:
                stream = self._inner.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return BoundedStream(stream, self._deadline)
        raise failure


class SingleUse:
    """One request per connection, over HTTP/1.1. No proxies, redirects, retries or inflating; the headers of
    an answer are bounded (h11: 100 KiB), and of its body nothing is read that is not asked for."""

    def __init__(self, tls: ssl.SSLContext, backend: httpcore.NetworkBackend) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls,
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=0,
            http2=False,
            retries=0,
            network_backend=backend,
        )

    @contextmanager
    def ask(
        self, method: str, url: tuple[str, str, int, str], headers: Mapping[str, str], body: bytes | None
    ) -> Iterator[httpcore.Response]:
        """`url`: scheme, host, port, path with query. The connection is closed afterwards.

        :raises TROUBLE:
        """
        scheme, host, port, path = url
        sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        timeouts: dict[str, Any] = {"timeout": {"connect": CONNECT_SECONDS, "pool": CONNECT_SECONDS}}
        where = httpcore.URL(scheme=scheme, host=host, port=port, target=path)
        with self._pool.stream(method, where, headers=sent, content=body, extensions=timeouts) as response:
            yield response

    def close(self) -> None:
        self._pool.close()


def addresses_of(host: str, port: int) -> list[str]:
    """Every address that the resolver has for the host, each once.

    :raises httpcore.ConnectError: none
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        raise httpcore.ConnectError("the host has no address") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _smaller(left: float, timeout: float | None) -> float:
    return left if timeout is None else min(left, timeout)
