"""From an OpenAI or OpenRouter embeddings body to contents, options and cache controls.

Tolerant of what clients send (unknown keys are ignored, as the providers do), strict about what would be paid
for or stored: every error names the field, and costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from embedonce.core.catalog import Catalog, checked_dimensions
from embedonce.core.content import Draft, Modality, Source, TextPart, text_part
from embedonce.core.errors import InvalidRequest, LimitExceeded
from embedonce.core.options import EmbedOptions
from embedonce.dialects.fields import (
    MAX_TITLE_CHARS,
    integer,
    json_object,
    mapping,
    media_source,
    string,
    task_type,
)

MAX_INPUTS = 2048
"""As OpenAI's own endpoint."""
MAX_INPUT_TYPE_CHARS = 128
MAX_EXTRAS_BYTES = 16_384

TITLE_HEADERS = ("http-referer", "x-title", "x-openrouter-title", "x-openrouter-categories")

PROVIDER_KEYS_OUTSIDE_THE_KEY = frozenset(
    {
        "data_collection",
        "zdr",
        "max_price",
        "sort",
        "preferred_min_throughput",
        "preferred_max_latency",
    }
)
"""Of OpenRouter's `provider` object what says how, not where, a model is served. Everything else may pick
another provider, so it is part of the cache key."""

NOT_TEXT = (
    "input: token ids cannot be embedded, as this model has another tokenizer than the one that made them. "
    "Send the text itself; in langchain-openai set check_embedding_ctx_length=False"
)

MEDIA_PARTS: Mapping[str, tuple[tuple[str, ...], Modality | None]] = {
    "image_url": (("url",), Modality.IMAGE),
    "input_audio": (("data", "url"), Modality.AUDIO),
    "input_video": (("data", "url"), Modality.VIDEO),
    "input_file": (("data", "file_data", "url", "file_url"), None),
}
"""By the part's type: the fields that may hold the media (the first is the documented one), and what they
must be (a file may be anything). `file_data` and `file_url` are how OpenAI's other endpoints say it."""


@dataclass(frozen=True, slots=True)
class EmbeddingsBody:
    drafts: tuple[Draft, ...]
    options: EmbedOptions
    base64: bool
    cache: Mapping[str, Any]


def parse(body: bytes, headers: Mapping[str, str], catalog: Catalog) -> EmbeddingsBody:
    """:raises EmbedonceError: the body cannot be embedded as it stands"""
    fields = json_object(body)
    model = catalog.find(_required_string(fields, "model"))
    dimensions = checked_dimensions(model, integer(fields.get("dimensions"), "dimensions"))
    drafts = _drafts(fields)
    options = EmbedOptions(
        model=model,
        dimensions=dimensions,
        task_type=task_type(fields.get("task_type"), "task_type"),
        title=string(fields.get("title"), "title", MAX_TITLE_CHARS),
        parameters=_parameters(fields),
        passthrough=_passthrough(fields),
        headers={name: headers[name] for name in TITLE_HEADERS if headers.get(name)},
    )
    return EmbeddingsBody(
        drafts=drafts,
        options=options,
        base64=_encoding(fields.get("encoding_format")),
        cache=mapping(fields.get("cache"), "cache"),
    )


def _required_string(fields: Mapping[str, Any], name: str) -> str:
    value = string(fields.get(name), name, 256)
    if not value:
        raise InvalidRequest(f"{name}: required", param=name)
    return value


def _encoding(value: Any) -> bool:
    match value:
        case None | "float":
            return False
        case "base64":
            return True
        case _:
            raise InvalidRequest('encoding_format: must be "float" or "base64"', param="encoding_format")


def _parameters(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What may change the vector and so is part of the key."""
    parameters: dict[str, Any] = {}
    input_type = string(fields.get("input_type"), "input_type", MAX_INPUT_TYPE_CHARS)
    if input_type:
        parameters["input_type"] = input_type
    provider = _extras(fields, "provider")
    choosing = {k: v for k, v in provider.items() if k not in PROVIDER_KEYS_OUTSIDE_THE_KEY}
    if choosing:
        parameters["provider"] = choosing
    return parameters


def _passthrough(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What cannot change the vector and is sent on as it is."""
    passed: dict[str, Any] = {}
    for name in ("user", "session_id"):
        value = string(fields.get(name), name, 512)
        if value:
            passed[name] = value
    trace = _extras(fields, "trace")
    if trace:
        passed["trace"] = trace
    provider = _extras(fields, "provider")
    asking = {k: v for k, v in provider.items() if k in PROVIDER_KEYS_OUTSIDE_THE_KEY}
    if asking:
        passed["provider"] = asking
    return passed


def _extras(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = mapping(fields.get(name), name)
    try:
        size = len(orjson.dumps(value)) if value else 0
    except orjson.JSONEncodeError:
        raise InvalidRequest(f"{name}: nested too deeply", param=name) from None
    if size > MAX_EXTRAS_BYTES:
        raise LimitExceeded(name, limit=f"{MAX_EXTRAS_BYTES} bytes", value=f"{size} bytes")
    return value


def _drafts(fields: Mapping[str, Any]) -> tuple[Draft, ...]:
    value = fields.get("input")
    if isinstance(value, str):
        return (Draft((text_part(value, "input"),), "input"),)
    if value is None:
        raise InvalidRequest("input: required", param="input")
    if not isinstance(value, list):
        raise InvalidRequest("input: must be a string or a list", param="input")
    if not value:
        raise InvalidRequest("input: must not be an empty list", param="input")
    if _is_token_ids(value[0]):
        raise InvalidRequest(NOT_TEXT, param="input")
    if len(value) > MAX_INPUTS:
        raise LimitExceeded("input", limit=f"{MAX_INPUTS} inputs a request", value=str(len(value)))
    return tuple(_draft(element, f"input[{i}]") for i, element in enumerate(value))


def _is_token_ids(value: Any) -> bool:
    """A number, or a list that begins with one (some clients send the ids as floats)."""
    if isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, int | float) and not isinstance(value, bool)


def _draft(element: Any, param: str) -> Draft:
    if isinstance(element, str):
        return Draft((text_part(element, param),), param)
    if not isinstance(element, dict) or not isinstance(element.get("content"), list):
        raise InvalidRequest(f'{param}: must be a string or an object {{"content": [parts]}}', param=param)
    parts = element["content"]
    if not parts:
        raise InvalidRequest(f"{param}.content: must not be an empty list", param=f"{param}.content")
    return Draft(tuple(_part(part, f"{param}.content[{i}]") for i, part in enumerate(parts)), param)


def _part(part: Any, param: str) -> TextPart | Source:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return text_part(part["text"], f"{param}.text")
    if isinstance(kind, str) and kind in MEDIA_PARTS:
        return _media(part, kind, param)
    kinds = ", ".join(("text", *MEDIA_PARTS))
    raise InvalidRequest(f"{param}: must be an object whose type is one of {kinds}", param=param)


def _media(part: Mapping[str, Any], kind: str, param: str) -> Source:
    """In an object under the part's type, as a bare string there, or beside the type itself."""
    names, expected = MEDIA_PARTS[kind]
    holder, where = part.get(kind), f"{param}.{kind}"
    if isinstance(holder, str):
        return media_source(holder, expected, where)
    if holder is None and any(name in part for name in names):
        holder, where = part, param
    if not isinstance(holder, dict):
        raise InvalidRequest(f"{where}: must be an object with {names[0]}", param=where)
    name = next((name for name in names if holder.get(name)), names[0])
    return media_source(holder.get(name), expected, f"{where}.{name}")
