"""API Gateway's HTTP API payload 2.0 ↔ `Request` and `Response`.

Read as the plain dict it is: Powertools' data classes would add 100 ms to a cold start for a dozen fields.
"""

from __future__ import annotations

import base64
import uuid
from typing import Any
from urllib.parse import parse_qsl, unquote

from embedonce.core.deadline import HANDLER_SECONDS, Deadline
from embedonce.http.message import Request, Response, correlation_of

TIMEOUT_MARGIN_SECONDS = 1.0
"""Of Lambda's own time kept for sending the answer."""


def to_request(
    event: dict[str, Any], remaining_seconds: float, monotonic: float, *, public_base_url: str | None = None
) -> Request:
    """`remaining_seconds`: what Lambda leaves this invocation. `public_base_url` as configured; without it
    the domain that API Gateway took the request for."""
    context = event["requestContext"]
    http = context["http"]
    stage, path = _path(event.get("rawPath") or http["path"], context.get("stage"))
    domain = context.get("domainName")
    body = event.get("body") or ""
    seconds = max(0.0, min(HANDLER_SECONDS, remaining_seconds - TIMEOUT_MARGIN_SECONDS))
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items() if value}
    return Request(
        method=http["method"],
        path=path,
        headers=headers,
        query=dict(parse_qsl(event.get("rawQueryString") or "", keep_blank_values=True)),
        body=base64.b64decode(body)
        if event.get("isBase64Encoded")
        else body.encode("utf-8", "surrogatepass"),
        request_id=context.get("requestId") or uuid.uuid4().hex,
        deadline=Deadline.after(seconds, monotonic),
        base_url=public_base_url or (f"https://{domain}{stage}" if domain else ""),
        received=monotonic,
        correlation_id=correlation_of(headers),
    )


def _path(raw: str, stage: str | None) -> tuple[str, str]:
    """The stage's name, which API Gateway puts in front for every stage but `$default`, and the rest."""
    if stage and stage != "$default" and raw.startswith(f"/{stage}/"):
        return f"/{stage}", unquote(raw[len(stage) + 1 :])
    return "", unquote(raw)


def to_event(response: Response) -> dict[str, Any]:
    return {
        "statusCode": response.status,
        "headers": {"Content-Type": response.content_type, **response.headers},
        "body": response.body.decode(),
        "isBase64Encoded": False,
    }
