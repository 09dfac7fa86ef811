"""A receiver of webhooks that now and then does not take one."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REFUSED = 0.15


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asks is killed in the middle of it, as it is meant."""


class Hooks:
    """`delivered`: answered with 2xx, by request id and status."""

    def __init__(self, seed: str) -> None:
        self.delivered: Counter[tuple[str, str]] = Counter()
        self.refused = 0
        self._luck = random.Random(f"{seed}:hooks")
        self._lock = threading.Lock()
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 20

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("content-length", 0)))
                self.send_response(hooks.take(json.loads(raw)["data"]))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def take(self, said: dict[str, str]) -> int:
        with self._lock:
            if self._luck.random() < REFUSED:
                self.refused += 1
                return 500
            self.delivered[said["request_id"], said["status"]] += 1
            return 204

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
