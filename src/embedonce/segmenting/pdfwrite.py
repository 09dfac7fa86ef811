"""A PDF written so that its bytes depend on nothing but what its pages show: objects in the order in which
the pages reach them, sorted keys, strings in hex, no dates, IDs or producer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from pypdf.generic import (
    ArrayObject,
    BooleanObject,
    ByteStringObject,
    DictionaryObject,
    IndirectObject,
    NameObject,
    NumberObject,
    StreamObject,
    TextStringObject,
)

from embedonce.segmenting.pdfprune import Pruner, contents, entry, resolved

_PAGE_KEYS = ("/Type", "/UserUnit", "/Group")
_INHERITED = ("/MediaBox", "/CropBox", "/Rotate")
_LETTER = (0, 0, 612, 792)
_ANNOTATION_KEYS = frozenset(
    {"/Type", "/Subtype", "/Rect", "/AS", "/F", "/C", "/CA", "/Border", "/BS", "/BE", "/IC", "/QuadPoints"}
    | {"/L", "/LE", "/Vertices", "/InkList", "/RD", "/FT", "/MK", "/OC"}
)
_FREE_TEXT_KEYS = frozenset({"/Contents", "/DA", "/Q"})
_LEADING_OUT = frozenset(
    {"/Page", "/Pages", "/Catalog", "/StructElem", "/StructTreeRoot", "/Annot", "/Outlines"}
)
"""Types of what is the document's, not the page's."""
_DROPPED = frozenset(
    {"/Parent", "/StructParent", "/StructParents", "/Metadata", "/PieceInfo", "/LastModified", "/Thumb"}
    | {"/AF", "/OPI", "/AA", "/Alternates", "/Ref"}
)
_FILE_KEYS = frozenset({"/Length", "/F", "/FFilter", "/FDecodeParms", "/DL"})
"""Of streams: other files are never read, and the length is written anew."""
_MAX_TREE_DEPTH = 64


class Bundle:
    """One PDF in the making. Anything that is read may raise anything."""

    def __init__(self, pruner: Pruner, root: Any) -> None:
        self._pruner = pruner
        self._root = root
        self._bodies: list[bytes] = []
        self._numbers: dict[tuple[int, int], int] = {}
        self._queue: deque[tuple[int, Any]] = deque()
        self._layers: list[tuple[tuple[int, int], int]] = []

    def of(self, pages: Iterable[DictionaryObject]) -> bytes:
        catalog, tree = self._reserve(), self._reserve()
        numbers = []
        for page in pages:
            numbers.append(number := self._reserve())
            self._keep(number, self._page(page, tree))
            while self._queue:
                each, obj = self._queue.popleft()
                self._keep(each, self._stream(obj) if isinstance(obj, StreamObject) else self._value(obj))
        kids = b" ".join(b"%d 0 R" % number for number in numbers)
        self._keep(tree, b"<</Count %d/Kids[%s]/Type/Pages>>" % (len(numbers), kids))
        self._keep(catalog, b"<<%s/Pages %d 0 R/Type/Catalog>>" % (self._visibility(), tree))
        return self._file(catalog)

    def _reserve(self) -> int:
        self._bodies.append(b"null")
        return len(self._bodies)

    def _keep(self, number: int, body: bytes) -> None:
        self._bodies[number - 1] = body

    def _file(self, catalog: int) -> bytes:
        out = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
        offsets = []
        for number, body in enumerate(self._bodies, 1):
            offsets.append(len(out))
            out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
        start = len(out)
        out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(offsets) + 1)
        out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
        trailer = (len(offsets) + 1, catalog, start)
        out += b"trailer\n<</Size %d/Root %d 0 R>>\nstartxref\n%d\n%%%%EOF\n" % trailer
        return bytes(out)

    def _page(self, page: DictionaryObject, tree: int) -> bytes:
        kept = {key: self._value(dict.get(page, key)) for key in _PAGE_KEYS if key in page}
        for key in _INHERITED:
            found = _inherited(page, key)
            if isinstance(found, ArrayObject) or (key == "/Rotate" and found):
                kept[key] = self._value(found)
        kept.setdefault("/MediaBox", b"[%d %d %d %d]" % _LETTER)
        streams = contents(page)
        if streams:
            raw = resolved(dict.get(page, "/Contents"))
            kept["/Contents"] = self._value(raw if len(streams) > 1 else _only(dict.get(page, "/Contents")))
        resources = _inherited(page, "/Resources")
        if not isinstance(resources, DictionaryObject):
            resources = DictionaryObject()
        kept["/Resources"] = self._value(self._pruner.of_page(streams, resources))
        annotations = entry(page, "/Annots")
        if isinstance(annotations, ArrayObject):
            shown = [self._annotation(each) for each in list.__iter__(annotations)]
            if any(shown):
                kept["/Annots"] = b"[%s]" % b" ".join(each for each in shown if each)
        kept["/Parent"] = b"%d 0 R" % tree
        return _dictionary(kept)

    def _annotation(self, obj: Any) -> bytes:
        """Only what is seen of it, without what it does."""
        source = resolved(obj)
        if not isinstance(source, DictionaryObject) or entry(source, "/Subtype") == "/Popup":
            return b""
        keys = _ANNOTATION_KEYS
        if entry(source, "/Subtype") == "/FreeText":
            keys |= _FREE_TEXT_KEYS
        kept = {key: value for key, value in dict.items(source) if key in keys}
        appearance = entry(source, "/AP")
        if isinstance(appearance, DictionaryObject) and "/N" in appearance:
            normal = DictionaryObject()
            dict.__setitem__(normal, NameObject("/N"), dict.get(appearance, "/N"))
            kept["/AP"] = normal
        number = self._reserve()
        self._keep(number, _dictionary({key: self._value(value) for key, value in kept.items()}))
        return b"%d 0 R" % number

    def _visibility(self) -> bytes:
        """Which of the layers used here are hidden: the catalog says that."""
        properties = entry(self._root, "/OCProperties") if self._layers else None
        default = entry(properties, "/D") if isinstance(properties, DictionaryObject) else None
        if not isinstance(default, DictionaryObject):
            return b""
        shown = {b"OCGs": [number for _, number in self._layers]}
        for key in ("/ON", "/OFF"):
            listed = entry(default, key)
            keys = (
                {_key(each) for each in list.__iter__(listed)} if isinstance(listed, ArrayObject) else set()
            )
            shown[key[1:].encode()] = [number for layer, number in self._layers if layer in keys]
        lists = {key: b"[%s]" % b" ".join(b"%d 0 R" % n for n in each) for key, each in shown.items()}
        base = entry(default, "/BaseState")
        state = b"/BaseState" + base.renumber() if isinstance(base, NameObject) else b""
        parts = (state, lists[b"OFF"], lists[b"ON"], lists[b"OCGs"])
        return b"/OCProperties<</D<<%s/OFF%s/ON%s>>/OCGs%s>>" % parts

    def _stream(self, stream: StreamObject) -> bytes:
        kept = {key: value for key, value in dict.items(stream) if key not in _FILE_KEYS}
        body = bytes(stream._data)
        head = self._entries(kept, [stream])
        head["/Length"] = b"%d" % len(body)
        return b"%s\nstream\n%s\nendstream" % (_dictionary(head), body)

    def _entries(self, source: Mapping[str, Any], content: list[Any]) -> dict[str, bytes]:
        """`content`: the streams that look names up in the resources that are among the entries."""
        kept = {}
        for key, value in sorted(source.items()):  # sorted: it is the order in which objects are numbered
            if key in _DROPPED:
                continue
            if key == "/Resources":
                resources = resolved(value)
                if not isinstance(resources, DictionaryObject):
                    resources = DictionaryObject()
                kept[key] = self._value(self._pruner.of_streams(content, resources))
            else:
                kept[key] = self._value(value)
        return kept

    def _value(self, obj: Any) -> bytes:
        match obj:
            case IndirectObject():
                return self._reference(obj)
            case StreamObject():
                return b"null"  # cannot be here: streams are referred to
            case DictionaryObject():
                if _leads_out(obj):
                    return b"null"
                glyphs = entry(obj, "/CharProcs") if "/Resources" in obj else None
                content = list(dict.values(glyphs)) if isinstance(glyphs, DictionaryObject) else []
                return _dictionary(self._entries(dict(dict.items(obj)), content))
            case ArrayObject():
                return b"[%s]" % b" ".join(self._value(each) for each in list.__iter__(obj))
        return _simple(obj)

    def _reference(self, reference: IndirectObject) -> bytes:
        target = resolved(reference)
        if not isinstance(target, (DictionaryObject, ArrayObject)):
            return _simple(target)
        if isinstance(target, DictionaryObject) and _leads_out(target):
            return b"null"
        key = _key(reference)
        if key not in self._numbers:
            self._numbers[key] = self._reserve()
            self._queue.append((self._numbers[key], target))
            if isinstance(target, DictionaryObject) and entry(target, "/Type") == "/OCG":
                self._layers.append((key, self._numbers[key]))
        return b"%d 0 R" % self._numbers[key]


def _simple(obj: Any) -> bytes:
    match obj:
        case NameObject():
            return obj.renumber()
        case BooleanObject():
            return b"true" if obj.value else b"false"
        case NumberObject():
            return b"%d" % obj
        case float():  # as pypdf's own writer would round it, or coarser: a rewritten file is the same
            return _real(obj)
        case TextStringObject():
            return b"<%s>" % obj.original_bytes.hex().encode()
        case ByteStringObject():
            return b"<%s>" % obj.hex().encode()
    return b"null"


def _real(number: float) -> bytes:
    if abs(number) < 1e-7:
        return b"0"
    return format(Decimal(f"{number:.7g}").normalize(), "f").encode()


def _dictionary(entries: Mapping[str, bytes]) -> bytes:
    parts = [NameObject(key).renumber() + b" " + value for key, value in sorted(entries.items())]
    return b"<<%s>>" % b"".join(parts)


def _key(obj: Any) -> tuple[int, int]:
    return (obj.idnum, obj.generation) if isinstance(obj, IndirectObject) else (0, 0)


def _only(raw: Any) -> Any:
    """The reference to the stream, in an array or not."""
    found = resolved(raw)
    return list.__getitem__(found, 0) if isinstance(found, ArrayObject) else raw


def _leads_out(obj: DictionaryObject) -> bool:
    return entry(obj, "/Type") in _LEADING_OUT


def _inherited(page: DictionaryObject, key: str) -> Any:
    node: Any = page
    for _ in range(_MAX_TREE_DEPTH):
        if not isinstance(node, DictionaryObject):
            return None
        found = entry(node, key)
        if found is not None:
            return found
        node = entry(node, "/Parent")
    return None
