"""HTTP to providers: the one module that imports httpx, and only at the first call (its import is much of a
cold start, and a hit needs none of it).

Neither proxies, `.netrc` nor certificate settings are read from the environment, redirects are not followed,
cookies are not kept, bodies are not inflated and nothing is retried. A connection that the server closed
while it was idle is noticed before a request is written to it (httpcore looks whether the socket is
readable); one that is lost after that may have carried the request there, so it counts as perhaps billed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from embedonce.ports import Clock
from embedonce.upstreams.body import Body, Streamed
from embedonce.upstreams.failure import Kind, UpstreamFailure
from embedonce.upstreams.waits import LONGEST_RETRY_AFTER, retry_after

if TYPE_CHECKING:
    import httpx

    from embedonce.net.bounded import Deadline

__all__ = ["LONGEST_RETRY_AFTER", "Reply", "Transport", "bearer", "checked_base_url", "key_bytes"]
__all__ += ["retry_after"]

CONNECT_SECONDS = 5.0
IDLE_SECONDS = 30.0
ERROR_BODY_BYTES = 64 * 1024
ERROR_BODY_SECONDS = 1.0

_HEADERS = {
    "accept": "application/json",
    "accept-encoding": "identity",
    "user-agent": "embedonce",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """`headers` by lower-cased name. `retry_after` in seconds, 0 to 3600; None: the provider did not say."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    retry_after: float | None = None


MAX_CONNECTIONS = 64
"""As many as there are threads that buy (`bootstrap.PURCHASE_THREADS`): a call that waited for a connection
would have less time left to be answered in, and be billed for nothing."""


