"""PDFs are cut so that a segment's bytes depend on what its pages show and on nothing else."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader, PdfWriter

from embedonce.core.content import Modality
from embedonce.core.segment import CutOptions, Segment, Uncuttable, Unit
from embedonce.media import child
from embedonce.segmenting import pdf, pdfprune
from support import documents, media

GOLDEN = (
    "031242a7bf81ce8251e9348e4bf81ee8a42211fb83fb60b82b3c141486ce00f6",
    "2dbd3fe0240c88eaa27a1284f0d1f3549c085811dde4ead24d0922b2b757c1c5",
    "e49b9f2650620ebe0b2a2cc70819451ec61f3481f5526a92ef621da5feeaca00",
)


def cut(data: bytes, pages: int = 1) -> list[Segment]:
    return list(pdf.cut(BytesIO(data), CutOptions(pages=pages)))


def bodies(data: bytes, pages: int = 1) -> list[bytes]:
    found = [segment.data for segment in cut(data, pages)]
    assert None not in found
    return [body for body in found if body]


def text(data: bytes) -> list[str]:
    return [page.extract_text() for page in PdfReader(BytesIO(data)).pages]


def test_the_golden_segments() -> None:
    """What is stored under these digests is found again only while they stay the same."""
    assert tuple(hashlib.sha256(body).hexdigest() for body in bodies(documents.by_hand())) == GOLDEN


@pytest.mark.parametrize("pages", [1, 2, 3, 6])
def test_segments_are_pages_in_order_with_the_same_text(pages: int) -> None:
    source = documents.shared(documents.texts(7))
    segments = cut(source, pages)
    ranges = [(s.range.start, s.range.end) for s in segments]
    assert ranges == [(n, min(n + pages - 1, 7)) for n in range(1, 8, pages)]
    found = []
    for segment in segments:
        assert (segment.modality, segment.media_type, segment.error) == (
            Modality.PDF,
            "application/pdf",
            None,
        )
        assert segment.range.unit is Unit.PAGES
        assert segment.data is not None
        assert segment.pages == segment.range.end - segment.range.start + 1
        found += text(segment.data)
    assert found == text(source)


def test_our_own_reader_takes_segments() -> None:
    (body,) = bodies(documents.by_hand(), 3)
    assert child.pdf_pages(body) == 3
    assert "two" in child.pdf_text(body)


def test_nothing_of_the_document_is_in_a_segment() -> None:
    for body in bodies(documents.shared(documents.texts(3), marker=b"Scrivener")):
        for word in (
            b"Scrivener",
            b"/ID",
            b"/Info",
            b"Date",
            b"/Dest",
            b"/StructParent",
            b"/ProcSet",
            b"/P ",
        ):
            assert word not in body
        assert body.count(b"/Subtype /Image") == 1
        assert body.count(b"/Type /Page/") + body.count(b"/Type /Page>") == 1
        assert b"/Border [0 0 1]" in body


@pytest.mark.parametrize(
    "change",
    [
        lambda data: documents.rewritten(data, page=3, line="Other"),
        lambda data: documents.updated(data, page=3, line="Other"),
        lambda _: documents.shared(_lines("Other"), spare=5, marker=b"another run"),
    ],
    ids=["rewritten", "updated", "made anew"],
)
def test_one_changed_page_changes_one_segment(change: Callable[[bytes], bytes]) -> None:
    before = documents.shared(documents.texts(5))
    old, new = bodies(before), bodies(change(before))
    assert [n for n, (a, b) in enumerate(zip(old, new, strict=True), 1) if a != b] == [3]
    assert text(new[2]) == ["Other"]


def _lines(third: str) -> list[str]:
    lines = documents.texts(5)
    lines[2] = third
    return lines


@pytest.mark.parametrize("compressed", [False, True])
def test_a_tool_that_only_rewrites_changes_nothing(compressed: bool) -> None:
    for source in (documents.shared(documents.texts(4)), documents.by_hand()):
        writer = PdfWriter(clone_from=PdfReader(BytesIO(source)))
        if compressed:
            writer.compress_identical_objects()
        out = BytesIO()
        writer.write(out)
        assert bodies(out.getvalue()) == bodies(source)


def test_another_process_cuts_the_same_bytes(tmp_path: Path) -> None:
    program = (
        "import hashlib, sys; from io import BytesIO; from embedonce.segmenting import pdf;"
        "from embedonce.core.segment import CutOptions;"
        "print(*(hashlib.sha256(s.data).hexdigest()"
        " for s in pdf.cut(sys.stdin.buffer, CutOptions(pages=2))))"
    )
    source = documents.shared(documents.texts(5))
    expected = [hashlib.sha256(body).hexdigest() for body in bodies(source, 2)]
    path = tmp_path / "source.pdf"
    path.write_bytes(source)
    for seed in ("1", "2"):
        assert _run(program, path, seed).split() == expected


def _run(program: str, path: Path, seed: str) -> str:
    environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(pdf.__file__).parents[2])}
    with path.open("rb") as file:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, stdin=file, env=environment, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode()


def names(body: bytes) -> dict[str, list[str]]:
    """What the only page's resources hold."""
    resources: Any = PdfReader(BytesIO(body)).pages[0]["/Resources"]
    return {category: list(group) for category, group in resources.items()}


