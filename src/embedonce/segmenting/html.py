"""HTML: its text, cut where its blocks begin.

The tokenizer is our own (`tokens`). `html.parser` holds an unclosed comment or script whole, takes quadratic
time to find that out, raises for some `<![`, and its cuts would change with Python's patch version.
White space and line breaks are those of `innerText`; `head` (but for the title), scripts, styles, templates
and frames are no text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from codecs import lookup
from collections import deque
from collections.abc import Iterable, Iterator
from html import unescape
from itertools import takewhile
from typing import BinaryIO

from embedonce.core.content import Modality
from embedonce.core.segment import CutOptions, Range, Segment, Uncuttable, Unit
from embedonce.segmenting.decoding import decoded
from embedonce.segmenting.split import Structure, View, split
from embedonce.segmenting.tokens import START, TEXT, tokens

_META = re.compile(rb"<meta[^>]{1,512}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.I)
_ENCODINGS = re.compile(
    r"utf-8|ascii|iso8859-\d+|cp(125\d|866|874|932|949)|koi8-[ru]|mac-\w+|gbk|gb2312|gb18030|big5(hkscs)?"
    r"|euc_(jp|kr)|shift_jis|iso2022_jp"
)
_SPACES = re.compile(r"[ \t\n\r\f]+")
_UNTIDY = re.compile(r"[\t\n\r\f]|  ")
_SOURCE = re.compile(r"&(?:#[0-9]+|#[xX][0-9a-fA-F]+|[a-zA-Z][a-zA-Z0-9]{1,31});?|[ \t\n\r\f]+|.", re.S)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_LINES = re.findall(
    r"\w+",
    "body caption center dd div dt figcaption html legend li optgroup option summary tbody tfoot thead tr",
)
_PARAGRAPHS = re.findall(
    r"\w+",
    "address article aside blockquote details dialog dl fieldset figure footer form header hr main menu nav"
    " ol p pre search section table title ul",
)
_BREAKS = dict.fromkeys(_LINES, 1) | dict.fromkeys([*_PARAGRAPHS, *_HEADINGS], 2)
_IN_HEAD = frozenset(
    ("base", "basefont", "bgsound", "link", "meta", "noframes", "noscript", "script", "style", "template")
) | {"title"}
_CELLS = frozenset(("td", "th"))
_VERBATIM = frozenset(("pre", "textarea", "listing"))


def cut(file: BinaryIO, options: CutOptions) -> Iterator[Segment]:
    """Ranges count the characters of the decoded HTML; each begins with its first block's tag.

    :raises Uncuttable: no text in it, or not in the encoding that it declares
    """
    page = _Page()
    empty = True
    for piece in split(page.pieces(decoded(file, _declared)), options, page):
        empty = False
        start = page.source(piece.start) if piece.start else 0
        page.forget(piece.start)
        # Behind the last one there is nothing to be found: it reaches to the end.
        end = page.length if page.ended and piece.end >= page.written else page.source(piece.end)
        yield Segment(Modality.TEXT, Range(Unit.CHARACTERS, start, end), text=piece.text)
    if empty:
        raise Uncuttable("is empty")


def _declared(start: bytes) -> str:
    found = _META.search(start[:1024])
    if not found:
        return "utf-8"
    try:
        name = lookup(found[1].decode("ascii", "replace").lower()).name
    except LookupError:
        name = ""
    if name.startswith("utf-16"):
        return "utf-8"  # the standard's rule: who could read the tag was not reading UTF-16
    if not _ENCODINGS.fullmatch(name):
        raise Uncuttable("declares an unknown character encoding")
    return "cp1252" if name in ("ascii", "iso8859-1") else name


class _Page(Structure):
    """From tokens to text, and from places in that text back to the source's."""

    def __init__(self) -> None:
        self.length = 0
        self.written = 0
        self.ended = False
        self._out: list[str] = []
        self._breaks = 0
        self._space = False
        self._cell = False
        self._head = False
        self._title = False
        self._templates = 0
        self._verbatim = 0
        self._level = 0
        self._tag: int | None = None
        """Where the first tag since the last text or end tag begins."""
        self._runs: list[int] = []
        self._origins: list[tuple[int, int, str, bool]] = []
        self._marks: deque[tuple[int, int]] = deque()
        self._found: list[tuple[int, int]] = []

    def pieces(self, source: Iterable[str]) -> Iterator[str]:
        for kind, what, at in tokens(self._measured(source)):
            if kind == TEXT:
                self._text(what, at)
                if len(self._out) >= 512:
                    yield "".join(self._out)
                    self._out.clear()
            elif kind == START:
                self._start(what, at)
            else:
                self._end(what)
        yield "".join(self._out)
        self._out.clear()
        self.ended = True

    def _measured(self, source: Iterable[str]) -> Iterator[str]:
        for piece in source:
            self.length += len(piece)
            yield piece

    def _start(self, name: str, at: int) -> None:
        if self._tag is None:
            self._tag = at
        if name == "head":
            self._head = True
        elif self._head and name not in _IN_HEAD:
            self._head = False
        if name == "title":
            self._title = True
        elif name == "template":
            self._templates += 1
        elif name == "br":
            self._breaks = min(2, self._breaks + 1)
        elif name in _CELLS:
            self._cell = True
        elif name in _VERBATIM:
            self._verbatim += 1
        self._broken(name)
        self._level = _HEADINGS.get(name, self._level)

    def _end(self, name: str) -> None:
        self._tag = None
        if name == "head":
            self._head = False
        elif name == "title":
            self._title = False
        elif name == "template":
            self._templates = max(0, self._templates - 1)
        elif name in _VERBATIM:
            self._verbatim = max(0, self._verbatim - 1)
        elif name in _HEADINGS:
            self._level = 0
        self._broken(name)

    def _broken(self, name: str) -> None:
        if (lines := _BREAKS.get(name, 0)) > self._breaks:
            self._breaks = lines

    def _text(self, raw: str, at: int) -> None:
        if self._templates:
            return
        text = unescape(raw) if "&" in raw else raw
        if self._head and not self._title:
            if not text.strip():
                return
            self._head = False
        before = ""
        if not self._verbatim:
            if _UNTIDY.search(text):
                text = _SPACES.sub(" ", text)
            if not (shown := text.strip(" ")):
                self._space = True
                return
            before = " " if self._space or text[0] == " " else ""
            self._space, text = text[-1] == " ", shown
        if self._breaks or self._cell:
            before = "\n" * self._breaks or "\t"
            self._breaks, self._cell = 0, False
        if self.written:
            text = before + text
        self._out.append(text)
        if shown := text.lstrip():
            self._note(shown, self.written + len(text) - len(shown), raw, at)
        self.written += len(text)

    def _note(self, shown: str, place: int, raw: str, at: int) -> None:
        inside = raw.lstrip()
        at += len(raw) - len(inside)
        self._runs.append(place)
        self._origins.append(
            (
                at if self._tag is None else self._tag,
                at,
                inside if "&" in raw or not inside.startswith(shown) else "",
                self._verbatim > 0,
            )
        )
        self._tag = None
        if self._level:
            self._marks.append((place, self._level))
            self._level = 0

    def source(self, place: int) -> int:
        """Where in the source the character at `place` comes from: at a run's beginning, its tag."""
        index = bisect_right(self._runs, place) - 1
        if index < 0:
            return 0
        origin, at, raw, verbatim = self._origins[index]
        inside = place - self._runs[index]
        if inside == 0:
            return origin
        if not raw:
            return at + inside
        for match in _SOURCE.finditer(raw):
            token = match[0]
            inside -= len(unescape(token)) if token[0] == "&" else (len(token) if verbatim else 1)
            if inside < 0:
                return at + match.start()
        return at + len(raw)

    def forget(self, place: int) -> None:
        """Nothing before `place` will be asked for again."""
        index = bisect_right(self._runs, place) - 1
        if index > 0:
            del self._runs[:index]
            del self._origins[:index]

    def read(self, view: View) -> None:
        while self._marks and self._marks[0][0] < view.at:
            self._marks.popleft()
        near = takewhile(lambda mark: mark[0] <= view.at + view.reach, self._marks)
        self._found = [(level, place - view.at) for place, level in near]

    def headings(self, low: int) -> list[int]:
        found = [(level, place) for level, place in self._found if place >= low]
        strongest = min(found)[0] if found else 0
        return [place for level, place in found if level == strongest]
