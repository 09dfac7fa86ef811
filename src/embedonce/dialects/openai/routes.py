"""The endpoints of this dialect, as entries of the one route table."""

from __future__ import annotations

import orjson

from embedonce.access.authenticate import Caller
from embedonce.access.keys import Scope
from embedonce.core.catalog import Catalog
from embedonce.core.errors import EmbedonceError
from embedonce.dialects.cacheheaders import controls_of, namespace_of
from embedonce.dialects.openai import errors, models, response
from embedonce.dialects.openai.request import parse
from embedonce.dialects.provenance import headers_of, totals_of
from embedonce.http.message import Request, Response
from embedonce.http.routes import Route
from embedonce.ports import Clock
from embedonce.usecases.embed import EmbedContents, EmbedRequest


class OpenAIDialect:
    """`max_answer_bytes`: what one answer may weigh (Lambda's limit, or the local server's)."""

    name = "openai"

    def __init__(
        self, embed: EmbedContents, catalog: Catalog, clock: Clock, *, max_answer_bytes: int
    ) -> None:
        self._embed = embed
        self._catalog = catalog
        self._clock = clock
        self._max_answer_bytes = max_answer_bytes

    def render_error(self, error: EmbedonceError) -> Response:
        return errors.render(error)

    def presented_key(self, request: Request) -> str | None:
        """`Authorization: Bearer` as OpenAI's and OpenRouter's clients send it, else `x-api-key`."""
        scheme, _, key = request.headers.get("authorization", "").strip().partition(" ")
        if scheme.lower() == "bearer" and key.strip():
            return key.strip()
        return request.headers.get("x-api-key", "").strip() or None

    def routes(self) -> list[Route]:
        embed = Scope.EMBED
        return [
            Route("POST", "/v1/embeddings", embed, self, self.embeddings),
            Route("POST", "/api/v1/embeddings", embed, self, self.embeddings),
            Route("GET", "/v1/models", embed, self, self.list_models),
            Route("GET", "/v1/models/{model+}", embed, self, self.get_model),
            Route("GET", "/api/v1/embeddings/models", embed, self, self.list_openrouter_models),
        ]

    def embeddings(self, request: Request, caller: Caller | None, _path: dict[str, str]) -> Response:
        assert caller is not None
        body = parse(request.body, request.headers, self._catalog)
        dimensions = body.options.dimensions
        size = response.Size(body.base64, dimensions) if dimensions is not None else None
        if size is not None:
            size.check(len(body.drafts), self._max_answer_bytes)
        result = self._embed(
            EmbedRequest(
                drafts=body.drafts,
                options=body.options,
                controls=controls_of(request.headers, body.cache, caller),
                caller=caller,
                namespace=namespace_of(body.cache),
                deadline=request.deadline,
                inline=request.inline,
            )
        )
        if size is None:  # the model's own size was not known before the first answer
            size = response.Size(body.base64, result.answers[0].record.dimensions)
            size.check(len(body.drafts), self._max_answer_bytes)
        totals = totals_of(result)
        written = response.render(
            result,
            totals,
            base64=body.base64,
            model=body.options.model.id,
            answer_id=f"emb-{request.request_id}",
        )
        return Response(200, written, headers=headers_of(result, totals, self._clock.now()))

    def list_models(self, _request: Request, _caller: Caller | None, _path: dict[str, str]) -> Response:
        return Response(200, orjson.dumps(models.openai_list(self._catalog)))

    def get_model(self, _request: Request, _caller: Caller | None, path: dict[str, str]) -> Response:
        return Response(200, orjson.dumps(models.openai_model(self._catalog.find(path["model"]))))

    def list_openrouter_models(
        self, request: Request, _caller: Caller | None, _path: dict[str, str]
    ) -> Response:
        page = models.openrouter_list(self._catalog, request.query.get("offset"), request.query.get("limit"))
        return Response(200, orjson.dumps(page))
