"""The bodies that the OpenAPI description speaks of."""

from __future__ import annotations

from typing import Any

from embedonce.core.catalog import BUILT_IN, GEMINI_EMBEDDING_2
from embedonce.core.tasks import TaskType
from embedonce.dialects.fields import MAX_TITLE_CHARS
from embedonce.dialects.google.request import MAX_REQUESTS, UNSPECIFIED
from embedonce.dialects.openai.request import MAX_INPUT_TYPE_CHARS, MAX_INPUTS, MEDIA_PARTS
from embedonce.dialects.segmind.jobs import MAX_WEBHOOK_URL
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
    "description": "An https URL, a data URL, base64 in either alphabet, or the handle of an upload.",
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
    parts = [object_of({"type": {"const": "text"}, "text": TEXT}, ["type", "text"])]
    for kind, (names, _) in MEDIA_PARTS.items():
        media = object_of(dict.fromkeys(names, MEDIA), [])
        parts.append(object_of({"type": {"const": kind}, kind: media}, ["type", kind]))
    content = object_of({"content": {**list_of({"oneOf": parts}), "minItems": 1}}, ["content"])
    inputs = {**list_of({"anyOf": [TEXT, content]}), "minItems": 1, "maxItems": MAX_INPUTS}
    return {
        "EmbeddingsRequest": object_of(
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
        "EmbeddingsResponse": object_of(
            {
                "object": {"const": "list"},
                "data": list_of(ref("Embedding")),
                "model": STRING,
                "id": STRING,
                "usage": ref("Usage"),
            }
        ),
        "Usage": object_of(
            {
                "prompt_tokens": INTEGER,
                "total_tokens": INTEGER,
                "cost": {"type": "number", "description": "USD"},
                "prompt_tokens_details": OBJECT,
            }
        ),
        "Embedding": object_of(
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
                "metadata": object_of({"reason": STRING}),
            },
            ["code", "message", "type"],
        ),
    }


def _models() -> dict[str, Any]:
    return {
        "Model": object_of(
            {"id": STRING, "object": {"const": "model"}, "created": INTEGER, "owned_by": STRING}
        ),
        "ModelList": object_of({"object": {"const": "list"}, "data": list_of(ref("Model"))}),
        "OpenRouterModels": object_of({"data": list_of(OBJECT), "total_count": INTEGER, "links": OBJECT}),
        "GoogleModel": object_of(
            {
                "name": STRING,
                "baseModelId": STRING,
                "version": STRING,
                "displayName": STRING,
                "description": STRING,
                "inputTokenLimit": INTEGER,
                "outputTokenLimit": INTEGER,
                "supportedGenerationMethods": list_of(STRING),
            }
        ),
        "GoogleModels": object_of(
            {"models": list_of(ref("GoogleModel")), "nextPageToken": STRING}, ["models"]
        ),
    }


def _segmind() -> dict[str, Any]:
    request = {
        "input": {"type": "string", "description": "Required where no media are given."},
        "text": {"type": "string", "description": "The same as `input`."},
        "image": MEDIA,
        "images": {**list_of(MEDIA), "maxItems": GEMINI_EMBEDDING_2.limits.images},
        "audio": MEDIA,
        "video": MEDIA,
        "pdf": MEDIA,
        "task_type": {"enum": TASKS, "default": DEFAULT_TASK.value},
        "title": TITLE,
        "output_dimensionality": {**DIMENSIONS, "default": DEFAULT_DIMENSIONS},
        "cache": CACHE,
    }
    webhook = {
        "type": "string",
        "format": "uri",
        "maxLength": MAX_WEBHOOK_URL,
        "description": "An https URL that is told id and status when it is over (Standard Webhooks).",
    }
    return {
        "SegmindRequest": object_of(request, []),
        "SegmindResponse": object_of(
            {"embedding": NUMBERS, "dimensions": INTEGER, "model": STRING, "usage": ref("Usage")}
        ),
        "SegmindError": object_of({"error": STRING}),
        "SegmindSubmission": object_of({**request, "webhook_url": webhook}, []),
    }


def _google() -> dict[str, Any]:
    settings = {
        "taskType": {"enum": [UNSPECIFIED, *TASKS]},
        "title": TITLE,
        "outputDimensionality": DIMENSIONS,
    }
    blob = object_of({"mimeType": STRING, "data": {"type": "string", "contentEncoding": "base64"}}, ["data"])
    file = object_of({"mimeType": STRING, "fileUri": {"type": "string", "format": "uri"}}, ["fileUri"])
    part = [
        object_of({name: kind}) for name, kind in (("text", TEXT), ("inlineData", blob), ("fileData", file))
    ]
    request = {
        "content": ref("GoogleContent"),
        **settings,
        "embedContentConfig": object_of(settings, []),
        "model": STRING,
    }
    counted = list_of(object_of({"modality": STRING, "tokenCount": INTEGER}))
    usage = {"promptTokenCount": INTEGER, "promptTokenDetails": counted, "promptTokensDetails": counted}
    values = object_of({"values": NUMBERS})
    requests = {**list_of(ref("EmbedContentRequest")), "minItems": 1, "maxItems": MAX_REQUESTS}
    return {
        "GoogleContent": object_of(
            {"parts": {**list_of({"oneOf": part}), "minItems": 1}, "role": STRING}, ["parts"]
        ),
        "EmbedContentRequest": object_of(request, ["content"]),
        "BatchEmbedContentsRequest": object_of({"requests": requests}),
        "EmbedContentResponse": object_of({"embedding": values, "usageMetadata": ref("UsageMetadata")}),
        "BatchEmbedContentsResponse": object_of(
            {"embeddings": list_of(values), "usageMetadata": ref("UsageMetadata")}
        ),
        "UsageMetadata": object_of(usage, ["promptTokenCount"]),
        "GoogleError": _error(
            {"code": INTEGER, "message": STRING, "status": STRING, "details": list_of(OBJECT)}
        ),
    }


def _system() -> dict[str, Any]:
    return {"Health": object_of({"status": {"const": "ok"}, "version": STRING}), "Anything": OBJECT}


def _error(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return object_of({"error": object_of(properties, required)})


def list_of(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def object_of(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    """`required` None: all of them."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
    }
