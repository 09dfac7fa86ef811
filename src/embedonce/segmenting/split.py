"""Text that streams by is cut at its strongest boundaries, the same ones again after an edit elsewhere.

A segment ends between half and all of the bytes it may have. Of the boundaries there the strongest kind is
taken, and of several of that kind the one whose following text has the smallest hash: a cut then depends on
the text around it, not on how far it is from the beginning, and after an edit the cuts soon fall in step.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple

from embedonce.core.segment import CutOptions

SMALLEST_BYTES = 16
"""That `segment_bytes` may be: room for two of the longest characters in half of it."""
_HASHED = 64
_MOST_HASHED = 128
_AHEAD = 1 << 16
_SPACE = re.compile(r"\s*")
_BLANK = re.compile(r"\n[^\S\n]*\n\s*")
_LINE = re.compile(r"\n\s*")
_SENTENCE = re.compile(r"[.!?…][\"')\]»”’]*\s+|[。！？｡．][」』”’）】]*\s*")  # noqa: RUF001
_WORD = re.compile(r"\s+")


class Slice(NamedTuple):
    """`start` and `end` count characters of what was split; `text` is stripped."""

    text: str
    start: int
    end: int


class View(NamedTuple):
    """The text from a segment's first character on, more than it can have. Places are counted from there."""

    text: str
    at: int
    """Of its first character in the whole text."""
    before: str
    """The last characters before it."""
    reach: int
    """No cut is behind this place."""


class Structure:
    """What a kind of text has besides lines, sentences and words: here nothing (plain text)."""

    def read(self, view: View, /) -> None:
        """What is asked next is about this view."""

    def headings(self, _low: int, /) -> list[int]:
        """Where the strongest headings begin that are at `low` or later."""
        return []

    def fenced(self, _place: int, /) -> bool:
        """Blank lines do not separate anything here."""
        return False

    def kept(self, _place: int, /) -> bool:
        """Better not cut at this line."""
        return False

    def leave(self, place: int, /) -> None:
        """The next view begins at `place` or, after white space, behind it."""


