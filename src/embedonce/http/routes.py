"""The one route table and its dispatcher: a Lambda and the local server answer through the same `Gateway`.

Powertools' resolver is not used here because it keeps the current event in a class attribute
(`BaseRouter.current_event`): two threads of the local server would answer each other's requests (ADR 2).
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NoReturn, Protocol

from embedonce.access.authenticate import Authenticator, Caller
from embedonce.access.keys import Scope
from embedonce.core.errors import EmbedonceError, MethodNotAllowed, NotFound, PayloadTooLarge, WouldBlock
from embedonce.http.message import Request, Response
from embedonce.ports import Telemetry

Handler = Callable[[Request, Caller | None, dict[str, str]], Response]

COMMON_HEADERS: Mapping[str, str] = {
    "Cache-Control": "private, no-store",
    "X-Content-Type-Options": "nosniff",
}


class Dialect(Protocol):
    """What the dispatcher needs of a protocol: whose key this is, and how an error looks in it."""

    name: str

    def presented_key(self, request: Request) -> str | None: ...

    def render_error(self, error: EmbedonceError) -> Response: ...


@dataclass(frozen=True, slots=True)
class Route:
    """`pattern` has `{name}` for one path segment and `{name+}` for several. `scope` None: open to all;
    there is no default, so that every route says it."""

    method: str
    pattern: str
    scope: Scope | None
    dialect: Dialect
    handler: Handler

    @property
    def regex(self) -> re.Pattern[str]:
        pattern = re.sub(r"\\{(\w+)\\\+\\}", r"(?P<\1>.+)", re.escape(self.pattern))
        return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", pattern))


class Gateway:
    def __init__(
        self,
        routes: Iterable[Route],
        authenticator: Authenticator,
        telemetry: Telemetry,
        *,
        default_dialect: Dialect,
        max_body_bytes: int,
    ) -> None:
        self.routes = tuple(routes)
        self._authenticator = authenticator
        self._telemetry = telemetry
        self._default = default_dialect
        self._max_body_bytes = max_body_bytes
        self._literal: dict[str, dict[str, Route]] = {}
        self._patterned: list[tuple[re.Pattern[str], Route]] = []
        for route in self.routes:
            if "{" in route.pattern:
                self._patterned.append((route.regex, route))
            else:
                self._literal.setdefault(route.pattern, {})[route.method] = route

    def handle(self, request: Request) -> Response:
        """Every failure is rendered in the dialect of the route.

        :raises WouldBlock: for inline requests only
        """
        dialect, pattern = self._default, "?"
        try:
            route, path = self._match(request)
            dialect, pattern = route.dialect, route.pattern
            caller = None
            if route.scope is not None:
                caller = self._authenticator.identify(dialect.presented_key(request), inline=request.inline)
                caller.require(route.scope)
            if len(request.body) > self._max_body_bytes:
                raise PayloadTooLarge(
                    f"the body is {len(request.body)} bytes; the limit is {self._max_body_bytes}"
                )
            response = route.handler(request, caller, path)
        except EmbedonceError as error:
            response = dialect.render_error(error)
        except WouldBlock:
            raise
        except Exception as crash:  # noqa: BLE001 the last line of defence: a client gets JSON, not a stack
            self._report(crash)
            response = dialect.render_error(EmbedonceError("internal error"))
        self._telemetry.answered(
            request_id=request.request_id, method=request.method, route=pattern, status=response.status
        )
        headers = {**COMMON_HEADERS, "X-Request-Id": request.request_id, **response.headers}
        return replace(response, headers=headers)

    def refuse(self, request: Request, error: EmbedonceError) -> Response:
        """An answer to what must not reach a handler at all (wrong Host, body too large)."""
        response = self._default.render_error(error)
        headers = {**COMMON_HEADERS, "X-Request-Id": request.request_id, **response.headers}
        return replace(response, headers=headers)

    def _match(self, request: Request) -> tuple[Route, dict[str, str]]:
        """:raises NotFound, MethodNotAllowed:"""
        method = "GET" if request.method == "HEAD" else request.method
        by_method = self._literal.get(request.path)
        if by_method is not None:
            if route := by_method.get(method):
                return route, {}
            self._not_allowed(by_method)
        others: set[str] = set()
        for regex, route in self._patterned:
            if found := regex.fullmatch(request.path):
                if route.method == method:
                    return route, found.groupdict()
                others.add(route.method)
        if others:
            self._not_allowed(others)
        raise NotFound(
            "no such route; embeddings are at /v1/embeddings, the API is described at /openapi.json"
        )

    @staticmethod
    def _not_allowed(methods: Iterable[str]) -> NoReturn:
        raise MethodNotAllowed(f"this route takes {', '.join(sorted(methods))}")

    def _report(self, crash: Exception) -> None:
        """Where it happened, not what was in it: an exception's text may quote an input."""
        frames = traceback.extract_tb(crash.__traceback__)[-4:]
        where = " < ".join(f"{f.name}:{f.lineno}" for f in reversed(frames))
        self._telemetry.count("Crashes")
        self._telemetry.event("crash", kind=type(crash).__name__, where=where)
