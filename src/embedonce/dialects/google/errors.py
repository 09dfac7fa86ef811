"""The one place where errors take this dialect's shape: `{"error": {code, message, status, details}}`.

`code` is the HTTP status. A missing or bad key is 400 INVALID_ARGUMENT with the reason API_KEY_INVALID, as at
Google. 502 is no status of Google's: what fails there is UNAVAILABLE (503). 405, 408, 413 and 421 are the
HTTP layer's own and keep their codes. Our own stable code is the reason of the ErrorInfo, in capitals.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson

from embedonce.core.errors import EmbedonceError, Unauthenticated
from embedonce.dialects.retrying import retry_headers, retry_seconds
from embedonce.http.message import Response

BAD_KEY = "API key not valid. Please pass a valid API key."
TYPES = "type.googleapis.com/google.rpc."

_CODES = {
    HTTPStatus.UNAUTHORIZED: HTTPStatus.BAD_REQUEST,
    HTTPStatus.PAYMENT_REQUIRED: HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY: HTTPStatus.SERVICE_UNAVAILABLE,
}
_STATUSES = {
    HTTPStatus.FORBIDDEN: "PERMISSION_DENIED",
    HTTPStatus.NOT_FOUND: "NOT_FOUND",
    HTTPStatus.METHOD_NOT_ALLOWED: "UNIMPLEMENTED",
    HTTPStatus.REQUEST_TIMEOUT: "DEADLINE_EXCEEDED",
    HTTPStatus.TOO_MANY_REQUESTS: "RESOURCE_EXHAUSTED",
    HTTPStatus.SERVICE_UNAVAILABLE: "UNAVAILABLE",
    HTTPStatus.GATEWAY_TIMEOUT: "DEADLINE_EXCEEDED",
}


def render(error: EmbedonceError) -> Response:
    status = HTTPStatus(error.http_status)
    code = int(_CODES.get(status, status))
    bad_key = isinstance(error, Unauthenticated)
    body = {
        "code": code,
        "message": BAD_KEY if bad_key else error.message,
        "status": _STATUSES.get(HTTPStatus(code), "INVALID_ARGUMENT" if code < 500 else "INTERNAL"),
        "details": _details(error, bad_key),
    }
    return Response(code, orjson.dumps({"error": body}), headers=retry_headers(error))


def _details(error: EmbedonceError, bad_key: bool) -> list[dict[str, Any]]:
    reason = "API_KEY_INVALID" if bad_key else error.code.upper()
    domain = "googleapis.com" if bad_key else "embedonce"
    details: list[dict[str, Any]] = [{"@type": f"{TYPES}ErrorInfo", "reason": reason, "domain": domain}]
    if error.param is not None:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": f"{TYPES}BadRequest", "fieldViolations": [violation]})
    seconds = retry_seconds(error)
    if seconds is not None:
        details.append({"@type": f"{TYPES}RetryInfo", "retryDelay": f"{seconds}s"})
    return details
