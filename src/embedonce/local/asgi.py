"""ASGI around the gateway: the same routes on one machine, hardened against the browser (SECURITY 12).

The event loop reads, refuses, writes, and answers what is in memory; all else runs in threads. No CORS header
is ever sent.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
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
from embedonce.core.patience import Patience
from embedonce.http.message import Request, Response, correlation_of
from embedonce.http.routes import COMMON_HEADERS
from embedonce.local.baseurl import BaseUrls, host_name
from embedonce.local.uploads import Disconnected, UploadReceiver

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

READER_THREADS = 8
HANDLER_THREADS = 256
"""Requests that wait for a provider at one time; more of them queue."""
INLINE_BODY_BYTES = 16_384
"""A larger body takes too long to read and hash on the event loop."""
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


BODY_SECONDS = 25.0
"""For a request's body to arrive."""
ONCE = (b"host", b"origin", b"authorization", b"x-api-key", b"x-goog-api-key", b"content-length")
"""Headers that decide who may do what: two of them are two stories."""


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """By name; a header given several times is one list (RFC 9110), as API Gateway also makes of it."""
    joined: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


@lru_cache(maxsize=128)
def _header_name(name: str) -> bytes:
    return name.lower().encode("latin-1")


class LocalApp:
    """`hosts`: the Host values (without port) that are answered; any other is 421. `uploads` takes what is
    put by URLs of this server.

    The server around it must leave X-Forwarded-* alone: whom to believe is decided here.
    """

    def __init__(self, app: App, hosts: Iterable[str] = (), *, uploads: UploadReceiver | None = None) -> None:
        self._app = app
        self._hosts = frozenset(h.lower() for h in (*LOOPBACK_NAMES, *hosts))
        settings = app.parts.settings
        self._base_urls = BaseUrls(settings.public_base_url, settings.trusted_proxies, self._hosts)
        self._uploads = uploads
        self._readers = ThreadPoolExecutor(READER_THREADS, thread_name_prefix="reader")
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
                self._readers.shutdown(wait=True, cancel_futures=True)
                self._threads.shutdown(wait=True, cancel_futures=True)
                if self._uploads is not None:
                    self._uploads.close()
                self._app.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _joined(scope["headers"])
        try:
            self._check_once(scope["headers"])
            self._check_origin(headers)
            if self._uploads is not None and self._uploads.takes(scope["method"], scope["path"]):
                response = await self._put(self._uploads, self._request(scope, headers, b""), receive)
            else:
                body = await self._body(headers, receive)
                response = await self._handle(self._request(scope, headers, body))
        except Disconnected:
            return
        except EmbedonceError as error:
            response = self._app.gateway.refuse(self._request(scope, headers, b""), error)
        await self._answer(response, send)

    async def _put(self, uploads: UploadReceiver, request: Request, receive: Receive) -> Response:
        """:raises Disconnected:"""
        response = await uploads.put(request.path, request.query, request.headers, receive)
        received = request.received or 0.0
        self._app.parts.telemetry.answered(
            request_id=request.request_id,
            method="PUT",
            route="/v2/uploads/{id}",
            status=response.status,
            seconds=self._app.clock.monotonic() - received,
            correlation_id=request.correlation_id,
        )
        headers = {**COMMON_HEADERS, "X-Request-Id": request.request_id, **response.headers}
        return replace(response, headers=headers)

    async def _handle(self, request: Request) -> Response:
        """In memory on the event loop; else in threads for the stores, which are soon free again; what has to
        be bought in threads that may wait. So hits never queue behind misses."""
        handle = self._app.gateway.handle
        if len(request.body) <= INLINE_BODY_BYTES:
            try:
                return handle(request)
            except WouldBlock:
                pass
        loop = asyncio.get_running_loop()
        try:
            stores = replace(request, patience=Patience.STORES)
            return await loop.run_in_executor(self._readers, handle, stores)
        except WouldBlock:
            patient = replace(request, patience=Patience.PROVIDERS)
            return await loop.run_in_executor(self._threads, handle, patient)

    def _request(self, scope: Scope, headers: dict[str, str], body: bytes) -> Request:
        query: bytes = scope["query_string"]
        now = self._app.clock.monotonic()
        return Request(
            method=scope["method"],
            path=scope["path"],
            headers=headers,
            query=dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)) if query else {},
            body=body,
            request_id=os.urandom(16).hex(),
            deadline=Deadline.after(HANDLER_SECONDS, now),
            patience=Patience.MEMORY,
            base_url=self._base_urls.of(scope, headers),
            received=now,
            correlation_id=correlation_of(headers),
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
        if host_name(host) not in self._hosts:
            raise Misdirected("this server does not answer for that Host; see EMBEDONCE_ALLOWED_HOSTS")
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            raise PermissionDenied("requests from other web origins are refused")
        if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise PermissionDenied("requests from other web origins are refused")

    async def _body(self, headers: dict[str, str], receive: Receive) -> bytes:
        """:raises PayloadTooLarge: before the rest is read
        :raises RequestTimeout: it does not come to an end
        """
        late = RequestTimeout(f"the body did not arrive within {BODY_SECONDS:g} seconds")
        # asyncio.timeout does the same in four times the time, and every request passes here.
        task = asyncio.current_task()
        assert task is not None
        gone: list[bool] = []
        timer = asyncio.get_running_loop().call_later(BODY_SECONDS, lambda: gone.append(task.cancel()))
        try:
            return await self._whole_body(headers, receive)
        except asyncio.CancelledError:
            if not gone:
                raise
            task.uncancel()
            raise late from None
        finally:
            timer.cancel()

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
            *((_header_name(k), v.encode("latin-1")) for k, v in response.headers.items()),
        ]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})
