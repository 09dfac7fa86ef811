"""Google's adapter against the fake: what is sent, what is believed, what becomes of misbehaviour."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from embedonce.core.catalog import BUILT_IN, GEMINI_EMBEDDING_2, GEMINI_EMBEDDING_2_PREVIEW
from embedonce.core.content import Content, MediaPart, Modality
from embedonce.core.options import EmbedOptions
from embedonce.core.tasks import TaskType
from embedonce.upstreams import google as module
from embedonce.upstreams.failure import Kind, UpstreamFailure
from embedonce.upstreams.google import Google, of_error
from embedonce.upstreams.openrouter import OpenRouter
from embedonce.upstreams.transport import Transport
from fakes.answers import TOKENS_PER_MEDIUM, vector_for
from fakes.behaviour import BODIES, Behaviour, error_under_200, status
from fakes.google import KEY, FakeGoogle
from fakes.openrouter import FakeOpenRouter, closed_port
from support.upstream import (
    AUDIO,
    IMAGE,
    MEDIA,
    OTHER_IMAGE,
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


@pytest.fixture(scope="module")
def server() -> Iterator[FakeGoogle]:
    with FakeGoogle() as fake:
        yield fake


@pytest.fixture(scope="module")
def transport() -> Iterator[Transport]:
    transport = Transport(RealClock())
    yield transport
    transport.close()


@pytest.fixture
def fake(server: FakeGoogle) -> Iterator[FakeGoogle]:
    server.reset()
    yield server
    server.release()


@pytest.fixture
def google(transport: Transport, fake: FakeGoogle) -> Google:
    return Google(transport, lambda: KEY, base_url=fake.base_url)


def test_offer_is_of_openrouters_lineage(google: Google, transport: Transport) -> None:
    openrouter = OpenRouter(transport, lambda: KEY, catalog=BUILT_IN)
    for model in (GEMINI_EMBEDDING_2, GEMINI_EMBEDDING_2_PREVIEW):
        ours, theirs = google.offer(model), openrouter.offer(model)
        assert ours is not None
        assert theirs is not None
        assert ours.lineage == theirs.lineage == f"gemini:{model.id}:prefix-1"
        assert ours.modalities == set(Modality)
        assert ours.prices == model.prices
        assert (ours.max_inputs, ours.distinct, ours.retry_doubtful) == (100, True, True)
        options = EmbedOptions(
            model,
            256,
            TaskType.RETRIEVAL_QUERY,
            parameters={"taskType": "X", "title": "t", "input_type": "q"},
        )
        assert ours.sends(options) == {"taskType": "X", "title": "t"}
        prefixed = Content.of_text("task: search result | query: cats")
        assert ours.recipe(Content.of_text("cats"), options) == prefixed
    assert google.offer(replace(GEMINI_EMBEDDING_2, id="cohere/embed-v4")) is None


def test_vectors_usage_and_what_is_sent(google: Google, fake: FakeGoogle) -> None:
    texts = ("hello", "wörld 🌍", "a\nb")
    answer = bought(google, call_of(*texts, dimensions=768))
    assert answer.vectors == tuple(fake.vector_for(text, 768) for text in texts)
    assert (answer.tokens, answer.cost) == (6, 6 * 200_000)
    assert fake.last.path == "/v1beta/models/gemini-embedding-2:batchEmbedContents"
    assert fake.last.headers["x-goog-api-key"] == KEY
    assert "authorization" not in fake.last.headers
    assert fake.last.body == {
        "requests": [
            {
                "model": "models/gemini-embedding-2",
                "content": {"parts": [{"text": text}]},
                "outputDimensionality": 768,
            }
            for text in texts
        ]
    }


def test_a_hundred_inputs_no_dimensions_and_the_other_model(google: Google, fake: FakeGoogle) -> None:
    texts = [f"text {i}" for i in range(100)]
    call = call_of(*texts, dimensions=None, model=GEMINI_EMBEDDING_2_PREVIEW)
    name = GEMINI_EMBEDDING_2_PREVIEW.id
    assert bought(google, call).vectors == tuple(vector_for(text, model=name) for text in texts)
    assert "outputDimensionality" not in fake.last.body["requests"][0]


@pytest.mark.parametrize("medium", MEDIA, ids=lambda medium: medium.modality.value)
def test_the_bytes_that_were_hashed_are_sent(google: Google, fake: FakeGoogle, medium: MediaPart) -> None:
    answer = bought(google, call_of(("a cat", medium)))
    assert answer.vectors == (fake.vector_for(sent("a cat", medium), 256),)
    inline = fake.last.body["requests"][0]["content"]["parts"][1]["inlineData"]
    assert base64.b64decode(inline["data"], validate=True) == medium.data
    assert inline["mimeType"] == medium.media_type
    assert answer.tokens == 2 + TOKENS_PER_MEDIUM
    price = GEMINI_EMBEDDING_2.price(medium.modality)
    assert answer.cost == 2 * 200_000 + price.of(TOKENS_PER_MEDIUM)


def test_several_parts_are_one_vector(google: Google, fake: FakeGoogle) -> None:
    answer = bought(google, call_of(("a", "b"), "ab", (IMAGE, OTHER_IMAGE), IMAGE))
    contents = (["a", "b"], "ab", sent(IMAGE, OTHER_IMAGE), sent(IMAGE))
    assert answer.vectors == tuple(fake.vector_for(one, 256) for one in contents)


def test_a_raw_task_type_and_title_are_forwarded(google: Google, fake: FakeGoogle) -> None:
    parameters = {"taskType": "RETRIEVAL_QUERY", "title": "t", "outputDimensionality": 1, "model": "evil"}
    call = call_of("a", parameters=parameters, passthrough={"user": "u"}, headers={"x-title": "t"})
    answer = bought(google, call)
    assert answer.vectors == (fake.vector_for("a", 256, task_type="RETRIEVAL_QUERY", title="t"),)
    assert set(fake.last.body) == {"requests"}
    assert fake.last.body["requests"][0]["model"] == "models/gemini-embedding-2"
    assert "x-title" not in fake.last.headers


def test_more_than_google_takes_inline_is_not_sent(
    google: Google, fake: FakeGoogle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BODY_BYTES", 600)
    failure = failure_of(lambda: google.embed(call_of(VIDEO), timeout=5))
    assert (failure.kind, failure.unsaid, fake.calls) == (Kind.REJECTED, True, 0)
    assert "600 bytes" in failure.message


@pytest.mark.parametrize("kind", ["no_usage", "null_usage", "garbage_usage", "float_usage"])
def test_usage_is_believed_only_where_it_can_be(google: Google, fake: FakeGoogle, kind: str) -> None:
    fake.next(kind)
    answer = bought(google, call_of("a", "b"))
    assert answer.vectors == tuple(fake.vector_for(text, 256) for text in "ab")
    assert (answer.tokens, answer.cost) == (2 if kind == "float_usage" else None, None)


INVALID = [
    *(Behaviour(kind) for kind in sorted(BODIES) if kind != "blocked"),
    *map(
        Behaviour,
        [
            *("shorten", "lengthen", "no_vectors", "zero", "nan_null", "nan_literal", "infinite"),
            *("text_number", "bool_number", "nested", "null_vector", "base64", "bad_base64"),
            *("repeat", "constant", "wrong_dims", "one_wrong_dims", "endless", "gzip_bomb"),
        ],
    ),
]


def _name(value: Any) -> str | None:
    return f"{value.kind}{value.code or ''}" if isinstance(value, Behaviour) else None


@pytest.mark.parametrize("behaviour", INVALID, ids=_name)
def test_never_believed(google: Google, fake: FakeGoogle, behaviour: Behaviour) -> None:
    fake.next(behaviour)
    failure = failure_of(lambda: bought(google, call_of("a", "b", "c")))
    assert failure.kind is Kind.INVALID
    assert failure.billed
    assert fake.calls == 1


def test_a_single_embedding_is_taken_for_a_single_content_only() -> None:
    reply = module.Reply(200, {}, b'{"embedding": {"values": [1.0, 2.0]}}')
    assert len(module.read_answer(reply, call_of("a"), "google").vectors) == 1
    failure = failure_of(lambda: module.read_answer(reply, call_of("a", "b"), "google"))
    assert failure.kind is Kind.INVALID


@pytest.mark.parametrize(
    ("behaviour", "kind", "retry_after"),
    [
        (status(429, retry_after="17"), Kind.BUSY, 17.0),
        (status(429, retry_after="0.5"), Kind.BUSY, 0.5),
        (status(429), Kind.BUSY, None),
        (status(503, retry_after="99999"), Kind.REFUSED, 3600.0),
        (status(500), Kind.BROKEN, None),
        (status(504), Kind.BROKEN, None),
        (status(400), Kind.REJECTED, None),
        (status(400, text="API key expired. Please renew the API key."), Kind.MISCONFIGURED, None),
        (status(401), Kind.MISCONFIGURED, None),
        (status(403), Kind.MISCONFIGURED, None),
        (status(404), Kind.MISCONFIGURED, None),
        (status(202), Kind.INVALID, None),
        (Behaviour("blocked"), Kind.REJECTED, None),
        (error_under_200(429), Kind.BUSY, None),
        (error_under_200("nonsense"), Kind.BROKEN, None),
        (Behaviour("gzip_error"), Kind.BUSY, 7.0),
        (Behaviour("redirect"), Kind.MISCONFIGURED, None),
        (Behaviour("disconnect"), Kind.BROKEN, None),
        (Behaviour("truncate"), Kind.BROKEN, None),
    ],
    ids=_name,
)
def test_failures(
    google: Google, fake: FakeGoogle, behaviour: Behaviour, kind: Kind, retry_after: float | None
) -> None:
    fake.next(behaviour)
    failure = failure_of(lambda: google.embed(call_of("a"), timeout=5))
    assert (failure.kind, failure.retry_after) == (kind, retry_after)
    assert fake.calls == 1


def error(**said: Any) -> UpstreamFailure:
    return of_error({"error": said}, 400, 3.0, "google")


def test_a_400_is_about_the_input_unless_it_says_otherwise() -> None:
    assert error(status="INVALID_ARGUMENT", message="text mentions an api key").kind is Kind.REJECTED
    assert error(details=[{"reason": "API_KEY_INVALID"}]).kind is Kind.MISCONFIGURED
    assert error(status="FAILED_PRECONDITION").kind is Kind.MISCONFIGURED
    for odd in (None, [], {"error": None}, {"error": {"details": ["x", {"reason": 1, "retryDelay": 5}]}}):
        assert of_error(odd, 400, None, "google").kind is Kind.REJECTED
    assert of_error({"error": {"details": [{"retryDelay": "1e3s"}]}}, 429, 3.0, "google").retry_after == 3.0


@pytest.mark.parametrize("kind", ["hang", "trickle", "trickle_headers"])
def test_slow_answers_are_timeouts(google: Google, fake: FakeGoogle, kind: str) -> None:
    fake.next(kind)
    began = time.monotonic()
    failure = failure_of(lambda: google.embed(call_of(AUDIO), timeout=BRIEF))
    assert failure.kind is Kind.TIMEOUT
    assert time.monotonic() - began < 8


def test_nobody_listens(transport: Transport) -> None:
    upstream = Google(transport, lambda: KEY, base_url=f"http://127.0.0.1:{closed_port()}")
    assert failure_of(lambda: upstream.embed(call_of("a"), timeout=5)).kind is Kind.REFUSED


@pytest.mark.parametrize("key", ["", "AIza-wrong", f"AI\n{CANARY}", f"AI-ä-{CANARY}"])
def test_a_key_that_is_not_taken_is_ours_to_put_right(
    transport: Transport, fake: FakeGoogle, key: str
) -> None:
    upstream = Google(transport, lambda: key, base_url=fake.base_url)
    failure = failure_of(lambda: upstream.embed(call_of("a"), timeout=5))
    assert failure.kind is Kind.MISCONFIGURED
    assert CANARY not in shown(failure)
    assert fake.inputs_billed == 0


LEAKS = [
    status(400, text=CANARY),
    status(400, text=f"API key {CANARY}"),
    status(500, text=CANARY),
    error_under_200(429, text=CANARY),
    Behaviour("garbage", text=CANARY),
    Behaviour("ok"),
    Behaviour("blocked"),
    Behaviour("shorten"),
]


@pytest.mark.parametrize("behaviour", LEAKS, ids=_name)
def test_nothing_leaks(
    google: Google, fake: FakeGoogle, caplog: pytest.LogCaptureFixture, behaviour: Behaviour
) -> None:
    caplog.set_level(logging.DEBUG)
    fake.next(behaviour)
    call = call_of(f"input {CANARY}", parameters={"title": CANARY})
    said = ""
    if behaviour.kind == "ok":
        assert google.embed(call, timeout=5).vectors
    else:
        said = shown(failure_of(lambda: google.embed(call, timeout=5)))
    assert all("?" not in request.path and KEY not in request.path for request in fake.requests)
    for secret in (CANARY, KEY, fake.origin):
        assert secret not in said
        assert secret not in caplog.text


def test_equal_contents_have_equal_vectors_at_both_fakes(fake: FakeGoogle) -> None:
    with FakeOpenRouter() as other:
        for content in ("a", ["a", "b"], sent(IMAGE), sent("a", IMAGE)):
            assert fake.vector_for(content, 256) == other.vector_for(content, 256)


def test_the_fake_takes_single_requests_too_and_no_key_in_the_url(fake: FakeGoogle) -> None:
    planned, _ = fake.plan(
        "/v1/models/gemini-embedding-2:embedContent",
        {"x-goog-api-key": KEY},
        b'{"content": {"parts": [{"text": "a"}]}}',
    )
    assert set(json.loads(planned.body)) == {"embedding", "usageMetadata"}
    planned, _ = fake.plan(
        f"/v1/models/gemini-embedding-2:embedContent?key={KEY}", {"x-goog-api-key": KEY}, b"{}"
    )
    assert planned.status == 400
    with pytest.raises(ValueError, match="cannot answer with shuffle"):
        fake.next("shuffle")
