"""The local server in a thread of the test's process, over upstreams that the test holds."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from embedonce.bootstrap import build
from embedonce.config import load
from embedonce.local.asgi import LocalApp
from embedonce.local.server import upload_receiver, with_loops
from embedonce.ports import Upstream
from embedonce.telemetry import LogTelemetry
from support.gateway import DEV_KEY, ImpatientClock


@contextmanager
def served(folder: Path, upstreams: Sequence[Upstream]) -> Iterator[str]:
    """Answers the base URL. Connections made before the server runs wait for it."""
    app = with_loops(
        build(
            load({"EMBEDONCE_DATA_DIR": str(folder)}),
            LogTelemetry(),
            development_key=DEV_KEY,
            clock=ImpatientClock(),
            upstreams=upstreams,
        )
    )
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        LocalApp(app, uploads=upload_receiver(app)),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
