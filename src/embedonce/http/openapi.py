"""The OpenAPI description, written from the same constants that the code checks by.

`embedonce openapi --write` makes `embedonce/openapi.json`, which is what is served; tests hold the file
against this module, and this module against the route table.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

import embedonce
from embedonce.dialects.google.models import METHODS
from embedonce.dialects.google.routes import GEMINI, KEY_HEADER, KEY_QUERY, VERTEX
from embedonce.http.schemas import ref, schemas

FILE = Path(embedonce.__file__).parent / "openapi.json"

ERRORS = {
    "400": "The request cannot be embedded as it stands; nothing was paid.",
    "401": "No API key, or one that is not valid.",
    "403": "The API key lacks the scope.",
    "404": "Unknown model.",
    "413": "The body, or the answer it asks for, is too large.",
    "429": "The provider's rate limit; Retry-After says when to come again.",
    "500": "A fault of this gateway.",
    "502": "The provider answered with something that cannot be used.",
    "503": "The provider or a store cannot be reached; Retry-After says when to come again.",
    "504": "No answer in time, or `only-if-cached` and not in the cache.",
}
SEGMIND_ERRORS = {
    **{code: meaning for code, meaning in ERRORS.items() if code != "503"},
    "502": "The provider or a store cannot be reached, or what the provider answered cannot be used.",
}
GOOGLE_ERRORS = {
    **{code: meaning for code, meaning in ERRORS.items() if code not in ("401", "502")},
    "400": "INVALID_ARGUMENT: the request cannot be embedded as it stands, or the API key is not valid.",
    "503": "UNAVAILABLE: the provider or a store cannot be reached, or what the provider answered cannot be "
    "used.",
}

RESPONSE_HEADERS = {
    "Cache-Status": "RFC 9211: `embedonce; hit`, or `fwd=miss; stored`, with counts in `detail`.",
    "X-Cache": "HIT, MISS or PARTIAL.",
    "X-Cost-USD": "What this request cost at the provider.",
    "X-Cost-Saved-USD": "What the cached part cost when it was bought.",
    "X-Request-Id": "Names this request in the logs.",
    "X-Embedonce-Upstream": "Whose vectors these are.",
    "X-Embedonce-Made-Up": "Modalities whose vectors mean nothing (the offline upstream's).",
}
SEGMIND_HEADERS = {
    **RESPONSE_HEADERS,
    "X-Cost": "As X-Cost-USD.",
    "X-Generation-Time": "Seconds that the answer took.",
}

REFUSALS = {"Error": ERRORS, "SegmindError": SEGMIND_ERRORS, "GoogleError": GOOGLE_ERRORS}
"""By the schema of an error: what each status means there."""

_GOOGLE_SECURITY: list[dict[str, list[str]]] = [{"googleKey": []}, {"bearer": []}, {"googleKeyInUrl": []}]


def document() -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "embedonce",
            "version": embedonce.__version__,
            "description": "A shared cache in front of paid multimodal embedding APIs. Compatible with the "
            "embeddings endpoints of OpenAI, OpenRouter, Segmind (v1) and Google (Gemini and Vertex).",
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
                f"{schema}{code}": {"description": meaning, "content": _json(schema)}
                for schema, meanings in REFUSALS.items()
                for code, meaning in meanings.items()
            },
            "schemas": schemas(),
        },
    }


def text() -> str:
    return orjson.dumps(document(), option=orjson.OPT_INDENT_2).decode() + "\n"


def _openai() -> dict[str, Any]:
    embeddings = _post(
        "Embed texts and media, one vector for each element of `input`",
        "EmbeddingsRequest",
        "EmbeddingsResponse",
    )
    either = {"security": [{"bearer": []}, {"apiKey": []}, *_GOOGLE_SECURITY[::2]]}
    listed = _get(
        "List the models; as Google does where the key is given its way", "ModelList", "GoogleModels"
    )
    one = _get(
        "One model; as Google describes it where the key is given its way",
        "Model",
        "GoogleModel",
        parameters=[_path("model")],
    )
    pages = [_query("offset"), _query("limit")]
    return {
        "/v1/embeddings": {"post": embeddings},
        "/api/v1/embeddings": {"post": embeddings},
        "/v1/models": {"get": {**listed, **either}},
        "/v1/models/{model}": {"get": {**one, **either}},
        "/api/v1/embeddings/models": {
            "get": _get("List the models as OpenRouter does", "OpenRouterModels", parameters=pages)
        },
    }


def _segmind() -> dict[str, Any]:
    infer = _post(
        "Embed as Segmind does: text and media together are one vector",
        "SegmindRequest",
        "SegmindResponse",
        errors="SegmindError",
        headers=SEGMIND_HEADERS,
    )
    return {"/v1/{model}": {"post": {**infer, "parameters": [_path("model")]}}}


def _google() -> dict[str, Any]:
    errors = "GoogleError"
    said = {
        "embedContent": _post("One vector", "EmbedContentRequest", "EmbedContentResponse", errors=errors),
        "batchEmbedContents": _post(
            "A vector for each request",
            "BatchEmbedContentsRequest",
            "BatchEmbedContentsResponse",
            errors=errors,
        ),
    }
    paths: dict[str, Any] = {
        "/v1beta/models": {"get": _get("List the models", "GoogleModels", errors=errors)},
        "/v1beta/models/{model}": {
            "get": _get("One model", "GoogleModel", parameters=[_path("model")], errors=errors)
        },
    }
    for base in (*GEMINI, *VERTEX):
        names = [name for name in ("project", "location") if f"{{{name}}}" in base]
        parameters = [_path(name) for name in (*names, "model")]
        for method in METHODS:
            paths[f"{base}/models/{{model}}:{method}"] = {"post": {**said[method], "parameters": parameters}}
    for path in paths.values():
        for operation in path.values():
            operation["security"] = _GOOGLE_SECURITY
    return paths


def _system() -> dict[str, Any]:
    return {
        "/health": {"get": {**_get("Whether the server serves", "Health"), "security": []}},
        "/openapi.json": {"get": {**_get("This description", "Anything"), "security": []}},
    }


def _json(*names: str) -> dict[str, Any]:
    found = [ref(name) for name in names]
    return {"application/json": {"schema": found[0] if len(found) == 1 else {"oneOf": found}}}


def _errors(schema: str, codes: Iterable[str]) -> dict[str, Any]:
    return {code: {"$ref": f"#/components/responses/{schema}{code}"} for code in codes}


def _post(
    summary: str,
    request: str,
    response: str,
    *,
    errors: str = "Error",
    headers: dict[str, str] = RESPONSE_HEADERS,
) -> dict[str, Any]:
    described = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": _json(request)},
        "responses": {
            "200": {
                "description": "The vectors, in the order of the input.",
                "headers": described,
                "content": _json(response),
            },
            **_errors(errors, REFUSALS[errors]),
        },
    }


def _get(
    summary: str,
    *schema: str,
    parameters: list[dict[str, Any]] | None = None,
    errors: str = "Error",
) -> dict[str, Any]:
    refused = _errors(errors, ["401" if "401" in REFUSALS[errors] else "400"])
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": {"description": summary, "content": _json(*schema)}, **refused},
    }
    return {**operation, "parameters": parameters} if parameters else operation


def _path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query(name: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": "integer", "minimum": 0}}
