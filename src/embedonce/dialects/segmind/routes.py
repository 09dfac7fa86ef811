"""The endpoint of this dialect, as an entry of the one route table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from embedonce.access.authenticate import Caller
from embedonce.access.keys import Scope
from embedonce.core.catalog import Catalog
from embedonce.core.errors import EmbedonceError
from embedonce.core.pricing import usd_text
from embedonce.dialects.credentials import bearer, header
from embedonce.dialects.embedding import AnswerForm, Embedded, Embedder, Group, written
from embedonce.dialects.provenance import Totals, usage_of
from embedonce.dialects.segmind import errors
from embedonce.dialects.segmind.request import parse
from embedonce.http.message import Request, Response
from embedonce.http.routes import Route

FORM = AnswerForm("output_dimensionality", "vectors")

TAKEN = frozenset({"embeddings", "models", "projects", "publishers"})
"""What other protocols have directly below /v1/."""


class SegmindDialect:
    name = "segmind"

    def __init__(self, embedder: Embedder, catalog: Catalog) -> None:
        self._embedder = embedder
        self._catalog = catalog

    def render_error(self, error: EmbedonceError) -> Response:
        return errors.render(error)

    def presented_key(self, request: Request) -> str | None:
        return header(request, "x-api-key") or bearer(request)

    def routes(self) -> list[Route]:
        """A model's name is all there is below /v1/, so an unknown one takes only what no other route has.
        The known ones have routes of their own: by another method they are refused, and in our words."""
        any_name = Route("POST", "/v1/{model+}", Scope.EMBED, self, self.infer, fallback=True)
        names = {name: None for model in self._catalog for name in (model.id, *model.aliases)}
        own = [name for name in names if "{" not in name and name.partition("/")[0] not in TAKEN]
        return [*(self._route(name) for name in own), any_name]

    def _route(self, name: str) -> Route:
        def infer(request: Request, caller: Caller | None, _path: dict[str, str]) -> Response:
            return self.infer(request, caller, {"model": name})

        return Route("POST", f"/v1/{name}", Scope.EMBED, self, infer)

    def infer(self, request: Request, caller: Caller | None, path: dict[str, str]) -> Response:
        assert caller is not None
        body = parse(request.body, path["model"], self._catalog)
        groups = [Group.of_all((body.draft,), body.options)]
        done = self._embedder(request, caller, groups, cache=body.cache, form=FORM)
        return Response(200, _render(done, body.options.model.id), headers=_headers(done))


def _render(done: Embedded, model: str) -> bytes:
    """`embedding` and `dimensions`, and beside them what the original does not say."""
    answered = done.result.answers[0]
    usage = usage_of(done.totals)
    return orjson.dumps(body_of(written(answered), answered.record.dimensions, model, usage))


def body_of(
    embedding: orjson.Fragment, dimensions: int, model: str, usage: Mapping[str, Any]
) -> dict[str, Any]:
    return {"embedding": embedding, "dimensions": dimensions, "model": model, "usage": usage}


def cost_headers(totals: Totals) -> dict[str, str]:
    """Segmind's own; how many credits remain is not known here."""
    return {"X-Cost": usd_text(totals.cost)}


def _headers(done: Embedded) -> dict[str, str]:
    generation = {"X-Generation-Time": f"{done.seconds:.3f}"}
    return {**done.headers, **cost_headers(done.totals), **generation}
