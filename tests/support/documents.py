"""PDFs of several pages, written by hand in the manners that producers have."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from io import BytesIO

from pypdf import PdfReader, PdfWriter
from pypdf.generic import DecodedStreamObject, NameObject

from .media import pdf_of_objects, pdf_stream


def texts(count: int) -> list[str]:
    return [f"This is page {n}, and no other" for n in range(1, count + 1)]


def image(shade: int) -> bytes:
    """8 x 8, grey, as an XObject."""
    head = b"/Type /XObject /Subtype /Image /Width 8 /Height 8 /BitsPerComponent 8 /ColorSpace /DeviceGray"
    return pdf_stream(zlib.compress(bytes([shade % 256]) * 64), head + b" /Filter /FlateDecode")


def shared(lines: Sequence[str], *, spare: int = 0, marker: bytes = b"x") -> bytes:
    """One resource dictionary over all pages, inherited from the page tree, with an image for each page, as
    fpdf2 and others write it; document information, an ID, links from page to page, beads and structure.

    `spare`: so many unused objects before the others move all their numbers; `marker`: of the information.
    """
    count = len(lines)
    base = 1 + spare
    catalog, tree, resources, font, info = range(base, base + 5)
    first = base + 5
    pages = [first + 4 * n for n in range(count)]
    kids = b" ".join(b"%d 0 R" % n for n in pages)
    images = b" ".join(b"/I%d %d 0 R" % (n, number + 2) for n, number in enumerate(pages))
    objects = [b"null"] * spare + [
        b"<< /Type /Catalog /Pages %d 0 R /PageMode /UseNone >>" % tree,
        b"<< /Type /Pages /Kids [%s] /Count %d /Resources %d 0 R /MediaBox [0 0 595.28 841.89] >>"
        % (kids, count, resources),
        b"<< /ProcSet [/PDF /Text /ImageC] /Font << /F1 %d 0 R >> /XObject << %s >> >>" % (font, images),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Producer (%s) /CreationDate (D:20240101000000Z) >>" % marker,
    ]
    for n, (line, number) in enumerate(zip(lines, pages, strict=True)):
        content = b"q 50 0 0 50 72 600 cm /I%d Do Q BT /F1 12 Tf 72 720 Td (%s) Tj ET" % (n, line.encode())
        objects += [
            b"<< /Type /Page /Parent %d 0 R /Contents %d 0 R /StructParents %d /Annots [%d 0 R] "
            b"/LastModified (D:2024) /PieceInfo << /X << /Private (%s) >> >> >>"
            % (tree, number + 1, n, number + 3, marker),
            pdf_stream(zlib.compress(content), b"/Filter /FlateDecode"),
            image(n),
            b"<< /Type /Annot /Subtype /Link /Rect [72 700 200 730] /Border [0 0 1] /P %d 0 R "
            b"/Dest [%d 0 R /Fit] /StructParent %d >>" % (number, pages[(n + 1) % count], n),
        ]
    trailer = b"/Root %d 0 R /Info %d 0 R /ID [<%s> <%s>]" % (catalog, info, *[marker.hex().encode()] * 2)
    return pdf_of_objects(objects, trailer=trailer)


def by_hand() -> bytes:
    """Three pages: a form that borrows its page's resources, a hidden layer, a Type 3 font, strings and an
    inline image that hold what looks like names and operators, a page that is turned."""
    form = b"/Type /XObject /Subtype /Form /BBox [0 0 100 100]"
    pages = (
        b"/Contents 8 0 R",
        b"/Contents [9 0 R 10 0 R] /Rotate 90",
        b"/Contents 11 0 R /AA << /O 7 0 R >>",
    )
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R /OCProperties << /OCGs [14 0 R 15 0 R] "
        b"/D << /OFF [14 0 R] /ON [15 0 R] /Order [14 0 R 15 0 R] >> >> >>",
        b"<< /Type /Pages /Kids [3 0 R 4 0 R 5 0 R] /Count 3 /MediaBox [0 0 300 300.50] /Resources 6 0 R >>",
        *(b"<< /Type /Page /Parent 2 0 R %s >>" % each for each in pages),
        b"<< /Font << /F1 7 0 R /F2 12 0 R /F3 16 0 R >> /XObject << /X1 13 0 R /X2 17 0 R >> "
        b"/Properties << /MC0 14 0 R /MC1 15 0 R >> /ExtGState << /G1 << /CA .5 >> /G2 << /CA .25 >> >> >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        pdf_stream(b"BT /F1 12 Tf 9 9 Td (one \\) /X2 Do (nested /F3) Tf) Tj ET /OC /MC0 BDC EMC /G1 gs"),
        pdf_stream(b"/X1 Do"),
        pdf_stream(b"q BI /W 2 /H 2 /BPC 8 /CS /G ID (\xff(/ EI Q\nBT /F1 9 Tf (two) Tj ET"),
        pdf_stream(b"BT /F3 12 Tf <61> Tj /F1 9 Tf (three) Tj ET"),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Courier >>",
        pdf_stream(b"BT /F2 7 Tf 5 5 Td (form) Tj ET", form),
        b"<< /Type /OCG /Name (Hidden) >>",
        b"<< /Type /OCG /Name (Shown) >>",
        b"<< /Type /Font /Subtype /Type3 /FontBBox [0 0 9 9] /FontMatrix [.1 0 0 .1 0 0] /FirstChar 97 "
        b"/LastChar 97 /Widths [9] /Encoding << /Differences [97 /a] >> /CharProcs << /a 18 0 R >> >>",
        pdf_stream(b"0 0 1 1 re f", form),
        pdf_stream(b"9 0 d0 /G2 gs 0 0 9 9 re f"),
    ]
    return pdf_of_objects(objects)


def many(count: int) -> bytes:
    """Pages of 60 lines that share their resources."""
    return shared([" ".join(f"word{n * k % 997}" for k in range(300)) for n in range(count)])


def rewritten(data: bytes, *, page: int | None = None, line: str = "") -> bytes:
    """By pypdf, with another text on the page of this number if it is given."""
    writer = PdfWriter(clone_from=PdfReader(BytesIO(data)))
    return _written(writer, page, line)


def updated(data: bytes, *, page: int, line: str) -> bytes:
    """An incremental update: the file with new objects after its end."""
    after = _written(PdfWriter(BytesIO(data), incremental=True), page, line)
    assert after.startswith(data)
    assert len(re.findall(rb"%%EOF", after)) == 2
    return after


def _written(writer: PdfWriter, page: int | None, line: str) -> bytes:
    if page is not None:
        stream = DecodedStreamObject()
        stream.set_data(b"BT /F1 12 Tf 72 720 Td (%s) Tj ET" % line.encode())
        writer.pages[page - 1][NameObject("/Contents")] = writer._add_object(stream)
    out = BytesIO()
    writer.write(out)
    return out.getvalue()
