"""Routes that belong to no dialect: health and the API's own description."""

from __future__ import annotations

from importlib import resources

import orjson

from embedonce import __version__
from embedonce.access.authenticate import Caller
from embedonce.http.message import Request, Response
from embedonce.http.routes import Dialect, Route


def routes(errors_as: Dialect) -> list[Route]:
    return [
        Route("GET", "/health", None, errors_as, health),
        Route("GET", "/openapi.json", None, errors_as, openapi),
    ]


def health(_request: Request, _caller: Caller | None, _path: dict[str, str]) -> Response:
    """Answers without touching a store: whether the process serves, not whether its neighbours do."""
    return Response(200, orjson.dumps({"status": "ok", "version": __version__}))


def openapi(_request: Request, _caller: Caller | None, _path: dict[str, str]) -> Response:
    return Response(200, (resources.files("embedonce") / "openapi.json").read_bytes())
