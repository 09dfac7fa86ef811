"""The endpoints of this dialect, as entries of the one route table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from embedonce.access.authenticate import Caller
from embedonce.access.keys import Scope
from embedonce.core.catalog import Catalog
from embedonce.core.content import Modality
from embedonce.core.errors import EmbedonceError, NotFound
from embedonce.dialects.credentials import bearer, header
from embedonce.dialects.embedding import AnswerForm, Embedded, Embedder, written
from embedonce.dialects.google import errors, models
from embedonce.dialects.google.request import GoogleBody, parse_batch, parse_one
from embedonce.dialects.provenance import Totals
from embedonce.http.message import Request, Response
from embedonce.http.routes import Route

Parse = Callable[[bytes, str, Catalog], GoogleBody]

GEMINI = ("/v1beta", "/v1")
VERTEX = tuple(
    f"/{version}{project}/publishers/google"
    for version in ("v1beta1", "v1")
    for project in ("", "/projects/{project}/locations/{location}")
)
KEY_HEADER = "x-goog-api-key"
KEY_QUERY = "key"
ONE = AnswerForm("content", "contents")
BATCH = AnswerForm("requests", "requests")

_MODALITIES = {
    Modality.TEXT: "TEXT",
    Modality.IMAGE: "IMAGE",
    Modality.AUDIO: "AUDIO",
    Modality.VIDEO: "VIDEO",
    Modality.PDF: "DOCUMENT",
}


def addressed(request: Request) -> bool:
    """Whether a path that is also OpenAI's is meant as Google's: by where the key is."""
    return KEY_HEADER in request.headers or KEY_QUERY in request.query


class GoogleDialect:
    name = "google"

    def __init__(self, embedder: Embedder, catalog: Catalog) -> None:
        self._embedder = embedder
        self._catalog = catalog

    def render_error(self, error: EmbedonceError) -> Response:
        return errors.render(error)

    def presented_key(self, request: Request) -> str | None:
        """`?key=` comes last: a key in a URL is seen by more eyes than one in a header."""
        in_url = request.query.get(KEY_QUERY, "").strip()
        return header(request, KEY_HEADER) or bearer(request) or in_url or None

    def routes(self) -> list[Route]:
        """These come before OpenAI's, which has `GET /v1/models` for all who are not `addressed`."""
        found = [
            Route("GET", "/v1beta/models", Scope.EMBED, self, self.list_models),
            Route("GET", "/v1beta/models/{model+}", Scope.EMBED, self, self.get_model),
            Route("GET", "/v1/models", Scope.EMBED, self, self.list_models, when=addressed),
            Route("GET", "/v1/models/{model+}", Scope.EMBED, self, self.get_model, when=addressed),
        ]
        for base in (*GEMINI, *VERTEX):
            model = f"{base}/models/{{model+}}"
            details = "promptTokensDetails" if base in VERTEX else "promptTokenDetails"
            for verb, handler in (
                ("embedContent", self._embedding(parse_one, ONE, _one, details)),
                ("batchEmbedContents", self._embedding(parse_batch, BATCH, _many, details)),
                ("{verb}", self.unsupported),
            ):
                found.append(Route("POST", f"{model}:{verb}", Scope.EMBED, self, handler))
        return found

    def _embedding(
        self, parse: Parse, form: AnswerForm, vectors: Callable[[Embedded], dict[str, Any]], details: str
    ) -> Callable[[Request, Caller | None, dict[str, str]], Response]:
        def handle(request: Request, caller: Caller | None, path: dict[str, str]) -> Response:
            assert caller is not None
            body = parse(request.body, path["model"], self._catalog)
            done = self._embedder(request, caller, body.groups, cache=body.cache, form=form)
            answer = {**vectors(done), "usageMetadata": _usage(done.totals, details)}
            return Response(200, orjson.dumps(answer), headers=done.headers)

        return handle

    def unsupported(self, _request: Request, _caller: Caller | None, _path: dict[str, str]) -> Response:
        raise NotFound(f"of a model's methods only {' and '.join(models.METHODS)} are served here")

    def list_models(self, request: Request, _caller: Caller | None, _path: dict[str, str]) -> Response:
        return Response(200, orjson.dumps(models.listed(self._catalog, request.query)))

    def get_model(self, _request: Request, _caller: Caller | None, path: dict[str, str]) -> Response:
        model = models.find(self._catalog, path["model"])
        return Response(200, orjson.dumps(models.described(self._catalog, model)))


def _one(done: Embedded) -> dict[str, Any]:
    return {"embedding": {"values": written(done.result.answers[0])}}


def _many(done: Embedded) -> dict[str, Any]:
    values = [written(answered) for answered in done.result.answers]
    return {"embeddings": [{"values": values[index]} for index in done.result.order]}


def _usage(totals: Totals, details: str) -> dict[str, Any]:
    """The Gemini API and Vertex spell the list of details differently."""
    counts = totals.tokens_by_modality.items()
    return {
        "promptTokenCount": totals.tokens,
        details: [{"modality": _MODALITIES[modality], "tokenCount": count} for modality, count in counts],
    }
