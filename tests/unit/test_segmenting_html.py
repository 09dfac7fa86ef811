"""HTML: what is text, where it is cut, and that hostile pages stay bounded."""

from __future__ import annotations

import hashlib
import io
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedonce.core.segment import CutOptions, Format, Segment, Uncuttable
from embedonce.segmenting.cutter import cut
from embedonce.segmenting.tokens import START, tokens

PAGE = "<!doctype html><html><head><title>A &amp; B</title><style>p{}</style></head><body>" + "".join(
    f"<h{n % 3 + 1} class='x>y'>Part {n}</h{n % 3 + 1}>\n<p>Some <b>words</b>\n  of {n * n * 7919}"
    f" &lt;them&gt;.<br>More{' words' * (n % 13)}.</p><!-- no -->"
    "<ul><li>one<li>two</ul><script>if (a < b) '</p>'</script>"
    for n in range(80)
)


def segments(page: str | bytes, *, most: int = 8000, overlap: int = 0) -> list[Segment]:
    data = page.encode() if isinstance(page, str) else page
    return list(cut(io.BytesIO(data), Format.HTML, CutOptions(segment_bytes=most, overlap_bytes=overlap)))


def text(page: str | bytes) -> str:
    (found,) = segments(page)
    return found.text or ""


def test_cuts_do_not_change_by_accident() -> None:
    found = segments(PAGE, most=500)
    digest = hashlib.sha256(b"".join(s.sha256 + repr(s.range.start).encode() for s in found)).hexdigest()[:16]
    assert (len(found), digest) == (20, "a9c3da0c4543176a")


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<p>one\n  two</p> <p>three", "one two\n\nthree"),
        ("a<b>b</b> <i>c</i>d", "ab cd"),
        ("a<br>b<br><br>c", "a\nb\n\nc"),
        ("<div>a</div><div>b</div>", "a\nb"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</table>", "a\tb\nc"),
        ("<p>x<pre>\n a\n   b </pre>y", "x\n\n\n a\n   b \n\ny"),
        ("&lt;p&gt; &#233;&eacute &amp;amp; &nope; AT&T", "<p> éé &amp; &nope; AT&T"),
        ("a < b <3 c> <", "a < b <3 c> <"),
        ("<a title='x>y' href=\"<p>\">a</a>", "a"),
        ("<a title=it's>a</a>'b", "a'b"),
        ("a<!-- <p>no --><!--> -->b<!---->c<!doctype x><?pi?><![CDATA[no]]></ no>d", "a -->bcd"),
        ("<SCRIPT>'<p>' </scripty></Script >a<style>b</style>c", "ac"),
        ("<template><p>no<template></template>no</template>yes<noscript>no</noscript>", "yes"),
        ("<head>\n<meta a><title>T</title><link></head>b", "T\n\nb"),
        ("<head><title>T</title><p>b", "T\n\nb"),
        ("<head><title>T</title>b", "T\n\nb"),
        ("a<p", "a"),
        ("a<p x='>b", "a"),
        ("a<!-- b", "a"),
        ("a<script>b", "a"),
        ("a&am", "a&am"),
        ("<svg/><p/>a", "a"),
    ],
)
def test_what_is_text(page: str, expected: str) -> None:
    assert text(page) == expected


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<meta charset=windows-1252>\u20ac".encode("cp1252"), "€"),
        (b"<meta http-equiv=x content='text/html; charset=iso-8859-1'>\x93a", "“a"),
        ("<meta charset='Shift_JIS'>日本".encode("shift_jis"), "日本"),
        ("<meta charset=latin1>é".encode("utf-8-sig"), "é"),
        ("<meta charset=utf-16>é".encode(), "é"),
        ("é".encode("utf-16"), "é"),
    ],
)
def test_the_encoding_is_the_mark_s_or_the_declared_one(page: bytes, expected: str) -> None:
    assert text(page) == expected


