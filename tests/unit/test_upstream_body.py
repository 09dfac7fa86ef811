"""Bodies that are streamed are, byte for byte, the bodies that are not."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedonce.upstreams import body as bodies
from embedonce.upstreams.body import CHUNK_BYTES, STREAM_FROM_BYTES, Base64Text, Streamed, json_body
from embedonce.upstreams.failure import Kind
from embedonce.upstreams.transport import Transport
from support.upstream import RealClock, failure_of

MEDIUM = st.binary(max_size=64).map(Base64Text) | st.builds(
    Base64Text, st.binary(max_size=64), st.just("data:image/png;base64,")
)
PLAIN = st.none() | st.integers(-9, 9) | st.text(max_size=9) | st.dictionaries(st.text(), st.integers(0, 9))
FIELDS = st.dictionaries(st.text(max_size=9), PLAIN | MEDIUM | st.lists(PLAIN | MEDIUM, max_size=3))


def plain(value: Any) -> Any:
    if isinstance(value, Base64Text):
        return value.head + base64.b64encode(value.data).decode()
    return [plain(one) for one in value] if isinstance(value, list) else value


def bytes_of(body: bytes | Streamed) -> bytes:
    return body if isinstance(body, bytes) else b"".join(body.chunks())


@settings(max_examples=80, deadline=None)
@given(FIELDS, st.sampled_from([3, 6, 48]))
def test_streamed_and_plain_are_the_same_bytes(fields: dict[str, Any], chunk: int) -> None:
    right = orjson.dumps({name: plain(value) for name, value in fields.items()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "CHUNK_BYTES", chunk)
        streamed = json_body(fields, stream_from=0)
        assert isinstance(streamed, Streamed)
        assert bytes_of(streamed) == bytes_of(streamed) == right
        assert streamed.size == len(right)
    assert json_body(fields) == right


@pytest.mark.parametrize("size", [CHUNK_BYTES + off for off in (-1, 0, 1, 2, 3)])
def test_boundaries(size: int) -> None:
    assert CHUNK_BYTES % 3 == 0
    data = bytes(i % 251 for i in range(size))
    assert b"".join(Base64Text(data).chunks()) == base64.b64encode(data)


def test_only_large_bodies_are_streamed() -> None:
    overhead = len(json_body({"video": Base64Text(b"")}))  # type: ignore[arg-type]
    raw = (STREAM_FROM_BYTES - overhead) // 4 * 3
    assert isinstance(json_body({"video": Base64Text(b"a" * (raw - 3))}), bytes)
    assert isinstance(json_body({"video": Base64Text(b"a" * (raw + 3))}), Streamed)


@contextmanager
def sink() -> Iterator[tuple[str, dict[str, Any]]]:
    """An origin that keeps no body: its size and SHA-256 only."""
    seen: dict[str, Any] = {}

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as lines:
            seen["head"] = b"".join(iter(lines.readline, b"\r\n")).decode().lower()
            left = int(seen["head"].split("content-length: ")[1].split()[0])
            digest = hashlib.sha256()
            while left and (chunk := lines.read(min(left, 65_536))):
                digest.update(chunk)
                left -= len(chunk)
            seen["sha256"] = digest.digest()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v2/x", seen
        thread.join(5)


def test_a_large_body_is_never_held_whole() -> None:
    data = b"0123456789abcdef" * 1_000_000
    transport = Transport(RealClock())
    right = hashlib.sha256(orjson.dumps({"video": base64.b64encode(data).decode()})).digest()
    with sink() as (url, seen):
        transport._client()  # its imports are no part of what is measured
        tracemalloc.start()
        reply = transport.post_json(url, json_body({"video": Base64Text(data)}), {}, 5.0, 100)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    transport.close()
    assert reply.status == 200
    assert seen["sha256"] == right
    assert "transfer-encoding" not in seen["head"]
    assert peak < 4_000_000


def test_a_provider_that_does_not_read_cannot_exceed_the_deadline() -> None:
    transport = Transport(RealClock())
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        body = json_body({"video": Base64Text(bytes(15_000_000))})
        assert failure_of(lambda: transport.post_json(url, body, {}, 0.2, 1000)).kind is Kind.TIMEOUT
    transport.close()
