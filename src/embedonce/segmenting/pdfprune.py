"""What a PDF page really uses of its resources. Many producers share one resource dictionary over all pages:
cutting it down to the names in the page's own content is what makes a page independent of the others.

Content is scanned for names before the operators that look them up, not interpreted. What cannot be scanned
keeps all its resources: that costs bytes, never content.
"""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any

from pypdf.filters import decode_stream_data
from pypdf.generic import ArrayObject, DictionaryObject, IndirectObject, NameObject, NullObject, StreamObject

Used = dict[str, set[str]]
"""Names by resource category."""

CATEGORIES = ("/ColorSpace", "/ExtGState", "/Font", "/Pattern", "/Properties", "/Shading", "/XObject")
_OPERATORS = {
    b"Tf": "/Font",
    b"Do": "/XObject",
    b"gs": "/ExtGState",
    b"cs": "/ColorSpace",
    b"CS": "/ColorSpace",
    b"scn": "/Pattern",
    b"SCN": "/Pattern",
    b"sh": "/Shading",
    b"BDC": "/Properties",
    b"DP": "/Properties",
}
_IMPLIED = {"/DefaultGray", "/DefaultRGB", "/DefaultCMYK"}
"""Color spaces that stand for the device's own, without being named."""
_REGULAR = rb"[^\0\t\n\f\r ()<>\[\]{}/%]"
_TOKEN = re.compile(
    rb"%[^\r\n]*+|/" + _REGULAR + rb"*+|\((?:[^()\\]++|\\.)*+\)|\(|<<|<[^<>]*+>|" + _REGULAR + rb"++",
    re.DOTALL,
)
_PARENTHESIS = re.compile(rb"\\.|[()]", re.DOTALL)
_IMAGE_END = re.compile(rb"[\0\t\n\f\r ]EI(?=[\0\t\n\f\r ]|$)")
_BINARY = re.compile(rb"[^\t\n\f\r\x20-\x7e]")
_MAX_DEPTH = 20
"""Of forms within forms that have no resources of their own."""
_MAX_CHAIN = 16


class Unparsable(Exception):
    """The content is not what a content stream should be."""


def resolved(obj: Any) -> Any:
    """What a reference leads to; None for nothing at all, and for references in a circle."""
    for _ in range(_MAX_CHAIN):
        if not isinstance(obj, IndirectObject):
            return None if isinstance(obj, NullObject) else obj
        obj = obj.get_object()
    return None


def entry(dictionary: DictionaryObject, key: str) -> Any:
    return resolved(dict.get(dictionary, key))


def decoded(stream: StreamObject) -> bytes:
    """pypdf's `get_data` keeps what it decoded as long as the reader lives."""
    return decode_stream_data(stream) if "/Filter" in stream else bytes(stream._data)


def scanned(content: bytes) -> Used:
    """:raises Unparsable: a string or an inline image without an end"""
    tokens: dict[str, set[bytes]] = {}
    position: int | None = 0
    while position is not None:
        position = _scan(content, position, tokens)
    return {category: {_name(token) for token in each} for category, each in tokens.items()}


def _scan(content: bytes, start: int, tokens: dict[str, set[bytes]]) -> int | None:
    """Up to where the pattern does not help, which is past what is returned; None at the end."""
    last = b""
    image: list[bytes] | None = None
    for match in _TOKEN.finditer(content, start):
        token = match[0]
        first = token[0]
        if first == 0x2F:
            last = token
            if image is not None:
                image.append(token)
        elif token == b"(":
            return _after_string(content, match.end())
        elif first > 0x40 or first in b"'\"":  # an operator (or true, false, null), no number or string
            if token in _OPERATORS and last:
                tokens.setdefault(_OPERATORS[token], set()).add(last)
            elif token == b"BI":
                image = []
            elif token == b"ID" and image is not None:
                tokens.setdefault("/ColorSpace", set()).update(image)
                return _after_image(content, match.end())
            last = b""
    return None


def _after_string(content: bytes, start: int) -> int:
    depth = 1
    for match in _PARENTHESIS.finditer(content, start):
        depth += {b"(": 1, b")": -1}.get(match[0], 0)
        if not depth:
            return match.end()
    raise Unparsable


def _after_image(content: bytes, start: int) -> int:
    """Inline images do not say how long they are: they end at an EI that text follows."""
    for match in _IMAGE_END.finditer(content, start):
        if not _BINARY.search(content, match.end(), match.end() + 16):
            return match.end()
    raise Unparsable


