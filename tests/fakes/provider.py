"""What the fake providers share: a real HTTP server on loopback, a script of misbehaviours, what was asked
and what a provider would bill.

In a test's own process:

    with FakeOpenRouter() as fake:
        fake.next(Behaviour("shuffle"), status(429, retry_after="2"))    # the next two calls
        fake.always(Behaviour("hang"))                                   # all after those
        ... OpenRouter(transport, lambda: fake.key, base_url=fake.base_url, catalog=...)
        assert fake.billed == {"hello": 1}

In another process, for tests that kill the one under test: `python -m fakes.openrouter --delay 1` (or
`google`, `segmind`) prints its port; `GET /_calls` counts, `POST /_next` and `/_always` take behaviours
(`Behaviour.parse`, one a line), `POST /_release` ends what hangs.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import threading
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from fakes.answers import Planned, Sent, label, whole_body
from fakes.behaviour import KINDS, NOT_BILLED, Behaviour
from fakes.handler import Handler


@dataclass(frozen=True)
class Recorded:
    """One request to an embeddings route, path with query. `headers` by lower-cased name."""

    path: str
    headers: Mapping[str, str]
    raw: bytes
    body: Any


class FakeProvider(ABC):
    """Serves from its construction on. Thread-safe. `key` None: no authentication."""

    not_on_this_wire: frozenset[str] = frozenset()
    """Kinds of behaviour that this provider's answers cannot express."""

    def __init__(self, *, key: str | None, port: int = 0) -> None:
        self.key = key or ""
        self.requests: list[Recorded] = []
        self.billed: Counter[str] = Counter()
        self.in_flight = 0
        self.most_in_flight = 0
        self._authenticated = key is not None
        self._lock = threading.Lock()
        self._script: deque[Behaviour] = deque()
        self._constant = Behaviour()
        self._free = threading.Event()
        self._server = _Server(("127.0.0.1", port), Handler)
        self._server.fake = self
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    @abstractmethod
    def base_url(self) -> str:
        """What the gateway's setting is set to."""

    @abstractmethod
    def serves(self, path: str) -> bool:
        """Whether a POST to `path` (without query) embeds."""

    @abstractmethod
    def contents(self, path: str, body: Any) -> list[list[Sent]]:
        """The parts of each input; what cannot be read is an empty one."""

    @abstractmethod
    def refusal(self, path: str, headers: Mapping[str, str], body: Any) -> Planned | None:
        """For what the provider does not take: a wrong key, a wrong body."""

    @abstractmethod
    def answer(self, behaviour: Behaviour, path: str, body: Any) -> Planned:
        """The right answer, edited as `behaviour` says."""

    @abstractmethod
    def error(self, code: int, message: str, behaviour: Behaviour | None = None) -> Planned:
        """As the provider says an error; `behaviour` may hold a `retry_after`."""

    @property
    def calls(self) -> int:
        """Requests to embed, whatever became of them."""
        return len(self.requests)

    @property
    def inputs_billed(self) -> int:
        """Inputs that a provider would bill: also those whose answer was wrong, late or lost."""
        return self.billed.total()

    @property
    def last(self) -> Recorded:
        return self.requests[-1]

    def next(self, *behaviours: Behaviour | str) -> None:
        """One call each, in turn, before `always` counts again."""
        with self._lock:
            self._script.extend(self._possible(b) for b in behaviours)

    def always(self, behaviour: Behaviour | str) -> None:
        with self._lock:
            self._constant = self._possible(behaviour)

    @property
    def connections(self) -> frozenset[socket.socket]:
        """Those that are open, idle ones included."""
        return frozenset(self._server.connections)

    def disconnect_all(self) -> None:
        """Close all connections, as a server does with idle ones."""
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """End all that hangs, is delayed, trickles or is endless now; what comes later does so again."""
        with self._lock:
            free, self._free = self._free, threading.Event()
        free.set()

    def reset(self) -> None:
        """Forget what was counted, recorded and scripted."""
        with self._lock:
            self._script.clear()
            self._constant = Behaviour()
            self.requests.clear()
            self.billed.clear()
            self.most_in_flight = self.in_flight

    def close(self) -> None:
        self._server.shutdown()
        self.release()
        self.disconnect_all()
        self._server.server_close()
        self._thread.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def plan(self, path: str, headers: Mapping[str, str], raw: bytes) -> tuple[Planned, threading.Event]:
        """For the handler: record the request and decide the answer; the event ends a hang."""
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        route = path.partition("?")[0]
        with self._lock:
            self.requests.append(Recorded(path, headers, raw, body))
            behaviour = self._script.popleft() if self._script else self._constant
            refusal = self.refusal(path, headers, body)
            if refusal is not None:
                return refusal, self._free
            if behaviour.kind not in NOT_BILLED:
                self.billed.update(label(parts) for parts in self.contents(route, body))
            free = self._free
        if behaviour.kind == "status":
            return self.error(behaviour.code, behaviour.text or "Provider returned error", behaviour), free
        return whole_body(behaviour) or self.answer(behaviour, route, body), free

    def entered(self, step: int) -> None:
        with self._lock:
            self.in_flight += step
            self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def _possible(self, given: Behaviour | str) -> Behaviour:
        behaviour = Behaviour.parse(given) if isinstance(given, str) else given
        if behaviour.kind in self.not_on_this_wire:
            raise ValueError(f"{type(self).__name__} cannot answer with {behaviour.kind}")
        return behaviour


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True
    request_queue_size = 256
    fake: FakeProvider

    def __init__(self, *args: Any) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(*args)

    def server_bind(self) -> None:
        """Without HTTPServer's look-up of its own host name, which may wait for a resolver."""
        socket.socket.bind(self.socket, self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is no event for the test's output."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def closed_port() -> int:
    """A port on loopback where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


def serve(make: Callable[..., FakeProvider], name: str, key: str) -> None:
    """`python -m fakes.<name>`: print the port and serve until killed."""
    parser = argparse.ArgumentParser(prog=f"python -m fakes.{name}")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", default=key)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before every answer")
    parser.add_argument("--behaviour", default="ok", help=f"of every answer: {', '.join(sorted(KINDS))}")
    given = parser.parse_args()
    behaviour = Behaviour.parse(given.behaviour)
    with make(key=given.key, port=given.port) as fake:
        fake.always(replace(behaviour, delay=given.delay or behaviour.delay))
        print(fake.port, flush=True)
        threading.Event().wait()
