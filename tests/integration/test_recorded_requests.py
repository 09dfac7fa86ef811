"""Bodies as the current clients were seen to send them (2026-11-20), answered in the form they accept."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from support import media
from support.anymodal import AnyModal, vector_of
from support.gateway import TestGateway
from support.spoken import complaint, heard

PNG = media.png()
SAFE = base64.urlsafe_b64encode(PNG).decode()
PLAIN = base64.b64encode(PNG).decode()
CAP = ["cap", PNG]

GOOGLE_PYTHON = {"x-goog-api-key": "test-development-key", "x-goog-api-client": "google-genai-sdk/2.34.0"}
SEGMIND = {"x-api-key": "test-development-key", "x-initiator": "SDK-PY"}
OPENAI = {"authorization": "Bearer test-development-key", "x-stainless-lang": "python"}
MODELS = "/v1beta/models/gemini-embedding-2"


def google(content: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"content": content, **more, "model": "models/gemini-embedding-2"}


HELLO: dict[str, Any] = {"parts": [{"text": "hello"}], "role": "user"}

ANSWERED: list[tuple[dict[str, str], str, dict[str, Any], list[bytes]]] = [
    (
        GOOGLE_PYTHON,
        f"{MODELS}:batchEmbedContents",
        {"requests": [google(HELLO)]},
        [vector_of(["hello"])],
    ),
    (
        GOOGLE_PYTHON,
        f"{MODELS}:batchEmbedContents",
        {"requests": [google({"parts": [{"text": "a"}, {"text": "b"}], "role": "user"})], "foo": 1},
        [vector_of(["a", "b"])],
    ),
    (
        GOOGLE_PYTHON,
        "/v1beta/models/google/gemini-embedding-2:batchEmbedContents",
        {"requests": [{"content": HELLO, "model": "models/google/gemini-embedding-2"}]},
        [vector_of(["hello"])],
    ),
    (
        GOOGLE_PYTHON,
        f"{MODELS}:batchEmbedContents",
        {"requests": [google(HELLO, taskType="RETRIEVAL_DOCUMENT", title="T", outputDimensionality=768)]},
        [vector_of(["hello"], 768)],
    ),
    (
        GOOGLE_PYTHON,
        f"{MODELS}:batchEmbedContents",
        {
            "requests": [
                google({"parts": [{"text": "a"}]}),
                google({"parts": [{"text": "b"}], "role": "user"}),
            ]
        },
        [vector_of(["a"]), vector_of(["b"])],
    ),
    (
        GOOGLE_PYTHON,
        f"{MODELS}:batchEmbedContents",
        {
            "requests": [
                google(
                    {
                        "parts": [{"text": "cap"}, {"inline_data": {"data": SAFE, "mime_type": "image/png"}}],
                        "role": "user",
                    }
                ),
                google({"parts": [{"text": "two"}]}),
            ]
        },
        [vector_of(CAP), vector_of(["two"])],
    ),
    (
        GOOGLE_PYTHON,
        "/v1/models/gemini-embedding-2:batchEmbedContents",
        {"requests": [google(HELLO)]},
        [vector_of(["hello"])],
    ),
    (
        GOOGLE_PYTHON,
        "/v1beta1/publishers/google/models/gemini-embedding-2:embedContent",
        {
            "content": {
                "parts": [{"text": "cap"}, {"inlineData": {"data": SAFE, "mime_type": "image/png"}}],
                "role": "user",
            },
            "embedContentConfig": {"taskType": "RETRIEVAL_QUERY", "outputDimensionality": 768},
        },
        [vector_of(CAP, 768)],
    ),
    (
        {"x-goog-api-key": "test-development-key"},  # @google/genai 2.32.0
        f"{MODELS}:batchEmbedContents",
        {
            "requests": [
                google(
                    {
                        "role": "user",
                        "parts": [{"text": "cap"}, {"inlineData": {"mimeType": "image/png", "data": PLAIN}}],
                    },
                    taskType="RETRIEVAL_QUERY",
                    outputDimensionality=768,
                )
            ]
        },
        [vector_of(CAP, 768)],
    ),
    (
        SEGMIND,
        "/v1/gemini-embedding-2",
        {"text": "hello"},
        [vector_of(["title: none | text: hello"], 768)],
    ),
    (
        SEGMIND,
        "/v1/gemini-embedding-2",
        {"input": "hello", "image_urls": ["https://x/y.png"], "timeout": 5, "interval": 1.0},
        [vector_of(["title: none | text: hello"], 768)],
    ),
    (
        OPENAI,
        "/v1/embeddings",
        {"input": "hello", "model": "google/gemini-embedding-2", "encoding_format": "base64"},
        [vector_of(["hello"])],
    ),
    (
        OPENAI,
        "/v1/embeddings",
        {
            "input": ["a", "b"],
            "model": "google/gemini-embedding-2",
            "user": "u1",
            "dimensions": 768,
            "encoding_format": "base64",
        },
        [vector_of(["a"], 768), vector_of(["b"], 768)],
    ),
    (
        OPENAI,
        "/v1/embeddings",
        {
            "input": [
                {
                    "content": [
                        {"type": "text", "text": "cap"},
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PLAIN}"}},
                    ]
                }
            ],
            "model": "google/gemini-embedding-2",
            "encoding_format": "base64",
            "input_type": "search_query",
            "provider": {"order": ["google"]},
        },
        [vector_of(CAP)],
    ),
]


@pytest.mark.parametrize(("headers", "path", "body", "vectors"), ANSWERED)
def test_it_is_answered(
    anygate: TestGateway, headers: dict[str, str], path: str, body: dict[str, Any], vectors: list[bytes]
) -> None:
    only = {"authorization": "", "content-type": "application/json", **headers}
    first, again = (anygate.request("POST", path, orjson.dumps(body), only) for _ in range(2))
    assert first.status == again.status == 200
    assert heard(first) == heard(again) == vectors
    assert again.headers["X-Cache"] == "HIT"
    assert b"null" not in first.response.body


REFUSED: list[tuple[dict[str, str], str, dict[str, Any], int, str]] = [
    (SEGMIND, "/v1/g", {"text": "h"}, 404, "unknown model"),
    (
        SEGMIND,
        "/v1/gemini-embedding-2",
        {"input": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]},
        400,
        "input: must be a string",
    ),
    (GOOGLE_PYTHON, f"{MODELS}:countTokens", {"contents": [HELLO]}, 404, "embedContent"),
    (GOOGLE_PYTHON, f"{MODELS}:asyncBatchEmbedContent", {"batch": {}}, 404, "batchEmbedContents"),
    (
        GOOGLE_PYTHON,
        "/v1beta/models/gemini-embedding-001:batchEmbedContents",
        {"requests": [{"content": HELLO, "model": "models/gemini-embedding-001"}]},
        404,
        "unknown model",
    ),
    (
        GOOGLE_PYTHON,
        f"{MODELS}:batchEmbedContents",
        {
            "requests": [
                google({"parts": [{"inline_data": {"data": "iVBOR__-Pj8=", "mime_type": "image/png"}}]})
            ]
        },
        400,
        "requests[0].content.parts[0].inline_data.data",
    ),
    (GOOGLE_PYTHON, "/upload/v1beta/files", {"file": {"mime_type": "image/png"}}, 404, "no such route"),
    (OPENAI, "/v1/embeddings", {"input": [1, 2, 3], "model": "google/gemini-embedding-2"}, 400, "token ids"),
]


@pytest.mark.parametrize(("headers", "path", "body", "status", "why"), REFUSED)
def test_it_is_refused_in_the_clients_own_form(
    anygate: TestGateway,
    anymodal: AnyModal,
    headers: dict[str, str],
    path: str,
    body: dict[str, Any],
    status: int,
    why: str,
) -> None:
    answer = anygate.request("POST", path, orjson.dumps(body), {"authorization": "", **headers})
    assert answer.status == status
    assert why in complaint(answer)
    shape = str if headers is SEGMIND else dict
    assert isinstance(answer.error, shape)
    assert anymodal.calls == []
