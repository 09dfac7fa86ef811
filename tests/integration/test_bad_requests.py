"""Bad input: a clear error in the dialect's shape that names the field, and not one upstream call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from fakes.openrouter import FakeOpenRouter
from support.gateway import MODEL, TestGateway, gateway


def check_shape(error: Any, status: int) -> None:
    assert error["code"] == status
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    assert "invalid_request_error" not in str(error) or status < 500


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"input": ""}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": None}, 400, "input"),
        ({"input": 5}, 400, "input"),
        ({"input": {"text": "x"}}, 400, "input"),
        ({"input": ["a", ""]}, 400, "input[1]"),
        ({"input": ["a", None]}, 400, "input[1]"),
        ({"input": ["a", 5]}, 400, "input[1]"),
        ({"input": ["a", ["b"]]}, 400, "input[1]"),
        ({"input": [{"content": []}]}, 400, "input[0].content"),
        ({"input": [{"content": "x"}]}, 400, "input[0]"),
        ({"input": [{"content": [{"type": "text"}]}]}, 400, "input[0].content[0]"),
        ({"input": [{"content": [{"type": "text", "text": ""}]}]}, 400, "input[0].content[0].text"),
        ({"input": [{"content": ["x"]}]}, 400, "input[0].content[0]"),
        ({"input": ["x"] * 2049}, 400, "input"),
        ({"input": "x" * 65_537}, 400, "input"),
        ({"model": None}, 400, "model"),
        ({"model": ""}, 400, "model"),
        ({"model": 3}, 400, "model"),
        ({"model": "openai/gpt-5"}, 404, "model"),
        ({"dimensions": 0}, 400, "dimensions"),
        ({"dimensions": 64}, 400, "dimensions"),
        ({"dimensions": 4000}, 400, "dimensions"),
        ({"dimensions": "768"}, 400, "dimensions"),
        ({"dimensions": 768.5}, 400, "dimensions"),
        ({"dimensions": True}, 400, "dimensions"),
        ({"encoding_format": "int8"}, 400, "encoding_format"),
        ({"encoding_format": ["float"]}, 400, "encoding_format"),
        ({"task_type": "SEARCH"}, 400, "task_type"),
        ({"input_type": 5}, 400, "input_type"),
        ({"input_type": "x" * 129}, 400, "input_type"),
        ({"provider": "google"}, 400, "provider"),
        ({"trace": {"x": "y" * 20_000}}, 400, "trace"),
        ({"cache": "no"}, 400, "cache"),
        ({"cache": {"ttl": "soon"}}, 400, "cache.ttl"),
        ({"cache": {"no-store": 1}}, 400, "cache.no-store"),
        ({"cache": {"no-cache": "true"}}, 400, "cache.no-cache"),
        ({"cache": {"namespace": 5}}, 400, "cache.namespace"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_field_is_named(
    gate: TestGateway, fake: FakeOpenRouter, fields: dict[str, Any], status: int, param: str
) -> None:
    answer = gate.request("POST", "/v1/embeddings", orjson.dumps({"model": MODEL, "input": "x", **fields}))
    assert answer.status == status
    check_shape(answer.error, status)
    assert answer.error["param"] == param
    assert param in answer.error["message"]
    assert fake.calls == 0


@pytest.mark.parametrize("ids", [[1, 2, 3], [[1, 2], [3]], [1.0, 2.0], [[1.0]]], ids=str)
def test_token_ids_name_the_setting_to_change(gate: TestGateway, fake: FakeOpenRouter, ids: Any) -> None:
    answer = gate.embed(ids)
    assert answer.status == 400
    assert "check_embedding_ctx_length=False" in answer.error["message"]
    assert fake.calls == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b'{"model": "m", "input": "\xff"}',
        b'{"input": "\\ud800", "model": "google/gemini-embedding-2"}',
        b'{"input": NaN}',
        b"[" * 100_000,
        b'{"input": "x", "model": "google/gemini-embedding-2", "provider": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"input": ' + b"[" * 900 + b"]" * 900 + b', "model": "google/gemini-embedding-2"}',
        b'{"input": "x", "model": "google/gemini-embedding-2", "provider": {"a":'
        + b"[" * 500
        + b"]" * 500
        + b"}}",
        b'{"input": "x", "model": "google/gemini-embedding-2", "dimensions": 1e999}',
        b'{"input": "x", "model": "google/gemini-embedding-2", "dimensions": 99999999999999999999999}',
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)
def test_a_body_that_is_no_request(gate: TestGateway, fake: FakeOpenRouter, body: bytes) -> None:
    answer = gate.request("POST", "/v1/embeddings", body)
    assert answer.status == 400
    check_shape(answer.error, 400)
    assert fake.calls == 0


@pytest.mark.parametrize(
    ("encoding", "dimensions", "over"), [("float", 3072, 112), ("base64", 3072, 400), ("float", 768, 600)]
)
def test_an_answer_that_would_not_fit_is_refused_before_paying(
    gate: TestGateway, fake: FakeOpenRouter, encoding: str, dimensions: int, over: int
) -> None:
    texts = [f"text {i}" for i in range(over)]
    answer = gate.embed(texts, encoding_format=encoding, dimensions=dimensions)
    assert answer.status == 413
    check_shape(answer.error, 413)
    message = answer.error["message"]
    assert f"encoding_format={encoding}" in message
    assert f"{dimensions} dimensions" in message
    assert fake.calls == 0
    fits = int(message.partition("at most ")[2].split()[0])
    accepted = gate.embed(texts[:fits], encoding_format=encoding, dimensions=dimensions)
    assert accepted.status == 200
    assert len(accepted.response.body) < 5_500_000


def test_the_local_limit_can_be_lifted(tmp_path: Path, fake: FakeOpenRouter) -> None:
    with gateway(tmp_path, fake, limits="local") as gate:
        assert gate.embed([f"text {i}" for i in range(150)]).status == 200


def test_unknown_routes_and_methods(gate: TestGateway) -> None:
    missing = gate.request("GET", "/v1/chat/completions")
    assert missing.status == 404
    check_shape(missing.error, 404)
    wrong = gate.request("GET", "/v1/embeddings")
    assert wrong.status == 405
    assert "POST" in wrong.error["message"]
    assert gate.request("DELETE", "/v1/models/google/gemini-embedding-2").status == 405


def test_models(gate: TestGateway) -> None:
    short = gate.request("GET", "/v1/models").body
    assert short["object"] == "list"
    assert {m["id"] for m in short["data"]} == {MODEL, f"{MODEL}-preview"}
    assert gate.request("GET", f"/v1/models/{MODEL}").body["id"] == MODEL
    assert gate.request("GET", "/v1/models/nope").status == 404
    page = gate.request("GET", "/api/v1/embeddings/models?offset=1&limit=1").body
    assert page["total_count"] == 2
    assert page["links"]["next"] is None
    assert gate.request("GET", "/api/v1/embeddings/models?limit=1").body["links"]["next"]
    needed = "id canonical_slug name created context_length architecture pricing top_provider "
    needed += "per_request_limits supported_parameters default_parameters links supported_voices"
    assert set(needed.split()) <= page["data"][0].keys()
    assert gate.request("GET", "/api/v1/embeddings/models?limit=x").status == 400


def test_health_and_openapi_need_no_key(gate: TestGateway) -> None:
    nobody = {"authorization": ""}
    assert gate.request("GET", "/health", headers=nobody).body["status"] == "ok"
    described = gate.request("GET", "/openapi.json", headers=nobody)
    assert described.status == 200
    assert "/v1/embeddings" in described.body["paths"]
