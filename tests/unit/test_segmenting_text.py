"""Text and Markdown: where cuts are, that they cover the source, and that an edit changes few of them."""

from __future__ import annotations

import hashlib
import io
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedonce.core.segment import CutOptions, Format, Segment, Uncuttable, Unit
from embedonce.segmenting.cutter import cut

WORDS = [hashlib.sha256(str(n).encode()).hexdigest()[: 2 + n % 9] for n in range(500)]
DOCUMENT = "\n\n".join(
    (f"{'#' * (n % 4 + 1)} Part {n}\n\n" if n % 6 == 0 else "")
    + (f"```python\nfirst = {n}\n\nsecond = {n}\n```\n\n" if n % 10 == 3 else "")
    + " ".join(
        f"{WORDS[(n * 31 + k * k) % 500]}{'.' if k % 11 == 10 else ''}" for k in range(40 + n * 7 % 60)
    )
    for n in range(60)
)


class Dribble(io.RawIOBase):
    """Gives bytes in pieces of random sizes."""

    def __init__(self, data: bytes, seed: int) -> None:
        self._data, self._random = data, random.Random(seed)

    def read(self, size: int = -1) -> bytes:
        size = min(size, self._random.randint(1, 5000)) if size > 0 else len(self._data)
        given, self._data = self._data[:size], self._data[size:]
        return given


def segments(
    text: str | bytes, kind: Format = Format.TEXT, *, most: int = 8000, overlap: int = 0
) -> list[Segment]:
    data = text.encode() if isinstance(text, str) else text
    return list(cut(io.BytesIO(data), kind, CutOptions(segment_bytes=most, overlap_bytes=overlap)))


def texts(text: str, kind: Format = Format.TEXT, **options: int) -> list[str]:
    return [segment.text or "" for segment in segments(text, kind, **options)]


def digest(found: list[Segment]) -> str:
    return hashlib.sha256(b"".join(segment.sha256 for segment in found)).hexdigest()[:16]


def prose(seed: int, size: int) -> list[str]:
    chance = random.Random(seed)
    paragraphs: list[str] = []
    while size > 0:
        count = chance.randint(3, 9)
        paragraphs.append(" ".join(f"{' '.join(chance.choices(WORDS, k=12))}." for _ in range(count)))
        size -= len(paragraphs[-1]) + 2
    return paragraphs


@pytest.mark.parametrize(
    ("kind", "most", "overlap", "count", "expected"),
    [
        (Format.TEXT, 1000, 0, 41, "559acaf6cb6fa1d0"),
        (Format.MARKDOWN, 1000, 0, 41, "3c6ef8d41b7e0413"),
        (Format.MARKDOWN, 1000, 200, 47, "9ba44f2c1ee576dd"),
    ],
)
def test_cuts_do_not_change_by_accident(
    kind: Format, most: int, overlap: int, count: int, expected: str
) -> None:
    found = segments(DOCUMENT, kind, most=most, overlap=overlap)
    assert (len(found), digest(found)) == (count, expected)


WORDLIKE = ["word", "é", "日本", "👩\u200d👧", "🇩🇪", "a" * 30, "\u0301", "\ufeff", "\x00x", "。", "? ", "-"]
MARKUP = ["```\n", "~~~\n", "# h\n", "=\n", "| a |\n"]
SPACES = [" ", "  ", "\n", "\n\n", "\r\n", "\t", "\u2028"]
PIECES = st.sampled_from(WORDLIKE + MARKUP + SPACES)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(PIECES, min_size=1, max_size=200).map("".join),
    st.integers(16, 200),
    st.integers(0, 60),
    st.sampled_from([Format.TEXT, Format.MARKDOWN]),
    st.integers(0, 1000),
)
def test_ranges_cover_the_source_and_segments_fit(
    text: str, most: int, overlap: int, kind: Format, seed: int
) -> None:
    options = CutOptions(segment_bytes=most, overlap_bytes=overlap)
    data = b"\xef\xbb\xbf" + text.encode()
    if not text.strip():
        with pytest.raises(Uncuttable, match="is empty"):
            list(cut(io.BytesIO(data), kind, options))
        return
    found = list(cut(io.BytesIO(data), kind, options))
    assert list(cut(Dribble(data, seed), kind, options)) == found  # type: ignore[arg-type]
    end = 0
    for segment in found:
        start = int(segment.range.start)
        assert segment.range.unit is Unit.CHARACTERS
        assert start == end if not overlap else start <= end
        assert len(text[start:end].encode()) <= overlap
        end = int(segment.range.end)
        assert segment.text == text[start:end].strip() != ""
        assert len(segment.text.encode()) <= most
    assert end == len(text)


