"""One vector for different inputs, over calls that hold one input each."""

from __future__ import annotations

import pytest

from embedonce.core import vector
from embedonce.core.content import Content, MediaPart, Modality
from embedonce.core.errors import UpstreamInvalid
from embedonce.core.validation import subject_of
from embedonce.upstreams.repeats import REMEMBERED, Repeats

SAME = vector.pack([0.6, 0.8])


def picture(data: bytes) -> Content:
    return Content((MediaPart.of(Modality.IMAGE, "image/png", data),))


@pytest.mark.parametrize(
    "other", [Content.of_text("another"), picture(b"1"), picture(b"2")], ids=["text", "image", "image 2"]
)
def test_it_is_refused(other: Content) -> None:
    repeats = Repeats()
    first = picture(b"0")
    repeats.check(SAME, subject_of(first), "fake")
    repeats.check(SAME, subject_of(first), "fake")
    with pytest.raises(UpstreamInvalid, match="equal for different inputs"):
        repeats.check(SAME, subject_of(other), "fake")


def test_texts_that_a_tokenizer_may_not_tell_apart_pass() -> None:
    repeats = Repeats()
    repeats.check(SAME, subject_of(Content.of_text("A cat")), "fake")
    repeats.check(SAME, subject_of(Content.of_text("a  CAT")), "fake")


def test_the_memory_is_bounded() -> None:
    repeats = Repeats()
    for n in range(REMEMBERED + 10):
        repeats.check(vector.pack([1.0, float(n)]), subject_of(Content.of_text(f"text {n}")), "fake")
    repeats.check(vector.pack([1.0, 0.0]), subject_of(Content.of_text("forgotten by now")), "fake")