def _name(token: bytes) -> str:
    return str(NameObject.read_from_stream(BytesIO(token), None))


class Pruner:
    """Remembers what streams use, as forms are often on every page."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], Used | None] = {}

    def forget(self) -> None:
        self._known.clear()

    def of_page(self, contents: list[StreamObject], resources: DictionaryObject) -> DictionaryObject:
        try:
            used = scanned(b"\n".join(decoded(each) for each in contents))
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001  # whatever a decoder of hostile bytes raises
            return _kept(resources, None)
        return _kept(resources, used if self._follow(used, resources) else None)

    def of_streams(self, streams: list[Any], resources: DictionaryObject) -> DictionaryObject:
        """Of a form, a pattern, or the glyphs of a Type 3 font, all that share these resources."""
        used: Used = {}
        for stream in streams:
            if not self._join(used, stream):
                return _kept(resources, None)
        return _kept(resources, used if self._follow(used, resources) else None)

    def _join(self, used: Used, stream: Any) -> bool:
        found = self._of_stream(stream)
        for category, names in (found or {}).items():
            used.setdefault(category, set()).update(names)
        return found is not None

    def _of_stream(self, obj: Any) -> Used | None:
        stream = resolved(obj)
        if not isinstance(stream, StreamObject):
            return {}
        key = (obj.idnum, obj.generation) if isinstance(obj, IndirectObject) else None
        if key is None or key not in self._known:
            try:
                found: Used | None = scanned(decoded(stream))
            except MemoryError:
                raise
            except Exception:  # noqa: BLE001
                found = None
            if key is None:
                return found
            self._known[key] = found
        return self._known[key]

    def _follow(self, used: Used, resources: DictionaryObject) -> bool:
        """Adds what is used by what is used and has no resources of its own; False: that cannot be told."""
        seen: set[tuple[str, str]] = set()
        for _ in range(_MAX_DEPTH):
            new = {(c, n) for c in ("/XObject", "/Font", "/ExtGState") for n in used.get(c, ())} - seen
            if not new:
                return True
            seen |= new
            for category, name in sorted(new):
                group = entry(resources, category)
                target = entry(group, name) if isinstance(group, DictionaryObject) else None
                if not all(self._join(used, stream) for stream in _borrowers(target, group, name)):
                    return False
        return False


def _borrowers(target: Any, group: Any, name: str) -> list[Any]:
    """Streams within that look names up in the resources of whoever uses them."""
    if not isinstance(target, DictionaryObject):
        return []
    if isinstance(target, StreamObject):
        is_form = entry(target, "/Subtype") == "/Form" and "/Resources" not in target
        return [dict.get(group, name)] if is_form else []
    mask = entry(target, "/SMask")
    if isinstance(mask, DictionaryObject):
        form = entry(mask, "/G")
        borrows = isinstance(form, StreamObject) and "/Resources" not in form
        return [dict.get(mask, "/G")] if borrows else []
    if entry(target, "/Subtype") == "/Type3" and "/Resources" not in target:
        glyphs = entry(target, "/CharProcs")
        return list(dict.values(glyphs)) if isinstance(glyphs, DictionaryObject) else []
    return []


def _kept(resources: DictionaryObject, used: Used | None) -> DictionaryObject:
    """Raw values: references stay references. `used` None: everything."""
    result = DictionaryObject()
    for category in CATEGORIES:
        group = entry(resources, category)
        if not isinstance(group, DictionaryObject):
            continue
        names = None if used is None else used.get(category, set()) | _IMPLIED
        kept = {key: value for key, value in dict.items(group) if names is None or key in names}
        if kept:
            inner = DictionaryObject()
            dict.update(inner, kept)
            dict.__setitem__(result, NameObject(category), inner)
    return result


def contents(page: DictionaryObject) -> list[StreamObject]:
    """:raises Unparsable: the page says that there is something, and there is nothing that can be read"""
    raw = dict.get(page, "/Contents")
    found = resolved(raw)
    if raw is None or isinstance(raw, NullObject):
        return []
    streams = [resolved(each) for each in list.__iter__(found)] if isinstance(found, ArrayObject) else [found]
    if not all(isinstance(each, StreamObject) for each in streams):
        raise Unparsable
    return streams
