"""Reading and writing OpenAI's embeddings, without a network."""

from __future__ import annotations

import base64
import random
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedonce.core import vector
from embedonce.core.catalog import BUILT_IN, GEMINI_EMBEDDING_2
from embedonce.core.content import Content, MediaPart, Modality, TextPart
from embedonce.ports import UpstreamAnswer
from embedonce.upstreams import openai_wire
from embedonce.upstreams.failure import Kind, UpstreamFailure
from embedonce.upstreams.reading import answer_limit
from embedonce.upstreams.transport import Reply
from support.upstream import failure_of, shown

NAMES = openai_wire.model_names(BUILT_IN)
ASKED = GEMINI_EMBEDDING_2.id


def read(body: Any, count: int, *, status: int = 200) -> UpstreamAnswer:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    reply = Reply(status, {}, raw, retry_after=3.0)
    return openai_wire.read_answer(reply, count=count, asked=ASKED, names=NAMES, upstream="fake")


def data_of(*indexes: Any) -> dict[str, Any]:
    """Item i's vector is [i, 1], whatever its index."""
    return {"data": [{"index": index, "embedding": [i, 1.0]} for i, index in enumerate(indexes)]}


def order(answer: UpstreamAnswer) -> list[int]:
    return [int(vector.unpack(data)[0]) for data in answer.vectors]


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(6)), st.booleans())
def test_any_order_is_put_right(indexes: list[int], as_floats: bool) -> None:
    answer = read(data_of(*(float(i) if as_floats else i for i in indexes)), 6)
    assert order(answer) == [indexes.index(position) for position in range(6)]


INDEX = st.one_of(
    st.integers(-1, 3), st.none(), st.booleans(), st.sampled_from(["0", 0.5, -1.0, 1e300, [], {}, 2**63])
)


@settings(max_examples=200, deadline=None)
@given(st.lists(INDEX, min_size=3, max_size=3))
def test_indexes_that_are_not_a_permutation_are_refused(indexes: list[Any]) -> None:
    whole = [i for i in indexes if type(i) is int]
    if sorted(whole) == [0, 1, 2]:
        assert order(read(data_of(*indexes), 3)) == [indexes.index(i) for i in range(3)]
    else:
        assert failure_of(lambda: read(data_of(*indexes), 3)).kind is Kind.INVALID


def test_only_a_single_vector_needs_no_index() -> None:
    """Several without indexes may be in any order, and nothing in them would show it."""
    body = data_of(0)
    del body["data"][0]["index"]
    assert order(read(body, 1)) == [0]
    body = data_of(0, 0, 0)
    for item in body["data"]:
        del item["index"]
    assert failure_of(lambda: read(body, 3)).kind is Kind.INVALID


@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_another_number_of_vectors_is_refused(count: int) -> None:
    failure = failure_of(lambda: read(data_of(0, 1), count))
    assert failure.kind is Kind.INVALID
    assert f"2 vectors for {count} inputs" in failure.message


def test_numbers_and_base64_are_read_alike() -> None:
    values = np.random.default_rng(1).normal(size=3072).astype("<f4")
    as_numbers = orjson.dumps({"data": [{"embedding": values}]}, option=orjson.OPT_SERIALIZE_NUMPY)
    as_base64 = {"data": [{"embedding": base64.b64encode(values.tobytes()).decode()}]}
    assert read(as_numbers, 1).vectors == read(as_base64, 1).vectors == (values.tobytes(),)


@pytest.mark.parametrize(
    "embedding",
    [
        None,
        True,
        1.0,
        {},
        {"values": [1.0]},
        [None, 1.0],
        [True, 1.0],
        ["1.0", 1.0],
        [[1.0, 2.0]],
        [{}, 1.0],
        "not base64",
        "AAAA",
        "AAAAA",
        "ÄÄÄÄ",
    ],
)
def test_what_is_not_a_vector_is_refused(embedding: Any) -> None:
    failure = failure_of(lambda: read({"data": [{"index": 0, "embedding": embedding}]}, 1))
    assert failure.kind is Kind.INVALID
    assert failure.billed


@pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"nan"])
def test_not_a_number_literals_are_refused_and_named(literal: bytes) -> None:
    failure = failure_of(lambda: read(b'{"data": [{"index": 0, "embedding": [1.0, ' + literal + b"]}]}", 1))
    assert failure.kind is Kind.INVALID
    assert "NaN" in failure.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"canary"',
        b"canary",
        b"\xff",
        b"[" * 5000,
        b"{}",
        b'{"data": null}',
        b'{"data": {}}',
        b'{"data": [null]}',
        b'{"data": [[1.0, 2.0]]}',
        b'{"data": [{}]}',
    ],
)
def test_what_is_not_an_answer_is_refused(body: bytes) -> None:
    failure = failure_of(lambda: read(body, 1))
    assert failure.kind is Kind.INVALID
    assert "canary" not in shown(failure)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["data", "error", "usage", "model"]), json_values))
def test_no_answer_whatever_its_shape_escapes_as_another_error(body: dict[str, Any]) -> None:
    try:
        read(body, 1)
    except UpstreamFailure as failure:
        assert isinstance(failure.kind, Kind)  # noqa: PT017


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 429, "message": "canary"}, Kind.BUSY),
        ({"code": "429"}, Kind.BUSY),
        ({"code": 503}, Kind.REFUSED),
        ({"code": 502}, Kind.BROKEN),
        ({"code": 402}, Kind.MISCONFIGURED),
        ({"code": 400}, Kind.REJECTED),
        ({"code": 200}, Kind.BROKEN),
        ({"code": 0}, Kind.BROKEN),
        ({"code": True}, Kind.BROKEN),
        ({"code": "rate_limit"}, Kind.BROKEN),
        ({"code": "٤٢٩"}, Kind.BROKEN),
        ({"message": "canary"}, Kind.BROKEN),
        ("canary", Kind.BROKEN),
        (["canary"], Kind.BROKEN),
    ],
)
def test_an_error_under_200_is_an_error(error: Any, kind: Kind) -> None:
    failure = failure_of(lambda: read({**data_of(0), "error": error}, 1))
    assert failure.kind is kind
    assert "canary" not in shown(failure)
    if kind in (Kind.BUSY, Kind.REFUSED):
        assert failure.retry_after == 3.0


def test_an_empty_error_is_none() -> None:
    assert order(read({**data_of(0), "error": None}, 1)) == [0]


@pytest.mark.parametrize("status", [201, 202, 204, 226])
def test_only_200_is_success(status: int) -> None:
    assert failure_of(lambda: read(data_of(0), 1, status=status)).kind is Kind.INVALID


@pytest.mark.parametrize(
    ("usage", "tokens", "cost"),
    [
        ({"prompt_tokens": 4, "total_tokens": 4, "cost": 0.0000008}, 4, 800_000),
        ({"prompt_tokens": 4.0, "cost": "0.0000008"}, 4, 800_000),
        ({"total_tokens": 7, "cost": 0}, 7, 0),
        ({"prompt_tokens": 0, "total_tokens": 7}, 7, None),
        ({"prompt_tokens": 0}, 0, None),
        ({"prompt_tokens": 4.5, "cost": -1}, None, None),
        ({"prompt_tokens": -4, "cost": True}, None, None),
        ({"prompt_tokens": True, "cost": "nan"}, None, None),
        ({"prompt_tokens": "4", "cost": "inf"}, None, None),
        ({"prompt_tokens": 10**12, "cost": 1e9}, None, None),
        ({"prompt_tokens": None, "cost": None}, None, None),
        ({"prompt_tokens": [4], "cost": {"usd": 1}}, None, None),
        ({"cost": "1" * 5000}, None, None),
        ([], None, None),
        ("free", None, None),
        (None, None, None),
    ],
)
def test_usage(usage: Any, tokens: int | None, cost: int | None) -> None:
    answer = read({**data_of(0), "usage": usage}, 1)
    assert (answer.tokens, answer.cost) == (tokens, cost)


