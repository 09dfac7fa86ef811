"""Segmind's adapter against the fake: every answer's shape, what is never asked twice, what leaks nothing."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from embedonce.core import vector
from embedonce.core.catalog import GEMINI_EMBEDDING_2, GEMINI_EMBEDDING_2_PREVIEW
from embedonce.core.content import Content, MediaPart, Modality
from embedonce.core.options import EmbedOptions
from embedonce.core.tasks import TaskType
from embedonce.upstreams.failure import Kind
from embedonce.upstreams.google import Google
from embedonce.upstreams.segmind import Segmind
from embedonce.upstreams.segmind_answer import vector_of
from embedonce.upstreams.transport import Transport
from embedonce.upstreams.waits import seconds_until
from fakes.behaviour import BODIES, Behaviour, error_under_200, status
from fakes.segmind import KEY, SHAPES, FakeSegmind
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
    server.previous = None
    yield server
    server.release()


@pytest.fixture
def segmind(transport: Transport, fake: FakeSegmind) -> Segmind:
    return made(transport, fake)


def made(transport: Transport, fake: FakeSegmind, **options: Any) -> Segmind:
    return Segmind(transport, lambda: KEY, RealClock(), base_url=fake.base_url, **options)


def test_offer(segmind: Segmind) -> None:
    offer = segmind.offer(GEMINI_EMBEDDING_2)
    assert offer is not None
    assert offer.lineage == "segmind:google/gemini-embedding-2:parameter-1"
    assert offer.modalities == set(Modality)
    assert (offer.max_inputs, offer.retry_doubtful) == (1, False)
    text = Content.of_text("cats")
    query = EmbedOptions(GEMINI_EMBEDDING_2, 256, TaskType.RETRIEVAL_QUERY, parameters={"input_type": "q"})
    assert offer.recipe(text, query) == text
    assert offer.sends(query) == {"task_type": "RETRIEVAL_QUERY"}
    assert offer.sends(EmbedOptions(GEMINI_EMBEDDING_2, 256)) == DOCUMENT
    assert segmind.offer(GEMINI_EMBEDDING_2_PREVIEW) is None


def test_in_googles_space_if_the_operator_says_so(transport: Transport, fake: FakeSegmind) -> None:
    segmind = made(transport, fake, googles_space=True, media_input="empty")
    ours = segmind.offer(GEMINI_EMBEDDING_2)
    theirs = Google(transport, lambda: KEY).offer(GEMINI_EMBEDDING_2)
    assert ours is not None
    assert theirs is not None
    query = EmbedOptions(GEMINI_EMBEDDING_2, 256, TaskType.RETRIEVAL_QUERY)
    assert ours.lineage == theirs.lineage
    assert ours.sends(query) == theirs.sends(query) == {}
    assert ours.recipe(Content.of_text("a"), query) == theirs.recipe(Content.of_text("a"), query)
    segmind.embed(call_of("a"), timeout=5)
    assert "task_type" not in fake.last.body


def test_a_text(segmind: Segmind, fake: FakeSegmind) -> None:
    answer = bought(segmind, call_of("wörld 🌍", parameters={"task_type": "CLUSTERING", "x": 1}))
    assert answer.vectors == (fake.vector_for("wörld 🌍", 256, task_type="CLUSTERING"),)
    assert (answer.tokens, answer.cost) == (None, 3 * 200_000)
    assert fake.last.path == "/v1/gemini-embedding-2"
    assert fake.last.headers["x-api-key"] == KEY
    assert "authorization" not in fake.last.headers
    assert fake.last.body == {"input": "wörld 🌍", "task_type": "CLUSTERING", "output_dimensionality": 256}


@pytest.mark.parametrize("medium", MEDIA, ids=lambda medium: medium.modality.value)
def test_the_bytes_that_were_hashed_are_sent(segmind: Segmind, fake: FakeSegmind, medium: MediaPart) -> None:
    answer = bought(segmind, call_of((medium, "a cat"), parameters=DOCUMENT))
    assert answer.vectors == (fake.vector_for(sent("a cat", medium), 256),)
    assert fake.last.body["input"] == "a cat"
    assert base64.b64decode(fake.last.body[medium.modality.value], validate=True) == medium.data


def test_several_images_and_one_of_each(segmind: Segmind, fake: FakeSegmind) -> None:
    answer = bought(segmind, call_of(("a", IMAGE, AUDIO, OTHER_IMAGE, PDF, VIDEO), parameters=DOCUMENT))
    in_order = sent("a", IMAGE, OTHER_IMAGE, AUDIO, VIDEO, PDF)
    assert answer.vectors == (fake.vector_for(in_order, 256),)
    assert len(fake.last.body["images"]) == 2
    assert "image" not in fake.last.body


@pytest.mark.parametrize(
    ("media_input", "said", "lineage"),
    [("omit", None, ""), ("empty", "", ":empty-input"), ("space", " ", ":space-input")],
)
def test_what_stands_for_a_text_that_is_not_there(
    transport: Transport, fake: FakeSegmind, media_input: Any, said: str | None, lineage: str
) -> None:
    segmind = made(transport, fake, media_input=media_input)
    assert bought(segmind, call_of(IMAGE, parameters=DOCUMENT)).vectors
    assert fake.last.body.get("input") == said
    offer = segmind.offer(GEMINI_EMBEDDING_2)
    assert offer is not None
    assert offer.lineage == f"segmind:google/gemini-embedding-2:parameter-1{lineage}"


@pytest.mark.parametrize("content", [("a", "b"), ("a", "b", IMAGE), (AUDIO, AUDIO), (PDF, PDF)], ids=len)
def test_what_its_fields_cannot_say_is_not_sent(segmind: Segmind, fake: FakeSegmind, content: Any) -> None:
    failure = failure_of(lambda: segmind.embed(call_of(content), timeout=5))
    assert (failure.kind, failure.unsaid, fake.calls) == (Kind.REJECTED, True, 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(segmind: Segmind, fake: FakeSegmind, shape: str) -> None:
    fake.shape = shape
    answer = bought(segmind, call_of(f"in shape {shape}", parameters=DOCUMENT))
    assert answer.vectors == (fake.vector_for(f"in shape {shape}", 256),)


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        ({"vector_b64": "AAAA", "meta": {"dims": 3}}, "vector_b64, meta, dims"),
        ({"a b": 1, f"{CANARY} {CANARY}": 2, "x" * 40: 3}, "(other)"),
        ({f"k{i}": i for i in range(20)}, "k0, k1, k2, k3, k4, k5, k6, k7, …"),
        ({"error": "no"}, "error"),
        ({"embedding": []}, "embedding"),
        ({"embedding": [1.0, None]}, "embedding"),
        ({"output": "[not json"}, "output"),
        ([], "none (a list)"),
        ("text", "none (a text)"),
        (None, "none (a null)"),
        (7, "none (a number)"),
        ({"data": {"data": {"data": {"data": {"data": {"data": [1.0]}}}}}}, "data"),
    ],
    ids=str,
)
def test_an_unknown_shape_is_refused_naming_its_keys(body: Any, keys: str) -> None:
    failure = failure_of(lambda: vector_of(orjson.dumps(body), "segmind"))
    assert failure.kind is Kind.INVALID
    assert failure.message.endswith(f"keys seen: {keys}")


def test_a_vector_that_stands_there_twice_under_two_names_is_one() -> None:
    body = {"embedding": [1.0, 2.0], "data": [{"embedding": [1.0, 2.0]}]}
    assert vector_of(orjson.dumps(body), "segmind") == vector.pack([1.0, 2.0])
    body = {"embeddings": [[1.0, 2.0], [1.0, 2.0]]}  # type: ignore[dict-item]
    assert "2 vectors for 1 input" in failure_of(lambda: vector_of(orjson.dumps(body), "segmind")).message


INVALID = [
    *(Behaviour(kind) for kind in sorted(BODIES) if kind != "list"),
    *map(
        Behaviour,
        [
            *("shorten", "lengthen", "no_vectors", "zero", "nan_null", "nan_literal", "infinite"),
            *("text_number", "bool_number", "null_vector", "base64", "bad_base64", "wrong_dims"),
            *("endless", "gzip_bomb"),
        ],
    ),
    Behaviour("list"),
    error_under_200(text=CANARY),
]


def _name(value: Any) -> str | None:
    return f"{value.kind}{value.code or ''}" if isinstance(value, Behaviour) else None


@pytest.mark.parametrize("behaviour", INVALID, ids=_name)
def test_never_believed(segmind: Segmind, fake: FakeSegmind, behaviour: Behaviour) -> None:
    fake.next(behaviour)
    failure = failure_of(lambda: bought(segmind, call_of("a", parameters=DOCUMENT)))
    assert failure.kind is Kind.INVALID
    assert failure.billed
    assert CANARY not in failure.message


def test_one_picture_in_two_files_may_have_one_vector(segmind: Segmind, fake: FakeSegmind) -> None:
    fake.next("ok", "repeat")
    first = bought(segmind, call_of(IMAGE, parameters=DOCUMENT)).vectors
    assert bought(segmind, call_of(OTHER_IMAGE, parameters=DOCUMENT)).vectors == first


def test_cost_is_believed_only_where_it_can_be(segmind: Segmind, fake: FakeSegmind) -> None:
    fake.next("no_usage", "garbage_usage")
    for text in ("a", "b"):
        assert bought(segmind, call_of(text, parameters=DOCUMENT)).cost is None


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (status(400), Kind.REJECTED),
        (status(422), Kind.REJECTED),
        (status(401), Kind.MISCONFIGURED),
        (status(403), Kind.MISCONFIGURED),
        (status(404), Kind.MISCONFIGURED),
        (status(405), Kind.MISCONFIGURED),
        (status(406), Kind.MISCONFIGURED),
        (status(429), Kind.BUSY),
        (status(500), Kind.BROKEN),
        (status(502), Kind.BROKEN),
        (status(503), Kind.BROKEN),
        (status(504), Kind.BROKEN),
        (status(202), Kind.INVALID),
        (Behaviour("redirect"), Kind.MISCONFIGURED),
        (Behaviour("disconnect"), Kind.BROKEN),
        (Behaviour("truncate"), Kind.BROKEN),
    ],
    ids=_name,
)
def test_failures(segmind: Segmind, fake: FakeSegmind, behaviour: Behaviour, kind: Kind) -> None:
    """A 503 may have been accepted too: nothing is posted again that may have been."""
    fake.next(behaviour)
    assert failure_of(lambda: segmind.embed(call_of("a"), timeout=5)).kind is kind
    assert fake.calls == 1


def test_the_time_of_reset_is_when_to_come_back(segmind: Segmind, fake: FakeSegmind) -> None:
    soon = datetime.fromtimestamp(time.time() + 60, UTC)
    fake.next(status(429, retry_after=soon.isoformat()), status(429, retry_after="nonsense"))
    wait = failure_of(lambda: segmind.embed(call_of("a"), timeout=5)).retry_after
    assert wait is not None
    assert 55 < wait <= 60
    assert failure_of(lambda: segmind.embed(call_of("a"), timeout=5)).retry_after is None


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("2026-11-20T00:00:30Z", 30.0),
        ("2026-11-20 00:00:30", 30.0),
        ("2026-11-20T01:00:30.500+01:00", 30.5),
        ("1795132830", 30.0),
        ("1795132830000", 30.0),
        ("2026-11-19T00:00:00Z", 0.0),
        ("2027-11-20T00:00:00Z", 3600.0),
        ("inf", 3600.0),
        ("nan", None),
        ("", None),
        ("soon", None),
    ],
)
def test_times_of_reset(text: str, wait: float | None) -> None:
    now = datetime(2026, 11, 20, tzinfo=UTC).timestamp()
    assert seconds_until(text, now) == wait


def test_a_slow_answer_is_a_timeout(segmind: Segmind, fake: FakeSegmind) -> None:
    fake.next("hang")
    assert failure_of(lambda: segmind.embed(call_of(VIDEO), timeout=BRIEF)).kind is Kind.TIMEOUT


@pytest.mark.parametrize("key", ["", "SG_wrong", f"SG\n{CANARY}"])
def test_a_key_that_is_not_taken(transport: Transport, fake: FakeSegmind, key: str) -> None:
    upstream = Segmind(transport, lambda: key, RealClock(), base_url=fake.base_url)
    failure = failure_of(lambda: upstream.embed(call_of("a"), timeout=5))
    assert failure.kind is Kind.MISCONFIGURED
    assert CANARY not in shown(failure)


@pytest.mark.parametrize(
    "behaviour",
    [status(400, text=CANARY), status(500, text=CANARY), error_under_200(text=CANARY), Behaviour("ok")],
    ids=_name,
)
def test_nothing_leaks(
    segmind: Segmind, fake: FakeSegmind, caplog: pytest.LogCaptureFixture, behaviour: Behaviour
) -> None:
    caplog.set_level(logging.DEBUG)
    fake.next(behaviour)
    call = call_of(f"input {CANARY}", parameters=DOCUMENT)
    said = ""
    if behaviour.kind == "ok":
        assert segmind.embed(call, timeout=5).vectors
    else:
        said = shown(failure_of(lambda: segmind.embed(call, timeout=5)))
    for secret in (CANARY, KEY, fake.origin):
        assert secret not in said
        assert secret not in caplog.text
