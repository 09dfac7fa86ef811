"""The OpenAPI description, written from the same constants that the code checks by.

`embedonce openapi --write` makes `embedonce/openapi.json`, which is what is served; tests hold the file
against this module, and this module against the route table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

import embedonce
from embedonce.core.catalog import BUILT_IN, GEMINI_EMBEDDING_2
from embedonce.core.tasks import TaskType
from embedonce.dialects.openai.request import MAX_INPUT_TYPE_CHARS, MAX_INPUTS, MAX_TITLE_CHARS

FILE = Path(embedonce.__file__).parent / "openapi.json"

ERRORS = {
    "400": "The request cannot be embedded as it stands; nothing was paid.",
    "401": "No API key, or one that is not valid.",
    "403": "The API key lacks the scope.",
    "404": "Unknown model.",
    "413": "The body, or the answer it asks for, is too large.",
    "429": "The provider's rate limit; Retry-After says when to come again.",
    "502": "The provider answered with something that cannot be used.",
    "503": "The provider or a store cannot be reached; Retry-After says when to come again.",
    "504": "No answer in time, or `only-if-cached` and not in the cache.",
}

RESPONSE_HEADERS = {
    "Cache-Status": "RFC 9211: `embedonce; hit`, or `fwd=miss; stored`, with counts in `detail`.",
    "X-Cache": "HIT, MISS or PARTIAL.",
    "X-Cost-USD": "What this request cost at the provider.",
    "X-Cost-Saved-USD": "What the cached part cost when it was bought.",
    "X-Request-Id": "Names this request in the logs.",
    "X-Embedonce-Upstream": "Whose vectors these are.",
}


def document() -> dict[str, Any]:
    embeddings = _embeddings()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "embedonce",
            "version": embedonce.__version__,
            "description": "A shared cache in front of paid multimodal embedding APIs. "
            "Compatible with OpenAI's and OpenRouter's embeddings endpoints.",
        },
        "security": [{"bearer": []}, {"apiKey": []}],
        "paths": {
            "/v1/embeddings": {"post": embeddings},
            "/api/v1/embeddings": {"post": embeddings},
            "/v1/models": {"get": _get("List the models", "ModelList")},
            "/v1/models/{model}": {"get": _get("One model", "Model", [_path_parameter("model")])},
            "/api/v1/embeddings/models": {
                "get": _get(
                    "List the models as OpenRouter does",
                    "OpenRouterModels",
                    [_query_parameter("offset"), _query_parameter("limit")],
                )
            },
            "/health": {"get": {**_get("Whether the server serves", "Health"), "security": []}},
            "/openapi.json": {"get": {**_get("This description", "Anything"), "security": []}},
        },
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": _schemas(),
        },
    }


def text() -> str:
    return orjson.dumps(document(), option=orjson.OPT_INDENT_2).decode() + "\n"


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _errors(*codes: str) -> dict[str, Any]:
    return {c: {"description": ERRORS[c], "content": _json(_ref("Error"))} for c in codes or ERRORS}


def _embeddings() -> dict[str, Any]:
    headers = {
        name: {"description": meaning, "schema": {"type": "string"}}
        for name, meaning in RESPONSE_HEADERS.items()
    }
    return {
        "summary": "Embed texts, one vector for each element of `input`",
        "requestBody": {"required": True, "content": _json(_ref("EmbeddingsRequest"))},
        "responses": {
            "200": {
                "description": "The vectors, in the order of the input.",
                "headers": headers,
                "content": _json(_ref("EmbeddingsResponse")),
            },
            **_errors(),
        },
    }


def _get(summary: str, schema: str, parameters: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": {"description": summary, "content": _json(_ref(schema))}, **_errors("401")},
    }
    return {**operation, "parameters": parameters} if parameters else operation


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": "integer", "minimum": 0}}


def _schemas() -> dict[str, Any]:
    text_field = {"type": "string", "minLength": 1}
    part = _object({"type": {"const": "text"}, "text": text_field}, ["type", "text"])
    content = _object({"content": {"type": "array", "minItems": 1, "items": part}}, ["content"])
    element = {"anyOf": [text_field, content]}
    inputs = {"type": "array", "minItems": 1, "maxItems": MAX_INPUTS, "items": element}
    dimensions = GEMINI_EMBEDDING_2.dimensions
    integer = {"type": "integer"}
    string = {"type": "string"}
    return {
        "EmbeddingsRequest": _object(
            {
                "model": {"type": "string", "examples": [m.id for m in BUILT_IN]},
                "input": {"anyOf": [text_field, inputs]},
                "dimensions": {
                    "type": "integer",
                    "description": f"{dimensions.smallest} to {dimensions.largest} for Gemini Embedding 2.",
                },
                "encoding_format": {"enum": ["float", "base64"], "default": "float"},
                "task_type": {"enum": [task.value for task in TaskType]},
                "title": {"type": "string", "maxLength": MAX_TITLE_CHARS},
                "input_type": {"type": "string", "maxLength": MAX_INPUT_TYPE_CHARS},
                "user": string,
                "provider": {"type": "object"},
                "cache": {"type": "object", "description": "LiteLLM's cache controls."},
            },
            ["model", "input"],
        ),
        "EmbeddingsResponse": _object(
            {
                "object": {"const": "list"},
                "data": {"type": "array", "items": _ref("Embedding")},
                "model": string,
                "id": string,
                "usage": _object(
                    {
                        "prompt_tokens": integer,
                        "total_tokens": integer,
                        "cost": {"type": "number"},
                        "prompt_tokens_details": {"type": "object"},
                    },
                    ["prompt_tokens", "total_tokens", "cost"],
                ),
            },
            ["object", "data", "model", "id", "usage"],
        ),
        "Embedding": _object(
            {
                "object": {"const": "embedding"},
                "index": integer,
                "embedding": {
                    "anyOf": [
                        {"type": "array", "items": {"type": "number"}},
                        {"type": "string", "contentEncoding": "base64"},
                    ],
                    "description": "Numbers, or base64 of little-endian float32.",
                },
            },
            ["object", "index", "embedding"],
        ),
        "Error": _object(
            {
                "error": _object(
                    {
                        "code": integer,
                        "message": string,
                        "type": string,
                        "param": string,
                        "metadata": _object({"reason": string}, ["reason"]),
                    },
                    ["code", "message", "type"],
                )
            },
            ["error"],
        ),
        "Model": _object(
            {"id": string, "object": {"const": "model"}, "created": integer, "owned_by": string},
            ["id", "object", "created", "owned_by"],
        ),
        "ModelList": _object(
            {"object": {"const": "list"}, "data": {"type": "array", "items": _ref("Model")}},
            ["object", "data"],
        ),
        "OpenRouterModels": _object(
            {
                "data": {"type": "array", "items": {"type": "object"}},
                "total_count": integer,
                "links": {"type": "object"},
            },
            ["data", "total_count", "links"],
        ),
        "Health": _object({"status": {"const": "ok"}, "version": string}, ["status", "version"]),
        "Anything": {"type": "object"},
    }


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}
