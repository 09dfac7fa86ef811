"""One request and one answer, as both a Lambda event and the local server's ASGI scope become."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from embedonce.core.deadline import Deadline
from embedonce.core.patience import Patience

_CLIENTS_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]{0,63}")
_TRACE = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_KEY_PREFIXES = ("eo_", "sk-", "AIza", "SG_")
"""What begins so was put into the wrong header."""


def correlation_of(headers: Mapping[str, str]) -> str | None:
    """The client's own id of a request, for the log only: its X-Request-Id, else the trace of its
    `traceparent` (W3C). None if neither is a short name of harmless characters."""
    given = headers.get("x-request-id")
    if given is not None and len(given) <= 64 and _CLIENTS_ID.fullmatch(given):
        return None if any(prefix in given for prefix in _KEY_PREFIXES) else given
    trace = headers.get("traceparent")
    if trace is not None and len(trace) == 55 and (match := _TRACE.fullmatch(trace)):
        return match[1]
    return None


@dataclass(frozen=True, slots=True)
class Request:
    """`headers` by lower-case name; `path` is decoded and has no query string.

    `base_url`: where clients reach this server, without a slash at the end; absolute URLs in answers begin
    so. Never taken from what a client merely claims.

    What would need more than its `patience` raises `WouldBlock`. `received`: when it arrived, on the clock of
    its deadline; None: as it is handled. `correlation_id`: as `correlation_of` found it.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    request_id: str
    deadline: Deadline
    patience: Patience = Patience.PROVIDERS
    base_url: str = ""
    received: float | None = None
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
