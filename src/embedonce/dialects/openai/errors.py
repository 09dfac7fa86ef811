"""The one place where errors take this dialect's shape.

`code` is the HTTP status as an integer (a string breaks OpenRouter's typed errors), our own stable code is in
`metadata.reason`. A 5xx never says `invalid_request_error`: litellm maps by that text.
"""

from __future__ import annotations

from http import HTTPStatus

import orjson

from embedonce.core.errors import EmbedonceError
from embedonce.dialects.retrying import retry_headers
from embedonce.http.message import Response

_TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.PAYMENT_REQUIRED: "insufficient_credits",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    HTTPStatus.BAD_GATEWAY: "upstream_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "service_unavailable_error",
    HTTPStatus.GATEWAY_TIMEOUT: "timeout_error",
}


def render(error: EmbedonceError) -> Response:
    status = error.http_status
    fallback = "invalid_request_error" if status < 500 else "server_error"
    body: dict[str, object] = {
        "code": status,
        "message": error.message,
        "type": _TYPES.get(HTTPStatus(status), fallback),
        "metadata": {"reason": error.code},
    }
    if error.param is not None:
        body["param"] = error.param
    headers = retry_headers(error)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(status, orjson.dumps({"error": body}), headers=headers)
