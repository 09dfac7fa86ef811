"""The fake provider itself: what other tests lean on, and its life as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from segmind import InferenceFailed, SegmindClient  # type: ignore[import-untyped]
from segmind.exceptions import SegmindError  # type: ignore[import-untyped]
from segmind.v2 import InferenceTimeout  # type: ignore[import-untyped]

from embedonce.core import vector
from fakes import google, segmind
from fakes.answers import decoded, vector_for
from fakes.behaviour import KINDS, Behaviour
from fakes.openrouter import KEY, FakeOpenRouter
from fakes.segmind import FakeSegmind
from fakes.segmind_jobs import JobScript

MODEL = "gemini-embedding-2"


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


@pytest.fixture
def client() -> Iterator[tuple[SegmindClient, FakeSegmind]]:
    """The real client, which follows the URLs it is given."""
    with FakeSegmind() as fake:
        fake.job_polls = (0, 0)
        client = SegmindClient(segmind.KEY, base_url=f"{fake.origin}/v1", timeout=5.0)
        yield client, fake
        client._client.close()


def test_the_real_client_runs_a_job(client: tuple[SegmindClient, FakeSegmind]) -> None:
    real, fake = client
    result = real.run(MODEL, input="a", output_dimensionality=256, timeout=5)
    assert (result["status"], result["metrics"]) == ("COMPLETED", {"inference_time": 0.1})
    assert vector.pack(result["output"]["embedding"]) == fake.vector_for("a", 256)
    assert (fake.submissions, fake.billed, len(fake.polled)) == ({"a": 1}, {"a": 1}, 2)


def test_the_real_client_waits(client: tuple[SegmindClient, FakeSegmind]) -> None:
    real, fake = client
    fake.job_polls = (2, 3)
    job = real.submit_async(MODEL, input="a")
    assert [job.status()["status"] for _ in range(3)] == ["QUEUED", "QUEUED", "PROCESSING"]
    assert job.result()["status"] == "PROCESSING"
    assert len(job.wait(interval=0.001)["output"]["embedding"]) == 768
    fake.job_polls, fake.job_seconds = (0, 0), 0.05
    assert real.submit_async(MODEL, input="b").wait(interval=0.01)["status"] == "COMPLETED"


def test_the_real_client_is_told_of_failures(client: tuple[SegmindClient, FakeSegmind]) -> None:
    real, fake = client
    fake.next_job("fail:blocked", "lost", "no_id", "stuck")
    with pytest.raises(InferenceFailed) as failed:
        real.run(MODEL, input="a")
    assert failed.value.detail == "blocked"
    with pytest.raises(SegmindError, match="404"):
        real.run(MODEL, input="a")
    with pytest.raises(SegmindError, match="missing request_id"):
        real.submit_async(MODEL, input="a")
    with pytest.raises(InferenceTimeout):
        real.submit_async(MODEL, input="a").wait(timeout=0.02, interval=0.01)
    fake.next("status:406")
    with pytest.raises(SegmindError, match="406"):
        real.submit_async(MODEL, input="a")
    assert (fake.calls, fake.submissions) == (5, {"a": 4})


def test_fates_of_jobs_are_parsed_and_checked(client: tuple[SegmindClient, FakeSegmind]) -> None:
    assert JobScript.parse("evil_urls:http://127.0.0.1:1") == JobScript("evil_urls", "http://127.0.0.1:1")
    fake = client[1]
    with pytest.raises(ValueError, match="no such fate"):
        fake.next_job("sutck")
    with pytest.raises(ValueError, match="no such control"):
        fake.control_jobs("pools:1")
    fake.next_job("stuck")
    fake.next_poll("html")
    fake.reset()
    assert fake.job_polls == (1, 1)
    fake.control_jobs("polls:0")
    assert client[0].run(MODEL, input="a")["status"] == "COMPLETED"


def test_media_by_link_only_if_told_so_and_only_on_loopback(
    client: tuple[SegmindClient, FakeSegmind],
) -> None:
    real, fake = client
    with FakeOpenRouter() as origin:
        link = f"{origin.origin}/_calls"
        medium = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(link).read()
        with pytest.raises(SegmindError, match="400"):
            real.submit_async(MODEL, video=link)
        fake.fetches = True
        output = real.run(MODEL, input="a", video=link, images=[link])["output"]["embedding"]
        assert vector.pack(output) == fake.vector_for(["a", medium, medium])
        assert fake.links == [link, link]
        for other in ("https://example.org/a.png", f"{origin.origin}/none"):
            with pytest.raises(SegmindError, match="400"):
                real.submit_async(MODEL, video=other)
    assert fake.submissions.total() == 1


def test_jobs_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "fakes.segmind"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": ":".join(sys.path)}) as process:
        try:
            assert process.stdout is not None
            origin = f"http://127.0.0.1:{int(process.stdout.readline())}"
            fetch(f"{origin}/_jobs", "polls:0,0 next:fail:why\npoll:html")
            real = SegmindClient(segmind.KEY, base_url=f"{origin}/v1")
            job = real.submit_async(MODEL, input="a")
            assert job.status() == {}
            assert job.status() == {**job.status(), "status": "FAILED", "error": "why"}
            assert real.run(MODEL, input="a")["status"] == "COMPLETED"
            fetch(f"{origin}/_next", "disconnect")
            with pytest.raises(httpx.RemoteProtocolError):
                real.submit_async(MODEL, input="b")
            counted = fetch(f"{origin}/_calls")
            assert counted["submissions"] == counted["billed"] == {"a": 2, "b": 1}
            assert (counted["calls"], counted["submitted"], counted["polls"]) == (3, 3, 5)
            assert sorted(counted["jobs"].values()) == ["fail", "ok", "ok"]
            real._client.close()
        finally:
            process.terminate()
