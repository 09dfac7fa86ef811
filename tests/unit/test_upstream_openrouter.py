"""OpenRouter's adapter against the fake: what is sent, what is believed, what becomes of misbehaviour."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from embedonce.core import vector
from embedonce.core.catalog import BUILT_IN, GEMINI_EMBEDDING_2, GEMINI_EMBEDDING_2_PREVIEW
from embedonce.core.content import Content, Modality
from embedonce.core.options import EmbedOptions
from embedonce.core.pricing import Price
from embedonce.core.tasks import TaskType
from embedonce.upstreams.failure import Kind
from embedonce.upstreams.openrouter import OpenRouter
from embedonce.upstreams.transport import Transport
from fakes.answers import tokens_for, vector_for
from fakes.behaviour import BODIES, Behaviour, error_under_200, other_model, status
from fakes.openrouter import KEY, FakeOpenRouter, closed_port
from support.upstream import (
    IMAGE,
    MEDIA,
    OTHER_IMAGE,
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
def server() -> Iterator[FakeOpenRouter]:
    with FakeOpenRouter() as fake:
        yield fake


@pytest.fixture(scope="module")
def transport() -> Iterator[Transport]:
    transport = Transport(RealClock())
    yield transport
    transport.close()


@pytest.fixture
def fake(server: FakeOpenRouter) -> Iterator[FakeOpenRouter]:
    server.reset()
    yield server
    server.release()


@pytest.fixture
def openrouter(transport: Transport, fake: FakeOpenRouter) -> OpenRouter:
    return OpenRouter(transport, lambda: KEY, catalog=BUILT_IN, base_url=fake.base_url)


def test_offer(openrouter: OpenRouter) -> None:
    offer = openrouter.offer(GEMINI_EMBEDDING_2)
    assert offer is not None
    assert offer.lineage == "gemini:google/gemini-embedding-2:prefix-1"
    assert offer.model == "google/gemini-embedding-2"
    assert offer.modalities == {Modality.TEXT, Modality.IMAGE}
    assert offer.max_inputs == 100
    text, image = Price.per_million("0.20"), Price.per_million("0.45")
    assert offer.prices == {Modality.TEXT: text, Modality.IMAGE: image}
    assert offer.distinct
    assert not offer.made_up
    prefixed = offer.recipe(
        Content.of_text("cats"), EmbedOptions(GEMINI_EMBEDDING_2, 256, TaskType.RETRIEVAL_QUERY)
    )
    assert prefixed == Content.of_text("task: search result | query: cats")


def test_offers_differ_between_models_and_stop_at_the_vendor(openrouter: OpenRouter) -> None:
    preview, ga = openrouter.offer(GEMINI_EMBEDDING_2_PREVIEW), openrouter.offer(GEMINI_EMBEDDING_2)
    assert preview is not None
    assert ga is not None
    assert preview.lineage != ga.lineage
    assert openrouter.offer(replace(GEMINI_EMBEDDING_2, id="cohere/embed-v4")) is None


def test_vectors_usage_and_what_is_sent(openrouter: OpenRouter, fake: FakeOpenRouter) -> None:
    texts = ("hello", "wörld 🌍", "a\nb")
    answer = bought(openrouter, call_of(*texts, dimensions=768))
    assert answer.vectors == tuple(fake.vector_for(text, 768) for text in texts)
    assert answer.vectors[0] == vector.cut(fake.vector_for("hello"), 768)
    tokens = sum(tokens_for(text) for text in texts)
    assert (answer.tokens, answer.cost) == (tokens, tokens * 200_000)
    assert fake.last.path == "/api/v1/embeddings"
    assert fake.last.body == {
        "model": "google/gemini-embedding-2",
        "input": list(texts),
        "dimensions": 768,
        "encoding_format": "float",
    }
    assert fake.last.headers["authorization"] == f"Bearer {KEY}"


def test_a_hundred_inputs_and_no_dimensions(openrouter: OpenRouter, fake: FakeOpenRouter) -> None:
    texts = [f"text {i}" for i in range(100)]
    assert bought(openrouter, call_of(*texts, dimensions=None)).vectors == tuple(map(fake.vector_for, texts))
    assert "dimensions" not in fake.last.body


def test_several_parts_are_one_vector(openrouter: OpenRouter, fake: FakeOpenRouter) -> None:
    answer = bought(openrouter, call_of(("a", "b"), "ab", "c"))
    assert answer.vectors == tuple(fake.vector_for(text, 256) for text in (["a", "b"], "ab", "c"))


def test_images_are_data_urls_of_the_bytes_that_were_hashed(
    openrouter: OpenRouter, fake: FakeOpenRouter
) -> None:
    contents = ((IMAGE,), ("a cat", IMAGE, OTHER_IMAGE))
    answer = bought(openrouter, call_of(*contents))
    assert answer.vectors == tuple(fake.vector_for(sent(*parts), 256) for parts in contents)
    part = fake.last.body["input"][0]["content"][0]
    assert part["type"] == "image_url"
    head, _, data = part["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data, validate=True) == IMAGE.data


def test_other_media_are_offered_only_if_the_operator_says_so(
    transport: Transport, fake: FakeOpenRouter
) -> None:
    all_of_them = OpenRouter(
        transport, lambda: KEY, catalog=BUILT_IN, base_url=fake.base_url, modalities=frozenset(Modality)
    )
    offer = all_of_them.offer(GEMINI_EMBEDDING_2)
    assert offer is not None
    assert offer.modalities == set(Modality)
    for medium in MEDIA:
        assert bought(all_of_them, call_of(medium)).vectors == (fake.vector_for(sent(medium), 256),)


def test_the_other_model_is_asked_for_by_its_own_name(openrouter: OpenRouter, fake: FakeOpenRouter) -> None:
    answer = bought(openrouter, call_of("a", model=GEMINI_EMBEDDING_2_PREVIEW))
    assert answer.vectors == (vector_for("a", 256, model="google/gemini-embedding-2-preview"),)


def test_parameters_passthrough_and_headers(openrouter: OpenRouter, fake: FakeOpenRouter) -> None:
    call = call_of(
        "a",
        parameters={"input_type": "search_query", "provider": {"only": ["google"]}, "seed": 1},
        passthrough={
            "user": "u",
            "session_id": "s",
            "trace": {"id": 1},
            "provider": {"only": ["evil"], "data_collection": "deny"},
            "input_type": "other",
            "model": "evil",
            "input": ["evil"],
            "temperature": 1,
        },
        headers={
            "HTTP-Referer": "https://app.example",
            "x-title": "Café",
            "X-OpenRouter-Title": "東京",
            "X-OpenRouter-Categories": "a\r\nX-Evil: 1",
            "Authorization": "Bearer theirs",
            "Cookie": "theirs",
            "X-Other": "theirs",
        },
    )
    assert bought(openrouter, call).vectors == (fake.vector_for("a", 256, input_type="search_query"),)
    assert fake.last.body == {
        "model": "google/gemini-embedding-2",
        "input": ["a"],
        "dimensions": 256,
        "encoding_format": "float",
        "input_type": "search_query",
        "provider": {"only": ["google"], "data_collection": "deny"},
        "user": "u",
        "session_id": "s",
        "trace": {"id": 1},
    }
    said = fake.last.headers
    assert said["http-referer"] == "https://app.example"
    assert said["x-title"] == "Café"
    assert said["x-openrouter-title"].encode("latin-1").decode() == "東京"
    assert said["authorization"] == f"Bearer {KEY}"
    assert not {"x-openrouter-categories", "x-evil", "cookie", "x-other"} & set(said)


RIGHT = ["shuffle", "float_index", "base64", "no_usage", "null_usage", "garbage_usage"]


@pytest.mark.parametrize("kind", RIGHT)
def test_tolerated(openrouter: OpenRouter, fake: FakeOpenRouter, kind: str) -> None:
    fake.next(kind)
    answer = bought(openrouter, call_of("a", "b", "c"))
    assert answer.vectors == tuple(fake.vector_for(text, 256) for text in "abc")
    assert (answer.tokens is None) == kind.endswith("usage")


@pytest.mark.parametrize("name", ["gemini-embedding-2", "gemini-embedding-2-001", "whatever"])
def test_model_names_that_are_tolerated(openrouter: OpenRouter, fake: FakeOpenRouter, name: str) -> None:
    fake.next(other_model(name))
    assert bought(openrouter, call_of("a")).vectors == (fake.vector_for("a", 256),)


INVALID = [
    Behaviour("no_index"),
    Behaviour("shuffle_without_index"),
    *(Behaviour(kind) for kind in sorted(BODIES)),
    *map(
        Behaviour,
        [
            "shorten",
            "lengthen",
            "no_vectors",
            "zero",
            "nan_null",
            "nan_literal",
            "infinite",
            "text_number",
            "bool_number",
            "nested",
            "null_vector",
            "bad_base64",
            "odd_base64",
            "repeat",
            "constant",
            "wrong_dims",
            "one_wrong_dims",
            "duplicate_index",
            "null_index",
            "one_index_missing",
            "fraction_index",
            "bool_index",
            "text_index",
            "index_out_of_range",
            "endless",
            "gzip_bomb",
        ],
    ),
    other_model("google/gemini-embedding-2-preview"),
    other_model("gemini-embedding-001"),
]


def _name(behaviour: Behaviour) -> str:
    return f"{behaviour.kind}{behaviour.code or ''}"


@pytest.mark.parametrize("behaviour", INVALID, ids=_name)
def test_never_believed(openrouter: OpenRouter, fake: FakeOpenRouter, behaviour: Behaviour) -> None:
    fake.next(behaviour)
    failure = failure_of(lambda: bought(openrouter, call_of("a", "b", "c")))
    assert failure.kind is Kind.INVALID
    assert failure.billed
    assert fake.calls == 1


@pytest.mark.parametrize(
    ("behaviour", "kind", "retry_after"),
    [
        (status(429, retry_after="2"), Kind.BUSY, 2.0),
        (status(529), Kind.BUSY, None),
        (status(503, retry_after="1"), Kind.REFUSED, 1.0),
        (status(500), Kind.BROKEN, None),
        (status(502), Kind.BROKEN, None),
        (status(524), Kind.BROKEN, None),
        (status(408), Kind.BROKEN, None),
        (status(400), Kind.REJECTED, None),
        (status(413), Kind.REJECTED, None),
        (status(401), Kind.MISCONFIGURED, None),
        (status(402), Kind.MISCONFIGURED, None),
        (status(403), Kind.MISCONFIGURED, None),
        (status(404), Kind.MISCONFIGURED, None),
        (status(202), Kind.INVALID, None),
        (error_under_200(429), Kind.BUSY, None),
        (error_under_200("503"), Kind.REFUSED, None),
        (error_under_200(502), Kind.BROKEN, None),
        (error_under_200("busy"), Kind.BROKEN, None),
        (error_under_200(), Kind.BROKEN, None),
        (Behaviour("gzip_error"), Kind.BUSY, 7.0),
        (Behaviour("redirect"), Kind.MISCONFIGURED, None),
        (Behaviour("disconnect"), Kind.BROKEN, None),
        (Behaviour("truncate"), Kind.BROKEN, None),
        (Behaviour("garbage"), Kind.BROKEN, None),
        (Behaviour("endless_headers"), Kind.BROKEN, None),
    ],
    ids=lambda value: _name(value) if isinstance(value, Behaviour) else None,
)
def test_failures(
    openrouter: OpenRouter,
    fake: FakeOpenRouter,
    behaviour: Behaviour,
    kind: Kind,
    retry_after: float | None,
) -> None:
    fake.next(behaviour)
    failure = failure_of(lambda: openrouter.embed(call_of("a"), timeout=5))
    assert (failure.kind, failure.retry_after) == (kind, retry_after)
    assert fake.calls == 1


@pytest.mark.parametrize("kind", ["hang", "trickle", "trickle_headers"])
def test_slow_answers_are_timeouts(openrouter: OpenRouter, fake: FakeOpenRouter, kind: str) -> None:
    fake.next(kind)
    began = time.monotonic()
    failure = failure_of(lambda: openrouter.embed(call_of("a"), timeout=BRIEF))
    assert failure.kind is Kind.TIMEOUT
    assert failure.billed
    assert time.monotonic() - began < 8


def test_a_delay_within_the_timeout_is_waited_for(openrouter: OpenRouter, fake: FakeOpenRouter) -> None:
    fake.next(Behaviour(delay=0.05))
    assert bought(openrouter, call_of("a")).vectors == (fake.vector_for("a", 256),)


def test_nobody_listens(transport: Transport) -> None:
    upstream = OpenRouter(
        transport, lambda: KEY, catalog=BUILT_IN, base_url=f"http://127.0.0.1:{closed_port()}"
    )
    failure = failure_of(lambda: upstream.embed(call_of("a"), timeout=5))
    assert failure.kind is Kind.REFUSED
    assert not failure.billed


@pytest.mark.parametrize("key", ["", "sk-wrong", f"sk\n{CANARY}", f"sk-ä-{CANARY}"])
def test_a_key_that_is_not_taken(transport: Transport, fake: FakeOpenRouter, key: str) -> None:
    upstream = OpenRouter(transport, lambda: key, catalog=BUILT_IN, base_url=fake.base_url)
    failure = failure_of(lambda: upstream.embed(call_of("a"), timeout=5))
    assert failure.kind is Kind.MISCONFIGURED
    assert CANARY not in shown(failure)
    assert fake.inputs_billed == 0


def test_the_key_is_asked_for_at_every_call(transport: Transport, fake: FakeOpenRouter) -> None:
    keys = iter(["sk-old", KEY])
    upstream = OpenRouter(transport, lambda: next(keys), catalog=BUILT_IN, base_url=fake.base_url)
    assert failure_of(lambda: upstream.embed(call_of("a"), timeout=5)).kind is Kind.MISCONFIGURED
    assert upstream.embed(call_of("a"), timeout=5).vectors


LEAKS = [
    status(400, text=CANARY),
    status(500, text=CANARY),
    error_under_200(429, text=CANARY),
    error_under_200(CANARY),
    other_model(f"gemini-embedding-{CANARY}"),
    Behaviour("garbage", text=CANARY),
    Behaviour("redirect", text=f"http://127.0.0.1/{CANARY}"),
    Behaviour("ok"),
    Behaviour("disconnect"),
    Behaviour("nan_literal"),
]


@pytest.mark.parametrize("behaviour", LEAKS, ids=_name)
def test_nothing_leaks(
    openrouter: OpenRouter, fake: FakeOpenRouter, caplog: pytest.LogCaptureFixture, behaviour: Behaviour
) -> None:
    caplog.set_level(logging.DEBUG)
    fake.next(behaviour)
    call = call_of(f"input {CANARY}", passthrough={"user": CANARY}, headers={"x-title": CANARY})
    said = ""
    if behaviour.kind == "ok":
        assert openrouter.embed(call, timeout=5).vectors
    else:
        said = shown(failure_of(lambda: openrouter.embed(call, timeout=5)))
    for secret in (CANARY, KEY, fake.origin):
        assert secret not in said
        assert secret not in caplog.text


def test_our_key_goes_to_the_configured_origin_only(
    openrouter: OpenRouter, fake: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeOpenRouter() as elsewhere:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, elsewhere.origin)
        fake.next(Behaviour("redirect", text=f"{elsewhere.base_url}/embeddings"), "ok")
        failure_of(lambda: openrouter.embed(call_of("a"), timeout=5))
        assert bought(openrouter, call_of("a")).vectors
        assert elsewhere.calls == 0
        assert not elsewhere.connections
