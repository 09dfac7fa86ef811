"""The one place where errors take this dialect's shape: `{"error": "<string>"}`, all that its client reads.

Segmind documents 400, 401, 403, 404, 406 (no credits), 429, 500, 502 and 504. It has no 503: what is
unavailable for a while is its 502, "service temporarily unavailable". 405, 408, 413 and 421 are the HTTP
layer's own and stay as they are.
"""

from __future__ import annotations

from http import HTTPStatus

import orjson

from embedonce.core.errors import EmbedonceError
from embedonce.dialects.retrying import retry_headers
from embedonce.http.message import Response

_STATUSES = {
    HTTPStatus.PAYMENT_REQUIRED: HTTPStatus.NOT_ACCEPTABLE,
    HTTPStatus.SERVICE_UNAVAILABLE: HTTPStatus.BAD_GATEWAY,
}


def render(error: EmbedonceError) -> Response:
    status = HTTPStatus(error.http_status)
    body = orjson.dumps({"error": error.message})
    return Response(int(_STATUSES.get(status, status)), body, headers=retry_headers(error))
