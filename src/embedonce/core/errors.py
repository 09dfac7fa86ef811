"""The one error tree.

    EmbedonceError
    ├── InvalidRequest 400            the caller's mistake; nothing was paid
    │   └── LimitExceeded 400         names the field, the limit and the value
    ├── Unauthenticated 401
    ├── PermissionDenied 403
    ├── NotFound 404
    ├── MethodNotAllowed 405
    ├── RequestTimeout 408
    ├── PayloadTooLarge 413
    ├── BudgetExceeded 402            what a key, or all keys together, may spend is spent
    ├── QuotaExceeded 429             what a key may take in a minute or a day is taken
    ├── Misdirected 421               a Host this server does not answer for
    ├── NotCached 504                 only-if-cached, and it is not
    ├── ServiceUnavailable 503        our own stores or settings
    ├── DeadlineExceeded 504          the answer did not come in time; a retry continues
    └── UpstreamError
        ├── UpstreamRejected 400      the provider refused this very input: permanent
        ├── UpstreamMisconfigured 502 our key, credits or model at the provider
        ├── UpstreamInvalid 502       an answer that must not be stored or returned
        ├── UpstreamJobFailed 502     the provider took the job and says that it failed: permanent
        ├── UpstreamOutcomeUnknown 502 perhaps accepted and billed; not asked for a second time
        ├── UpstreamRateLimited 429
        ├── UpstreamUnavailable 503
        └── UpstreamTimeout 504

`code` is stable and machine-readable, `retryable` says whether the same request may succeed later,
`retry_after` is in seconds. Messages never carry inputs, keys or upstream text. Each dialect renders
the tree in one place of its own.
"""

from __future__ import annotations

from typing import ClassVar


class EmbedonceError(Exception):
    code: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.jobs: tuple[str, ...] = ()
        """Request ids under which the work goes on."""


class InvalidRequest(EmbedonceError):
    code = "invalid_request"
    http_status = 400


class LimitExceeded(InvalidRequest):
    code = "limit_exceeded"

    def __init__(self, param: str, *, limit: str, value: str) -> None:
        super().__init__(f"{param}: limit is {limit}, got {value}", param=param)
        self.limit = limit
        self.value = value


class Unauthenticated(EmbedonceError):
    code = "invalid_api_key"
    http_status = 401


class PermissionDenied(EmbedonceError):
    code = "permission_denied"
    http_status = 403


class NotFound(EmbedonceError):
    code = "not_found"
    http_status = 404


class MethodNotAllowed(EmbedonceError):
    code = "method_not_allowed"
    http_status = 405


class RequestTimeout(EmbedonceError):
    code = "request_timeout"
    http_status = 408


class PayloadTooLarge(EmbedonceError):
    code = "payload_too_large"
    http_status = 413


class BudgetExceeded(EmbedonceError):
    """Of whoever pays: it says nothing about the input, and nothing to others who want the same."""

    code = "budget_exceeded"
    http_status = 402


class QuotaExceeded(EmbedonceError):
    code = "quota_exceeded"
    http_status = 429
    retryable = True


class Misdirected(EmbedonceError):
    code = "misdirected_request"
    http_status = 421


class NotCached(EmbedonceError):
    code = "not_cached"
    http_status = 504


class ServiceUnavailable(EmbedonceError):
    code = "service_unavailable"
    http_status = 503
    retryable = True


class DeadlineExceeded(EmbedonceError):
    code = "deadline_exceeded"
    http_status = 504
    retryable = True


class UpstreamError(EmbedonceError):
    code = "upstream_error"
    http_status = 502
    retryable = True


class UpstreamRejected(UpstreamError):
    code = "upstream_rejected"
    http_status = 400
    retryable = False


class UpstreamMisconfigured(UpstreamError):
    code = "upstream_misconfigured"
    retryable = False


class UpstreamInvalid(UpstreamError):
    code = "upstream_invalid_answer"


class UpstreamJobFailed(UpstreamError):
    code = "upstream_job_failed"
    retryable = False


class UpstreamOutcomeUnknown(UpstreamError):
    code = "upstream_outcome_unknown"
    retryable = False


class UpstreamRateLimited(UpstreamError):
    code = "upstream_rate_limited"
    http_status = 429


class UpstreamUnavailable(UpstreamError):
    code = "upstream_unavailable"
    http_status = 503


class UpstreamTimeout(UpstreamError):
    code = "upstream_timeout"
    http_status = 504


class StoreUnavailable(Exception):
    """A store could not be read or written at all. Never reaches a caller: the use cases fail open."""


class WouldBlock(Exception):
    """A request needs more than it has patience for: handle it again where that may wait."""


_REBUILT: dict[str, type[EmbedonceError]] = {
    LimitExceeded.code: InvalidRequest,
    **{
        kind.code: kind
        for kind in (
            InvalidRequest,
            Unauthenticated,
            PermissionDenied,
            NotFound,
            BudgetExceeded,
            DeadlineExceeded,
            ServiceUnavailable,
            UpstreamRejected,
            UpstreamMisconfigured,
            UpstreamInvalid,
            UpstreamJobFailed,
            UpstreamOutcomeUnknown,
            UpstreamRateLimited,
            UpstreamUnavailable,
            UpstreamTimeout,
        )
    },
}


def rebuild(code: str, message: str, *, retry_after: float | None = None) -> EmbedonceError:
    """The error that a flight or a ticket recorded, in any process. Unknown codes become 502."""
    return _REBUILT.get(code, UpstreamError)(message, retry_after=retry_after)
