"""Whether the local server could serve, or does."""

from __future__ import annotations

import errno
import http.client
import socket
from contextlib import closing

import orjson

from embedonce import __version__
from embedonce.config import Settings
from embedonce.doctor.check import Check, ok, problem, warning

SECONDS = 3.0
MOST_BYTES = 4096
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # asked, not bound


def port_check(settings: Settings) -> Check:
    host, port = settings.host, settings.port
    if port == 0:
        return ok("port", "PORT=0: a free one is taken at each start")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                said = f"cannot serve on {host}:{port}: {error.strerror}"
                return problem("port", said, "choose another HOST, or a PORT from 1024 on")
        else:
            return ok("port", f"{host}:{port} is free")
    version = _served(EVERYWHERE.get(host, host), port)
    if version is None:
        remedy = "stop that program, or choose another PORT"
        return problem("port", f"{host}:{port} is taken by another program", remedy)
    if version != __version__:
        said = f"another version of embedonce serves on {host}:{port}"
        return warning("port", said, f"restart it to have {__version__}")
    return ok("port", f"embedonce serves on {host}:{port}")


def _served(host: str, port: int) -> str | None:
    """The version of the gateway that answers there; None: it is none."""
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    try:
        connection.request("GET", "/health")
        said = orjson.loads(connection.getresponse().read(MOST_BYTES))
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    if isinstance(said, dict) and said.get("status") == "ok" and isinstance(said.get("version"), str):
        return str(said["version"])
    return None
