"""The HTTP side of a `FakeProvider`: sends what was planned, or breaks the wire in the way asked for."""

from __future__ import annotations

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fakes.answers import Planned
    from fakes.provider import FakeProvider

LONGEST_HANG = 60.0
TRICKLE_SECONDS = 0.05


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "fake"
    timeout = LONGEST_HANG
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)  # type: ignore[attr-defined]

    def finish(self) -> None:
        self.server.connections.discard(self.connection)  # type: ignore[attr-defined]
        super().finish()

    @property
    def fake(self) -> FakeProvider:
        fake: FakeProvider = self.server.fake  # type: ignore[attr-defined]
        return fake

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path != "/_calls":
            self._send(404, b"{}")
            return
        fake = self.fake
        counted = {"calls": fake.calls, "inputs_billed": fake.inputs_billed, "billed": dict(fake.billed)}
        self._send(200, json.dumps({**counted, "most_in_flight": fake.most_in_flight}).encode())

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        lines = raw.decode(errors="replace").split() if self.path.startswith("/_") else []
        match self.path:
            case "/_next":
                self.fake.next(*lines)
            case "/_always":
                self.fake.always(lines[0])
            case "/_release":
                self.fake.release()
            case path if self.fake.serves(path.partition("?")[0]):
                self._embed(raw)
                return
            case _:
                self._send(404, b'{"error": {"code": 404, "message": "Not Found"}}')
                return
        self._send(200, b"{}")

    def _embed(self, raw: bytes) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        planned, free = self.fake.plan(self.path, headers, raw)
        self.fake.entered(+1)
        try:
            if planned.behaviour.delay:
                free.wait(planned.behaviour.delay)
            misbehave = getattr(self, f"_{planned.behaviour.kind}", None)
            if misbehave is not None:
                misbehave(planned, free)
            else:
                self._send(planned.status, planned.body, dict(planned.headers))
        finally:
            self.fake.entered(-1)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self._head(status, {"Content-Length": str(len(body)), **(headers or {})})
        self.wfile.write(body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Set-Cookie": "fake=1", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _hang(self, planned: Planned, free: threading.Event) -> None:
        """No answer until released, then the right one (to whoever still listens)."""
        free.wait(LONGEST_HANG)
        self._send(planned.status, planned.body)

    def _redirect(self, planned: Planned, free: threading.Event) -> None:
        target = planned.behaviour.text or f"{self.fake.origin}/v1/embeddings"
        self._send(planned.behaviour.code or 307, b"", {"Location": target})

    def _disconnect(self, planned: Planned, free: threading.Event) -> None:
        self.close_connection = True

    def _truncate(self, planned: Planned, free: threading.Event) -> None:
        self._head(200, {"Content-Length": str(len(planned.body))})
        self.wfile.write(planned.body[: len(planned.body) // 2])
        self.close_connection = True

    def _trickle(self, planned: Planned, free: threading.Event) -> None:
        self._head(200, {"Content-Length": str(len(planned.body))})
        self._drop_by_drop(planned.body, free)

    def _trickle_headers(self, planned: Planned, free: threading.Event) -> None:
        self._drop_by_drop(b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 10_000, free)

    def _drop_by_drop(self, data: bytes, free: threading.Event) -> None:
        """5 seconds of it, so that a client without a deadline fails its test and does not hang."""
        for i in range(min(len(data), 100)):
            self.wfile.write(data[i : i + 1])
            if free.wait(TRICKLE_SECONDS):
                break
        self.close_connection = True

    def _endless(self, planned: Planned, free: threading.Event) -> None:
        self._head(200, {"Transfer-Encoding": "chunked"})
        while not free.is_set():
            self.wfile.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")

    def _endless_headers(self, planned: Planned, free: threading.Event) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Filler: ")
        while not free.is_set():
            self.wfile.write(b"x" * 0x10000)

    def _garbage(self, planned: Planned, free: threading.Event) -> None:
        """`text` where a status line should be."""
        self.wfile.write(planned.behaviour.text.encode() or b"\x00\x01 this is not HTTP")
        self.wfile.write(b"\r\n\r\n")
        self.close_connection = True

    def _gzip_bomb(self, planned: Planned, free: threading.Event) -> None:
        self._send(200, gzip.compress(b" " * 20_000_000 + planned.body), {"Content-Encoding": "gzip"})

    def _gzip_error(self, planned: Planned, free: threading.Event) -> None:
        self._send(429, gzip.compress(b"{}"), {"Content-Encoding": "gzip", "Retry-After": "7"})

    def _hang_after_error(self, planned: Planned, free: threading.Event) -> None:
        """The head of a 503, whose body never comes."""
        self._head(503, {"Content-Length": "100"})
        free.wait(LONGEST_HANG)
        self.close_connection = True
