"""Submit + poll with the real client against a real server process and a fake Segmind on loopback."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import segmind
from standardwebhooks import Webhook

from embedonce.core import vector
from fakes.segmind import FakeSegmind
from support import media
from support.process import ServerProcess, server
from support.receiver import Receiver

MODEL = "gemini-embedding-2"
MEDIA = {
    "text": {"input": "Segmind provides fast APIs"},
    "image": {"image": media.png(shade=9)},
    "audio": {"audio": media.mp3()},
    "video": {"video": media.mp4(2)},
    "pdf": {"pdf": media.pdf()},
}


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeSegmind]:
    with FakeSegmind() as fake:
        yield fake


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, fake: FakeSegmind) -> Iterator[ServerProcess]:
    with server(tmp_path_factory.mktemp("jobs") / "data", **settings(fake)) as running:
        yield running


def settings(fake: FakeSegmind, timeout: int = 12) -> dict[str, str]:
    urls = {"SEGMIND_API_KEY": fake.key, "SEGMIND_BASE_URL": fake.base_url}
    return urls | {"EMBEDONCE_JOB_UPSTREAM_TIMEOUT": f"{timeout}"}


@pytest.fixture
def client(running: ServerProcess, fake: FakeSegmind) -> Iterator[segmind.SegmindClient]:
    fake.reset()
    fake.job_polls = (0, 0)
    client = segmind.SegmindClient(api_key=running.key, base_url=f"{running.url}/v1")
    yield client
    client._client.close()


def body(kind: str) -> dict[str, Any]:
    return {
        name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
        for name, value in MEDIA[kind].items()
    }


def sent(kind: str) -> list[str | bytes]:
    return list(MEDIA[kind].values())


def read(result: dict[str, Any]) -> bytes:
    return vector.pack(result["output"]["embedding"])


@pytest.mark.parametrize("kind", MEDIA)
def test_run(client: segmind.SegmindClient, fake: FakeSegmind, kind: str) -> None:
    first = client.run(MODEL, **body(kind))
    assert first["status"] == "COMPLETED"
    assert set(first["metrics"]) == {"inference_time", "queue_time", "total_time"}
    full = vector.cut(fake.vector_for(sent(kind), None), 768)
    assert read(first) == (full if kind != "text" else fake.vector_for(sent(kind), 768))
    assert fake.submissions.total() == 1
    again = client.submit_async(MODEL, **body(kind))
    assert again.status()["status"] == "COMPLETED", "at the first poll"
    assert read(again.result()) == read(first)
    assert fake.submissions.total() == 1


def test_a_failed_job_is_inference_failed(client: segmind.SegmindClient, fake: FakeSegmind) -> None:
    fake.next_job("fail:secret words of the provider")
    job = client.submit_async(MODEL, input="to be blocked")
    with pytest.raises(segmind.InferenceFailed) as failed:
        job.wait(timeout=30, interval=0.05)
    assert "segmind took the job and could not do it" in str(failed.value.detail)
    assert "secret" not in str(failed.value)
    assert job.result()["status"] == "FAILED"


def test_a_slow_job_is_inference_timeout_and_then_there(
    client: segmind.SegmindClient, fake: FakeSegmind
) -> None:
    fake.job_polls = (1, 0)
    job = client.submit_async(MODEL, input="a slow one")
    with pytest.raises(segmind.InferenceTimeout):
        job.wait(timeout=0.2, interval=0.05)
    assert job.wait(timeout=60, interval=0.1)["status"] == "COMPLETED"


def test_a_request_that_waits_joins_the_flight_of_one_that_was_submitted(
    client: segmind.SegmindClient, fake: FakeSegmind, running: ServerProcess
) -> None:
    clip = base64.b64encode(media.mp3(tone=7)).decode()
    jobs = [client.submit_async(MODEL, audio=clip) for _ in range(3)]
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key, max_retries=0) as oai:
        part = {"type": "input_audio", "input_audio": {"data": clip, "format": "mp3"}}
        answer = oai.embeddings.create(
            model=f"google/{MODEL}",
            input=[{"content": [part]}],  # type: ignore[list-item]
            dimensions=768,
            extra_body={"task_type": "RETRIEVAL_DOCUMENT"},
        )
    waited = vector.pack(answer.data[0].embedding)
    assert {read(job.wait(timeout=30, interval=0.05)) for job in jobs} == {waited}
    assert fake.submissions.total() == 1


def test_a_large_upload_is_put_submitted_and_fetched(
    client: segmind.SegmindClient, fake: FakeSegmind, running: ServerProcess
) -> None:
    """60 MB, more than any request may carry."""
    data = media.wav(150, rate=400_000)
    assert len(data) > 60_000_000 - 1
    headers = {"x-api-key": running.key}
    asked = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "content_type": "audio/wav"}
    leave = httpx.post(f"{running.url}/v2/uploads", json=asked, headers=headers).json()
    put = httpx.put(leave["upload_url"], content=data, headers=leave["headers"], timeout=60)
    assert put.status_code == 200
    result = client.submit_async(MODEL, audio=leave["handle"]).wait(timeout=60, interval=0.2)
    assert read(result) == vector.cut(fake.vector_for([data], None), 768)
    again = client.submit_async(MODEL, audio=leave["handle"])
    assert again.status()["status"] == "COMPLETED"
    assert fake.submissions.total() == 1


def test_a_signed_webhook_says_that_it_is_done(tmp_path: Path, fake: FakeSegmind) -> None:
    with Receiver() as receiver:
        allowed = {"EMBEDONCE_WEBHOOK_ORIGINS": receiver.origin}
        with server(tmp_path / "data", **settings(fake), **allowed) as running:
            headers = {"x-api-key": running.key}
            asked = {"input": "tell me when", "webhook_url": f"{receiver.origin}/hook"}
            accepted = httpx.post(f"{running.url}/v2/{MODEL}", json=asked, headers=headers).json()
            said, raw = receiver.next(timeout=30)
            secret = httpx.get(f"{running.url}/v2/webhooks/secret", headers=headers).json()["secret"]
    told = Webhook(secret).verify(raw, said)
    assert told["data"] == {"request_id": accepted["request_id"], "status": "COMPLETED"}


def kill_at_work(running: ServerProcess, fake: FakeSegmind) -> None:
    """As soon as something was handed to the provider."""
    end = time.monotonic() + 30
    while not fake.submissions and time.monotonic() < end:
        time.sleep(0.005)
    running.kill()


def test_what_was_accepted_survives_kill_9(tmp_path: Path, fake: FakeSegmind) -> None:
    fake.reset()
    fake.job_polls = (0, 0)
    texts = [f"survivor {n}" for n in range(12)]
    ids: list[str] = []
    with server(tmp_path / "data", **settings(fake, timeout=3)) as running:
        headers = {"x-api-key": running.key}
        killer = threading.Thread(target=kill_at_work, args=(running, fake))
        killer.start()
        try:
            for text in texts:
                answer = httpx.post(f"{running.url}/v2/{MODEL}", json={"input": text}, headers=headers)
                ids.append(answer.json()["request_id"])
        except httpx.HTTPError:
            pass
        killer.join()
    with server(tmp_path / "data", **settings(fake, timeout=3)) as running:
        client = segmind.SegmindClient(api_key=running.key, base_url=f"{running.url}/v1")
        outcomes = set()
        for request_id in ids:
            url = f"{running.url}/v2/requests/{request_id}"
            job = segmind.v2.AsyncJob(request_id, f"{url}/status", url, {}, client)
            outcomes.add(outcome(job))
        client._client.close()
    assert outcomes <= {"COMPLETED", "not known"}
    assert max(fake.submissions.values()) == 1


def outcome(job: segmind.v2.AsyncJob) -> str:
    try:
        return str(job.wait(timeout=300, interval=0.2)["status"])
    except segmind.InferenceFailed as failed:
        return "not known" if "not known whether" in str(failed.detail) else str(failed.detail)