@pytest.mark.parametrize(
    ("page", "why"),
    [
        (b"<meta charset=klingon>a", "declares an unknown character encoding"),
        (b"<meta charset=rot13>a", "declares an unknown character encoding"),
        (b"<meta charset=unicode_escape>a", "declares an unknown character encoding"),
        (b"<p>\xff", "is not valid UTF-8 at byte 3"),
        (b"<meta charset=shift_jis>\x81", "is not valid shift_jis at byte 24"),
        (b"<p>a\x00", "is not text"),
        (b"<script>a</script><!-- a --> ", "is empty"),
        (b"", "is empty"),
    ],
)
def test_pages_that_cannot_be_cut(page: bytes, why: str) -> None:
    with pytest.raises(Uncuttable) as refused:
        segments(page)
    assert str(refused.value) == why


def test_ranges_begin_with_the_first_block_s_tag_and_cover_the_source() -> None:
    found = segments(PAGE, most=500)
    assert found[0].range.start == 0
    assert found[-1].range.end == len(PAGE)
    for one, two in pairwise(found):
        assert one.range.end == two.range.start
        source = PAGE[int(two.range.start) :]
        assert source.startswith("<h")
        assert (two.text or "").startswith("Part")


def test_a_range_inside_a_block_begins_with_its_first_character() -> None:
    page = "<p>" + "one &amp;  two\n<b>three</b> " * 200
    for segment in segments(page, most=100):
        source = page[int(segment.range.start) : int(segment.range.end)]
        assert text(source) == segment.text


PIECES = [
    "<p>",
    "</p>",
    "<h1>",
    "<!--",
    "-->",
    "<script>",
    "</script>",
    "&amp;",
    "&",
    "<",
    "a ",
    "<pre>",
    "\n",
    "é",
]
PIECES += [
    "<a b='",
    "'>",
    "</",
    "<![",
    "<template>",
    "</template>",
    "<td>",
    "word ",
    "<head>",
    "<title>",
    "&#1;",
]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), max_size=80).map("".join),
    st.integers(16, 100),
    st.sampled_from([0, 30]),
)
def test_any_page_is_covered_by_segments_that_fit(page: str, most: int, overlap: int) -> None:
    try:
        found = segments(page, most=most, overlap=overlap)
    except Uncuttable:
        return
    end = 0.0
    for segment in found:
        assert segment.range.start == end if not overlap else segment.range.start <= end
        assert segment.range.end >= segment.range.start
        end = segment.range.end
        assert len((segment.text or "").encode()) <= most
        assert (segment.text or "").strip() == segment.text != ""
    assert end == len(page)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join), st.integers(1, 7))
def test_markup_is_the_same_in_whatever_pieces_it_comes(page: str, size: int) -> None:
    def read(pieces: list[str]) -> list[str]:
        kept: list[str] = []
        for kind, what, _ in tokens(pieces):
            if kind not in (START, "</") and kept and not kept[-1].startswith("\0"):
                kept[-1] += what
            else:
                kept.append(what if kind not in (START, "</") else f"\0{kind}{what}")
        return kept

    assert read([page[at : at + size] for at in range(0, len(page), size)]) == read([page])


UNITS = "<div>,<,<![,&,x&a,&#,<a ,<a=',</,<!--,<script>,</scrip,<a =,<h1>a,&amp; \n,<pre>a,<template>,=,<?,--"


@pytest.mark.parametrize("unit", UNITS.split(","))
@pytest.mark.parametrize("before", ["x", "x<!--", "x<a b=", "x<a '", "x<script>", "<pre>x", "<title>x"])
def test_no_page_takes_quadratic_time(before: str, unit: str) -> None:
    page = before + unit * (150_000 // len(unit))
    began = time.process_time()
    assert segments(page)[-1].range.end == len(page)
    assert time.process_time() - began < 1.0


def test_a_comment_of_fifty_megabytes_is_not_held() -> None:
    import tracemalloc

    class Comment(io.RawIOBase):
        left = 50_000_000

        def read(self, size: int = -1) -> bytes:
            self.left -= min(size, self.left)
            return b"x<!--" if self.left == 50_000_000 - size else b"-" * min(size, self.left)

    tracemalloc.start()
    (found,) = cut(Comment(), Format.HTML, CutOptions())  # type: ignore[arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.text == "x"
    assert peak < 8_000_000
