"""The OpenAPI description, written from the same constants that the code checks by.

`embedonce openapi --write` makes `embedonce/openapi.json`, which is what is served; tests hold the file
against this module, and this module against the route table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

import embedonce
from embedonce.dialects.google.models import METHODS
from embedonce.dialects.google.routes import GEMINI, KEY_HEADER, KEY_QUERY, VERTEX
from embedonce.dialects.segmind.jobs import FAILED_STATUS
from embedonce.http.jobschemas import job_schemas
from embedonce.http.operations import (
    REFUSALS,
    SEGMIND_HEADERS,
    get,
    json_of,
    path,
    post,
    query,
    refusals,
)
from embedonce.http.schemas import schemas
from embedonce.http.usageschemas import usage_schemas

FILE = Path(embedonce.__file__).parent / "openapi.json"

_GOOGLE_SECURITY: list[dict[str, list[str]]] = [{"googleKey": []}, {"bearer": []}, {"googleKeyInUrl": []}]


def document() -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "embedonce",
            "version": embedonce.__version__,
            "description": "A shared cache in front of paid multimodal embedding APIs. Compatible with the "
            "embeddings endpoints of OpenAI, OpenRouter, Segmind (v1, v2) and Google (Gemini and Vertex).",
        },
        "security": [{"bearer": []}, {"apiKey": []}],
        "paths": {**_openai(), **_segmind(), **_google(), **_system()},
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "googleKey": {"type": "apiKey", "in": "header", "name": KEY_HEADER},
                "googleKeyInUrl": {"type": "apiKey", "in": "query", "name": KEY_QUERY},
            },
            "headers": {
                name: {"description": meaning, "schema": {"type": "string"}}
                for name, meaning in SEGMIND_HEADERS.items()
            },
            "responses": {
                f"{schema}{code}": {"description": meaning, "content": json_of(schema)}
                for schema, meanings in REFUSALS.items()
                for code, meaning in meanings.items()
            },
            "schemas": {**schemas(), **job_schemas(), **usage_schemas()},
        },
    }


def text() -> str:
    return orjson.dumps(document(), option=orjson.OPT_INDENT_2).decode() + "\n"


def _openai() -> dict[str, Any]:
    embeddings = post(
        "Embed texts and media, one vector for each element of `input`",
        "EmbeddingsRequest",
        "EmbeddingsResponse",
    )
    either = {"security": [{"bearer": []}, {"apiKey": []}, *_GOOGLE_SECURITY[::2]]}
    listed = get(
        "List the models; as Google does where the key is given its way", "ModelList", "GoogleModels"
    )
    one = get(
        "One model; as Google describes it where the key is given its way",
        "Model",
        "GoogleModel",
        parameters=[path("model")],
    )
    pages = [query("offset"), query("limit")]
    return {
        "/v1/embeddings": {"post": embeddings},
        "/api/v1/embeddings": {"post": embeddings},
        "/v1/models": {"get": {**listed, **either}},
        "/v1/models/{model}": {"get": {**one, **either}},
        "/api/v1/embeddings/models": {
            "get": get("List the models as OpenRouter does", "OpenRouterModels", parameters=pages)
        },
    }


def _segmind() -> dict[str, Any]:
    infer = post(
        "Embed as Segmind does: text and media together are one vector",
        "SegmindRequest",
        "SegmindResponse",
        errors="SegmindError",
        headers=SEGMIND_HEADERS,
    )
    submit = post(
        "Submit: the same body as on v1, embedded later",
        "SegmindSubmission",
        "SegmindSubmitted",
        errors="SegmindError",
        headers=["X-Request-Id"],
        answer="Accepted, with absolute URLs to poll; what is in the cache is completed at the first poll.",
    )
    secret = get("What webhooks to this key's URLs are signed with", "WebhookSecret", errors="SegmindError")
    return {
        "/v1/{model}": {"post": {**infer, "parameters": [path("model")]}},
        "/v2/{model}": {"post": {**submit, "parameters": [path("model")]}},
        "/v2/requests/{id}/status": {"get": _poll("How a request stands", "SegmindStatus")},
        "/v2/requests/{id}": {
            "get": _poll("The result; while there is none, how the request stands", "SegmindResult")
        },
        "/v2/uploads": {"post": _uploads()},
        "/v2/webhooks/secret": {"get": secret},
    }


def _poll(summary: str, *schema: str) -> dict[str, Any]:
    asked = get(summary, *schema, parameters=[path("id")], errors="SegmindError")
    refused = refusals("SegmindError", ["403", "404", "502"])
    failed = {"description": "The request has failed.", "content": json_of("SegmindFailed")}
    return {**asked, "responses": {**asked["responses"], str(FAILED_STATUS): failed, **refused}}


def _uploads() -> dict[str, Any]:
    return post(
        "Leave to put a file that is too large for a request, and a handle to name it by",
        "UploadRequest",
        "UploadAnswer",
        errors="SegmindError",
        headers=["X-Request-Id"],
        answer="Where to put the bytes, once, with exactly these headers.",
    )


def _google() -> dict[str, Any]:
    errors = "GoogleError"
    said = {
        "embedContent": post("One vector", "EmbedContentRequest", "EmbedContentResponse", errors=errors),
        "batchEmbedContents": post(
            "A vector for each request",
            "BatchEmbedContentsRequest",
            "BatchEmbedContentsResponse",
            errors=errors,
        ),
    }
    paths: dict[str, Any] = {
        "/v1beta/models": {"get": get("List the models", "GoogleModels", errors=errors)},
        "/v1beta/models/{model}": {
            "get": get("One model", "GoogleModel", parameters=[path("model")], errors=errors)
        },
    }
    for base in (*GEMINI, *VERTEX):
        names = [name for name in ("project", "location") if f"{{{name}}}" in base]
        parameters = [path(name) for name in (*names, "model")]
        for method in METHODS:
            paths[f"{base}/models/{{model}}:{method}"] = {"post": {**said[method], "parameters": parameters}}
    for item in paths.values():
        for operation in item.values():
            operation["security"] = _GOOGLE_SECURITY
    return paths


def _system() -> dict[str, Any]:
    day = {"type": "string", "format": "date"}
    used = get(
        "What was used, spent and saved",
        "Usage",
        parameters=[query("from", day), query("to", day), query("key", {"type": "string"})],
    )
    refused = refusals("Error", ["400", "403", "404", "503"])
    return {
        "/v1/usage": {"get": {**used, "responses": {**used["responses"], **refused}}},
        "/health": {"get": {**get("Whether the server serves", "Health"), "security": []}},
        "/openapi.json": {"get": {**get("This description", "Anything"), "security": []}},
    }
