"""What a URL of a stranger may name. Pure: looks nothing up.

A URL is taken apart once, and the connection is made from the parts: there is no second parser that could
see another host in it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from embedonce.media.addresses import is_public

MAX_URL = 4096
MAX_HOST = 253
HTTPS_PORT = 443

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LOCAL_ENDINGS = ("localhost", "local", "internal", "localdomain", "home.arpa")
_URL_CHARACTERS = "!#$%&'()*+,/:;=?@[]~-._"
"""What stands as it is in path and query; all else is percent-encoded as UTF-8."""


class Refused(Exception):
    """The URL may not be fetched. Says nothing: why would tell about our network."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect and what to ask for. `local`: one of the operator's own origins, exempt from the
    address table."""

    scheme: str
    host: str
    port: int
    path: str
    local: bool = False

    @property
    def origin(self) -> str:
        return _origin(self.scheme, self.host, self.port)

    @property
    def url(self) -> str:
        return self.origin + self.path

    @property
    def host_header(self) -> str:
        return self.origin.partition("://")[2]


class Guard:
    """`origins` ("http://127.0.0.1:9000") are fetched in spite of every rule: for development and tests."""

    def __init__(self, origins: Iterable[str] = ()) -> None:
        self._origins = frozenset(checked_origin(origin) for origin in origins)

    def target(self, url: str) -> Target:
        """:raises Refused: anything but https to a public name or address on port 443"""
        return self._target(url, local=True)

    def redirected(self, source: Target, location: str) -> Target:
        """Where a redirect leads: only the operator's own origins may lead to each other.

        :raises Refused: see `target`
        """
        if _FORBIDDEN.search(location) or not location:
            raise Refused
        try:
            url = urljoin(source.url, location)
        except ValueError:
            raise Refused from None
        return self._target(url, local=source.local)

    def _target(self, url: str, *, local: bool) -> Target:
        if len(url) > MAX_URL or _FORBIDDEN.search(url):
            raise Refused
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
            path = quote(parts.path or "/", safe=_URL_CHARACTERS)
            query = quote(parts.query, safe=_URL_CHARACTERS)
        except ValueError:  # also a lone surrogate, which has no UTF-8
            raise Refused from None
        if parts.scheme not in ("https", "http") or "@" in parts.netloc or parts.netloc.endswith(":"):
            raise Refused
        port = port if port is not None else (HTTPS_PORT if parts.scheme == "https" else 80)
        asked = f"{path}?{query}" if query else path
        if local and self._origins and _origin(parts.scheme, host, port) in self._origins:
            return Target(parts.scheme, host, port, asked, local=True)
        if parts.scheme != "https" or port != HTTPS_PORT:
            raise Refused
        return Target("https", _public_host(host, bracketed="[" in parts.netloc), port, asked)


def checked_origin(origin: str) -> str:
    """Scheme, host and port, in one spelling.

    :raises ValueError: more or less than that
    """
    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("an origin is http:// or https:// and a host, with or without a port")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("an origin has no path, query or fragment")
    return _origin(parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))


def _origin(scheme: str, host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return (
        f"{scheme}://{shown}" if port == (443 if scheme == "https" else 80) else f"{scheme}://{shown}:{port}"
    )


def _public_host(host: str, *, bracketed: bool) -> str:
    """The host in ASCII: a name with a dot, or an address of the public internet in its plain spelling."""
    if not host or len(host) > MAX_HOST:
        raise Refused
    if bracketed:
        if not is_public(host):
            raise Refused
        return str(ipaddress.IPv6Address(host))
    name = host if host.isascii() else _ascii(host)
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # Names do not end in a number; resolvers take 0x7f.1, 017700000001 and 2130706433 for addresses.
        if not is_public(name):
            raise Refused
        return name
    if len(name) > MAX_HOST or len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels):
        raise Refused
    if name.endswith(tuple(f".{ending}" for ending in _LOCAL_ENDINGS)):
        raise Refused
    return name


def _ascii(host: str) -> str:
    import idna  # comes with httpx; browsers' rules (UTS 46), which fold full-width dots and digits

    try:
        return idna.encode(host, uts46=True).decode().lower()
    except (idna.IDNAError, UnicodeError):
        raise Refused from None
