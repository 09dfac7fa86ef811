"""`embedonce serve`: the gateway on one machine, with the embedded stores."""

from __future__ import annotations

import ipaddress
import socket
import sys
from dataclasses import replace

import uvicorn

from embedonce.bootstrap import App, build
from embedonce.bootstrap.stores import INBOX_FOLDER
from embedonce.config import ConfigError, Settings
from embedonce.local.answering import answering
from embedonce.local.asgi import LocalApp
from embedonce.local.devkey import development_key
from embedonce.local.logs import log_to_stderr
from embedonce.local.loops import Loops
from embedonce.local.uploads import UploadReceiver, UploadSigner, signing_secret
from embedonce.stores.embedded.blobs import DirectoryBlobs
from embedonce.telemetry import LogTelemetry

IDLE_SECONDS = 75
"""Keep-alive of idle connections: longer than the pools of the clients at hand."""
MAX_CONNECTIONS = 1024

SHORTEST_OPEN_KEY = 24
"""Characters of a chosen development key on an address that other machines reach."""


def serve(settings: Settings) -> None:
    """Blocks until stopped by a signal.

    :raises ConfigError: a setting that cannot work, an address that is taken
    """
    log_to_stderr(settings)
    if settings.mode != "local":
        raise ConfigError("EMBEDONCE_MODE: `serve` runs in local mode only")
    key = local_key(settings)
    app = build(settings, LogTelemetry(), development_key=key)
    try:
        listener = _listen(settings)
    except ConfigError:
        app.close()
        raise
    port = listener.getsockname()[1]
    app = with_loops(app)
    sys.stdout.write(greeting(settings, app, key, port))
    sys.stdout.flush()
    hosts = list(settings.allowed_hosts)
    if settings.host not in ("0.0.0.0", "::"):  # noqa: S104 compared, not bound
        hosts.append(f"[{settings.host}]" if ":" in settings.host else settings.host)
    config = uvicorn.Config(
        LocalApp(app, hosts, uploads=upload_receiver(app)),
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=30,
        limit_concurrency=MAX_CONNECTIONS,
    )
    uvicorn.Server(config).run(sockets=[listener])


def upload_receiver(app: App) -> UploadReceiver | None:
    """Takes what is put by URLs of this server; None where the blobs lie elsewhere."""
    blobs = app.parts.stores.blobs
    if not isinstance(blobs, DirectoryBlobs):
        return None
    signer = UploadSigner(signing_secret(app.parts.settings.data_dir), app.clock)
    return UploadReceiver(signer, blobs)


def with_loops(app: App) -> App:
    """The app with worker, poller and janitor running beside it, until it is closed."""
    loops = Loops(app.parts, app.parts.settings.loops)
    loops.start()

    def close() -> None:
        loops.stop()
        app.close()

    return replace(app, close=close)


def local_key(settings: Settings) -> str:
    """:raises ConfigError: one that others could guess, or a folder that cannot be written"""
    given = settings.dev_key.get_secret_value() if settings.dev_key else None
    if given and len(given) < SHORTEST_OPEN_KEY and not _is_loopback(settings.host):
        raise ConfigError(
            f"EMBEDONCE_DEV_KEY: with HOST={settings.host} others can try keys; give it {SHORTEST_OPEN_KEY} "
            "characters or more, or leave it unset"
        )
    try:
        return development_key(settings.data_dir, given)
    except OSError as error:
        raise ConfigError(f"EMBEDONCE_DATA_DIR: {settings.data_dir}: {error.strerror}") from None


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(MAX_CONNECTIONS)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot serve on {settings.host}:{settings.port}: {error.strerror}; choose another HOST or PORT"
        ) from None
    return listener


def greeting(settings: Settings, app: App, key: str, port: int) -> str:
    """What the server says when it starts: where it is, whose vectors it answers with, the key."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    base = f"http://{host}:{port}"
    shown = "from EMBEDONCE_DEV_KEY" if settings.dev_key else key
    open_to_others = (
        "" if _is_loopback(settings.host) else "\n  WARNING: other machines can reach this address\n"
    )
    return (
        f"\nembedonce is serving on {base}\n"
        f"{open_to_others}"
        f"\n  OpenAI, segmind      base_url={base}/v1\n"
        f"  OpenRouter           base_url={base}/api/v1\n"
        f"  google-genai         base_url={base}\n"
        f"  dashboard            {base}/dashboard\n"
        f"  development key      {shown}\n"
        f"  vectors are kept in  {settings.data_dir.resolve()}\n"
        f"{_inbox(settings)}"
        f"\n  who answers what is not in the cache:\n{answering(app.router, app.catalog)}\n"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _inbox(settings: Settings) -> str:
    if "ingest" not in settings.loops:
        return ""
    return f"  inbox for files      {(settings.data_dir / INBOX_FOLDER).resolve()}\n"
