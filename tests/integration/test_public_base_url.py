"""Absolute URLs in answers begin with what is configured, or with what cannot be forged (SECURITY 8)."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from embedonce.config import ConfigError, load
from embedonce.core.errors import EmbedonceError
from embedonce.http.lambda_event import to_request
from embedonce.http.message import Request, Response
from embedonce.local.asgi import LocalApp
from support.asgi import HOST, Told, asked

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
    with pytest.raises(ConfigError, match=variable) as refused:
        load({variable: value})
    assert value not in str(refused.value).replace("10.0.0.0/8", "")
