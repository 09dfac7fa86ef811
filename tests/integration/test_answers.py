"""What callers get: hits equal misses bit for bit, whatever the pattern; PITFALLS 1-19 through the API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedonce.core import vector
from fakes.openrouter import FakeOpenRouter
from support.gateway import TestGateway, gateway


def test_a_miss_then_a_hit_are_equal_in_every_encoding(gate: TestGateway, fake: FakeOpenRouter) -> None:
    answers = [gate.embed("hello", encoding_format=e) for e in ("float", "base64", "base64", "float")]
    assert {a.status for a in answers} == {200}
    assert {a.vectors[0] for a in answers} == {fake.vector_for("hello", 3072)}
    assert [a.headers["X-Cache"] for a in answers] == ["MISS", "HIT", "HIT", "HIT"]
    assert fake.calls == 1
    assert isinstance(answers[0].body["data"][0]["embedding"], list)
    assert isinstance(answers[1].body["data"][0]["embedding"], str)


def test_absent_and_default_dimensions_are_one_entry(gate: TestGateway, fake: FakeOpenRouter) -> None:
    gate.embed("hello")
    assert gate.embed("hello", dimensions=3072).headers["X-Cache"] == "HIT"
    assert gate.embed("hello", dimensions=3072.0).headers["X-Cache"] == "HIT"
    assert fake.calls == 1


def test_a_smaller_size_is_derived_from_the_full_one(gate: TestGateway, fake: FakeOpenRouter) -> None:
    full = gate.embed("hello").vectors[0]
    derived = gate.embed("hello", dimensions=768)
    assert derived.detail == "hits=0 misses=0 derived=1"
    assert derived.vectors == [vector.cut(full, 768)]
    assert gate.embed("hello", dimensions=768, encoding_format="base64").vectors == derived.vectors
    assert fake.calls == 1


def test_a_size_that_was_bought_is_not_derived_later(gate: TestGateway, fake: FakeOpenRouter) -> None:
    """What was answered first stays the answer, also when the full size comes to the cache afterwards."""
    bought = gate.embed("hello", dimensions=256).vectors
    gate.embed("hello")
    assert gate.embed("hello", dimensions=256).vectors == bought
    assert fake.calls == 2


def test_partial_hits_keep_every_vector_at_its_place(gate: TestGateway, fake: FakeOpenRouter) -> None:
    gate.embed(["b", "d"], dimensions=128)
    fake.next("shuffle")
    answer = gate.embed(["a", "b", "c", "d", "e", "a"], dimensions=128)
    assert answer.vectors == [fake.vector_for(t, 128) for t in "abcdea"]
    assert answer.headers["X-Cache"] == "PARTIAL"
    assert answer.detail == "hits=2 misses=3 derived=0"
    assert fake.billed == dict.fromkeys("abcde", 1)


def test_a_list_of_one_and_a_string_are_the_same(gate: TestGateway, fake: FakeOpenRouter) -> None:
    one = gate.embed("a", dimensions=128)
    assert gate.embed(["a"], dimensions=128).vectors == one.vectors
    assert gate.embed([{"content": [{"type": "text", "text": "a"}]}], dimensions=128).vectors == one.vectors
    assert fake.calls == 1


def test_parts_of_one_element_are_one_vector_and_elements_are_several(
    gate: TestGateway, fake: FakeOpenRouter
) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    joined = gate.embed([{"content": parts}], dimensions=128)
    assert joined.vectors == [fake.vector_for(["a", "b"], 128)]
    assert gate.embed(["a", "b"], dimensions=128).vectors == [fake.vector_for(t, 128) for t in "ab"]


@pytest.mark.parametrize(
    "fields",
    [
        {"dimensions": 256},
        {"input_type": "search_query"},
        {"task_type": "RETRIEVAL_QUERY"},
        {"task_type": "RETRIEVAL_DOCUMENT"},
        {"task_type": "RETRIEVAL_DOCUMENT", "title": "T"},
        {"model": "google/gemini-embedding-2-preview"},
        {"provider": {"only": ["google-vertex"]}},
        {"cache": {"namespace": "other"}},
    ],
    ids=str,
)
def test_what_changes_the_vector_is_another_entry(
    gate: TestGateway, fake: FakeOpenRouter, fields: dict[str, Any]
) -> None:
    gate.embed("hello", dimensions=128)
    other = gate.embed("hello", **{"dimensions": 128, **fields})
    assert other.headers["X-Cache"] == "MISS"
    assert fake.calls == 2
    assert gate.embed("hello", **{"dimensions": 128, **fields}).vectors == other.vectors
    assert fake.calls == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "somebody"},
        {"session_id": "s"},
        {"trace": {"trace_id": "t"}},
        {"provider": {"data_collection": "deny", "sort": "price"}},
        {"unknown": [1, {"x": None}]},
        {"encoding_format": "base64"},
        {"dimensions": None, "encoding_format": None, "task_type": None, "title": None, "cache": None},
        {"title": "without a task type it is not sent"},
    ],
    ids=str,
)
def test_what_does_not_is_the_same_entry(
    gate: TestGateway, fake: FakeOpenRouter, fields: dict[str, Any]
) -> None:
    gate.embed("hello")
    assert gate.embed("hello", **fields).headers["X-Cache"] == "HIT"
    headers = {"http-referer": "https://example.com", "x-title": "App"}
    assert gate.embed("hello", headers=headers, **fields).headers["X-Cache"] == "HIT"
    assert fake.calls == 1


def test_a_task_goes_into_the_text_and_nothing_else_of_it_is_sent(
    gate: TestGateway, fake: FakeOpenRouter
) -> None:
    gate.embed("x", task_type="RETRIEVAL_DOCUMENT", title="T", dimensions=128)
    assert fake.last.body["input"] == ["title: T | text: x"]
    assert not {"task_type", "title"} & fake.last.body.keys()
    # the same bytes upstream are the same entry, whoever wrote the prefix
    assert gate.embed("title: T | text: x", dimensions=128).headers["X-Cache"] == "HIT"


def test_input_type_and_what_cannot_change_the_vector_are_passed_on(
    gate: TestGateway, fake: FakeOpenRouter
) -> None:
    gate.embed(
        "x",
        input_type="search_query",
        user="u",
        session_id="s",
        trace={"a": 1},
        provider={"order": ["google"], "data_collection": "deny"},
        temperature=0.5,
        headers={"http-referer": "https://example.com", "x-title": "App", "cookie": "secret"},
    )
    sent = fake.last
    assert sent.body["input_type"] == "search_query"
    assert (sent.body["user"], sent.body["session_id"], sent.body["trace"]) == ("u", "s", {"a": 1})
    assert sent.body["provider"] == {"order": ["google"], "data_collection": "deny"}
    assert "temperature" not in sent.body
    assert sent.headers["http-referer"] == "https://example.com"
    assert sent.headers["x-title"] == "App"
    assert "cookie" not in sent.headers


def test_non_ascii_text_hits(gate: TestGateway, fake: FakeOpenRouter) -> None:
    for text in ("naïve", "日本語", "🙂🙃", "e\u0301", "\u00e9", "\u0000", " "):
        first = gate.embed(text, dimensions=128)
        assert first.headers["X-Cache"] == "MISS"
        again = gate.embed(text, dimensions=128)
        assert again.headers["X-Cache"] == "HIT"
        assert first.vectors == again.vectors == [fake.vector_for(text, 128)]


def test_usage_is_the_same_on_hit_and_miss_and_a_hit_costs_nothing(
    gate: TestGateway, fake: FakeOpenRouter
) -> None:
    texts = ["a long text of several words", "short"]
    miss, hit = gate.embed(texts, dimensions=128), gate.embed(texts, dimensions=128)
    assert miss.usage["prompt_tokens"] == miss.usage["total_tokens"] == hit.usage["prompt_tokens"] > 0
    assert miss.usage["prompt_tokens_details"]["cached_tokens"] == 0
    assert hit.usage["prompt_tokens_details"]["cached_tokens"] == hit.usage["prompt_tokens"]
    assert hit.usage["cost"] == 0
    assert miss.usage["cost"] > 0
    assert hit.headers["X-Cost-USD"] == "0"
    assert hit.headers["X-Cost-Saved-USD"] == miss.headers["X-Cost-USD"]
    partial = gate.embed([texts[0], "new", texts[0]], dimensions=128)
    cached = partial.usage["prompt_tokens_details"]["cached_tokens"]
    assert 0 < cached < partial.usage["prompt_tokens"]


def test_without_usage_tokens_are_estimated_and_never_null(gate: TestGateway, fake: FakeOpenRouter) -> None:
    fake.always("no_usage")
    usage = gate.embed("twelve bytes", dimensions=128).usage
    assert usage["prompt_tokens"] == 3
    assert None not in usage.values()
    assert usage["cost"] == pytest.approx(3 * 0.20 / 1e6)


def test_more_than_100_inputs_are_several_upstream_calls(gate: TestGateway, fake: FakeOpenRouter) -> None:
    texts = [f"text number {i}" for i in range(250)]
    answer = gate.embed(texts, dimensions=128, encoding_format="base64")
    assert answer.vectors == [fake.vector_for(t, 128) for t in texts]
    assert fake.calls == 3
    assert max(len(r.body["input"]) for r in fake.requests) == 100
    assert gate.embed(texts, dimensions=128).headers["X-Cache"] == "HIT"


def test_openrouters_path_and_model_aliases_share_the_entry(gate: TestGateway, fake: FakeOpenRouter) -> None:
    gate.embed("x")
    other = gate.embed("x", path="/api/v1/embeddings", model="gemini-embedding-2")
    assert other.headers["X-Cache"] == "HIT"
    assert other.body["model"] == "google/gemini-embedding-2"


def test_vectors_survive_a_restart(tmp_path: Path, fake: FakeOpenRouter) -> None:
    with gateway(tmp_path, fake) as first:
        vectors = first.embed(["a", "b"], dimensions=128).vectors
    with gateway(tmp_path, fake) as second:
        answer = second.embed(["b", "a"], dimensions=128)
    assert answer.vectors == vectors[::-1]
    assert answer.headers["X-Cache"] == "HIT"
    assert fake.calls == 1


TEXTS = st.sampled_from(["alpha", "beta", "gamma", "delta", "epsilon", "zeta"])
REQUESTS = st.lists(
    st.tuples(
        st.lists(TEXTS, min_size=1, max_size=8),
        st.sampled_from([None, 3072, 768, 256, 128]),
        st.sampled_from(["float", "base64"]),
        st.sampled_from([None, "RETRIEVAL_QUERY"]),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=REQUESTS)
def test_any_pattern_of_hits_misses_duplicates_and_derived_ones_answers_as_without_a_cache(
    tmp_path_factory: pytest.TempPathFactory, requests: list[Any]
) -> None:
    with FakeOpenRouter() as fake, gateway(tmp_path_factory.mktemp("data"), fake) as gate:
        for texts, dimensions, encoding, task in requests:
            answer = gate.embed(texts, dimensions=dimensions, encoding_format=encoding, task_type=task)
            assert answer.status == 200
            prefix = "task: search result | query: " if task else ""
            assert answer.vectors == [fake.vector_for(prefix + t, dimensions) for t in texts]
        bought = {(t, d or 3072, task) for texts, d, _, task in requests for t in texts}
        assert fake.inputs_billed <= len(bought)