def test_resources_are_what_the_page_uses_itself_or_through_what_it_uses() -> None:
    one, two, three = bodies(documents.by_hand())
    assert names(one) == {"/ExtGState": ["/G1"], "/Font": ["/F1"], "/Properties": ["/MC0"]}
    assert names(two) == {"/Font": ["/F1", "/F2"], "/XObject": ["/X1"]}  # the form looks up F2 in the page's
    assert names(three) == {"/ExtGState": ["/G2"], "/Font": ["/F1", "/F3"]}  # a glyph uses G2
    assert b"/Rotate 90" in two
    assert b"/AA" not in three


@pytest.mark.parametrize(
    ("content", "used"),
    [
        (rb"/F1 12 Tf (a (b\)) /F2 1 Tf) Tj", {"/Font": {"/F1"}}),
        (b"<2F463120> Tj % /F9 1 Tf\n/F#31 1 Tf", {"/Font": {"/F1"}}),
        (b"BI /CS /C0 ID \xff( EI \xff\xff EI /X Do", {"/ColorSpace": {"/CS", "/C0"}, "/XObject": {"/X"}}),
        (b"/C1 cs .1 .2 /P1 scn /S sh/G gs /P2 SCN", {"/ColorSpace": {"/C1"}, "/Pattern": {"/P1", "/P2"}}),
        (b"/OC /MC0 BDC /Span <</MCID 0>> BDC", {"/Properties": {"/MC0", "/MCID"}}),
    ],
)
def test_names_are_found_where_operators_look_them_up(content: bytes, used: dict[str, set[str]]) -> None:
    found = pdfprune.scanned(content)
    assert {key: found.get(key) for key in used} == used


def test_a_hidden_layer_stays_hidden() -> None:
    one = bodies(documents.by_hand())[0]
    root = PdfReader(BytesIO(one)).root_object
    properties = root["/OCProperties"]
    assert [layer.get_object()["/Name"] for layer in properties["/OCGs"]] == ["Hidden"]  # type: ignore[index,attr-defined]
    assert len(properties["/D"]["/OFF"]) == 1  # type: ignore[index]


@pytest.mark.parametrize("content", [b"BT (open /F1 12 Tf", b"BI /W 1 ID \xff\xff"])
def test_content_that_cannot_be_scanned_keeps_all_resources(content: bytes) -> None:
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R "
        b"/Resources << /Font << /F9 5 0 R >> >> >>",
        media.pdf_stream(content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    (body,) = bodies(media.pdf_of_objects(objects))
    assert b"/F9 " in body


def _with_a_bad_page() -> bytes:
    return documents.shared(documents.texts(6)).replace(b"/Contents 19 0 R", b"/Contents 99 0 R")


def test_a_page_that_cannot_be_read_is_an_error_of_its_own() -> None:
    segments = cut(_with_a_bad_page())
    assert [s.error for s in segments] == [None, None, None, "page 4 cannot be read", None, None]
    assert segments[3].modality is Modality.PDF
    found = [(s.range.start, s.range.end, s.error) for s in cut(_with_a_bad_page(), 5)]
    assert found == [(1, 3, None), (4, 4, "page 4 cannot be read"), (5, 5, None), (6, 6, None)]


def _encrypted() -> bytes:
    writer = PdfWriter(clone_from=PdfReader(BytesIO(media.pdf(2))))
    writer.encrypt("secret", algorithm="RC4-128")
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def _circular() -> bytes:
    source = media.pdf(1)
    start = source.index(b"xref\n")
    return source.replace(b"/Root 1 0 R", b"/Root 1 0 R /Prev %d" % start)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is a damaged PDF"),
        (b"%PDF-1.4\n", "is a damaged PDF"),
        (b"%PDF-1.4\n" + bytes(5000), "is a damaged PDF"),
        (media.pdf([]), "is a damaged PDF"),
        (_circular(), "is a damaged PDF"),
        (_encrypted(), "is an encrypted PDF"),
    ],
    ids=["empty", "a head", "nulls", "no pages", "circular", "encrypted"],
)
def test_what_cannot_be_cut(data: bytes, reason: str) -> None:
    with pytest.raises(Uncuttable) as caught:
        cut(data)
    assert str(caught.value) == reason


def test_forms_within_themselves_come_to_an_end() -> None:
    form = b"/Type /XObject /Subtype /Form /BBox [0 0 9 9]"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R /Resources 5 0 R >>",
        media.pdf_stream(b"/X Do"),
        b"<< /XObject << /X 6 0 R /Y 7 0 R >> >>",
        media.pdf_stream(b"/Y Do", form),
        media.pdf_stream(b"/X Do /Y Do", form + b" /Resources 5 0 R"),
    ]
    (body,) = bodies(media.pdf_of_objects(objects))
    assert body.count(b"/Subtype /Form") == 2


def test_many_pages_take_little_time() -> None:
    began = time.monotonic()
    assert len(cut(documents.many(150))) == 150
    assert time.monotonic() - began < 5


def test_the_lineage_names_the_library() -> None:
    assert pdf.lineage().startswith("pdf/1 pypdf 7.")
