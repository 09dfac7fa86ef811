"""Segmind's v2: submit, poll, fetch. Ids of others, of the past and of nobody are answered alike."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import orjson

from embedonce.access.authenticate import Caller
from embedonce.access.keys import Scope
from embedonce.core.answer import Answered, EmbedResult, Origin
from embedonce.core.catalog import Catalog
from embedonce.core.errors import InvalidRequest, NotFound, WouldBlock
from embedonce.core.patience import Patience
from embedonce.core.ticket import Completed, Failed, Open, Ticket, TicketRef
from embedonce.dialects.cacheheaders import controls_of, namespace_of
from embedonce.dialects.embedding import written
from embedonce.dialects.fields import json_object, string
from embedonce.dialects.provenance import headers_of, totals_of, usage_of
from embedonce.dialects.segmind.request import of_fields
from embedonce.dialects.segmind.routes import SegmindDialect, body_of, cost_headers
from embedonce.http.message import Request, Response
from embedonce.http.routes import Route
from embedonce.ports import Clock
from embedonce.usecases.jobs.results import Result, Results
from embedonce.usecases.jobs.submit import Submit
from embedonce.usecases.request import EmbedRequest

QUEUED, PROCESSING, COMPLETED, FAILED = "QUEUED", "PROCESSING", "COMPLETED", "FAILED"
FAILED_STATUS = 422

TAKEN = frozenset({"requests", "uploads", "webhooks"})
"""What else is directly below /v2/; no model there has a route of its own."""

MAX_WEBHOOK_URL = 2048

_ID = re.compile(r"[0-9a-f]{32}")
_ECHOED = re.compile(r"[0-9a-zA-Z_-]{1,64}")

CheckWebhook = Callable[[str, str], None]
"""(url, name of the field), raises `InvalidRequest` for what may never be called."""


def https_only(url: str, param: str) -> None:
    """:raises InvalidRequest: anything but https to a host"""
    try:
        parts = urlsplit(url)
        good = url.startswith("https://") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        good = False
    if not good or re.search(r"[\x00-\x20\x7f\\]", url):
        raise InvalidRequest(f"{param}: must be an https URL, without user and password", param=param)


class SegmindJobs:
    """`secret_of(key id)` is what that key's webhooks are signed with."""

    def __init__(
        self,
        dialect: SegmindDialect,
        submit: Submit,
        results: Results,
        catalog: Catalog,
        clock: Clock,
        *,
        secret_of: Callable[[str], str],
        check_webhook: CheckWebhook = https_only,
    ) -> None:
        self._dialect = dialect
        self._submit = submit
        self._results = results
        self._catalog = catalog
        self._clock = clock
        self._secret_of = secret_of
        self._check_webhook = check_webhook

    def routes(self) -> list[Route]:
        dialect = self._dialect
        names = {name: None for model in self._catalog for name in (model.id, *model.aliases)}
        own = [name for name in names if "{" not in name and name.partition("/")[0] not in TAKEN]
        return [
            Route("GET", "/v2/webhooks/secret", Scope.EMBED, dialect, self.secret),
            # Ids of several segments are no ids; they are refused like other malformed ones.
            Route("GET", "/v2/requests/{id+}/status", Scope.EMBED, dialect, self.status),
            Route("GET", "/v2/requests/{id+}", Scope.EMBED, dialect, self.result),
            *(self._route(name) for name in own),
            Route("POST", "/v2/{model+}", Scope.EMBED, dialect, self.submit, fallback=True),
        ]

    def _route(self, name: str) -> Route:
        def submit(request: Request, caller: Caller | None, _path: dict[str, str]) -> Response:
            return self.submit(request, caller, {"model": name})

        return Route("POST", f"/v2/{name}", Scope.EMBED, self._dialect, submit)

    def submit(self, request: Request, caller: Caller | None, path: dict[str, str]) -> Response:
        assert caller is not None
        if request.patience < Patience.PROVIDERS:
            raise WouldBlock
        model = self._catalog.find(path["model"])
        fields = json_object(request.body)
        body = of_fields(fields, model)
        webhook = string(fields.get("webhook_url"), "webhook_url", MAX_WEBHOOK_URL)
        if webhook:
            self._check_webhook(webhook, "webhook_url")
        asked = EmbedRequest(
            drafts=(body.draft,),
            options=body.options,
            controls=controls_of(request.headers, body.cache, caller),
            caller=caller,
            namespace=namespace_of(body.cache),
            deadline=request.deadline,
            patience=request.patience,
        )
        ticket = self._submit(asked, webhook or None)
        url = f"{request.base_url}/v2/requests/{ticket.ref.id}"
        accepted = {
            "request_id": ticket.ref.id,
            "status": QUEUED,
            "status_url": f"{url}/status",
            "response_url": url,
            "poll_url": f"{url}/status",
        }
        return Response(200, orjson.dumps(accepted))

    def status(self, request: Request, caller: Caller | None, path: dict[str, str]) -> Response:
        return _told(self._look(request, caller, path["id"]))

    def result(self, request: Request, caller: Caller | None, path: dict[str, str]) -> Response:
        ticket = self._look(request, caller, path["id"])
        if not isinstance(ticket.state, Completed):
            return _told(ticket)
        result = self._results.result(ticket)
        embedded = _as_embedded(result)
        totals = totals_of(embedded)
        usage = usage_of(totals)
        body = {
            **_about(ticket),
            "output": body_of(written(embedded.answers[0]), result.record.dimensions, ticket.model, usage),
            "usage": usage,
        }
        headers = {**headers_of(embedded, totals, self._clock.now()), **cost_headers(totals)}
        return Response(200, orjson.dumps(body), headers=headers)

    def secret(self, request: Request, caller: Caller | None, _path: dict[str, str]) -> Response:
        assert caller is not None
        if request.patience < Patience.STORES:
            raise WouldBlock
        return Response(200, orjson.dumps({"secret": self._secret_of(caller.key_id)}))

    def _look(self, request: Request, caller: Caller | None, request_id: str) -> Ticket:
        """:raises NotFound: one text for all; what never was an id costs no read"""
        assert caller is not None
        if not _ID.fullmatch(request_id):
            shown = request_id if _ECHOED.fullmatch(request_id) else "unknown"
            raise NotFound(f"Request {shown} not found")
        if request.patience < Patience.STORES:
            raise WouldBlock
        return self._results.look(TicketRef(caller.key_id, request_id))


