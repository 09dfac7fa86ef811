"""SECURITY 9: which URLs and addresses are refused, before anything is connected to."""

# ruff: noqa: RUF001  # full-width letters are what some of this is about

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedonce.media.addresses import is_public
from embedonce.media.guard import Guard, Refused, checked_origin
from support.origin import DENIED

ALLOWED = [
    *("8.8.8.8", "1.1.1.1", "93.184.216.34", "172.32.0.1", "172.15.255.255", "100.63.255.255", "100.128.0.1"),
    *("11.0.0.1", "198.20.0.1", "223.255.255.255", "2606:4700::1111", "2a00:1450:4001::200e", "2003::1"),
]


@pytest.mark.parametrize("address", DENIED)
def test_denied_addresses(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ALLOWED)
def test_allowed_addresses(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses())
def test_the_table_allows_no_more_than_python_s(address: ipaddress.IPv4Address) -> None:
    if is_public(str(address)):
        assert address.is_global
        assert not address.is_multicast


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:{}", "::{}", "64:ff9b::{}", "64:ff9b:1::{}"]))
def test_no_ipv4_gets_through_inside_of_ipv6(address: ipaddress.IPv4Address, form: str) -> None:
    assert not is_public(form.format(address))


REFUSED = [
    *("http://example.com/", "ftp://example.com/", "file:///etc/passwd", "gopher://example.com", "//a.com/"),
    *("https:example.com", "https://", "https:///x", "https://example.com:8443/", "https://example.com:80/"),
    *("https://example.com:0/", "https://example.com:/", "https://example.com:99999/", "https://a.com:x/"),
    *("https://user@example.com/", "https://user:word@example.com/", "https://example.com@127.0.0.1/"),
    *("https://example.com\\@127.0.0.1/", "https://127.0.0.1#@example.com/", "https://example.com/a b"),
    *(
        "https://exa\tmple.com/",
        "https://example.com/\n",
        " https://example.com/",
        "https://example.com/\x00",
    ),
    *("https://localhost/", "https://metadata/", "https://x.localhost/", "https://metadata.google.internal/"),
    *("https://printer.local/", "https://example.com./", "https://.example.com/", "https://a..com/"),
    *("https://2130706433/", "https://0x7f000001/", "https://0x7f.1/", "https://127.1/", "https://127.0.1/"),
    *("https://017700000001/", "https://0177.0.0.1/", "https://0177.0.0.01/", "https://0x7f.0x0.0x0.0x1/"),
    *(
        "https://08.8.8.8/",
        "https://8.8.8.8.8/",
        "https://8.8.8/",
        "https://1.2.3.0x4/",
        "https://300.1.1.1/",
    ),
    *("https://１２７.0.0.1/", "https://①②⑦.0.0.1/", "https://127。0。0。1/", "https://ｌocalhost/"),
    *(
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[fe80::1%25eth0]/",
    ),
    *(
        "https://[::1/",
        "https://::1/",
        "https://[v1.x]/",
        "https://%31%32%37.0.0.1/",
        "https://exa%6dple.com/",
    ),
    *("https://-a.com/", "https://a-.com/", "https://a$.com/", "https://" + "a" * 64 + ".com/"),
    *("https://" + "a." * 130 + "com/", "https://example.com/" + "a" * 5000, "https://example.com/\ud800"),
    *("https://xn--/", "https://a.xn--zz--zz\u200d.com\u2048/", "https://169.254.169.254/latest/meta-data/"),
]


@pytest.mark.parametrize("url", REFUSED, ids=lambda url: ascii(url)[:60])
def test_refused_urls(url: str) -> None:
    with pytest.raises(Refused) as refused:
        Guard().target(url)
    assert str(refused.value) == ""


@pytest.mark.parametrize("address", DENIED)
def test_a_denied_address_as_the_host(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(Refused):
        Guard().target(f"https://{host}/")


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        ("https://example.com", "example.com", "/"),
        ("HTTPS://EXAMPLE.com:443/A?b=c#d", "example.com", "/A?b=c"),
        ("https://example.com/ä b".replace(" ", "%20"), "example.com", "/%C3%A4%20b"),
        ("https://bücher.example/", "xn--bcher-kva.example", "/"),
        ("https://straße.example/", "xn--strae-oqa.example", "/"),
        ("https://my_bucket.example.com/?q=%2F&x=ü", "my_bucket.example.com", "/?q=%2F&x=%C3%BC"),
        ("https://8.8.8.8/x", "8.8.8.8", "/x"),
        ("https://[2606:4700:0::1111]/", "2606:4700::1111", "/"),
        ("https://example.com/@127.0.0.1/..//x", "example.com", "/@127.0.0.1/..//x"),
    ],
)
def test_what_is_connected_to_and_asked_for(url: str, host: str, path: str) -> None:
    target = Guard().target(url)
    assert (target.scheme, target.host, target.port, target.path) == ("https", host, 443, path)
    assert not target.local


@pytest.mark.parametrize(
    "location",
    [
        *("http://example.com/", "//127.0.0.1/", "https://10.0.0.1/", "https://u@example.com/", ""),
        *("file:///etc/passwd", "\\\\127.0.0.1\\", "/a b", "http://127.0.0.1:9000/x", "https://[::1"),
    ],
)
def test_redirects_are_checked_like_urls(location: str) -> None:
    guard = Guard(["http://127.0.0.1:9000"])
    with pytest.raises(Refused):
        guard.redirected(guard.target("https://example.com/a/b"), location)


def test_where_a_redirect_leads() -> None:
    guard = Guard(["http://127.0.0.1:9000", "http://127.0.0.1:9001"])
    source = guard.target("https://example.com/a/b?c")
    assert guard.redirected(source, "../d?e#f").url == "https://example.com/d?e"
    assert guard.redirected(source, "//other.example/x").url == "https://other.example/x"
    own = guard.target("http://127.0.0.1:9000/x")
    assert own.local
    assert guard.redirected(own, "http://127.0.0.1:9001/y").local
    assert not guard.redirected(own, "https://example.com/").local
    with pytest.raises(Refused):
        guard.redirected(own, "http://127.0.0.1:9002/")


def test_own_origins_are_exact() -> None:
    guard = Guard(["http://127.0.0.1:9000/", "https://localhost:8443"])
    assert guard.target("http://127.0.0.1:9000/a?b").url == "http://127.0.0.1:9000/a?b"
    assert guard.target("https://localhost:8443/").host_header == "localhost:8443"
    others = (
        "http://127.0.0.1:9001/",
        "https://127.0.0.1:9000/",
        "http://localhost:8443/",
        "http://127.1:9000/",
    )
    for url in (*others, "http://x@127.0.0.1:9000/"):
        with pytest.raises(Refused):
            guard.target(url)


@pytest.mark.parametrize(
    "origin", ["", "127.0.0.1:9000", "ftp://a", "http://a/b", "http://u@a", "http://a?b"]
)
def test_what_is_no_origin(origin: str) -> None:
    with pytest.raises(ValueError, match="an origin"):
        checked_origin(origin)