class Transport:
    """Thread-safe; one pool of connections for all upstreams."""

    def __init__(self, clock: Clock, *, max_connections: int = MAX_CONNECTIONS) -> None:
        self._clock = clock
        self._max_connections = max_connections
        self._lock = threading.Lock()
        self._opened: tuple[httpx.Client, Deadline] | None = None
        for name in ("httpx", "httpcore"):
            # httpx logs whole URLs at INFO, httpcore headers at DEBUG: also when the root logger asks for it.
            logging.getLogger(name).setLevel(logging.WARNING)

    def post_json(
        self,
        url: str,
        body: Body,
        headers: Mapping[str, str | bytes],
        timeout: float,
        max_bytes: int,
        *,
        upstream: str = "the provider",
    ) -> Reply:
        """One POST, over in `timeout` seconds. Any status but a redirect is a reply.

        Of an error status the body is a courtesy: it is empty where it was too large, encoded or too slow.

        :raises UpstreamFailure: the kinds REFUSED, TIMEOUT, BROKEN, INVALID (too large or encoded) and
            MISCONFIGURED (redirects, and what cannot be sent at all)
        """
        said = {"content-type": "application/json", **headers}
        return self._ask("POST", url, body, said, timeout, max_bytes, upstream)

    def get_json(
        self,
        url: str,
        headers: Mapping[str, str | bytes],
        timeout: float,
        max_bytes: int,
        *,
        upstream: str = "the provider",
    ) -> Reply:
        """One GET, with the same limits, replies and failures."""
        return self._ask("GET", url, None, headers, timeout, max_bytes, upstream)

    def _ask(
        self,
        method: str,
        url: str,
        body: Body | None,
        headers: Mapping[str, str | bytes],
        timeout: float,
        max_bytes: int,
        upstream: str,
    ) -> Reply:
        if timeout <= 0:
            raise UpstreamFailure(Kind.REFUSED, f"no time was left to ask {upstream}")
        client, deadline = self._client()

        import httpx

        named = {**_HEADERS, **headers}
        content = body.chunks() if isinstance(body, Streamed) else body
        if isinstance(body, Streamed):
            named["content-length"] = str(body.size)  # else it would go out chunked
        sent = [
            (name.encode(), text if isinstance(text, bytes) else text.encode())
            for name, text in named.items()
        ]
        limits = httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS))
        deadline.set(timeout)
        try:
            with client.stream(method, url, content=content, headers=sent, timeout=limits) as response:
                return self._read(response, deadline, max_bytes, upstream)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise UpstreamFailure(Kind.REFUSED, f"{upstream} could not be reached") from None
        except httpx.PoolTimeout:
            raise UpstreamFailure(Kind.REFUSED, f"no connection to {upstream} was free") from None
        except httpx.TimeoutException:
            raise UpstreamFailure(Kind.TIMEOUT, f"{upstream} did not answer in time") from None
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL):
            message = f"the request to {upstream} cannot be sent: check its base URL and key"
            raise UpstreamFailure(Kind.MISCONFIGURED, message) from None
        except httpx.HTTPError:
            raise UpstreamFailure(Kind.BROKEN, f"the connection to {upstream} broke") from None

    def close(self) -> None:
        """Close all connections. A later call opens new ones."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened[0].close()

    def _client(self) -> tuple[httpx.Client, Deadline]:
        with self._lock:
            if self._opened is None:
                self._opened = _open(self._clock, self._max_connections)
            return self._opened

    def _read(self, response: httpx.Response, deadline: Deadline, max_bytes: int, upstream: str) -> Reply:
        import httpx

        status = response.status_code
        if 300 <= status < 400:
            message = f"{upstream} answered with a redirect (HTTP {status}), which is not followed"
            raise UpstreamFailure(Kind.MISCONFIGURED, message)
        if status < 300:
            body = _body(response, max_bytes, upstream)
        else:
            deadline.shorten(ERROR_BODY_SECONDS)
            try:
                body = _body(response, min(max_bytes, ERROR_BODY_BYTES), upstream)
            except (httpx.HTTPError, UpstreamFailure):
                body = b""
        headers = dict(response.headers)
        return Reply(status, headers, body, retry_after(headers, self._clock.now()))


def _open(clock: Clock, max_connections: int) -> tuple[httpx.Client, Deadline]:
    import httpcore
    import httpx

    from embedonce.net.bounded import BoundedBackend, Deadline

    deadline = Deadline(clock)
    tls = httpx.create_ssl_context(trust_env=False)
    transport = httpx.HTTPTransport(verify=tls, trust_env=False)
    # httpx has no parameter for the network backend; a test (headers that trickle) holds this in place.
    transport._pool = httpcore.ConnectionPool(
        ssl_context=tls,
        max_connections=max_connections,
        max_keepalive_connections=max_connections,
        keepalive_expiry=IDLE_SECONDS,
        http2=False,
        retries=0,
        network_backend=BoundedBackend(deadline),
    )
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    client = httpx.Client(transport=transport, trust_env=False, follow_redirects=False, cookies=no_cookies)
    return client, deadline


def _body(response: httpx.Response, max_bytes: int, upstream: str) -> bytes:
    """The raw bytes: httpx would inflate 48 KB to 50 MB in one chunk, even where identity was asked for."""
    if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise UpstreamFailure(
            Kind.INVALID, f"{upstream} answered with a compressed body that nobody asked for"
        )
    body = bytearray()
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > max_bytes:
            raise UpstreamFailure(Kind.INVALID, f"{upstream} answered with more than {max_bytes} bytes")
    return bytes(body)


def checked_base_url(url: str) -> str:
    """The URL without a final slash.

    :raises ValueError: not plain http(s), or with user, query or fragment: it is part of keys and messages,
        so it must hold no secret
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a base URL must start with http:// or https:// and name a host")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("a base URL must not contain a user, a query or a fragment")
    return url.rstrip("/")


def bearer(key: str, upstream: str) -> bytes:
    """The Authorization value. A key that no header can hold is refused here, where no library quotes it.

    :raises UpstreamFailure: MISCONFIGURED
    """
    return b"Bearer " + key_bytes(key, upstream)


def key_bytes(key: str, upstream: str) -> bytes:
    """The same as a header's whole value."""
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise UpstreamFailure(Kind.MISCONFIGURED, f"this gateway has no usable key for {upstream}")
    return key.encode()
