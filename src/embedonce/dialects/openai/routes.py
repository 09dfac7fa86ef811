"""The endpoints of this dialect, as entries of the one route table."""

from __future__ import annotations

import orjson

from embedonce.access.authenticate import Caller
from embedonce.access.keys import Scope
from embedonce.core.catalog import Catalog
from embedonce.core.errors import EmbedonceError
from embedonce.dialects.credentials import bearer, header
from embedonce.dialects.embedding import Embedder, Group
from embedonce.dialects.openai import errors, models, response
from embedonce.dialects.openai.request import parse
from embedonce.http.message import Request, Response
from embedonce.http.routes import Route


class OpenAIDialect:
    name = "openai"

    def __init__(self, embedder: Embedder, catalog: Catalog) -> None:
        self._embedder = embedder
        self._catalog = catalog

    def render_error(self, error: EmbedonceError) -> Response:
        return errors.render(error)

    def presented_key(self, request: Request) -> str | None:
        """`Authorization: Bearer` as OpenAI's and OpenRouter's clients send it, else `x-api-key`."""
        return bearer(request) or header(request, "x-api-key")

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
        done = self._embedder(
            request,
            caller,
            [Group.of_all(body.drafts, body.options)],
            cache=body.cache,
            form=response.FORMS[body.base64],
        )
        written = response.render(
            done.result,
            done.totals,
            base64=body.base64,
            model=body.options.model.id,
            answer_id=f"emb-{request.request_id}",
        )
        return Response(200, written, headers=done.headers)

    def list_models(self, _request: Request, _caller: Caller | None, _path: dict[str, str]) -> Response:
        return Response(200, orjson.dumps(models.openai_list(self._catalog)))

    def get_model(self, _request: Request, _caller: Caller | None, path: dict[str, str]) -> Response:
        return Response(200, orjson.dumps(models.openai_model(self._catalog.find(path["model"]))))

    def list_openrouter_models(
        self, request: Request, _caller: Caller | None, _path: dict[str, str]
    ) -> Response:
        page = models.openrouter_list(self._catalog, request.query.get("offset"), request.query.get("limit"))
        return Response(200, orjson.dumps(page))
