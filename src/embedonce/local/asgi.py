"""ASGI around the gateway: the same routes on one machine, hardened against the browser (SECURITY 12).

Handlers run in threads; the event loop only reads, refuses and writes. No CORS header is ever sent.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from embedonce.bootstrap import App
from embedonce.core.deadline import HANDLER_SECONDS, Deadline
from embedonce.core.errors import (
    EmbedonceError,
    InvalidRequest,
    Misdirected,
    PayloadTooLarge,
    PermissionDenied,
    RequestTimeout,
    WouldBlock,
)
from embedonce.http.message import Request, Response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

HANDLER_THREADS = 128
INLINE_BODY_BYTES = 16_384
"""A larger body takes too long to read and hash on the event loop."""
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


BODY_SECONDS = 25.0
"""For a request's body to arrive."""
ONCE = (b"host", b"origin", b"authorization", b"x-api-key", b"content-length")
"""Headers that decide who may do what: two of them are two stories."""


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """By name; a header given several times is one list (RFC 9110), as API Gateway also makes of it."""
    joined: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


class Disconnected(Exception):
    """The client went away while its body was being read."""


class LocalApp:
    """`hosts`: the Host values (without port) that are answered; any other is 421."""

    def __init__(self, app: App, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._hosts = frozenset(h.lower() for h in (*LOOPBACK_NAMES, *hosts))
        self._threads = ThreadPoolExecutor(HANDLER_THREADS, thread_name_prefix="handler")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self._threads.shutdown(wait=True, cancel_futures=True)
                self._app.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _joined(scope["headers"])
        request = self._request(scope, headers)
        try:
            self._check_once(scope["headers"])
            self._check_origin(headers)
            body = await self._body(headers, receive)
        except Disconnected:
            return
        except EmbedonceError as error:
            response = self._app.gateway.refuse(request, error)
        else:
            response = await self._handle(replace(request, body=body))
        await self._answer(response, send)

    async def _handle(self, request: Request) -> Response:
        """What is in memory is answered on the event loop, so hits never queue behind misses for a thread."""
        if len(request.body) <= INLINE_BODY_BYTES:
            try:
                return self._app.gateway.handle(replace(request, inline=True))
            except WouldBlock:
                pass
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._app.gateway.handle, request)

    def _request(self, scope: Scope, headers: dict[str, str]) -> Request:
        query: bytes = scope["query_string"]
        return Request(
            method=scope["method"],
            path=scope["path"],
            headers=headers,
            query=dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)) if query else {},
            body=b"",
            request_id=uuid.uuid4().hex,
            deadline=Deadline.after(HANDLER_SECONDS, self._app.clock.monotonic()),
        )

    @staticmethod
    def _check_once(headers: list[tuple[bytes, bytes]]) -> None:
        names = [name for name, _ in headers]
        for name in ONCE:
            if names.count(name) > 1:
                raise InvalidRequest(f"the header {name.decode()} may be given only once")

    def _check_origin(self, headers: dict[str, str]) -> None:
        """A page elsewhere may reach loopback by a name it controls (421) or from its own origin (403)."""
        host = headers.get("host", "")
        if self._name(host) not in self._hosts:
            raise Misdirected("this server does not answer for that Host; see EMBEDONCE_ALLOWED_HOSTS")
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            raise PermissionDenied("requests from other web origins are refused")
        if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise PermissionDenied("requests from other web origins are refused")

    @staticmethod
    def _name(host: str) -> str:
        name, colon, port = host.lower().rpartition(":")
        return name if colon and port.isdigit() else host.lower()

    async def _body(self, headers: dict[str, str], receive: Receive) -> bytes:
        """:raises PayloadTooLarge: before the rest is read
        :raises RequestTimeout: it does not come to an end
        """
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._whole_body(headers, receive)
        except TimeoutError:
            raise RequestTimeout(f"the body did not arrive within {BODY_SECONDS:g} seconds") from None

    async def _whole_body(self, headers: dict[str, str], receive: Receive) -> bytes:
        limit = self._app.max_body_bytes
        announced = headers.get("content-length", "0")
        if not (announced.isascii() and announced.isdigit()):
            raise InvalidRequest("Content-Length: must be a whole number")
        if int(announced) > limit:
            raise self._too_large(int(announced))
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise self._too_large(size)
            chunks.append(chunk)
            if not message.get("more_body"):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self, size: int) -> PayloadTooLarge:
        return PayloadTooLarge(f"the body is {size} bytes or more; the limit is {self._app.max_body_bytes}")

    @staticmethod
    async def _answer(response: Response, send: Send) -> None:
        headers = [
            (b"content-type", response.content_type.encode()),
            (b"content-length", str(len(response.body)).encode()),
            *((k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in response.headers.items()),
        ]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})
