"""A fake OpenRouter on loopback: real HTTP, vectors that encode their input, misbehaviour on request.

In a test's own process:

    with FakeOpenRouter() as fake:
        fake.next(Behaviour("shuffle"), status(429, retry_after="2"))    # the next two calls
        fake.always(Behaviour("hang"))                                   # all after those
        ... OpenRouter(transport, lambda: fake.key, base_url=fake.base_url, catalog=...)
        assert fake.billed == {"hello": 1}

In another process, for tests that kill the one under test: `python -m fakes.openrouter --delay 1` prints its
port; `GET /_calls` counts, `POST /_next` and `/_always` take behaviours (`Behaviour.parse`, one a line),
`POST /_release` ends what hangs.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Any

from fakes.answers import Planned, entries, parts, planned, refusal, refused, vector_for
from fakes.behaviour import NOT_BILLED, Behaviour
from fakes.handler import Handler

KEY = "sk-or-v1-fake-0123456789abcdef"


@dataclass(frozen=True)
class Recorded:
    """One request to the embeddings route. `headers` by lower-cased name."""

    path: str
    headers: Mapping[str, str]
    raw: bytes
    body: Any


class FakeOpenRouter:
    """Serves from its construction on. Thread-safe.

    `key` None: no authentication. `max_inputs`: a larger batch is a 400, as at Google.
    """

    def __init__(self, *, key: str | None = KEY, port: int = 0, max_inputs: int = 100) -> None:
        self.key = key or ""
        self.max_inputs = max_inputs
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
    def base_url(self) -> str:
        return f"{self.origin}/api/v1"

    @property
    def calls(self) -> int:
        """Requests to the embeddings route, whatever became of them."""
        return len(self.requests)

    @property
    def inputs_billed(self) -> int:
        """Inputs that a provider would bill: also those whose answer was wrong, late or lost."""
        return self.billed.total()

    @property
    def last(self) -> Recorded:
        return self.requests[-1]

    def vector_for(
        self, text: str | Sequence[str], dimensions: int | None = None, *, input_type: str | None = None
    ) -> bytes:
        return vector_for(text, dimensions, input_type=input_type)

    def next(self, *behaviours: Behaviour | str) -> None:
        """One call each, in turn, before `always` counts again."""
        with self._lock:
            self._script.extend(_behaviour(b) for b in behaviours)

    def always(self, behaviour: Behaviour | str) -> None:
        with self._lock:
            self._constant = _behaviour(behaviour)

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

    def __enter__(self) -> FakeOpenRouter:
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
        with self._lock:
            self.requests.append(Recorded(path, headers, raw, body))
            behaviour = self._script.popleft() if self._script else self._constant
            refusal = self._refusal(headers, body)
            if refusal is not None:
                return refusal, self._free
            if behaviour.kind not in NOT_BILLED:
                self.billed.update("\n".join(parts(entry)) for entry in entries(body))
            free = self._free
        return planned(behaviour, body), free

    def entered(self, step: int) -> None:
        with self._lock:
            self.in_flight += step
            self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def _refusal(self, headers: Mapping[str, str], body: Any) -> Planned | None:
        if self._authenticated and headers.get("authorization") != f"Bearer {self.key}":
            return refused(401, "No auth credentials found")
        message = refusal(body, self.max_inputs)
        return None if message is None else refused(400, message)


def _behaviour(given: Behaviour | str) -> Behaviour:
    return Behaviour.parse(given) if isinstance(given, str) else given


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True
    request_queue_size = 256
    fake: FakeOpenRouter

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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fakes.openrouter")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", default=KEY)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before every answer")
    parser.add_argument("--behaviour", default="ok", help="of every answer, e.g. shuffle or status:503")
    given = parser.parse_args()
    behaviour = Behaviour.parse(given.behaviour)
    with FakeOpenRouter(key=given.key, port=given.port) as fake:
        fake.always(
            Behaviour(behaviour.kind, given.delay or behaviour.delay, behaviour.code, text=behaviour.text)
        )
        print(fake.port, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
