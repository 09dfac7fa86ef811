"""Why one upstream call failed, and whether it may have been billed: what the router decides by."""

from __future__ import annotations

from enum import Enum

from embedonce.core.errors import (
    EmbedonceError,
    UpstreamError,
    UpstreamInvalid,
    UpstreamMisconfigured,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)


class Kind(Enum):
    BUSY = "busy"
    """429 or 529: certainly not accepted."""
    REFUSED = "refused"
    """No connection, or 503 before work: certainly not accepted."""
    TIMEOUT = "timeout"
    """No answer in time: perhaps done and billed."""
    BROKEN = "broken"
    """500, 502, 504, 524 or a connection lost in mid-answer: perhaps done and billed."""
    REJECTED = "rejected"
    """The provider does not take this input: permanent, not billed."""
    MISCONFIGURED = "misconfigured"
    """Our key, our credits or our model id: permanent here, another upstream may do."""
    INVALID = "invalid"
    """Answered, and billed, with something that is not an embedding."""


CERTAINLY_NOT_ACCEPTED = frozenset({Kind.BUSY, Kind.REFUSED})
PERHAPS_BILLED = frozenset({Kind.TIMEOUT, Kind.BROKEN, Kind.INVALID})

_ERRORS: dict[Kind, type[UpstreamError]] = {
    Kind.BUSY: UpstreamRateLimited,
    Kind.REFUSED: UpstreamUnavailable,
    Kind.TIMEOUT: UpstreamTimeout,
    Kind.BROKEN: UpstreamUnavailable,
    Kind.REJECTED: UpstreamRejected,
    Kind.MISCONFIGURED: UpstreamMisconfigured,
    Kind.INVALID: UpstreamInvalid,
}


class UpstreamFailure(Exception):
    """`message` is our own text and safe to show: it never quotes the provider. `retry_after` in seconds.

    `unsaid`: nothing was sent, because this upstream's protocol cannot say it; another's may.
    """

    def __init__(
        self, kind: Kind, message: str, *, retry_after: float | None = None, unsaid: bool = False
    ) -> None:
        super().__init__(message)
        self.unsaid = unsaid
        self.kind = kind
        self.message = message
        self.retry_after = retry_after

    @property
    def billed(self) -> bool:
        return self.kind in PERHAPS_BILLED

    def error(self) -> EmbedonceError:
        return _ERRORS[self.kind](self.message, retry_after=self.retry_after)


def of_status(upstream: str, status: int, retry_after: float | None = None) -> UpstreamFailure:
    """The failure an HTTP status (or an `error.code` under HTTP 200) stands for."""
    said = f"{upstream} answered with HTTP {status}"
    match status:
        case 429 | 529:
            return UpstreamFailure(Kind.BUSY, f"{said} (rate limit)", retry_after=retry_after)
        case 503:
            return UpstreamFailure(Kind.REFUSED, said, retry_after=retry_after)
        case 408 | 504 | 524:
            return UpstreamFailure(Kind.BROKEN, f"{said} (timeout)", retry_after=retry_after)
        case 401 | 402 | 403 | 406:
            reason = "this gateway's key or credits at the provider"
            return UpstreamFailure(Kind.MISCONFIGURED, f"{said}: {reason}")
        case 404 | 405:
            reason = "this gateway's base URL for the provider, or the model's name there"
            return UpstreamFailure(Kind.MISCONFIGURED, f"{said}: {reason}")
        case _ if 400 <= status < 500:
            return UpstreamFailure(Kind.REJECTED, f"{said}: the provider does not take this input")
        case _ if status >= 500:
            return UpstreamFailure(Kind.BROKEN, said, retry_after=retry_after)
        case _:
            return UpstreamFailure(Kind.INVALID, f"{said}, which is no answer to an embedding")
