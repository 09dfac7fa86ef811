"""The bodies that the OpenAPI description speaks of."""

from __future__ import annotations

from typing import Any

from embedonce.core.catalog import BUILT_IN, GEMINI_EMBEDDING_2
from embedonce.core.tasks import TaskType
from embedonce.dialects.fields import MAX_TITLE_CHARS
from embedonce.dialects.google.request import MAX_REQUESTS, UNSPECIFIED
from embedonce.dialects.openai.request import MAX_INPUT_TYPE_CHARS, MAX_INPUTS, MEDIA_PARTS
from embedonce.dialects.segmind.request import DEFAULT_DIMENSIONS, DEFAULT_TASK

INTEGER = {"type": "integer"}
STRING = {"type": "string"}
TEXT = {"type": "string", "minLength": 1}
OBJECT = {"type": "object"}
NUMBERS = {"type": "array", "items": {"type": "number"}}
TITLE = {"type": "string", "maxLength": MAX_TITLE_CHARS}
MEDIA = {
    "type": "string",
    "minLength": 1,
    "description": "An https URL, a data URL, or base64 in either alphabet.",
}
CACHE = {"type": "object", "description": "LiteLLM's cache controls."}
TASKS = [task.value for task in TaskType]

_SIZES = GEMINI_EMBEDDING_2.dimensions
DIMENSIONS = {
    "type": "integer",
    "description": f"{_SIZES.smallest} to {_SIZES.largest} for Gemini Embedding 2.",
}


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def schemas() -> dict[str, Any]:
    return {**_openai(), **_models(), **_segmind(), **_google(), **_system()}


def _openai() -> dict[str, Any]:
    parts = [_object({"type": {"const": "text"}, "text": TEXT}, ["type", "text"])]
    for kind, (names, _) in MEDIA_PARTS.items():
        media = _object(dict.fromkeys(names, MEDIA), [])
        parts.append(_object({"type": {"const": kind}, kind: media}, ["type", kind]))
    content = _object({"content": {**_list({"oneOf": parts}), "minItems": 1}}, ["content"])
    inputs = {**_list({"anyOf": [TEXT, content]}), "minItems": 1, "maxItems": MAX_INPUTS}
    return {
        "EmbeddingsRequest": _object(
            {
                "model": {"type": "string", "examples": [m.id for m in BUILT_IN]},
                "input": {"anyOf": [TEXT, inputs]},
                "dimensions": DIMENSIONS,
                "encoding_format": {"enum": ["float", "base64"], "default": "float"},
                "task_type": {"enum": TASKS},
                "title": TITLE,
                "input_type": {"type": "string", "maxLength": MAX_INPUT_TYPE_CHARS},
                "user": STRING,
                "provider": OBJECT,
                "cache": CACHE,
            },
            ["model", "input"],
        ),
        "EmbeddingsResponse": _object(
            {
                "object": {"const": "list"},
                "data": _list(ref("Embedding")),
                "model": STRING,
                "id": STRING,
                "usage": ref("Usage"),
            }
        ),
        "Usage": _object(
            {
                "prompt_tokens": INTEGER,
                "total_tokens": INTEGER,
                "cost": {"type": "number", "description": "USD"},
                "prompt_tokens_details": OBJECT,
            }
        ),
        "Embedding": _object(
            {
                "object": {"const": "embedding"},
                "index": INTEGER,
                "embedding": {
                    "anyOf": [NUMBERS, {"type": "string", "contentEncoding": "base64"}],
                    "description": "Numbers, or base64 of little-endian float32.",
                },
            }
        ),
        "Error": _error(
            {
                "code": INTEGER,
                "message": STRING,
                "type": STRING,
                "param": STRING,
                "metadata": _object({"reason": STRING}),
            },
            ["code", "message", "type"],
        ),
    }


def _models() -> dict[str, Any]:
    return {
        "Model": _object(
            {"id": STRING, "object": {"const": "model"}, "created": INTEGER, "owned_by": STRING}
        ),
        "ModelList": _object({"object": {"const": "list"}, "data": _list(ref("Model"))}),
        "OpenRouterModels": _object({"data": _list(OBJECT), "total_count": INTEGER, "links": OBJECT}),
        "GoogleModel": _object(
            {
                "name": STRING,
                "baseModelId": STRING,
                "version": STRING,
                "displayName": STRING,
                "description": STRING,
                "inputTokenLimit": INTEGER,
                "outputTokenLimit": INTEGER,
                "supportedGenerationMethods": _list(STRING),
            }
        ),
        "GoogleModels": _object({"models": _list(ref("GoogleModel")), "nextPageToken": STRING}, ["models"]),
    }


def _segmind() -> dict[str, Any]:
    images = {**_list(MEDIA), "maxItems": GEMINI_EMBEDDING_2.limits.images}
    return {
        "SegmindRequest": _object(
            {
                "input": {"type": "string", "description": "Required where no media are given."},
                "text": {"type": "string", "description": "The same as `input`."},
                "image": MEDIA,
                "images": images,
                "audio": MEDIA,
                "video": MEDIA,
                "pdf": MEDIA,
                "task_type": {"enum": TASKS, "default": DEFAULT_TASK.value},
                "title": TITLE,
                "output_dimensionality": {**DIMENSIONS, "default": DEFAULT_DIMENSIONS},
                "cache": CACHE,
            },
            [],
        ),
        "SegmindResponse": _object(
            {"embedding": NUMBERS, "dimensions": INTEGER, "model": STRING, "usage": ref("Usage")}
        ),
        "SegmindError": _object({"error": STRING}),
    }


def _google() -> dict[str, Any]:
    settings = {
        "taskType": {"enum": [UNSPECIFIED, *TASKS]},
        "title": TITLE,
        "outputDimensionality": DIMENSIONS,
    }
    blob = _object({"mimeType": STRING, "data": {"type": "string", "contentEncoding": "base64"}}, ["data"])
    file = _object({"mimeType": STRING, "fileUri": {"type": "string", "format": "uri"}}, ["fileUri"])
    part = [
        _object({name: kind}) for name, kind in (("text", TEXT), ("inlineData", blob), ("fileData", file))
    ]
    request = {
        "content": ref("GoogleContent"),
        **settings,
        "embedContentConfig": _object(settings, []),
        "model": STRING,
    }
    counted = _list(_object({"modality": STRING, "tokenCount": INTEGER}))
    usage = {"promptTokenCount": INTEGER, "promptTokenDetails": counted, "promptTokensDetails": counted}
    values = _object({"values": NUMBERS})
    requests = {**_list(ref("EmbedContentRequest")), "minItems": 1, "maxItems": MAX_REQUESTS}
    return {
        "GoogleContent": _object(
            {"parts": {**_list({"oneOf": part}), "minItems": 1}, "role": STRING}, ["parts"]
        ),
        "EmbedContentRequest": _object(request, ["content"]),
        "BatchEmbedContentsRequest": _object({"requests": requests}),
        "EmbedContentResponse": _object({"embedding": values, "usageMetadata": ref("UsageMetadata")}),
        "BatchEmbedContentsResponse": _object(
            {"embeddings": _list(values), "usageMetadata": ref("UsageMetadata")}
        ),
        "UsageMetadata": _object(usage, ["promptTokenCount"]),
        "GoogleError": _error(
            {"code": INTEGER, "message": STRING, "status": STRING, "details": _list(OBJECT)}
        ),
    }


def _system() -> dict[str, Any]:
    return {"Health": _object({"status": {"const": "ok"}, "version": STRING}), "Anything": OBJECT}


def _error(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return _object({"error": _object(properties, required)})


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    """`required` None: all of them."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
    }
