"""The cache key: golden values, and what must and must not change it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedonce.core.content import Content, MediaPart, Modality, TextPart
from embedonce.core.fingerprint import Namespace, Space, fingerprinter

SPACE = Space("gemini:google/gemini-embedding-2:prefix-1", "google/gemini-embedding-2")


def key(
    content: Content,
    dimensions: int | None = 3072,
    *,
    namespace: Namespace = Namespace("shared"),  # noqa: B008
    space: Space = SPACE,
    parameters: dict[str, Any] | None = None,
) -> str:
    return fingerprinter(namespace, space, parameters or {}).of(content, dimensions).hex()


def test_golden_text() -> None:
    assert key(Content.of_text("hello")) == "7db9e1700fcd59e746a6c82255fddb9aedce533a82809d58f23beda2a6c9e284"


def test_golden_everything() -> None:
    content = Content((TextPart("naïve 日本"), MediaPart.of(Modality.IMAGE, "image/png", b"\x89PNG")))
    parameters = {"provider": {"order": ["b", "a"]}, "input_type": "search_query"}
    made = key(
        content, 768, namespace=Namespace("team", "inner", 2), space=Space("l", "m", 1), parameters=parameters
    )
    assert made == "4ac7f74a3edd987bee2c9c5f1521d389295a53b03cdb45594c3860258c1340c5"


def test_golden_unknown_dimensions() -> None:
    parameters = {"input_type": "search_query", "provider": {"order": ["b", "a"]}}
    made = key(
        Content.of_text("x"),
        None,
        namespace=Namespace("team", "inner", 2),
        space=Space("l", "m", 1),
        parameters=parameters,
    )
    assert made == "2dc4b43257cd88d45cf562a185faa4011c6beda6390328523cd348b0c3271978"


BASE = key(Content.of_text("hello"))


@pytest.mark.parametrize(
    "other",
    [
        key(Content.of_text("Hello")),
        key(Content.of_text("hello"), 768),
        key(Content.of_text("hello"), None),
        key(Content.of_text("hello"), namespace=Namespace("other")),
        key(Content.of_text("hello"), namespace=Namespace("shared", "inner")),
        key(Content.of_text("hello"), namespace=Namespace("shared", generation=1)),
        key(Content.of_text("hello"), space=Space("embedded", SPACE.model)),
        key(Content.of_text("hello"), space=Space(SPACE.lineage, "google/gemini-embedding-2-preview")),
        key(Content.of_text("hello"), space=Space(SPACE.lineage, SPACE.model, 1)),
        key(Content.of_text("hello"), parameters={"input_type": "search_query"}),
        key(Content((TextPart("hel"), TextPart("lo")))),
        key(Content((MediaPart.of(Modality.IMAGE, "image/png", b"hello"),))),
        key(Content((MediaPart.of(Modality.PDF, "application/pdf", b"hello"),))),
    ],
)
def test_whatever_changes_the_vector_changes_the_key(other: str) -> None:
    assert other != BASE


def test_a_declared_media_type_does_not_change_the_key() -> None:
    one = Content((MediaPart.of(Modality.IMAGE, "image/png", b"bytes"),))
    other = Content((MediaPart.of(Modality.IMAGE, "image/x-png", b"bytes"),))
    assert key(one) == key(other)


def test_order_of_json_keys_does_not_matter() -> None:
    one = {"a": {"x": 1, "y": [1, 2]}, "b": "é"}
    other = {"b": "é", "a": {"y": [1, 2], "x": 1}}
    assert key(Content.of_text("t"), parameters=one) == key(Content.of_text("t"), parameters=other)


def test_separators_in_names_reach_no_other_namespace() -> None:
    spellings = [("a", "b"), ("a/b", ""), ("a", "/b"), ("ab", ""), ("", "ab"), ("a\x00b", ""), ("a", "b\x00")]
    keys = {key(Content.of_text("t"), namespace=Namespace(*pair)) for pair in spellings}
    assert len(keys) == len(spellings)


parts = st.one_of(
    st.text(min_size=1, max_size=8).map(TextPart),
    st.builds(
        MediaPart.of,
        st.sampled_from([m for m in Modality if m != "text"]),
        st.just(""),
        st.binary(max_size=8),
    ),
)


@given(
    st.tuples(
        *[st.tuples(st.lists(parts, min_size=1, max_size=3), st.text(max_size=4), st.text(max_size=4))] * 2
    )
)
def test_different_inputs_never_collide(pair: Any) -> None:
    keys = [key(Content(tuple(p)), namespace=Namespace(owner, inner)) for p, owner, inner in pair]
    same = pair[0] == pair[1]
    assert (keys[0] == keys[1]) == same