def _told(ticket: Ticket) -> Response:
    """Id, status and metrics; with the reason, as 422, where it failed."""
    if isinstance(ticket.state, Failed):
        failed = {**_about(ticket), "error": ticket.state.message}
        return Response(FAILED_STATUS, orjson.dumps(failed))
    return Response(200, orjson.dumps(_about(ticket)))


def _about(ticket: Ticket) -> dict[str, Any]:
    return {"request_id": ticket.ref.id, "status": _status(ticket), "metrics": metrics_of(ticket)}


def _status(ticket: Ticket) -> str:
    match ticket.state:
        case Open(started=started):
            return QUEUED if started is None else PROCESSING
        case Completed():
            return COMPLETED
        case Failed():
            return FAILED


def metrics_of(ticket: Ticket) -> dict[str, float]:
    """Seconds, as far as they are over."""
    state = ticket.state
    metrics: dict[str, float] = {}
    if state.started is not None:
        metrics["queue_time"] = _seconds(ticket.created, state.started)
    if not isinstance(state, Open):
        metrics["inference_time"] = _seconds(state.started, state.at)
        metrics["total_time"] = _seconds(ticket.created, state.at)
    return metrics


def _seconds(begin: float, end: float) -> float:
    return round(max(0.0, end - begin), 3)


def _as_embedded(result: Result) -> EmbedResult:
    """As if it had been waited for: bought for this ticket, or there already."""
    state, passage = result.ticket.state, result.ticket.passage
    assert isinstance(state, Completed)
    assert passage is not None
    origin = Origin.MISS if state.paid else Origin.HIT
    stored = passage.flight == passage.fingerprint
    return EmbedResult((Answered(result.record, origin, stored, state.cost),), (0,), result.made_up)
