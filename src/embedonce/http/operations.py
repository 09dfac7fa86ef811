"""What the operations of the OpenAPI description have in common: parameters, headers, refusals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from embedonce.http.schemas import ref

ERRORS = {
    "400": "The request cannot be embedded as it stands; nothing was paid.",
    "401": "No API key, or one that is not valid.",
    "402": "The key's budget, or the deployment's daily cap, does not cover what is not in the cache.",
    "403": "The API key lacks the scope.",
    "404": "Unknown model.",
    "413": "The body, or the answer it asks for, is too large.",
    "429": "The API key's limit a minute, or the provider's; Retry-After says when to come again.",
    "500": "A fault of this gateway.",
    "502": "The provider answered with something that cannot be used.",
    "503": "The provider or a store cannot be reached; Retry-After says when to come again.",
    "504": "No answer in time, or `only-if-cached` and not in the cache. X-Embedonce-Request names what goes "
    "on and can be polled at /v2/requests/{id}.",
}
SEGMIND_ERRORS = {
    **{code: meaning for code, meaning in ERRORS.items() if code not in ("402", "503")},
    "406": ERRORS["402"],
    "502": "The provider or a store cannot be reached, or what the provider answered cannot be used.",
}
GOOGLE_ERRORS = {
    **{code: meaning for code, meaning in ERRORS.items() if code not in ("401", "402", "502")},
    "400": "INVALID_ARGUMENT: the request cannot be embedded as it stands, or the API key is not valid.",
    "429": f"RESOURCE_EXHAUSTED: {ERRORS['429']} Or: {ERRORS['402']}",
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


def json_of(*names: str) -> dict[str, Any]:
    found = [ref(name) for name in names]
    return {"application/json": {"schema": found[0] if len(found) == 1 else {"oneOf": found}}}


def refusals(schema: str, codes: Iterable[str]) -> dict[str, Any]:
    return {code: {"$ref": f"#/components/responses/{schema}{code}"} for code in codes}


def post(
    summary: str,
    request: str,
    response: str,
    *,
    errors: str = "Error",
    headers: Iterable[str] = RESPONSE_HEADERS,
    answer: str = "The vectors, in the order of the input.",
) -> dict[str, Any]:
    described = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": json_of(request)},
        "responses": {
            "200": {
                "description": answer,
                "headers": described,
                "content": json_of(response),
            },
            **refusals(errors, REFUSALS[errors]),
        },
    }


def get(
    summary: str,
    *schema: str,
    parameters: list[dict[str, Any]] | None = None,
    errors: str = "Error",
) -> dict[str, Any]:
    refused = refusals(errors, ["401" if "401" in REFUSALS[errors] else "400"])
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": {"description": summary, "content": json_of(*schema)}, **refused},
    }
    return {**operation, "parameters": parameters} if parameters else operation


def path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def query(name: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema or {"type": "integer", "minimum": 0}}
