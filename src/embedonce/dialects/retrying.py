"""When to come again, for the clients that listen: the same for every dialect."""

from __future__ import annotations

import math

from embedonce.core.errors import EmbedonceError


def retry_seconds(error: EmbedonceError) -> int | None:
    """Whole seconds, at least 1; None where trying again cannot help."""
    return max(1, math.ceil(error.retry_after or 1)) if error.retryable else None


def retry_headers(error: EmbedonceError) -> dict[str, str]:
    """`Retry-After`, `x-should-retry: false` on a 5xx that cannot succeed, and under which request ids the
    work goes on."""
    seconds = retry_seconds(error)
    if seconds is not None:
        going_on = {"X-Embedonce-Request": ", ".join(error.jobs)} if error.jobs else {}
        return {"Retry-After": str(seconds), **going_on}
    return {"x-should-retry": "false"} if error.http_status >= 500 else {}
