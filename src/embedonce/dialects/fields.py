"""Reading single fields of a JSON body: absent and null are the same, and every complaint names the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedonce.core.errors import InvalidRequest, LimitExceeded


def string(value: Any, param: str, longest: int) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidRequest(f"{param}: must be a string", param=param)
    if len(value) > longest:
        raise LimitExceeded(param, limit=f"{longest} characters", value=f"{len(value)} characters")
    return value


def integer(value: Any, param: str) -> int | None:
    """Whole numbers, also as 768.0 (JavaScript has no other kind)."""
    if value is None:
        return None
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole:
        raise InvalidRequest(f"{param}: must be a whole number", param=param)
    return int(value)


def boolean(value: Any, param: str) -> bool:
    """Only true and false: what asks for privacy must not be misread."""
    if value is None:
        return False
    if not isinstance(value, bool):
        raise InvalidRequest(f"{param}: must be true or false", param=param)
    return value


def mapping(value: Any, param: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"{param}: must be an object", param=param)
    return value