def split(pieces: Iterable[str], options: CutOptions, structure: Structure) -> Iterator[Slice]:
    """Slices in order; nothing if there is only white space. Holds a few segments' text at a time.

    `overlap_bytes` counts as at most half of `segment_bytes`.
    """
    most = options.segment_bytes
    if most < SMALLEST_BYTES:
        raise ValueError(f"segment_bytes: at least {SMALLEST_BYTES}")
    overlap = min(options.overlap_bytes, most // 2)
    need = 2 * most + 2 * _HASHED
    text = _Text(iter(pieces), max(overlap, 4))
    text.skip_space()
    start, lead = 0, ""
    while view := text.view(need):
        room = most - len(lead.encode())
        place = _last_or_cut(view, text, room, len(view) < need, structure)
        body = (lead + view[:place]).rstrip()
        began = text.at
        structure.leave(place)
        text.advance(place)
        text.skip_space()
        yield Slice(body, start, text.at)
        lead = _overlap(text.tail, text.at - began, overlap) if overlap else ""
        start = text.at - len(lead)


class _Text:
    """The text not yet cut, and the end of what was."""

    def __init__(self, pieces: Iterator[str], tail: int) -> None:
        self._pieces, self._kept = pieces, tail
        self._held, self._from = "", 0
        self.at = 0
        self.tail = ""

    def view(self, size: int) -> str:
        """The next `size` characters; fewer if there are no more."""
        if len(self._held) - self._from < size:
            got = [self._held[self._from :]]
            missing = size - len(got[0]) + _AHEAD
            for piece in self._pieces:
                got.append(piece)
                missing -= len(piece)
                if missing <= 0:
                    break
            self._held, self._from = "".join(got), 0
        return self._held[self._from : self._from + size]

    def advance(self, count: int) -> None:
        end = self._from + count
        began = max(self._from, end - self._kept)
        self.tail = (self.tail + self._held[began:end])[-self._kept :]
        self._from = end
        self.at += count

    def skip_space(self) -> None:
        while self.view(1):
            found = _SPACE.match(self._held, self._from)
            self.advance(found.end() - self._from if found else 0)
            if self._from < len(self._held):
                return


def _last_or_cut(view: str, text: _Text, room: int, ended: bool, structure: Structure) -> int:
    high = _fitting(view, room)
    if ended:
        rest = view.rstrip()
        if len(rest) <= high:
            return len(view)
        # What then remains is not tiny: at least a quarter, so that there is still a choice of places.
        high = min(high, _fitting(view, len(rest.encode()) - room // 4))
    low = max(1, _fitting(view, room // 2))
    high = max(low, high)
    space = _SPACE.match(view, high)
    reach = space.end() if space else high
    structure.read(View(view, text.at, text.tail, reach))
    return _place(view, low, high, reach, structure)


def _place(view: str, low: int, high: int, reach: int, structure: Structure) -> int:
    def of(found: Iterable[int]) -> list[int]:
        return [place for place in found if plain or not _joined(view, place)]

    plain = view.isascii()

    if headings := of(structure.headings(low)):
        return _chosen(view, headings)
    blanks = of(m.end() for m in _BLANK.finditer(view, low, reach))
    if free := [place for place in blanks if not structure.fenced(place)]:
        return _chosen(view, free)
    lines = of(m.end() for m in _LINE.finditer(view, low, reach))
    if free := [place for place in lines if not structure.kept(place)]:
        return _chosen(view, free)
    for weaker in (blanks, lines):
        if weaker:
            return _chosen(view, weaker)
    for pattern in (_SENTENCE, _WORD):
        if found := of(m.end() for m in pattern.finditer(view, low, reach)):
            return _chosen(view, found)
    return _inside_a_word(view, low, high)


def _chosen(view: str, places: Iterable[int]) -> int:
    """The one before the text with the smallest hash; of equal texts the last."""
    followed = {view[place : place + _HASHED]: place for place in places}
    if len(followed) == 1:
        return next(iter(followed.values()))
    if len(followed) > _MOST_HASHED:  # thousands of hashes a segment would take long
        first = max(text[:1] for text in followed)
        followed = {text: place for text, place in followed.items() if text[:1] == first}
        followed = dict(list(followed.items())[-_MOST_HASHED:])
    return followed[min(followed, key=_hash)]


def _hash(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


def _inside_a_word(view: str, low: int, high: int) -> int:
    for character in sorted(set(view[low : high + 1]), reverse=True):
        places: list[int] = []
        place = view.rfind(character, low, high + 1)
        while place >= 0 and len(places) < 4 * _MOST_HASHED:
            if not _joined(view, place):
                places.append(place)
            place = view.rfind(character, low, place)
        if places:
            return _chosen(view, reversed(places))
    return high


def _joined(view: str, place: int) -> bool:
    """The character there belongs to the one before it, as far as one can tell without Unicode's tables."""
    here = view[place : place + 1]
    if here < "\u0300":
        return view[place - 1] == "\u200d" and here != ""
    return (
        unicodedata.category(here)[0] == "M"
        or here == "\u200d"
        or view[place - 1] == "\u200d"
        or "\u1160" <= here <= "\u11ff"
        or "\U0001f3fb" <= here <= "\U0001f3ff"
        or "\U000e0020" <= here <= "\U000e007f"
        or ("\U0001f1e6" <= here <= "\U0001f1ff" and "\U0001f1e6" <= view[place - 1] <= "\U0001f1ff")
    )


def _fitting(text: str, most_bytes: int) -> int:
    """How many of its characters have at most so many bytes."""
    head = text[: max(0, most_bytes)]
    if head.isascii():
        return len(head)
    return len(head.encode()[:most_bytes].decode("utf-8", "ignore"))


def _overlap(tail: str, size: int, most_bytes: int) -> str:
    """The end of the slice before, of `size` characters, from a sentence's or at least a word's beginning."""
    end = tail[-size:].encode()[-most_bytes:].decode("utf-8", "ignore")
    if len(end) == size:
        return end
    for pattern in (_SENTENCE, _WORD):
        for match in pattern.finditer(end):
            if match.end() < len(end) and not _joined(end, match.end()):
                return end[match.end() :]
    return ""
