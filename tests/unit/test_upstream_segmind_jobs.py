"""Segmind's v2 against the fake: what counts as accepted, what a question concludes, where our key goes."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from embedonce.core.catalog import GEMINI_EMBEDDING_2
from embedonce.core.content import MediaPart, Modality
from embedonce.ports import JobFailed, JobUnknown, Pending, SubmittingUpstream, UpstreamAnswer, UpstreamCall
from embedonce.upstreams import segmind_fields
from embedonce.upstreams.failure import CERTAINLY_NOT_ACCEPTED, Kind
from embedonce.upstreams.segmind import Segmind
from embedonce.upstreams.transport import Transport
from fakes.behaviour import BODIES, Behaviour, error_under_200, status
from fakes.openrouter import closed_port
from fakes.segmind import KEY, SHAPES, FakeSegmind
from support.origin import Origin, ok
from support.upstream import (
    AUDIO,
    IMAGE,
    MEDIA,
    OTHER_IMAGE,
    PDF,
    VIDEO,
    RealClock,
    bought,
    call_of,
    failure_of,
    sent,
    shown,
)

BRIEF = 0.2
CANARY = "canary-7f3a"
DOCUMENT = {"task_type": "RETRIEVAL_DOCUMENT"}
CLIP = call_of((VIDEO, "a cat"), parameters=DOCUMENT)
NOT_ACCEPTED = CERTAINLY_NOT_ACCEPTED | {Kind.REJECTED, Kind.MISCONFIGURED}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeSegmind]:
    with FakeSegmind() as fake:
        yield fake


@pytest.fixture(scope="module")
def transport() -> Iterator[Transport]:
    transport = Transport(RealClock())
    yield transport
    transport.close()


@pytest.fixture
def fake(server: FakeSegmind) -> Iterator[FakeSegmind]:
    server.reset()
    server.shape = "embedding"
    server.job_polls = (0, 0)
    yield server
    server.release()


@pytest.fixture
def segmind(transport: Transport, fake: FakeSegmind) -> Segmind:
    return made(transport, fake)


def made(transport: Transport, fake: FakeSegmind, **options: Any) -> Segmind:
    return Segmind(transport, lambda: KEY, RealClock(), base_url=fake.base_url, **options)


def submitted(segmind: Segmind, call: UpstreamCall = CLIP, *, timeout: float = 5.0) -> str:
    return segmind.submit(call, timeout=timeout)


def asked(segmind: Segmind, handle: str, *, timeout: float = 5.0) -> Any:
    return segmind.poll(handle, GEMINI_EMBEDDING_2, 256, timeout=timeout)


def _name(value: Any) -> str | None:
    return f"{value.kind}{value.code or ''}" if isinstance(value, Behaviour) else None


def test_it_takes_jobs_unless_told_otherwise(transport: Transport, fake: FakeSegmind) -> None:
    segmind: SubmittingUpstream = made(transport, fake)
    offer, only_v1 = segmind.offer(GEMINI_EMBEDDING_2), made(transport, fake, submits=False)
    assert offer is not None
    assert offer.submits
    assert only_v1.offer(GEMINI_EMBEDDING_2) == replace(
        offer,
        submits=False,
        recipe=only_v1.offer(GEMINI_EMBEDDING_2).recipe,  # type: ignore[union-attr]
    )


def test_from_submission_to_vector(segmind: Segmind, fake: FakeSegmind) -> None:
    fake.job_polls = (1, 1)
    handle = submitted(segmind)
    assert [asked(segmind, handle) for _ in range(2)] == [Pending(), Pending()]
    answer = asked(segmind, handle)
    assert answer.vectors == (fake.vector_for(sent("a cat", VIDEO), 256),)
    assert answer.tokens is None
    assert answer.cost > 0
    assert (fake.calls, fake.submissions.total(), fake.billed) == (1, 1, fake.submissions)
    assert [one.path for one in fake.polled] == [f"/v2/requests/{handle}/status"] * 3 + [
        f"/v2/requests/{handle}"
    ]
    assert {one.headers["x-api-key"] for one in fake.polled} == {KEY}
    assert asked(segmind, handle).vectors == answer.vectors


@pytest.mark.parametrize("parts", [*((medium,) for medium in MEDIA), ("a", IMAGE, OTHER_IMAGE, PDF)], ids=len)
def test_the_fields_are_those_of_v1(segmind: Segmind, fake: FakeSegmind, parts: Any) -> None:
    call = call_of(parts, parameters={"task_type": "CLUSTERING", "x": 1})
    submitted(segmind, call)
    segmind.embed(call, timeout=5)
    first, second = fake.requests
    assert (first.path, second.path) == ("/v2/gemini-embedding-2", "/v1/gemini-embedding-2")
    assert first.raw == second.raw
    assert first.headers["x-api-key"] == KEY
    assert first.headers["content-type"] == "application/json"


def test_googles_space_and_what_the_fields_cannot_say(transport: Transport, fake: FakeSegmind) -> None:
    segmind = made(transport, fake, googles_space=True, media_input="space")
    submitted(segmind, call_of(IMAGE))
    assert fake.last.body.keys() == {"input", "image", "output_dimensionality"}
    for parts in ((AUDIO, AUDIO), (IMAGE, "text after")):
        failure = failure_of(lambda parts=parts: submitted(segmind, call_of(parts)))  # type: ignore[misc]
        assert (failure.kind, failure.unsaid) == (Kind.REJECTED, True)
    assert fake.calls == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_the_output(segmind: Segmind, fake: FakeSegmind, shape: str) -> None:
    fake.shape = shape
    handle = submitted(segmind, call_of(f"in shape {shape}", parameters=DOCUMENT))
    assert asked(segmind, handle).vectors == (fake.vector_for(f"in shape {shape}", 256),)


@pytest.mark.parametrize(
    ("behaviour", "kind", "accepted"),
    [
        *((status(code), Kind.REJECTED, 0) for code in (400, 413, 415, 422)),
        *((status(code), Kind.MISCONFIGURED, 0) for code in (401, 402, 403, 404, 405, 406)),
        (status(429), Kind.BUSY, 0),
        *((status(code), Kind.BROKEN, 0) for code in (500, 502, 503, 504, 529)),
        (Behaviour("redirect"), Kind.MISCONFIGURED, 0),
        (error_under_200(text=CANARY), Kind.INVALID, 0),
        (Behaviour("disconnect"), Kind.BROKEN, 1),
        (Behaviour("truncate"), Kind.BROKEN, 1),
        (Behaviour("garbage"), Kind.BROKEN, 1),
        (Behaviour("hang"), Kind.TIMEOUT, 1),
        (Behaviour("trickle"), Kind.TIMEOUT, 1),
        (Behaviour(delay=1.0), Kind.TIMEOUT, 1),
        (Behaviour("endless"), Kind.INVALID, 1),
        (Behaviour("gzip_bomb"), Kind.INVALID, 1),
        *((Behaviour(kind), Kind.INVALID, 1) for kind in sorted(BODIES) if kind != "queued"),
    ],
    ids=_name,
)
def test_submissions_that_fail(
    segmind: Segmind, fake: FakeSegmind, behaviour: Behaviour, kind: Kind, accepted: int
) -> None:
    """What may have been accepted never looks as if it was not."""
    fake.next(behaviour)
    timeout = BRIEF if kind is Kind.TIMEOUT else 5.0
    failure = failure_of(lambda: submitted(segmind, timeout=timeout))
    assert failure.kind is kind
    assert (fake.calls, fake.submissions.total()) == (1, accepted)
    assert not accepted or failure.kind not in NOT_ACCEPTED
    assert CANARY not in shown(failure)


def test_nobody_listens(transport: Transport) -> None:
    nowhere = Segmind(transport, lambda: KEY, RealClock(), base_url=f"http://127.0.0.1:{closed_port()}")
    assert failure_of(lambda: submitted(nowhere)).kind is Kind.REFUSED
    assert failure_of(lambda: asked(nowhere, "job")).kind is Kind.REFUSED


@pytest.mark.parametrize("retry", ["", "nonsense"])
def test_when_to_come_back_after_429(segmind: Segmind, fake: FakeSegmind, retry: str) -> None:
    soon = datetime.fromtimestamp(time.time() + 60, UTC).isoformat()
    fake.next(status(429, retry_after=retry or soon))
    fake.next_poll(status(429, retry_after=retry or soon))
    for act in (lambda: submitted(segmind), lambda: asked(segmind, "job")):
        failure = failure_of(act)
        assert failure.kind is Kind.BUSY
        assert (failure.retry_after is None) if retry else (55 < (failure.retry_after or 0) <= 60)


@pytest.mark.parametrize(
    "script",
    [
        "no_id",
        *(f"bad_id:{text}" for text in ("", "a/b", "../../v1/x", "a?b", "a b", "é", "%2e", "a\n", "x" * 129)),
    ],
    ids=str,
)
def test_an_id_that_could_be_anything_is_none(segmind: Segmind, fake: FakeSegmind, script: str) -> None:
    fake.next_job(script)
    failure = failure_of(lambda: submitted(segmind))
    assert (failure.kind, fake.submissions.total()) == (Kind.INVALID, 1)
    assert asked(segmind, script.removeprefix("bad_id:").replace("no_id", "")) == JobUnknown()
    assert fake.polled == []


@pytest.mark.parametrize("handle", ["x" * 128, "0b-_9Z"])
def test_ids_of_the_known_form(segmind: Segmind, fake: FakeSegmind, handle: str) -> None:
    fake.next_job(f"bad_id:{handle}")
    assert submitted(segmind) == handle


def test_a_job_that_is_done_at_once(segmind: Segmind, fake: FakeSegmind) -> None:
    fake.job_polls = (9, 9)
    fake.next_job("done")
    assert asked(segmind, submitted(segmind)).vectors


def test_urls_in_answers_are_never_followed(segmind: Segmind, fake: FakeSegmind) -> None:
    with FakeSegmind() as evil:
        fake.job_polls = (1, 0)
        fake.next_job(f"evil_urls:{evil.origin}")
        handle = submitted(segmind)
        assert asked(segmind, handle) == Pending()
        assert asked(segmind, handle).vectors
        for code in (301, 302, 303, 307, 308):
            redirect = Behaviour("redirect", code=code, text=f"{evil.origin}/v2/requests/{handle}/status")
            fake.next_poll(redirect)
            assert failure_of(lambda: asked(segmind, handle)).kind is Kind.MISCONFIGURED
            fake.next_poll("ok", redirect)
            assert failure_of(lambda: asked(segmind, handle)).kind is Kind.MISCONFIGURED
            fake.next(redirect)
            assert failure_of(lambda: submitted(segmind)).kind is Kind.MISCONFIGURED
        assert (evil.calls, evil.polled, evil.connections) == (0, [], frozenset())


@pytest.mark.parametrize(
    ("script", "stands"),
    [
        (f"fail:{CANARY}", JobFailed()),
        (f"fail_200:{CANARY}", JobFailed()),
        (f"fail_late:{CANARY}", JobFailed()),
        ("lost", JobUnknown()),
        ("lost_result", JobUnknown()),
        ("stuck", Pending()),
        ("odd_state:IN_QUEUE", Pending()),
        ("odd_state:running", Pending()),
    ],
)
def test_what_may_become_of_a_job(
    segmind: Segmind, fake: FakeSegmind, script: str, stands: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fake.job_polls = (1, 1) if "state" in script else (0, 0)
    fake.next_job(script)
    handle = submitted(segmind)
    assert [asked(segmind, handle) for _ in range(2)] == [stands, stands]
    assert CANARY not in caplog.text
    assert handle not in caplog.text


def test_a_foreign_handle_is_unknown(segmind: Segmind, fake: FakeSegmind) -> None:
    assert asked(segmind, "never-given") == JobUnknown()


def test_completed_may_be_taken_back(segmind: Segmind, fake: FakeSegmind) -> None:
    fake.next_job("flip")
    handle = submitted(segmind)
    assert [type(asked(segmind, handle)) for _ in range(3)] == [Pending, Pending, UpstreamAnswer]


def test_a_second_reading_may_say_something_else(segmind: Segmind, fake: FakeSegmind) -> None:
    """Nothing here can tell: whoever keeps the first vector is right to."""
    fake.next_job("fickle")
    handle = submitted(segmind)
    assert asked(segmind, handle).vectors != asked(segmind, handle).vectors


ODD_ANSWERS = [
    *(Behaviour(kind) for kind in ("disconnect", "truncate", "garbage", "endless_headers")),
    *(status(code) for code in (400, 401, 403, 405, 406, 409, 422, 429, 500, 502, 503, 504, 529)),
    *(Behaviour(kind) for kind in ("redirect", "html", "empty", "null", "gzip_error")),
    error_under_200(text=CANARY),
]


@pytest.mark.parametrize("behaviour", ODD_ANSWERS, ids=_name)
@pytest.mark.parametrize("of", ["status", "result"])
def test_a_question_that_failed_says_nothing_about_the_job(
    segmind: Segmind, fake: FakeSegmind, behaviour: Behaviour, of: str
) -> None:
    handle = submitted(segmind)
    fake.next_poll(*(["ok"] if of == "result" else []), behaviour)
    failure = failure_of(lambda: asked(segmind, handle))
    assert failure.kind not in (Kind.INVALID, Kind.REJECTED)
    assert CANARY not in shown(failure)
    assert asked(segmind, handle).vectors


@pytest.mark.parametrize(
    "behaviour",
    [Behaviour(k) for k in ("endless", "gzip_bomb", "list", "invalid_json", "deep", "not_utf8")],
    ids=_name,
)
def test_a_status_is_no_result(segmind: Segmind, fake: FakeSegmind, behaviour: Behaviour) -> None:
    handle = submitted(segmind)
    fake.next_poll(behaviour)
    assert failure_of(lambda: asked(segmind, handle)).kind is Kind.BROKEN


@pytest.mark.parametrize("script", ["other_id", "no_state"])
def test_answers_about_something_else(segmind: Segmind, fake: FakeSegmind, script: str) -> None:
    fake.next_job(script)
    handle = submitted(segmind)
    assert failure_of(lambda: asked(segmind, handle)).kind is Kind.BROKEN


@pytest.mark.parametrize("script", ["garbage", "garbage:https://127.0.0.1/output.json", "garbage:[1,"])
def test_a_result_that_is_no_embedding(segmind: Segmind, fake: FakeSegmind, script: str) -> None:
    fake.next_job(script)
    handle = submitted(segmind)
    failure = failure_of(lambda: asked(segmind, handle))
    assert failure.kind is Kind.INVALID
    assert "output.json" not in shown(failure)


@pytest.mark.parametrize(
    "kind",
    ["endless", "gzip_bomb", "no_vectors", "nan_null", "nan_literal", "text_number", "lengthen", "deep"],
)
def test_a_result_that_is_edited(segmind: Segmind, fake: FakeSegmind, kind: str) -> None:
    handle = submitted(segmind)
    fake.next_poll("ok", kind)
    assert failure_of(lambda: asked(segmind, handle)).kind is Kind.INVALID


@pytest.mark.parametrize("of", ["status", "result"])
@pytest.mark.parametrize("kind", ["hang", "trickle"])
def test_both_questions_are_over_in_time(segmind: Segmind, fake: FakeSegmind, kind: str, of: str) -> None:
    handle = submitted(segmind)
    fake.next_poll(*([Behaviour(delay=BRIEF / 2)] if of == "result" else []), kind)
    began = time.monotonic()
    assert failure_of(lambda: asked(segmind, handle, timeout=BRIEF)).kind is Kind.TIMEOUT
    assert time.monotonic() - began < BRIEF + 0.1


@pytest.mark.parametrize("key", ["", "SG_wrong", f"SG\n{CANARY}"])
def test_a_key_that_is_not_taken(transport: Transport, fake: FakeSegmind, key: str) -> None:
    upstream = Segmind(transport, lambda: key, RealClock(), base_url=fake.base_url)
    for act in (lambda: submitted(upstream), lambda: asked(upstream, "job")):
        failure = failure_of(act)
        assert failure.kind is Kind.MISCONFIGURED
        assert CANARY not in shown(failure)


def linked(part: MediaPart, link: str) -> MediaPart:
    return replace(part, link=link)


def test_a_large_medium_is_sent_as_its_link(
    segmind: Segmind, fake: FakeSegmind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it has one; a small one never is, and one without a link is sent itself."""
    monkeypatch.setattr(segmind_fields, "LINK_FROM_BYTES", VIDEO.size - 1)
    with FakeSegmind() as elsewhere:
        call = call_of(linked(VIDEO, f"{elsewhere.origin}/clip"), parameters=DOCUMENT)
        assert failure_of(lambda: submitted(segmind, call)).kind is Kind.REJECTED
        assert fake.last.body["video"] == f"{elsewhere.origin}/clip"
    with Origin(lambda _: [ok(VIDEO.sent_bytes)]) as origin:
        fake.fetches = True
        handle = submitted(segmind, call_of(linked(VIDEO, origin.url), parameters=DOCUMENT))
        assert asked(segmind, handle).vectors == (fake.vector_for(sent(VIDEO), 256),)
        fake.fetches = False
    submitted(segmind, call_of(linked(IMAGE, "https://unused.example/a"), parameters=DOCUMENT))
    assert base64.b64decode(fake.last.body["image"]) == IMAGE.data
    submitted(segmind, call_of(VIDEO, parameters=DOCUMENT))
    assert base64.b64decode(fake.last.body["video"]) == VIDEO.data


@pytest.mark.parametrize("size", [1_000_000, 4_000_001])
def test_a_streamed_medium_arrives_whole(segmind: Segmind, fake: FakeSegmind, size: int) -> None:
    medium = MediaPart.of(Modality.VIDEO, "video/mp4", bytes(range(256)) * (size // 256) + b"x")
    call = call_of((medium, "a"), parameters=DOCUMENT)
    handle = submitted(segmind, call)
    assert fake.last.headers["content-length"] == str(len(fake.last.raw))
    assert "transfer-encoding" not in fake.last.headers
    right = fake.vector_for(sent("a", medium), 256)
    assert asked(segmind, handle).vectors == bought(segmind, call).vectors == (right,)
