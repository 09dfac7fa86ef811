"""Plain text and Markdown."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import BinaryIO

from embedonce.core.content import Modality
from embedonce.core.segment import CutOptions, Range, Segment, Uncuttable, Unit
from embedonce.segmenting.decoding import decoded
from embedonce.segmenting.split import Structure, View, split

_MARKUP = re.compile(
    r"\n {0,3}(?:(?P<fence>`{3,}(?=[^`\n]*(?:\n|\Z))|~{3,})|(?P<atx>\#{1,6})(?=\s)"
    r"|(?P<under>=+|-+)(?=[^\S\n]*(?:\n|\Z)))"
)
_LINE_START = re.compile(r"(?:\A|\n) {0,3}\Z")
_SETEXT_BEHIND = 1000


def cut(file: BinaryIO, options: CutOptions) -> Iterator[Segment]:
    """:raises Uncuttable: empty, or not text"""
    return _cut(file, options, Structure())


def cut_markdown(file: BinaryIO, options: CutOptions) -> Iterator[Segment]:
    """:raises Uncuttable: empty, or not text"""
    return _cut(file, options, Markdown())


def _cut(file: BinaryIO, options: CutOptions, structure: Structure) -> Iterator[Segment]:
    empty = True
    for piece in split(decoded(file), options, structure):
        empty = False
        yield Segment(Modality.TEXT, Range(Unit.CHARACTERS, piece.start, piece.end), text=piece.text)
    if empty:
        raise Uncuttable("is empty")


class Markdown(Structure):
    """Headings; fences and tables, better kept whole. An open fence goes on in the next segment."""

    def __init__(self) -> None:
        self._open = ""
        self._view = ""
        self._fences: list[tuple[int, str]] = []
        self._headings: list[tuple[int, int]] = []

    def read(self, view: View) -> None:
        self._view = view.text
        self._fences, self._headings = [], []
        fence = self._open
        # One character in front shifts positions just as much as the "\n" that each match begins with.
        text = ("\n" if _LINE_START.search(view.before) else "x") + view.text
        for match in _MARKUP.finditer(text):
            line = match.start()
            if line > view.reach + _SETEXT_BEHIND:
                break
            mark = match[0].lstrip()
            place = match.end() - 1 - len(mark)
            if kind := match["fence"]:
                if not fence:
                    fence = kind
                elif kind[0] == fence[0] and len(kind) >= len(fence) and _bare(text, match.end()):
                    fence = ""
                else:
                    continue
                self._fences.append((place, fence))
            elif fence:
                continue
            elif match["atx"]:
                if place <= view.reach:
                    self._headings.append((len(mark), place))
            elif (title := _title(text, line)) is not None and title <= view.reach:
                self._headings.append((1 if mark[0] == "=" else 2, title))

    def headings(self, low: int) -> list[int]:
        found = [(level, place) for level, place in self._headings if place >= low]
        strongest = min(found)[0] if found else 0
        return [place for level, place in found if level == strongest]

    def fenced(self, place: int) -> bool:
        return self._fence_at(place) != ""

    def kept(self, place: int) -> bool:
        if self.fenced(place):
            return True
        view = self._view
        if view[place : place + 1] != "|":
            return False
        line = view.rfind("\n", 0, view.rfind("\n", 0, place)) + 1
        return view[line:place].lstrip()[:1] == "|"

    def leave(self, place: int) -> None:
        self._open = self._fence_at(place)
        self._fences = []

    def _fence_at(self, place: int) -> str:
        index = bisect_left(self._fences, (place, ""))
        return self._fences[index - 1][1] if index else self._open


def _bare(text: str, place: int) -> bool:
    end = text.find("\n", place)
    return not text[place : end if end >= 0 else len(text)].strip()


def _title(text: str, underline: int) -> int | None:
    """Where in the view the line above `underline` begins, if that can be a heading's."""
    line = text.rfind("\n", 0, underline)
    title = text[line + 1 : underline]
    begins = title.lstrip()
    if line < 0 or not begins or begins[0] in "#>|`~" or len(title) - len(begins) > 3:
        return None
    return line + len(title) - len(begins)
