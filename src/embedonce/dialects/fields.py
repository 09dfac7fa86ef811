"""Reading single fields of a JSON body: absent and null are the same, and every complaint names the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from embedonce.core.content import InlineMedia, Modality, RemoteMedia, Source, UploadedMedia
from embedonce.core.errors import InvalidRequest, LimitExceeded
from embedonce.core.tasks import TaskType
from embedonce.core.upload import SCHEME

MAX_TITLE_CHARS = 1024


def json_object(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise InvalidRequest(f"the body is not valid JSON in UTF-8 ({where})") from None
    if not isinstance(fields, dict):
        raise InvalidRequest("the body must be a JSON object")
    return fields


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


def task_type(value: Any, param: str) -> TaskType | None:
    name = string(value, param, 64)
    if not name:
        return None
    try:
        return TaskType(name)
    except ValueError:
        known = ", ".join(TaskType)
        raise InvalidRequest(f"{param}: must be one of {known}", param=param) from None


def media_source(value: Any, expected: Modality | None, param: str) -> Source:
    """A URL, an upload handle, a data URL or base64; which URLs may be fetched is for the guard to say."""
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{param}: must be an https URL, a data URL or base64", param=param)
    scheme = value[:8].lower()
    if scheme.startswith(("https://", "http://")):
        return RemoteMedia(value, expected, param)
    if value.startswith(SCHEME):
        return UploadedMedia(value, expected, param)
    return InlineMedia(value, expected, param)
