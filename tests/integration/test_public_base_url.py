"""Absolute URLs in answers begin with what is configured, or with what cannot be forged (SECURITY 8)."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
import segmind  # type: ignore[import-untyped]
import uvicorn

from embedonce.config import ConfigError, load
from embedonce.core import vector
from embedonce.core.errors import EmbedonceError
from embedonce.http.lambda_event import to_request
from embedonce.http.message import Request, Response
from embedonce.local.asgi import LocalApp
from support.asgi import HOST, Told, asked
from support.jobgate import JobGate, jobgate
from support.pipeline import KEY, expected
from support.process import server

EVIL = "evil.example"
CLIENT, PROXY = "192.0.2.7", "10.1.2.3"


class Echo:
    """A gateway that answers the base URL of what reaches it."""

    @staticmethod
    def handle(request: Request) -> Response:
        return Response(200, request.base_url.encode())

    @staticmethod
    def refuse(request: Request, error: EmbedonceError) -> Response:
        return Response(error.http_status, request.base_url.encode())


def local(
    headers: Mapping[str, str] | None = None,
    *,
    client: tuple[str, int] | None = (CLIENT, 50000),
    scheme: str = "http",
    **settings: str,
) -> Told:
    loaded = load(settings)
    app: Any = SimpleNamespace(
        gateway=Echo(),
        parts=SimpleNamespace(settings=loaded),
        clock=SimpleNamespace(monotonic=lambda: 0.0),
        max_body_bytes=1000,
    )
    served = LocalApp(app, loaded.allowed_hosts)
    return asked(served, "GET", "/v2/requests/x", headers, client=client, scheme=scheme)


def forwarded(host: str = EVIL, proto: str = "https") -> dict[str, str]:
    return {
        "x-forwarded-host": host,
        "x-forwarded-proto": proto,
        "x-forwarded-for": PROXY,
        "x-forwarded-prefix": "/evil",
        "forwarded": f"for={PROXY};host={host};proto={proto}",
        "x-original-host": host,
    }


@pytest.mark.parametrize(
    ("host", "scheme", "base"),
    [
        (HOST, "http", f"http://{HOST}"),
        ("LocalHost:8787", "http", "http://localhost:8787"),
        ("localhost", "https", "https://localhost"),
        ("[::1]:8787", "http", "http://[::1]:8787"),
    ],
)
def test_the_host_that_is_answered_for(host: str, scheme: str, base: str) -> None:
    assert local({"host": host}, scheme=scheme).data.decode() == base


@pytest.mark.parametrize(
    "host",
    [
        *(EVIL, f"{EVIL}:8787", f"127.0.0.1.{EVIL}", f"{EVIL}#127.0.0.1", f"127.0.0.1@{EVIL}", ""),
        *("localhost:", "localhost:99999", "localhost:0", "localhost:²", "localhost:80:80", "localhost/x"),
    ],
)
def test_a_forged_host_is_refused_and_not_reflected(host: str) -> None:
    told = local({"host": host})
    assert (told.status, told.data) == (421, b"")


@pytest.mark.parametrize(
    "client", [(CLIENT, 1), ("127.0.0.1", 1), ("10.1.2.4", 1), ("not an address", 1), None]
)
@pytest.mark.parametrize("proxies", ["", "10.1.2.3", "10.1.2.3/32, 2001:db8::/32"])
def test_x_forwarded_counts_from_trusted_proxies_only(client: Any, proxies: str) -> None:
    told = local(forwarded("localhost"), client=client, TRUSTED_PROXIES=proxies)
    assert told.data.decode() == f"http://{HOST}"


@pytest.mark.parametrize("address", [PROXY, f"::ffff:{PROXY}", "2001:db8::1"])
def test_a_trusted_proxy_says_scheme_and_one_of_our_hosts(address: str) -> None:
    settings = {
        "TRUSTED_PROXIES": "10.0.0.0/8, 2001:db8::/32",
        "EMBEDONCE_ALLOWED_HOSTS": "embed.example",
    }

    def told(host: str, proto: str) -> str:
        return local(forwarded(host, proto), client=(address, 1), **settings).data.decode()

    assert told("embed.example", "https") == "https://embed.example"
    assert told("Embed.Example:8443", "HTTPS") == "https://embed.example:8443"
    for host in (EVIL, f"embed.example, {EVIL}", f"{EVIL}, embed.example", "", f"embed.example.{EVIL}"):
        assert told(host, "https") == f"https://{HOST}"
    for proto in ("javascript", "https, http", "", "wss"):
        assert told("embed.example", proto) == "http://embed.example"


def test_a_trusted_proxy_does_not_make_a_foreign_host_ours() -> None:
    told = local({"host": EVIL, **forwarded("localhost")}, client=(PROXY, 1), TRUSTED_PROXIES=PROXY)
    assert told.status == 421


def test_what_is_configured_wins() -> None:
    settings = {"PUBLIC_BASE_URL": "https://embed.example/gateway/", "TRUSTED_PROXIES": PROXY}
    for client in ((CLIENT, 1), (PROXY, 1)):
        told = local(forwarded("localhost"), client=client, **settings)
        assert told.data.decode() == "https://embed.example/gateway"


def test_the_segmind_client_follows_the_urls_in_spite_of_forged_headers(tmp_path: Path) -> None:
    with jobgate(tmp_path) as gate, served(gate) as origin:
        client = segmind.SegmindClient(api_key=KEY, base_url=f"{origin}/v1")
        client._client.headers.update(forwarded())
        job = client.submit_async("gemini-embedding-2", input="a cat", output_dimensionality=768)
        assert job.status_url == f"{origin}/v2/requests/{job.request_id}/status"
        assert job.response_url == f"{origin}/v2/requests/{job.request_id}"
        gate.pipeline.run()
        output = job.wait(timeout=10, interval=0.01)["output"]
        assert vector.pack(output["embedding"]) == expected("a cat", 768)
        # What is in the cache is completed at the first poll: the pause before a second would be a second.
        began = time.monotonic()
        assert client.run("gemini-embedding-2", input="a cat")["output"]["embedding"] == output["embedding"]
        assert time.monotonic() - began < 0.9
        client._client.close()


@contextmanager
def served(gate: JobGate) -> Iterator[str]:
    """As `embedonce serve` does, with these routes."""
    parts = gate.pipeline.parts
    app: Any = SimpleNamespace(
        gateway=gate.gateway, parts=parts, clock=gate.clock, max_body_bytes=1000, close=lambda: None
    )
    listener = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(
        uvicorn.Config(LocalApp(app), log_level="warning", access_log=False, proxy_headers=False)
    )
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join(20)
        listener.close()


def test_the_server_as_it_is_started_believes_nobody(tmp_path: Path) -> None:
    """uvicorn by itself believes X-Forwarded-Proto and -For from loopback."""
    with server(tmp_path / "data") as running:
        asked_for = {"size": 5, "sha256": hashlib.sha256(b"bytes").hexdigest(), "content_type": "video/mp4"}
        told = []
        for path, body in (("/v2/gemini-embedding-2", {"input": "x"}), ("/v2/uploads", asked_for)):
            request = urllib.request.Request(
                running.url + path,
                data=orjson.dumps(body),
                headers={"x-api-key": running.key, **forwarded()},
            )
            with urllib.request.urlopen(request) as answer:
                told.append(orjson.loads(answer.read()))
        submitted, upload = told
        for name in ("status_url", "response_url", "poll_url"):
            assert submitted[name].startswith(f"{running.url}/v2/requests/")
        assert upload["upload_url"].startswith(f"{running.url}/v2/uploads/")
        put = urllib.request.Request(
            upload["upload_url"], data=b"bytes", headers=upload["headers"], method="PUT"
        )
        with urllib.request.urlopen(put) as answer:
            assert answer.status == 200


# ---- Lambda


def event(path: str = "/v2/x", stage: str = "$default", **context: Any) -> dict[str, Any]:
    return {
        "rawPath": path,
        "headers": {"host": EVIL, **forwarded()},
        "requestContext": {
            "http": {"method": "GET", "path": path},
            "stage": stage,
            "domainName": "abc123.execute-api.eu-central-1.amazonaws.com",
            **context,
        },
    }


@pytest.mark.parametrize(
    ("given", "path", "base"),
    [
        (event(), "/v2/x", "https://abc123.execute-api.eu-central-1.amazonaws.com"),
        (event("/prod/v2/x", "prod"), "/v2/x", "https://abc123.execute-api.eu-central-1.amazonaws.com/prod"),
        # A custom domain leads to a stage without naming it.
        (event("/v2/x", "prod", domainName="embed.example"), "/v2/x", "https://embed.example"),
        (event(domainName=None), "/v2/x", ""),
    ],
)
def test_on_lambda_the_domain_of_the_request_context(given: Any, path: str, base: str) -> None:
    request = to_request(given, 30, 0)
    assert (request.path, request.base_url) == (path, base)


def test_on_lambda_too_what_is_configured_wins() -> None:
    assert to_request(event(), 30, 0, public_base_url="https://a.example").base_url == "https://a.example"


# ---- settings


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("https://a.example", "https://a.example"),
        ("https://a.example/", "https://a.example"),
        ("http://127.0.0.1:8787/some/where/", "http://127.0.0.1:8787/some/where"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
    ],
)
def test_bases(given: str, base: str) -> None:
    assert load({"PUBLIC_BASE_URL": given}).public_base_url == base


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(
            ("PUBLIC_BASE_URL", v)
            for v in ("a.example", "ftp://a.example", "https://", "https://u:p@a.example")
        ),
        *(("PUBLIC_BASE_URL", v) for v in ("https://a.example/?x", "https://a.example/#x", "https://a b")),
        *(("TRUSTED_PROXIES", v) for v in ("proxy.example", "10.0.0.1/8", "10.0.0.0/33", "*")),
    ],
)
def test_settings_that_cannot_be_meant(variable: str, value: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        load({variable: value})
