"""The one route table and its dispatcher: a Lambda and the local server answer through the same `Gateway`.

Powertools' resolver is not used here because it keeps the current event in a class attribute
(`BaseRouter.current_event`): two threads of the local server would answer each other's requests (ADR 2).
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn, Protocol

from embedonce.access.authenticate import Authenticator, Caller
from embedonce.access.keys import Scope
from embedonce.core.errors import EmbedonceError, MethodNotAllowed, NotFound, PayloadTooLarge, WouldBlock
from embedonce.http.message import Request, Response
from embedonce.ports import Clock, Telemetry

Handler = Callable[[Request, Caller | None, dict[str, str]], Response]

COMMON_HEADERS: Mapping[str, str] = {
    "Cache-Control": "private, no-store",
    "X-Content-Type-Options": "nosniff",
}


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Those that logs name; any other word is the client's own."""
LONGEST_PATH = 2048
"""Characters: far more than any route needs. Patterns are matched before anybody has shown a key."""


class Dialect(Protocol):
    """What the dispatcher needs of a protocol: whose key this is, and how an error looks in it."""

    name: str

    def presented_key(self, request: Request) -> str | None: ...

    def render_error(self, error: EmbedonceError) -> Response: ...


@dataclass(frozen=True, slots=True)
class Route:
    """`pattern` has `{name}` for one path segment without a colon and `{name+}` for several. `scope` None:
    open to all; there is no default, so that every route says it.

    `when`: of several routes with one method and path the first is taken whose condition holds; the last
    has none. `fallback`: taken only where no other route has the path, whatever its method. `instead`: a
    scope that does as well.
    """

    method: str
    pattern: str
    scope: Scope | None
    dialect: Dialect
    handler: Handler
    when: Callable[[Request], bool] | None = None
    fallback: bool = False
    instead: Scope | None = None

    def takes(self, request: Request) -> bool:
        return self.method == _method(request) and (self.when is None or self.when(request))

    @property
    def regex(self) -> re.Pattern[str]:
        pattern = re.sub(r"\\{(\w+)\\\+\\}", r"(?P<\1>.+)", re.escape(self.pattern))
        return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/:]+)", pattern))


def _method(request: Request) -> str:
    return "GET" if request.method == "HEAD" else request.method


class Gateway:
    """`spoken_under`: by the beginning of a path, whose errors are shown where no route has it."""

    def __init__(
        self,
        routes: Iterable[Route],
        authenticator: Authenticator,
        telemetry: Telemetry,
        clock: Clock,
        *,
        default_dialect: Dialect,
        max_body_bytes: int,
        spoken_under: Mapping[str, Dialect] | None = None,
    ) -> None:
        self.routes = tuple(routes)
        self._clock = clock
        self._authenticator = authenticator
        self._telemetry = telemetry
        self._default = default_dialect
        self._max_body_bytes = max_body_bytes
        self._spoken_under = dict(spoken_under or {})
        self._literal: dict[str, list[Route]] = {}
        self._patterned: list[tuple[re.Pattern[str], Route]] = []
        self._fallbacks: list[tuple[re.Pattern[str], Route]] = []
        for route in self.routes:
            if route.fallback:
                self._fallbacks.append((route.regex, route))
            elif "{" in route.pattern:
                self._patterned.append((route.regex, route))
            else:
                self._literal.setdefault(route.pattern, []).append(route)

    def handle(self, request: Request) -> Response:
        """Every failure is rendered in the dialect of the route.

        :raises WouldBlock: the request has not the patience
        """
        dialect: Dialect | None = None
        caller: Caller | None = None
        pattern = "?"
        received = self._clock.monotonic() if request.received is None else request.received
        try:
            route, path = self._match(request)
            dialect, pattern = route.dialect, route.pattern
            if route.scope is not None:
                caller = self._authenticator.identify(
                    dialect.presented_key(request), patience=request.patience
                )
                if route.instead is None or not caller.may(route.instead):
                    caller.require(route.scope)
            if len(request.body) > self._max_body_bytes:
                raise PayloadTooLarge(
                    f"the body is {len(request.body)} bytes; the limit is {self._max_body_bytes}"
                )
            response = route.handler(request, caller, path)
        except EmbedonceError as error:
            response = (dialect or self._dialect_of(request)).render_error(error)
        except WouldBlock:
            raise
        except Exception as crash:  # noqa: BLE001 the last line of defence: a client gets JSON, not a stack
            self._report(crash)
            response = (dialect or self._default).render_error(EmbedonceError("internal error"))
        self._telemetry.answered(
            request_id=request.request_id,
            method=request.method if request.method in METHODS else "?",
            route=pattern,
            status=response.status,
            seconds=max(0.0, self._clock.monotonic() - received),
            key_id=caller.key_id if caller is not None else None,
            correlation_id=request.correlation_id,
        )
        return self._finished(request, response)

    def refuse(self, request: Request, error: EmbedonceError) -> Response:
        """An answer to what must not reach a handler at all (wrong Host, body too large)."""
        return self._finished(request, self._dialect_of(request).render_error(error))

    @staticmethod
    def _finished(request: Request, response: Response) -> Response:
        headers = {**COMMON_HEADERS, "X-Request-Id": request.request_id, **response.headers}
        return Response(response.status, response.body, response.content_type, headers)

    def _dialect_of(self, request: Request) -> Dialect:
        """In which to refuse a request that has reached no handler: of its route, else of its path."""
        candidates = [r for r, _ in self._having(request.path) if r.when is None or r.when(request)]
        for route in candidates:
            if route.method == _method(request):
                return route.dialect
        if candidates and not candidates[0].fallback:
            return candidates[0].dialect
        for beginning, dialect in self._spoken_under.items():
            if request.path.startswith(beginning):
                return dialect
        return self._default

    def _having(self, path: str) -> Iterator[tuple[Route, dict[str, str]]]:
        """The routes that have the path, by whatever method."""
        if len(path) > LONGEST_PATH:
            return
        literal = self._literal.get(path)
        if literal is not None:
            for route in literal:
                yield route, {}
            return
        found = False
        for regex, route in self._patterned:
            if match := regex.fullmatch(path):
                found = True
                yield route, match.groupdict()
        if found:
            return
        for regex, route in self._fallbacks:
            if match := regex.fullmatch(path):
                yield route, match.groupdict()

    def _match(self, request: Request) -> tuple[Route, dict[str, str]]:
        """:raises NotFound, MethodNotAllowed:"""
        others: set[str] = set()
        for route, path in self._having(request.path):
            if route.takes(request):
                return route, path
            if not route.fallback:
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
