"""How long MP4 and MOV play, by every duration their headers give: the longest counts.

Boxes ("atoms") are walked with a stack and bounded in depth and number; sizes beyond the parent's are a sign
of a cut or a bomb. Fragmented files are counted fragment by fragment.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from embedonce.media.damage import Damaged

MAX_BOXES = 20_000
MAX_DEPTH = 12
MAX_ENTRIES = 500_000
"""Of sample tables, all together."""

_CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"mvex", b"moof", b"traf"})


@dataclass(frozen=True, slots=True)
class Box:
    kind: bytes
    start: int
    """Of what is inside."""
    end: int
    depth: int


@dataclass(slots=True)
class _Track:
    """`units`: what its sample table and its fragments come to, in `1 / scale` seconds."""

    handler: bytes = b""
    id: int = 0
    scale: int = 0
    durations: list[float] = field(default_factory=list)
    units: int = 0


def video_seconds(data: bytes) -> float:
    """:raises Damaged: no movie header, no video track, too many or too deep boxes, or cut off"""
    try:
        return _Reader(data).seconds()
    except struct.error:
        raise Damaged("is a damaged MP4 or MOV") from None


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._entries = 0
        self._tracks: list[_Track] = []
        self._movie_durations: list[float] = []
        self._defaults: dict[int, int] = {}
        self._fragments: defaultdict[int, int] = defaultdict(int)
        self._fragment = (0, 0)
        self._has_media = False

    def seconds(self) -> float:
        for box in boxes(self._data):
            self._read(box)
        if not self._movie_durations:
            raise Damaged("is an MP4 or MOV without a movie header")
        if not any(track.handler == b"vide" for track in self._tracks):
            raise Damaged("has no video track")
        if not self._has_media:
            raise Damaged("is an MP4 or MOV without media")
        durations = list(self._movie_durations)
        for track in self._tracks:
            durations += track.durations
            if track.scale:
                durations.append((track.units + self._fragments[track.id]) / track.scale)
        longest = max(durations)
        if longest <= 0:
            raise Damaged("is an MP4 or MOV that does not say how long it is")
        return longest

    def _read(self, box: Box) -> None:
        match box.kind:
            case b"mdat":
                self._has_media = True
            case b"trak":
                self._tracks.append(_Track())
            case b"mvhd":
                scale, duration = self._scale_and_duration(box)
                self._movie_durations.append(duration / scale)
            case b"tkhd" | b"mdhd" | b"hdlr" | b"stts" if self._tracks:
                self._read_track(box, self._tracks[-1])
            case b"trex":
                number, _, default = struct.unpack_from(">III", self._inside(box), 4)
                self._defaults[number] = default
            case b"tfhd":
                self._read_fragment_head(self._inside(box))
            case b"trun":
                self._read_run(self._inside(box))

    def _read_track(self, box: Box, track: _Track) -> None:
        inside = self._inside(box)
        match box.kind:
            case b"tkhd":
                track.id = struct.unpack_from(">I", inside, 20 if inside[0] == 1 else 12)[0]
            case b"mdhd":
                scale, duration = self._scale_and_duration(box)
                track.scale = min(track.scale or scale, scale)
                track.durations.append(duration / scale)
            case b"hdlr":
                if bytes(inside[4:8]) != b"dhlr":  # QuickTime's second one, about where the data are
                    track.handler = bytes(inside[8:12])
            case _:
                count = struct.unpack_from(">I", inside, 4)[0]
                track.units += sum(n * delta for n, delta in self._table(inside[8:], ">II", count))

    def _read_fragment_head(self, inside: memoryview) -> None:
        flags, number = struct.unpack_from(">II", inside, 0)
        at = 8 + (8 if flags & 1 else 0) + (4 if flags & 2 else 0)
        default = struct.unpack_from(">I", inside, at)[0] if flags & 8 else self._defaults.get(number, 0)
        self._fragment = (number, default)

    def _read_run(self, inside: memoryview) -> None:
        number, default = self._fragment
        flags, count = struct.unpack_from(">II", inside, 0)
        at = 8 + (4 if flags & 1 else 0) + (4 if flags & 4 else 0)
        if flags & 0x100:
            form = ">I" + "4x" * sum(bool(flags & flag) for flag in (0x200, 0x400, 0x800))
            self._fragments[number] += sum(each for (each,) in self._table(inside[at:], form, count))
        else:
            self._fragments[number] += count * default

    def _table(self, rows: memoryview, form: str, count: int) -> Iterator[tuple[int, ...]]:
        size = struct.calcsize(form)
        self._entries += count
        if self._entries > MAX_ENTRIES:
            raise Damaged("is an MP4 or MOV of too many samples")
        if count * size > len(rows):
            raise Damaged("is a truncated MP4 or MOV")
        return struct.iter_unpack(form, rows[: count * size])

    def _scale_and_duration(self, box: Box) -> tuple[int, int]:
        """Ones all over mean that the duration is not known."""
        inside = self._inside(box)
        if inside[0] == 1:
            scale, duration = struct.unpack_from(">IQ", inside, 20)
            unknown = 0xFFFFFFFFFFFFFFFF
        else:
            scale, duration = struct.unpack_from(">II", inside, 12)
            unknown = 0xFFFFFFFF
        if scale == 0:
            raise Damaged("is an MP4 or MOV without a time scale")
        return int(scale), 0 if duration == unknown else int(duration)

    def _inside(self, box: Box) -> memoryview:
        if box.start == box.end:
            raise Damaged("is a damaged MP4 or MOV")
        return memoryview(self._data)[box.start : box.end]


def boxes(data: bytes) -> Iterator[Box]:
    """Every box in the order of the file, containers before what is in them.

    :raises Damaged: a box larger than its parent, or too many or too deep ones
    """
    stack = [(0, len(data))]
    for _ in range(MAX_BOXES):
        while stack and stack[-1][0] >= stack[-1][1]:
            stack.pop()
        if not stack:
            return
        position, end = stack.pop()
        depth = len(stack)
        if depth > MAX_DEPTH:
            raise Damaged("is an MP4 or MOV of too deep boxes")
        if depth and end - position < 8:
            stack.append((end, end))  # QuickTime ends some lists with 4 zero bytes
            continue
        size, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        head = 8
        if size == 1:
            size, head = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        elif size == 0 and not depth:
            size = end - position
        if end - position < head or size > end - position:
            raise Damaged("is a truncated MP4 or MOV")
        if size < head:
            raise Damaged("is a damaged MP4 or MOV")
        stack.append((position + size, end))
        yield Box(kind, position + head, position + size, depth)
        if kind in _CONTAINERS:
            stack.append((position + head, position + size))
    raise Damaged("is an MP4 or MOV of too many boxes")
