"""Connections to strangers: for what is fetched from them (`fetch`) and posted to them (`post`).

With httpcore rather than httpx: nothing here reads proxies or certificates from the environment, follows
redirects or inflates bodies by itself. Names are looked up once per connection, every address found must be
public, and the address that was checked is the one that is connected to, so a name that answers differently
the next time gains nothing. TLS is verified for the name. Connections are not kept.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from embedonce.media.addresses import is_public
from embedonce.media.guard import Refused, Target
from embedonce.ports import Clock

if TYPE_CHECKING:
    import ssl

    from embedonce.net.bounded import Backend, Deadline, Response


class Busy(Exception):
    """As many connections to the host as may be are open."""


class HostSlots:
    """A few connections to each host at a time. Thread-safe; its length is how many hosts are in use."""

    def __init__(self, per_host: int) -> None:
        self._lock = threading.Lock()
        self._hosts: defaultdict[str, _Host] = defaultdict(lambda: _Host(per_host))

    def __len__(self) -> int:
        return len(self._hosts)

    @contextmanager
    def take(self, host: str, wait: float) -> Iterator[None]:
        """:raises Busy: none became free within `wait` seconds"""
        with self._lock:
            entry = self._hosts[host]
            entry.users += 1
        try:
            if not entry.slots.acquire(timeout=wait):
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
    def __init__(self, slots: int) -> None:
        self.slots = threading.BoundedSemaphore(slots)
        self.users = 0


class Connections:
    """Thread-safe. `resolve` (host, port → addresses), `allowed`, `backend` and `tls` are given by tests."""

    def __init__(
        self,
        clock: Clock,
        *,
        resolve: Callable[[str, int], list[str]] | None = None,
        allowed: Callable[[str], bool] = is_public,
        backend: Backend | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._clock = clock
        self._resolve = resolve
        self._allowed = allowed
        self._backend = backend
        self._tls = tls
        self._lock = threading.Lock()
        self._opened: tuple[Strangers, Deadline] | None = None
        logging.getLogger("httpcore").setLevel(logging.WARNING)  # logs headers and URLs at DEBUG

    def begin(self, seconds: float) -> Strangers:
        """All that this thread asks of them from now on ends within `seconds`."""
        strangers, deadline = self._open()
        deadline.set(seconds)
        return strangers

    def close(self) -> None:
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened[0].close()

    def _open(self) -> tuple[Strangers, Deadline]:
        with self._lock:
            if self._opened is None:
                from embedonce.net.bounded import Deadline
                from embedonce.net.tls import own_context

                deadline = Deadline(self._clock)
                tls = self._tls or own_context()
                self._opened = Strangers(deadline, tls, self._backend, self._addresses), deadline
            return self._opened

    def _addresses(self, host: str, port: int) -> list[str]:
        from embedonce.net.bounded import addresses_of

        addresses = (self._resolve or addresses_of)(host, port)
        if not addresses or not all(self._allowed(address) for address in addresses):
            raise Refused
        return addresses


class Strangers:
    """Two ways to them: by checked addresses only, and for the operator's own origins by any."""

    def __init__(
        self,
        deadline: Deadline,
        tls: ssl.SSLContext,
        backend: Backend | None,
        addresses: Callable[[str, int], list[str]],
    ) -> None:
        from embedonce.net.bounded import BoundedBackend, SingleUse

        self._checked = SingleUse(tls, BoundedBackend(deadline, addresses, backend))
        self._own = SingleUse(tls, BoundedBackend(deadline, None, backend))

    @contextmanager
    def ask(
        self, method: str, target: Target, headers: Mapping[str, str], body: bytes | None = None
    ) -> Iterator[Response]:
        """The answer, of which nothing but the headers has been read.

        :raises Refused: whatever goes wrong, also while it is read
        """
        from embedonce.net.bounded import TROUBLE

        way = self._own if target.local else self._checked
        url = target.scheme, target.host, target.port, target.path
        sent = {
            "host": target.host_header,
            "user-agent": "embedonce",
            "connection": "close",
            **headers,
        }
        try:
            with way.ask(method, url, sent, body) as response:
                yield response
        except TROUBLE:
            raise Refused from None

    def close(self) -> None:
        self._checked.close()
        self._own.close()
