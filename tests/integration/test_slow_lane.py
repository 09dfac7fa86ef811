"""Audio, video and PDF on routes whose callers wait: the same tickets and flights, and a wait that ends."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embedonce.core.errors import StoreUnavailable
from embedonce.core.ticket import Stage
from embedonce.core.upload import Upload
from fakes.segmind import FakeSegmind
from support import media
from support.gateway import Answer, TestGateway, gateway


@pytest.fixture
def fake() -> Iterator[FakeSegmind]:
    with FakeSegmind() as fake:
        fake.job_polls = (0, 0)
        yield fake


@pytest.fixture
def gate(tmp_path: Path, fake: FakeSegmind) -> Iterator[TestGateway]:
    with gateway(tmp_path, segmind_api_key=fake.key, segmind_base_url=fake.base_url) as gate:
        yield gate


def audio(tone: int = 0) -> list[dict[str, Any]]:
    data = base64.b64encode(media.mp3(tone=tone)).decode()
    return [{"content": [{"type": "input_audio", "input_audio": {"data": data, "format": "mp3"}}]}]


def status_of(gate: TestGateway, answer: Answer) -> Answer:
    (request_id,) = answer.headers["X-Embedonce-Request"].split(", ")
    return gate.request("GET", f"/v2/requests/{request_id}/status")


def test_it_is_submitted_once_and_waited_for(gate: TestGateway, fake: FakeSegmind) -> None:
    first = gate.embed(audio())
    assert (first.status, first.headers["X-Cache"]) == (200, "MISS")
    assert first.vectors == [fake.vector_for(media.mp3(), None)]
    again = gate.embed(audio(), dimensions=256)
    assert (again.status, again.headers["X-Cache"]) == (200, "HIT")
    assert (fake.submissions.total(), fake.calls) == (1, 1)


def test_past_the_deadline_it_is_a_504_with_the_id_and_the_retry_finds_the_result(
    gate: TestGateway, fake: FakeSegmind
) -> None:
    fake.job_seconds = 2.0
    late = gate.embed(audio(), seconds=1.6)
    assert late.status == 504
    assert int(late.headers["Retry-After"]) >= 1
    assert status_of(gate, late).body["status"] == "PROCESSING"
    assert gate.embed(audio(), seconds=15).status == 200
    assert status_of(gate, late).body["status"] == "COMPLETED"
    assert fake.submissions.total() == 1


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/gemini-embedding-2"])
def test_the_providers_failure_is_told_in_the_routes_own_words(
    gate: TestGateway, fake: FakeSegmind, path: str
) -> None:
    fake.always_job("fail:secret")
    clip = base64.b64encode(media.mp3(tone=3)).decode()
    if path == "/v1/embeddings":
        answer = gate.embed(audio(3))
        assert answer.error["code"] == 502
        assert "input[0]" in answer.error["message"]
    else:
        answer = gate.request("POST", path, b'{"audio": "' + clip.encode() + b'"}')
        assert "took the job" in answer.error
    assert answer.status == 502
    assert b"secret" not in answer.response.body
    assert answer.headers["x-should-retry"] == "false"


def test_many_waiters_and_submitters_are_one_flight(gate: TestGateway, fake: FakeSegmind) -> None:
    fake.job_seconds = 0.5
    clip = base64.b64encode(media.mp3(tone=5)).decode()
    answers: list[int] = []

    def wait() -> None:
        answers.append(gate.embed(audio(5), task_type="RETRIEVAL_DOCUMENT").status)

    threads = [threading.Thread(target=wait) for _ in range(8)]
    for thread in threads:
        thread.start()
        gate.request("POST", "/v2/gemini-embedding-2", b'{"audio": "' + clip.encode() + b'"}')
    for thread in threads:
        thread.join()
    assert answers == [200] * 8
    assert fake.submissions.total() == 1


def test_texts_of_the_same_request_do_not_wait_in_the_queue(gate: TestGateway, fake: FakeSegmind) -> None:
    answer = gate.embed(["a text", *audio(6)])
    assert answer.status == 200
    assert fake.submissions.total() == 1
    assert fake.calls == 2, "the text by v1, the sound by v2"


def test_without_a_queue_it_is_bought_as_long_as_the_caller_waits(
    gate: TestGateway, fake: FakeSegmind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("down")

    monkeypatch.setattr(gate.app.parts.stores.tickets, "swap", down)
    answer = gate.embed(audio(8))
    assert answer.status == 200
    assert (fake.submissions.total(), fake.calls) == (0, 1)


def test_a_lost_message_does_not_lose_the_request(
    gate: TestGateway, fake: FakeSegmind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("down")

    with monkeypatch.context() as patched:
        patched.setattr(gate.app.parts.stores.queues[Stage.WORK], "send", down)
        late = gate.embed(audio(9), seconds=1.2)
    assert late.status == 504
    assert status_of(gate, late).body["status"] == "QUEUED", "the janitor will find it"
    assert gate.embed(audio(9), seconds=15).status == 200
    assert fake.submissions.total() == 1


def test_past_the_cache_nothing_is_queued(gate: TestGateway, fake: FakeSegmind) -> None:
    answer = gate.embed(audio(10), headers={"cache-control": "no-store"})
    assert answer.status == 200
    assert (fake.submissions.total(), fake.calls) == (0, 1)
    assert gate.app.parts.stores.tickets.due(float("inf"), 10) == []


def test_an_upload_may_stand_for_a_slow_medium_and_for_a_picture(
    gate: TestGateway, fake: FakeSegmind
) -> None:
    for data, field, kind in (
        (media.mp3(tone=11), "audio", "audio"),
        (media.png(shade=11), "image", "image"),
    ):
        upload = Upload("a" * 32, hashlib.sha256(data).digest())
        gate.app.parts.stores.blobs.put(upload.blob_key("development"), data)
        body = f'{{"{field}": "{upload.handle}"}}'.encode()
        answer = gate.request("POST", "/v1/gemini-embedding-2", body)
        assert answer.status == 200, kind
    foreign = gate.request(
        "POST", "/v1/gemini-embedding-2", f'{{"image": "upload://{"b" * 32}.{"0" * 64}"}}'.encode()
    )
    assert foreign.status == 400
    assert foreign.error == "image: there is no such upload"


def test_an_upload_may_stand_in_googles_protocol(gate: TestGateway) -> None:
    data = media.png(shade=12)
    upload = Upload("c" * 32, hashlib.sha256(data).digest())
    gate.app.parts.stores.blobs.put(upload.blob_key("development"), data)
    body = f'{{"content": {{"parts": [{{"fileData": {{"fileUri": "{upload.handle}"}}}}]}}}}'.encode()
    answer = gate.request("POST", "/v1beta/models/gemini-embedding-2:embedContent", body)
    assert answer.status == 200
    assert len(answer.body["embedding"]["values"]) == 3072
