"""Under which URL a client reached the local server (SECURITY 8).

What a client claims decides nothing: its Host is one of those this server answers for, and what a proxy adds
counts only from an address that is configured as one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping, MutableMapping
from typing import Any


def host_name(host: str) -> str:
    """A Host value without its port, in lower case; whole where the port is none."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and _is_port(port) else host.lower()


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65_536


class BaseUrls:
    """`public` as configured: it stands for every request. `hosts`: the names that are answered for."""

    def __init__(self, public: str | None, proxies: Iterable[str], hosts: Collection[str]) -> None:
        self._public = public
        self._proxies = tuple(ipaddress.ip_network(proxy) for proxy in proxies)
        self._hosts = hosts

    def of(self, scope: MutableMapping[str, Any], headers: Mapping[str, str]) -> str:
        """Without a slash at the end; empty where the Host is none of ours."""
        if self._public is not None:
            return self._public
        host = headers.get("host", "")
        scheme = scope.get("scheme", "http")
        if self._proxies and self._trusted(scope.get("client")):
            # A list means that somebody in front of the proxy has said something too.
            host = self._known(headers.get("x-forwarded-host", "")) or host
            proto = headers.get("x-forwarded-proto", "").lower()
            scheme = proto if proto in ("http", "https") else scheme
        known = self._known(host)
        return f"{scheme}://{known}" if known else ""

    def _known(self, host: str) -> str:
        return host.lower() if host_name(host) in self._hosts else ""

    def _trusted(self, client: tuple[str, int] | None) -> bool:
        try:
            address = ipaddress.ip_address(client[0]) if client else None
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return address is not None and any((mapped or address) in network for network in self._proxies)