@pytest.mark.parametrize(
    ("answered", "differs"),
    [
        ("google/gemini-embedding-2", False),
        ("gemini-embedding-2", False),
        ("models/gemini-embedding-2", False),
        ("publishers/google/models/Gemini-Embedding-2", False),
        ("gemini-embedding-2-001", False),
        ("google/gemini-embedding-2-2026-04-22", False),
        ("gemini-embedding-2@v2", False),
        ("gemini-embedding-2-latest", False),
        ("google/gemini-embedding-2:free", False),
        ("some-deployment", False),
        ("text-embedding-3-small", False),
        ("", False),
        (None, False),
        (7, False),
        (["gemini-embedding-001"], False),
        ("gemini-embedding-2-preview", True),
        ("google/gemini-embedding-2-preview", True),
        ("models/gemini-embedding-2-preview-04-2026", True),
        ("gemini-embedding-001", True),
        ("google/gemini-embedding-exp-03-07", True),
        ("gemini-embedding-2.5", True),
        ("gemini-embedding-20", True),
        ("gemini-embedding-3", True),
    ],
)
def test_the_model_that_answered(answered: Any, differs: bool) -> None:
    assert NAMES.differ(ASKED, answered) is differs
    body = {**data_of(0), "model": answered}
    if differs:
        failure = failure_of(lambda: read(body, 1))
        assert failure.kind is Kind.INVALID
        assert answered not in failure.message
    else:
        assert order(read(body, 1)) == [0]


def test_the_preview_is_not_its_successor() -> None:
    preview = "google/gemini-embedding-2-preview"
    assert NAMES.differ(preview, "gemini-embedding-2")
    assert NAMES.differ(preview, "gemini-embedding-2-001")
    assert not NAMES.differ(preview, "gemini-embedding-2-preview")
    assert not NAMES.differ(preview, "gemini-embedding-2-preview-04-2026")
    assert not NAMES.differ("BAAI/bge-m3", "bge-m3")
    assert NAMES.differ("BAAI/bge-m3", "gemini-embedding-2")


def body_of(**given: Any) -> Any:
    defaults: dict[str, Any] = {"model": "m", "inputs": ["a"], "dimensions": None, "extras": {}}
    return orjson.loads(openai_wire.request_body(**{**defaults, **given}, upstream="fake"))


def test_request_body() -> None:
    assert body_of() == {"model": "m", "input": ["a"], "encoding_format": "float"}
    evil = {"model": "x", "input": ["x"], "dimensions": 1, "encoding_format": "base64", "user": "u"}
    asked = {"model": "m", "input": ["a"], "encoding_format": "float", "user": "u"}
    assert body_of(extras=evil) == asked
    assert body_of(extras=evil, dimensions=256) == {**asked, "dimensions": 256}


@pytest.mark.parametrize("value", [object(), {1: 2}, "\ud800", 2**80, b"x"])
def test_extras_that_json_cannot_say(value: Any) -> None:
    assert failure_of(lambda: body_of(extras={"user": value})).kind is Kind.REJECTED


def test_inputs_of_several_parts() -> None:
    one, two = Content.of_text("a"), Content((TextPart("b"), TextPart("c")))
    assert openai_wire.part_inputs([one, one]) == ["a", "a"]
    assert openai_wire.part_inputs([one, two]) == [
        {"content": [{"type": "text", "text": "a"}]},
        {"content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
    ]
    assert openai_wire.plain_inputs([one, one], "fake") == ["a", "a"]
    failure = failure_of(lambda: openai_wire.plain_inputs([one, two], "fake"))
    assert failure.kind is Kind.REJECTED
    assert "several parts" in failure.message


def test_media_are_data_urls_in_parts_of_their_own() -> None:
    kinds = {
        Modality.IMAGE: ("image_url", "url", "image/png"),
        Modality.AUDIO: ("input_audio", "data", "audio/wav"),
        Modality.VIDEO: ("input_video", "data", "video/mp4"),
        Modality.PDF: ("input_file", "data", "application/pdf"),
    }
    for modality, (kind, name, media_type) in kinds.items():
        medium = MediaPart.of(modality, media_type, b"\xfb\xff\x00")
        (sent,) = openai_wire.part_inputs([Content((TextPart("a"), medium))])
        assert sent["content"] == [
            {"type": "text", "text": "a"},
            {"type": kind, kind: {name: f"data:{media_type};base64,+/8A"}},
        ]
        failure = failure_of(lambda m=medium: openai_wire.plain_inputs([Content((m,))], "fake"))  # type: ignore[misc]
        assert failure.kind is Kind.REJECTED


def test_the_longest_honest_answer_fits() -> None:
    numbers = random.Random(1)
    vectors = [[numbers.uniform(-1e-5, 1e-5) for _ in range(3072)] for _ in range(3)]
    body = {"data": [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)]}
    assert len(orjson.dumps(body, option=orjson.OPT_INDENT_2)) < answer_limit(3, 3072)
