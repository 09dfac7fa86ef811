"""One request and one answer, as both a Lambda event and the local server's ASGI scope become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from embedonce.core.deadline import Deadline
from embedonce.core.patience import Patience


@dataclass(frozen=True, slots=True)
class Request:
    """`headers` by lower-case name; `path` is decoded and has no query string.

    `base_url`: where clients reach this server, without a slash at the end; absolute URLs in answers begin
    so. Never taken from what a client merely claims.

    What would need more than its `patience` raises `WouldBlock`.
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


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
