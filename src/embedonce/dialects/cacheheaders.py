"""The three ways in which clients speak to the cache, made into one `CacheControls`.

Standard `Cache-Control`; OpenRouter's `X-OpenRouter-Cache*`; LiteLLM's body field `cache`. A time to live
that a client sends bounds only the age it accepts; replacing what others use needs the scope
`cache:refresh`, and without it the same request is simply answered past the cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from embedonce.access.authenticate import Caller
from embedonce.access.keys import Scope
from embedonce.core.cachecontrol import DEFAULT, CacheControls, merge, parse_header, seconds
from embedonce.core.errors import InvalidRequest
from embedonce.dialects.fields import boolean, integer, string

MAX_NAMESPACE_CHARS = 128


def controls_of(headers: Mapping[str, str], body_cache: Mapping[str, Any], caller: Caller) -> CacheControls:
    controls = DEFAULT
    if standard := headers.get("cache-control"):
        controls = merge(controls, parse_header(standard))
    if any(name.startswith("x-openrouter-cache") for name in headers):
        controls = merge(controls, _openrouter(headers))
    if body_cache:
        controls = merge(controls, _litellm(body_cache))
    if not (controls.no_cache or controls.refresh):
        return controls
    replaces = not controls.no_store and caller.may(Scope.CACHE_REFRESH)
    return replace(controls, no_cache=True, refresh=replaces)


def namespace_of(body_cache: Mapping[str, Any]) -> str:
    """A namespace inside the key's own; it can never reach another key's."""
    return string(body_cache.get("namespace"), "cache.namespace", MAX_NAMESPACE_CHARS) or ""


def _openrouter(headers: Mapping[str, str]) -> CacheControls:
    off = headers.get("x-openrouter-cache", "").strip().lower() == "false"
    return CacheControls(
        no_cache=off,
        no_store=off,
        refresh=headers.get("x-openrouter-cache-clear", "").strip().lower() == "true",
        max_age=seconds(headers.get("x-openrouter-cache-ttl", "").strip()),
    )


def _litellm(cache: Mapping[str, Any]) -> CacheControls:
    max_age: int | None = None
    for name in ("ttl", "s-maxage", "s-max-age"):
        value = integer(cache.get(name), f"cache.{name}")
        if value is not None:
            max_age = value if max_age is None else min(max_age, value)
    if max_age is not None and max_age < 0:
        raise InvalidRequest("cache: a time to live cannot be negative", param="cache")
    return CacheControls(
        no_cache=boolean(cache.get("no-cache"), "cache.no-cache"),
        no_store=boolean(cache.get("no-store"), "cache.no-store"),
        max_age=max_age,
    )
