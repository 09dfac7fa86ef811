"""Bytes behind a stranger's URL: one GET with its redirects, guarded, bounded in time and size.

How it is connected to: `connect`. Nothing here inflates bodies or follows redirects unseen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedonce.media.addresses import is_public
from embedonce.media.connect import Busy, Connections, HostSlots, Strangers
from embedonce.media.guard import Guard, Refused, Target
from embedonce.media.turns import PER_HOST
from embedonce.ports import Clock

if TYPE_CHECKING:
    import ssl

    import httpcore

__all__ = ["Busy", "Fetched", "Fetcher", "Known"]

MAX_REDIRECTS = 3
SLOT_SECONDS = 1.0
"""Hardly anybody waits: what is fetched has had its turn (`turns`); only redirects come on top."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


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
        self._connections = Connections(clock, resolve=resolve, allowed=allowed, backend=backend, tls=tls)
        self._hosts = HostSlots(PER_HOST)

    def get(
        self, url: str, *, seconds: float, max_bytes: int, known: Known | None, take: Callable[[int], None]
    ) -> Fetched:
        """`take` is told of every chunk's size before the next is read; what it raises ends the fetch.

        :raises Refused: whatever goes wrong, but
        :raises Busy: no connection to the host was free soon
        """
        target = self._guard.target(url)
        end = self._clock.monotonic() + seconds
        strangers = self._connections.begin(seconds)
        for _ in range(MAX_REDIRECTS + 1):
            left = end - self._clock.monotonic()
            with self._hosts.take(target.host, min(max(0.0, left), SLOT_SECONDS)):
                answer = _ask(strangers, target, max_bytes, known, take)
            if isinstance(answer, Fetched):
                return answer
            target = self._guard.redirected(target, answer)
        raise Refused

    def host(self, url: str) -> str:
        """Whom `get` asks first; empty if nobody."""
        try:
            return self._guard.target(url).host
        except Refused:
            return ""

    def close(self) -> None:
        self._connections.close()


def _ask(
    strangers: Strangers,
    target: Target,
    max_bytes: int,
    known: Known | None,
    take: Callable[[int], None],
) -> Fetched | str:
    """What is there, or where a redirect leads."""
    source = hashlib.sha256(target.url.encode()).digest()
    conditions = known.conditions if known is not None and known.source == source else {}
    headers = {"accept": "*/*", "accept-encoding": "identity", **conditions}
    with strangers.ask("GET", target, headers) as response:
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
