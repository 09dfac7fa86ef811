"""The dispatcher: which route takes a request, and in whose words a refusal is said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from embedonce.access.authenticate import Caller
from embedonce.core.catalog import Catalog
from embedonce.core.deadline import Deadline
from embedonce.core.errors import EmbedonceError, Misdirected
from embedonce.dialects.google.routes import GoogleDialect
from embedonce.dialects.openai.routes import OpenAIDialect
from embedonce.dialects.segmind.jobs import SegmindJobs
from embedonce.dialects.segmind.routes import SegmindDialect
from embedonce.dialects.segmind.uploads import Uploads
from embedonce.dialects.usage import UsageRoutes
from embedonce.http import openapi, system
from embedonce.http.message import Request, Response
from embedonce.http.routes import LONGEST_PATH, Gateway, Route
from embedonce.telemetry import LogTelemetry
from support.clock import FakeClock

NOTHING: Any = None


class Spoken:
    def __init__(self, name: str) -> None:
        self.name = name

    def presented_key(self, request: Request) -> str | None:
        return None

    def render_error(self, error: EmbedonceError) -> Response:
        return Response(error.http_status, self.name.encode())


ONE, OTHER, THIRD = Spoken("one"), Spoken("other"), Spoken("third")


def told(name: str) -> Any:
    def handler(_request: Request, _caller: Caller | None, path: Mapping[str, str]) -> Response:
        return Response(200, f"{name} {' '.join(path.values())}".strip().encode())

    return handler


def marked(request: Request) -> bool:
    return "mark" in request.headers


ROUTES = [
    Route("GET", "/v1/models", None, OTHER, told("marked list"), when=marked),
    Route("GET", "/v1/models/{model+}", None, OTHER, told("marked model"), when=marked),
    Route("POST", "/v1/models/{model+}:embed", None, OTHER, told("embed")),
    Route("POST", "/v1/models/{model+}:{verb}", None, OTHER, told("verb")),
    Route("GET", "/v1/models", None, ONE, told("list")),
    Route("GET", "/v1/models/{model+}", None, ONE, told("model")),
    Route("POST", "/v1/embeddings", None, ONE, told("embeddings")),
    Route("POST", "/v1/{model+}", None, THIRD, told("infer"), fallback=True),
]
GATEWAY = Gateway(
    ROUTES,
    NOTHING,
    LogTelemetry(),
    FakeClock(),
    default_dialect=ONE,
    max_body_bytes=100,
    spoken_under={"/v1beta": OTHER, "/v2/": THIRD},
)


def ask(method: str, path: str, **headers: str) -> Request:
    return Request(method, path, headers, {}, b"", "id", Deadline.after(1, 0))


@pytest.mark.parametrize(
    ("method", "path", "mark", "status", "said"),
    [
        ("GET", "/v1/models", False, 200, "list"),
        ("GET", "/v1/models", True, 200, "marked list"),
        ("HEAD", "/v1/models", True, 200, "marked list"),
        ("GET", "/v1/models/a/b", False, 200, "model a/b"),
        ("GET", "/v1/models/a/b", True, 200, "marked model a/b"),
        ("GET", "/v1/models/a:embed", False, 200, "model a:embed"),
        ("POST", "/v1/models/a/b:embed", False, 200, "embed a/b"),
        ("POST", "/v1/models/a:b:embed", False, 200, "embed a:b"),
        ("POST", "/v1/models/a:count", False, 200, "verb a count"),
        ("POST", "/v1/models/:embed", False, 405, "one"),
        ("POST", "/v1/models/a", False, 405, "one"),
        ("POST", "/v1/models/a", True, 405, "other"),
        ("POST", "/v1/models", False, 405, "one"),
        ("POST", "/v1/models", True, 405, "other"),
        ("POST", "/v1/embeddings", False, 200, "embeddings"),
        ("GET", "/v1/embeddings", False, 405, "one"),
        ("POST", "/v1/embeddings/x", False, 200, "infer embeddings/x"),
        ("POST", "/v1/a/b", False, 200, "infer a/b"),
        ("GET", "/v1/a/b", False, 404, "one"),
        ("DELETE", "/v1/a", False, 404, "one"),
        ("POST", "/v1", False, 404, "one"),
        ("GET", "/v1beta/x", False, 404, "other"),
        ("GET", "/v1beta1/x", False, 404, "other"),
        ("GET", "/v2/x", False, 404, "third"),
        ("GET", "/", False, 404, "one"),
    ],
)
def test_who_takes_a_request(method: str, path: str, mark: bool, status: int, said: str) -> None:
    answer = GATEWAY.handle(ask(method, path, **({"mark": "1"} if mark else {})))
    assert (answer.status, answer.body.decode()) == (status, said)
    assert answer.headers["X-Request-Id"] == "id"


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("POST", "/v1/embeddings", "one"),
        ("POST", "/v1/models/a:embed", "other"),
        ("POST", "/v1/gemini", "third"),
        ("GET", "/v1/gemini", "one"),
        ("POST", "/v1beta/x", "other"),
        ("POST", "/elsewhere", "one"),
    ],
)
def test_what_reaches_no_handler_is_refused_in_the_words_of_its_route(
    method: str, path: str, said: str
) -> None:
    answer = GATEWAY.refuse(ask(method, path), Misdirected("no"))
    assert (answer.status, answer.body.decode()) == (421, said)
    assert answer.headers["Cache-Control"] == "private, no-store"


@pytest.mark.parametrize(
    ("path", "said"), [("/v1/embeddings", "one"), ("/v1/models/a:embed", "other"), ("/v1/a", "third")]
)
def test_a_body_that_is_too_large_reaches_no_handler(path: str, said: str) -> None:
    answer = GATEWAY.handle(replace(ask("POST", path), body=b"x" * 101))
    assert (answer.status, answer.body.decode()) == (413, said)


def test_the_description_has_every_route_and_no_other() -> None:
    dialects = (GoogleDialect, OpenAIDialect, SegmindDialect)
    routes = [route for made in dialects for route in cast(Any, made)(NOTHING, Catalog(())).routes()]
    segmind = SegmindDialect(NOTHING, Catalog(()))
    routes += SegmindJobs(segmind, NOTHING, NOTHING, Catalog(()), NOTHING, secret_of=NOTHING).routes()
    uploads = Uploads(segmind, NOTHING, NOTHING, Catalog(()), NOTHING, max_bytes=1, quota_bytes=1)
    routes += [*uploads.routes(), *system.routes(ONE), *UsageRoutes(NOTHING, ONE, FakeClock()).routes()]
    served = {
        (r.method.lower(), re.sub(r"\+\}", "}", r.pattern)) for r in routes if "{verb}" not in r.pattern
    }
    document = openapi.document()
    described = {(method, path) for path, item in document["paths"].items() for method in item}
    assert described == served


def test_the_description_refers_only_to_what_it_has() -> None:
    document = openapi.document()
    text = openapi.text()
    for kind, name in set(re.findall(r'"#/components/(\w+)/([^"]+)"', text)):
        assert name in document["components"][kind]
    for path, item in document["paths"].items():
        for operation in item.values():
            named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path)), path


def test_a_path_that_no_route_needs_is_not_matched_at_all() -> None:
    """Patterns backtrack, and they are matched before anybody has shown a key."""
    model = "a" * LONGEST_PATH
    assert GATEWAY.handle(ask("POST", f"/v1/models/{model}:embed")).status == 404
    assert GATEWAY.handle(ask("POST", f"/v1/models/{model[:100]}:embed")).status == 200
