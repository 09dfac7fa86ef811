"""HTML's tags and text, streamed: what is not text is not held, so that nothing is long or deep or quadratic.

The standard's syntax (https://html.spec.whatwg.org/#tokenization) as far as it decides what is text.
Attributes are only skipped. Comments, `<!…`, `<?…` and what raw text elements hold vanish.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

TEXT_CHARACTERS = 1024
"""That one piece of text has at most."""
_REFERENCE = 40
_NAME = 64
_RAW = frozenset(("script", "style", "noscript", "iframe", "noembed", "noframes", "xmp"))
_TAG = re.compile(
    r"(</?)([a-zA-Z][^\s/>]{0,63}+)"
    r"((?:[^>=]++|=\s*+(?:\"[^\"]*+\"|'[^']*+'|(?=[^\s\"'])))*+>)?+"
)
"""The third group, if the tag ends in what is at hand. Without one `_attributes` reads the same syntax."""
_ENDS = re.compile(r"[>=]")
_COMMENT = re.compile(r"--!?>")
_BOGUS = re.compile(r"<[!?]|</(?!\Z)")
_CLOSE = re.compile(r">")
_QUOTE = {'"': re.compile('"'), "'": re.compile("'")}
_NO_MARKUP = re.compile(r"(?:<(?![a-zA-Z/!?]|\Z)|[^<&]){1,1024}")
_SPACE = re.compile(r"\s*")


Token = tuple[str, str, int]
"""A kind; the text or the tag's name; where in the source it begins, counted in characters."""
TEXT, START, END = "text", "<", "</"


def tokens(pieces: Iterable[str]) -> Iterator[Token]:
    """What is open at the end is dropped, as browsers do."""
    source = _Source(iter(pieces))
    while source.fill():
        opening = source.held.find("<", source.at)
        if opening != source.at:
            yield from _texts(source, opening)
            continue
        if len(source.held) - source.at < _NAME + 4:
            source.ahead(_NAME + 4)
        at = source.base + source.at
        if tag := _TAG.match(source.held, source.at):
            source.at = tag.end()
            if tag[3] is None and not _attributes(source):
                return
            name = tag[2].lower()
            yield tag[1], name, at
            if name in _RAW and tag[1] == START and not _raw_text(source, name):
                return
        elif source.held.startswith("<!--", source.at):
            source.at += 2  # "<!-->" and "<!--->" are whole comments
            if not source.skip_past(_COMMENT, 3):
                return
        elif bogus := _BOGUS.match(source.held, source.at):
            source.at = bogus.end()
            if not source.skip_past(_CLOSE, 0):
                return
        else:
            plain = _NO_MARKUP.match(source.held, source.at)
            yield TEXT, plain[0] if plain else "<", at
            source.at = plain.end() if plain else source.at + 1


class _Source:
    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces = pieces
        self._ended = False
        self.held = ""
        self.at = 0
        self.base = 0

    def more(self) -> bool:
        """One more piece at hand, and nothing before `at` any more; False at the end."""
        piece = next(self._pieces, "")
        self.base += self.at
        self.held = self.held[self.at :] + piece
        self.at = 0
        return piece != ""

    def fill(self) -> bool:
        return self.at < len(self.held) or self.more()

    def ahead(self, count: int) -> None:
        while len(self.held) - self.at < count and self.more():
            pass

    def skip_past(self, pattern: re.Pattern[str], kept: int) -> bool:
        """Behind the next match, perhaps from the last `kept` characters at hand on; False: there is none."""
        while not (found := pattern.search(self.held, self.at)):
            self.at = max(self.at, len(self.held) - kept)
            if not self.more():
                return False
        self.at = found.end()
        return True


def _texts(source: _Source, opening: int) -> Iterator[Token]:
    held, at = source.held, source.at
    if 0 <= opening <= at + TEXT_CHARACTERS:
        source.at = opening
        yield TEXT, held[at:opening], source.base + at
        return
    end = opening if opening >= 0 else len(held)
    while at < end:
        stop = min(end, at + TEXT_CHARACTERS)
        if stop < end or opening < 0:
            # Never through a character reference; only at the very end is there nothing left to wait for.
            reference = held.rfind("&", max(at, stop - _REFERENCE), stop)
            if reference >= 0 and ";" not in held[reference:stop]:
                if reference > at:
                    stop = reference
                elif stop == end:
                    source.at = at
                    if source.more():
                        return
                    held, at, end = source.held, 0, len(source.held)
                    stop = end
        yield TEXT, held[at:stop], source.base + at
        at = stop
    source.at = at


def _attributes(source: _Source) -> bool:
    """Behind the tag's `>`; False if there is none."""
    while source.skip_past(_ENDS, 0):
        if source.held[source.at - 1] == ">":
            return True
        while (space := _SPACE.match(source.held, source.at)) and space.end() == len(source.held):
            source.at = space.end()
            if not source.more():
                return False
        source.at = space.end() if space else source.at
        if quote := _QUOTE.get(source.held[source.at]):
            source.at += 1
            if not source.skip_past(quote, 0):
                return False
    return False


def _raw_text(source: _Source, name: str) -> bool:
    """Before its end tag; False if there is none."""
    if not source.skip_past(re.compile(rf"</{name}(?=[\s/>])", re.I), len(name) + 3):
        return False
    source.at -= len(name) + 2
    return True
