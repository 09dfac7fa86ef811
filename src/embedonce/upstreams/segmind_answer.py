"""The one vector in an answer whose JSON shape nobody documents.

Accepted: a bare list of numbers, or such a list under embedding, embeddings, output, data or values, inside
each other or in lists, also as JSON text. There must be exactly one; anything else is refused, naming the
keys that were there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson

from embedonce.upstreams.reading import invalid, is_numbers, packed, parsed

KEYS = ("embedding", "embeddings", "output", "data", "values")
DEEPEST = 6
MOST_KEYS_SHOWN = 8
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_\-]{0,31}")


def vector_of(body: bytes, upstream: str) -> bytes:
    """Little-endian float32.

    :raises UpstreamFailure: INVALID
    """
    value = parsed(body, upstream)
    found = list(_vectors(value, DEEPEST))
    if not found:
        what = f"it has no vector under a name that is known; keys seen: {keys_seen(value)}"
        invalid(upstream, what)
    if len(found) > 1:
        invalid(upstream, f"it has {len(found)} vectors for 1 input")
    return packed(found[0], 0, upstream)


def _vectors(value: Any, depth: int) -> Iterator[list[float]]:
    """All non-empty lists of numbers at places where a vector may be."""
    if depth == 0:
        return
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return
    if isinstance(value, list):
        if value and is_numbers(value):
            yield value
            return
        for each in value:
            yield from _vectors(each, depth - 1) if isinstance(each, list | dict) else ()
    elif isinstance(value, dict):
        for key in KEYS:
            if below := list(_vectors(value.get(key), depth - 1)):
                yield from below
                return  # the same vector may stand under a second name


def keys_seen(value: Any) -> str:
    """Names only, of the outermost objects; what is no plain identifier is not repeated."""
    objects = [value, *value.values()] if isinstance(value, dict) else [value]
    names = [str(key) for one in objects if isinstance(one, dict) for key in one]
    shown = [name if _IDENTIFIER.fullmatch(name) else "(other)" for name in names[:MOST_KEYS_SHOWN]]
    more = ", …" if len(names) > MOST_KEYS_SHOWN else ""
    return ", ".join(dict.fromkeys(shown)) + more if shown else f"none (a {_kind(value)})"


def _kind(value: Any) -> str:
    kinds = {list: "list", dict: "object", str: "text", bool: "truth value", type(None): "null"}
    return kinds.get(type(value), "number")
