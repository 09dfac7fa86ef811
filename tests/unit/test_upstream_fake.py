"""The fake provider itself: what other tests lean on, and its life as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import pytest

from embedonce.core import vector
from fakes import google, segmind
from fakes.answers import decoded, vector_for
from fakes.behaviour import KINDS, Behaviour
from fakes.openrouter import KEY, FakeOpenRouter


def fetch(url: str, body: str | None = None, headers: dict[str, str] | None = None) -> Any:
    """By the standard library and past any proxy."""
    request = urllib.request.Request(url, None if body is None else body.encode(), headers or {})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as response:
        return json.loads(response.read())


def embed(origin: str, **body: Any) -> Any:
    asked = json.dumps({"model": "google/gemini-embedding-2", **body})
    return fetch(f"{origin}/api/v1/embeddings", asked, {"Authorization": f"Bearer {KEY}"})


def test_vectors_encode_all_that_changes_them() -> None:
    with FakeOpenRouter() as fake:
        texts = ["a", "b", ["a", "b"], "ab"]
        seen = {fake.vector_for(text) for text in texts} | {fake.vector_for("a", input_type="query")}
        assert len(seen) == 5
        assert fake.vector_for("a", 128) == vector.cut(fake.vector_for("a"), 128)
        answer = embed(fake.origin, input="a", dimensions=128)
        assert vector.pack(answer["data"][0]["embedding"]) == fake.vector_for("a", 128)
        assert answer["usage"] == {"prompt_tokens": 1, "total_tokens": 1, "cost": 0.2e-6}
        assert isinstance(
            embed(fake.origin, input="a", encoding_format="base64")["data"][0]["embedding"], str
        )


def test_it_counts_what_a_provider_would_bill() -> None:
    with FakeOpenRouter() as fake:
        fake.next("status:500", "zero")
        with pytest.raises(urllib.error.HTTPError) as refused:
            embed(fake.origin, input=["a"])
        refused.value.close()
        embed(fake.origin, input=["a", "b"])
        embed(fake.origin, input=["a"])
        assert (fake.calls, fake.inputs_billed, dict(fake.billed)) == (3, 3, {"a": 2, "b": 1})
        fake.reset()
        assert (fake.calls, fake.inputs_billed) == (0, 0)


def test_behaviours_are_parsed_and_checked() -> None:
    assert Behaviour.parse("status:503") == Behaviour("status", code=503)
    assert Behaviour.parse("delay:0.5") == Behaviour(delay=0.5)
    assert Behaviour.parse("other_model:x") == Behaviour("other_model", text="x")
    assert all(Behaviour.parse(kind).kind == kind for kind in KINDS)
    with pytest.raises(ValueError, match="no such behaviour"):
        Behaviour("shufle")


@pytest.mark.parametrize(
    ("name", "path", "header", "key", "body"),
    [
        (
            "google",
            "/v1/models/gemini-embedding-2:embedContent",
            "x-goog-api-key",
            google.KEY,
            {"content": {"parts": [{"text": "a"}]}},
        ),
        ("segmind", "/v1/gemini-embedding-2", "x-api-key", segmind.KEY, {"input": "a"}),
    ],
)
def test_the_others_as_processes(name: str, path: str, header: str, key: str, body: Any) -> None:
    command = [sys.executable, "-m", f"fakes.{name}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": ":".join(sys.path)}) as process:
        try:
            assert process.stdout is not None
            origin = f"http://127.0.0.1:{int(process.stdout.readline())}"
            headers = {header: key, "Content-Type": "application/json"}
            assert "embedding" in fetch(origin + path, json.dumps(body), headers)
            with pytest.raises(urllib.error.HTTPError) as refused:
                fetch(origin + path, json.dumps(body), {**headers, header: "wrong"})
            refused.value.close()
            assert fetch(f"{origin}/_calls")["billed"] == {"a": 1}
        finally:
            process.terminate()


def test_media_count_by_their_bytes() -> None:
    assert vector_for(b"a") != vector_for("a") != vector_for(["a", b"a"])
    assert decoded("data:image/png;base64,YQ==") == decoded("YQ==") == b"a"
    for wrong in (None, 1, "", "https://example.org/a.png", "data:text/plain,a", "YQ", "data:x;base64,"):
        assert decoded(wrong) is None


def test_as_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "fakes.openrouter", "--delay", "0.01"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": ":".join(sys.path)}) as process:
        try:
            assert process.stdout is not None
            origin = f"http://127.0.0.1:{int(process.stdout.readline())}"
            fetch(f"{origin}/_next", "other_model:x\nbase64")
            assert embed(origin, input=["a"])["model"] == "x"
            fetch(f"{origin}/_release", "")
            fetch(f"{origin}/_always", "ok")
            embed(origin, input=["a", "b"])
            counted = fetch(f"{origin}/_calls")
            assert (counted["calls"], counted["inputs_billed"]) == (2, 3)
            assert counted["billed"] == {"a": 2, "b": 1}
        finally:
            process.terminate()
