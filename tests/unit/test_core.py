"""The smaller parts of the core: records, money, tasks, plan, validation, cache controls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedonce.core import cachecontrol, pricing, validation, vector
from embedonce.core.cachecontrol import CacheControls
from embedonce.core.catalog import BUILT_IN, GEMINI_EMBEDDING_2, Catalog, check_content, checked_dimensions
from embedonce.core.content import Content, MediaPart, Modality, TextPart, text_part
from embedonce.core.errors import InvalidRequest, LimitExceeded, NotFound, UpstreamInvalid
from embedonce.core.fingerprint import Namespace, Space, fingerprinter
from embedonce.core.options import EmbedOptions
from embedonce.core.plan import batches, items_of
from embedonce.core.record import StoredVector
from embedonce.core.tasks import TaskType, with_prefix

RECORD = StoredVector(
    data=vector.pack([0.6, 0.8]),
    model="google/gemini-embedding-2",
    lineage="gemini:google/gemini-embedding-2:prefix-1",
    upstream="openrouter",
    modality=Modality.TEXT,
    tokens=4,
    cost=800_000,
    created=1_800_000_000,
    expires=1_815_552_000,
)


def test_golden_record() -> None:
    assert RECORD.metadata() == {
        "f": "1",
        "m": "google/gemini-embedding-2",
        "l": "gemini:google/gemini-embedding-2:prefix-1",
        "u": "openrouter",
        "k": "text",
        "d": "2",
        "t": "4",
        "n": "0",
        "p": "800000",
        "c": "1800000000",
        "e": "1815552000",
    }
    assert StoredVector.from_metadata(RECORD.metadata(), RECORD.data) == RECORD


@pytest.mark.parametrize("damage", [{"f": "2"}, {"d": "3"}, {"k": "smell"}, {"t": "x"}, {"m": None}], ids=str)
def test_a_damaged_record_is_refused(damage: dict[str, str | None]) -> None:
    metadata = {k: v for k, v in (RECORD.metadata() | damage).items() if v is not None}
    with pytest.raises(ValueError, match=r"."):
        StoredVector.from_metadata(metadata, RECORD.data)


def test_money_is_exact() -> None:
    price = pricing.Price.per_million("0.20")
    assert price.of(4) == pricing.from_usd(0.0000008) == 800_000
    assert pricing.usd_text(800_000) == "0.0000008"
    assert pricing.usd_text(3 * pricing.PICO) == "3"
    assert [pricing.from_usd(x) for x in (float("nan"), float("inf"), -1.0)] == [0, 0, 0]


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**6), min_size=1, max_size=50))
def test_apportioned_shares_add_up(total: int, weights: list[int]) -> None:
    shares = pricing.apportion(total, weights)
    assert sum(shares) == total
    assert all(share >= 0 for share in shares)


def test_task_prefixes_are_the_documented_ones() -> None:
    sent = {task: with_prefix(Content.of_text("x"), task, None).parts[0] for task in TaskType}
    assert {task.value: part.text for task, part in sent.items() if isinstance(part, TextPart)} == {
        "RETRIEVAL_QUERY": "task: search result | query: x",
        "RETRIEVAL_DOCUMENT": "title: none | text: x",
        "QUESTION_ANSWERING": "task: question answering | query: x",
        "FACT_VERIFICATION": "task: fact checking | query: x",
        "CODE_RETRIEVAL_QUERY": "task: code retrieval | query: x",
        "CLASSIFICATION": "task: classification | query: x",
        "CLUSTERING": "task: clustering | query: x",
        "SEMANTIC_SIMILARITY": "task: sentence similarity | query: x",
    }
    titled = with_prefix(Content.of_text("x"), TaskType.RETRIEVAL_DOCUMENT, "T")
    assert titled == Content.of_text("title: T | text: x")


def test_content_with_media_gets_no_prefix() -> None:
    content = Content((TextPart("x"), MediaPart.of(Modality.IMAGE, "image/png", b"p")))
    assert with_prefix(content, TaskType.CLUSTERING, None) is content
    assert content.modality is Modality.IMAGE


def test_text_must_be_there_and_valid() -> None:
    with pytest.raises(InvalidRequest, match=r"input\[1\]: text must not be empty"):
        text_part("", "input[1]")
    with pytest.raises(InvalidRequest, match="lone surrogate at character 1"):
        text_part("a\ud800", "input")


def test_catalogue() -> None:
    catalog = Catalog(BUILT_IN)
    assert catalog.find("gemini-embedding-2") is catalog.find("models/gemini-embedding-2")
    with pytest.raises(NotFound, match="Known models"):
        catalog.find("gpt-5")
    assert checked_dimensions(GEMINI_EMBEDDING_2, None) == checked_dimensions(GEMINI_EMBEDDING_2, 3072)
    for wrong in (127, 3073, 0, -1):
        with pytest.raises(LimitExceeded, match=f"128 to 3072 .* got {wrong}"):
            checked_dimensions(GEMINI_EMBEDDING_2, wrong)
    with pytest.raises(LimitExceeded, match=r"65536 bytes of text .* got 65537 bytes"):
        check_content(GEMINI_EMBEDDING_2, Content.of_text("x" * 65_537), "input")


MAKER = fingerprinter(Namespace("n"), Space("l", "m"), {})


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40))
def test_plan_asks_for_each_content_once_and_covers_every_position(texts: list[str]) -> None:
    contents = [Content.of_text(t) for t in texts]
    options = EmbedOptions(GEMINI_EMBEDDING_2, 768)
    items = items_of(contents, [MAKER] * len(contents), options, [f"in[{i}]" for i in range(len(texts))])
    assert len(items) == len(set(texts))
    assert [item.param for item in items] == [f"in[{min(item.positions)}]" for item in items]
    assert sorted(p for item in items for p in item.positions) == list(range(len(texts)))
    for item in items:
        assert {texts[p] for p in item.positions} == {item.content.parts[0].text}  # type: ignore[union-attr]
        assert item.source is not None
        assert item.source.dimensions == 3072
        assert item.fetch.dimensions == 768
    for size in (1, 3, 100):
        split = list(batches(items, size, 10**6))
        assert all(len(batch) <= size for batch in split)
        assert [i for batch in split for i in batch] == list(items)


def test_media_are_fetched_at_full_size_and_cut_for_the_answer() -> None:
    image = Content((MediaPart.of(Modality.IMAGE, "image/png", b"p"),))
    (item,) = items_of([image], [MAKER], EmbedOptions(GEMINI_EMBEDDING_2, 768), ["input"])
    assert (item.fetch.dimensions, item.source, item.dimensions) == (3072, None, 768)


def test_batches_respect_bytes_and_let_one_large_text_through() -> None:
    contents = [Content.of_text(c * 10) for c in "abcd"]
    items = items_of(contents, [MAKER] * 4, EmbedOptions(GEMINI_EMBEDDING_2, 3072), list("abcd"))
    assert [len(b) for b in batches(items, 100, 20)] == [2, 2]
    assert [len(b) for b in batches(items, 100, 5)] == [1, 1, 1, 1]


GOOD = [vector.pack([1.0, 0.0]), vector.pack([0.0, 1.0])]
TEXTS = [Content.of_text("one"), Content.of_text("two")]


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        (GOOD[:1], "1 vectors for 2 inputs"),
        ([*GOOD, GOOD[0]], "3 vectors for 2 inputs"),
        ([], "0 vectors for 2 inputs"),
        ([GOOD[0], vector.pack([1.0])], "vector 1 has 1 dimensions, not 2"),
        ([GOOD[0], b""], "vector 1 has 0 dimensions"),
        ([GOOD[0], vector.pack([float("nan"), 1.0])], "vector 1 has a value that is not finite"),
        ([vector.pack([1e300, 1.0]), GOOD[0]], "vector 0 has a value that is not finite"),
        ([GOOD[0], vector.pack([0.0, -0.0])], "vector 1 is zero"),
        ([GOOD[0], GOOD[0]], "vectors 0 and 1 are equal for different inputs"),
    ],
)
def test_a_doubtful_batch_is_refused_as_a_whole(vectors: list[bytes], said: str) -> None:
    with pytest.raises(UpstreamInvalid, match=said):
        validation.checked_vectors(vectors, TEXTS, 2, upstream="fake")


def test_equal_vectors_are_believed_where_a_tokenizer_may_see_no_difference() -> None:
    same = [Content.of_text("Dog bites man"), Content.of_text("man bites  dog")]
    validation.checked_vectors([GOOD[0], GOOD[0]], same, 2, upstream="fake")
    validation.checked_vectors([GOOD[0], GOOD[0]], TEXTS, 2, upstream="fake", distinct=False)


@pytest.mark.parametrize(
    ("header", "controls"),
    [
        ("no-cache", CacheControls(no_cache=True)),
        ("No-Store , max-age=5", CacheControls(no_store=True, max_age=5)),
        ('max-age="7", max-age=3', CacheControls(max_age=3)),
        ("only-if-cached", CacheControls(only_if_cached=True)),
        ("max-age=-1, max-age=x, private, , =", CacheControls()),
        ("max-age=99999999999999", CacheControls(max_age=2**31)),
    ],
)
def test_cache_control(header: str, controls: CacheControls) -> None:
    assert cachecontrol.parse_header(header) == controls
