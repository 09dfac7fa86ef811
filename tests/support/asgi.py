"""An ASGI app asked directly: what it answers, also to what no HTTP server would pass on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

HOST = "127.0.0.1:8787"


@dataclass(frozen=True)
class Told:
    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def body(self) -> Any:
        return orjson.loads(self.data)


async def ask(
    app: Any,
    method: str,
    target: str,
    headers: Mapping[str, str] | None = None,
    chunks: Sequence[bytes] = (b"",),
    *,
    client: tuple[str, int] | None = ("127.0.0.1", 50000),
    scheme: str = "http",
    ends: str = "complete",
) -> Told | None:
    """`target`: path and query, percent-encoded by whoever asks. `ends`: `complete`, or what becomes of the
    client after the chunks: `disconnect` or `hang`. None: it was not answered."""
    path, _, query = target.partition("?")
    given = {"host": HOST, **(headers or {})}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in given.items()],
        "client": client,
        "scheme": scheme,
    }
    left = list(chunks)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if left:
            chunk = left.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(left) or ends != "complete"}
        if ends == "hang":
            await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    if not sent:
        return None
    start, body = sent
    return Told(start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, body["body"])


def asked(app: Any, method: str, target: str, *arguments: Any, **options: Any) -> Told:
    told = asyncio.run(ask(app, method, target, *arguments, **options))
    assert told is not None
    return told


def pieces(data: bytes, size: int) -> Iterable[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]
