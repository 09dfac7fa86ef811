"""What the adapters have in common in reading answers: strict in what would be stored under a key, tolerant
in the rest. Dimension, finiteness and length of vectors are checked by `core.validation`, in the router.
"""

from __future__ import annotations

from typing import Any, NoReturn

import orjson

from embedonce.core import vector
from embedonce.core.pricing import from_usd
from embedonce.upstreams.failure import Kind, UpstreamFailure

MOST_TOKENS = 10**9
MOST_USD = 10_000.0
_NUMBERS = frozenset({int, float})


def parsed(body: bytes, upstream: str) -> Any:
    """:raises UpstreamFailure: INVALID, not JSON"""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        invalid(upstream, "its body is not JSON (NaN and Infinity are not JSON either)")


def parsed_object(body: bytes, upstream: str) -> dict[str, Any]:
    """:raises UpstreamFailure: INVALID, not a JSON object"""
    value = parsed(body, upstream)
    if not isinstance(value, dict):
        invalid(upstream, "its body is not a JSON object")
    return value


def courtesy(body: bytes) -> Any:
    """The JSON of an error's body, or None."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def is_numbers(value: Any) -> bool:
    """Whether this is a list of numbers: numpy would take null for NaN, true for 1.0 and "1" for 1.0."""
    return isinstance(value, list) and _NUMBERS.issuperset(map(type, value))


def packed(value: Any, i: int, upstream: str) -> bytes:
    """A list of numbers as float32 bytes.

    :raises UpstreamFailure: INVALID
    """
    if not is_numbers(value):
        invalid(upstream, f"vector {i} is not a list of numbers")
    return vector.pack(value)


def whole(value: Any, most: int = MOST_TOKENS) -> int | None:
    """0 to `most`; a float that is whole (4.0) counts, true does not."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= most else None


def amount(value: Any) -> int | None:
    """USD in pico-dollars; None for what is no amount that a batch can cost."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if type(value) not in _NUMBERS or not 0 <= value <= MOST_USD:
        return None
    return from_usd(value)


def answer_limit(count: int, dimensions: int) -> int:
    """Bytes that no honest answer exceeds: 64 to a number leave room for indented float64."""
    return 65_536 + count * (1024 + dimensions * 64)


def invalid(upstream: str, what: str) -> NoReturn:
    raise UpstreamFailure(Kind.INVALID, f"{upstream} gave an answer that cannot be used: {what}")