@pytest.mark.parametrize("overlap", [0, 800])
@pytest.mark.parametrize("edit", ["insert", "delete", "word"])
def test_an_edit_changes_only_the_segments_around_it(edit: str, overlap: int) -> None:
    for seed in range(5):
        paragraphs = prose(seed, 300_000)
        before = [s.sha256 for s in segments("\n\n".join(paragraphs), overlap=overlap)]
        middle = len(paragraphs) // 2
        if edit == "insert":
            paragraphs.insert(middle, "Here is something new. " * 20)
        elif edit == "delete":
            del paragraphs[middle]
        else:
            paragraphs[middle] = "x" + paragraphs[middle]
        after = [s.sha256 for s in segments("\n\n".join(paragraphs), overlap=overlap)]
        assert len(before) > 40
        assert len(set(after) - set(before)) <= 4
        assert len(set(before) - set(after)) <= 4


def test_headings_are_stronger_than_paragraphs_and_the_first_level_is_the_strongest() -> None:
    text = (
        "word " * 70
        + "\n\n## Two\n\n"
        + "word " * 10
        + "\n\n# One\n\n"
        + "word " * 10
        + "\n\n"
        + "word " * 90
    )
    assert texts(text, Format.MARKDOWN, most=600)[1].startswith("# One")
    title = "word " * 70 + "\n\nTitle\n=====\n\n" + "word " * 10 + "\n\n" + "word " * 90
    assert texts(title, Format.MARKDOWN, most=600)[1].startswith("Title\n=====")


def test_a_fence_and_a_table_are_kept_whole_where_there_is_another_place() -> None:
    before, after = "word " * 40, "word " * 120
    for whole in (
        "```\n# no heading\n\n## nor this\n\nx = 1\n```",
        "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |",
    ):
        found = texts(f"{before}\n{whole}\n{after}", Format.MARKDOWN, most=400)
        assert any(whole in text for text in found)


def test_an_open_fence_goes_on_in_the_next_segment() -> None:
    code = "\n\n".join(f"# comment {n} {'x' * 40}" for n in range(40))
    text = f"```\n{code}\n```\n\n" + ("# Heading\n\n" + "word " * 70 + "\n\n") * 6
    found = texts(text, Format.MARKDOWN, most=500)
    assert sum(part.startswith("# Heading") for part in found) >= 4
    plain = texts(f"{code}\n\n" + "word " * 100, Format.MARKDOWN, most=500)
    assert sum(part.startswith("# comment") for part in plain) > 2


def test_sentences_then_words_then_characters() -> None:
    assert all(part.endswith(".") for part in texts("Some words are here. " * 100, most=300))
    assert all(part.endswith("。") for part in texts("日本語の文です。" * 100, most=300))
    assert set(" ".join(texts("word " * 500, most=300)).split()) == {"word"}
    assert [len(part) for part in texts("a" * 1000, most=300)] == [300, 300, 300, 100]


def test_what_a_reader_sees_as_one_character_is_not_cut() -> None:
    for one in ("e\u0301", "👩‍👩‍👧‍👦", "👍🏽", "क\u094d"):
        for part in texts(one * 300, most=200):
            assert part.startswith(one[0])
            assert part.endswith(one[-1])


def test_the_last_segment_is_not_tiny() -> None:
    for size in range(990, 1110):
        parts = texts(("word " * 500)[:size], most=1000)
        assert len(parts) == 1 or len(parts[-1]) > 200


def test_overlap_repeats_the_end_of_the_text_before_from_a_sentence_on() -> None:
    found = segments("A sentence of some words. " * 100, most=400, overlap=100)
    for one, two in pairwise(found):
        assert one.range.start < two.range.start < one.range.end
        assert (two.text or "").startswith("A sentence")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_choose_the_encoding_and_are_dropped(encoding: str) -> None:
    (found,) = segments("Grüße 😀".encode(encoding))
    assert found.text == "Grüße 😀"
    assert found.range.end == 7


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"abc\xff", "is not valid UTF-8 at byte 3"),
        (b"a" * 300_000 + b"\xc3", "is not valid UTF-8 at byte 300000"),
        (b"\xef\xbb\xbf\xed\xa0\x80", "is not valid UTF-8 at byte 3"),
        (b"a" * ((1 << 18) - 1) + b"\xe2\x28\xa1", f"is not valid UTF-8 at byte {(1 << 18) - 1}"),
        (b"\xff\xfea\x00\x00\xd8b\x00", "is not valid UTF-16 at byte 4"),
        (b"a\x00b", "is not text"),
        (b"", "is empty"),
        (b" \n\t ", "is empty"),
    ],
)
def test_what_is_not_text_is_refused_with_its_place(data: bytes, why: str) -> None:
    with pytest.raises(Uncuttable) as refused:
        segments(data)
    assert str(refused.value) == why


@pytest.mark.parametrize("block", [b" ", b"a", b"a\n", b"```\n", b"# \n", b"a\n=\n", "\u0301".encode()])
def test_nothing_takes_long(block: bytes) -> None:
    data = b"x" + block * (400_000 // len(block)) + b"y"
    for kind in (Format.TEXT, Format.MARKDOWN):
        found = segments(data, kind)
        assert found[-1].range.end == len(data.decode())
