"""MP4 and MOV, cut before key frames of the first video stream; of other streams, the first one of sound is
kept. Sound goes by the time at which it plays: into the piece in whose pictures' time it begins.

A piece begins with its key frame at 0. Pictures that are shown before the key frame but come after it (open
groups of pictures) need what is before the cut and are left out: some hundredths of a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, BinaryIO

from av.stream import Disposition

from embedonce.core.content import Modality
from embedonce.core.segment import CutOptions, Segment, Uncuttable
from embedonce.media.damage import Damaged
from embedonce.media.video import video_seconds
from embedonce.segmenting.avaudio import seconds_range
from embedonce.segmenting.avsource import PICTURES, SOUNDS, Piece, opened, packets, remuxed

_ENTRY_BYTES = 40
"""Of a packet in the tables of an MP4, at most."""
_HEADER_BYTES = 4096
_LATE_SECONDS = 3
"""Sound that comes in the file so much later than the pictures it belongs to is lost."""
_TOLERANCE_SECONDS = 1
"""Between the end of what is read and what the header says, and between pictures and sound."""


@dataclass(slots=True)
class _Group:
    """Of pictures: a key frame and what follows, up to the next. `error`: why it can be no piece."""

    start: Fraction
    end: Fraction
    pieces: list[Piece] = field(default_factory=list, repr=False)
    size: int = 0
    error: str | None = None


def video(file: BinaryIO, options: CutOptions, media_type: str) -> Iterator[Segment]:
    """:raises Uncuttable: damaged, without pictures, or of a codec that is not known"""
    with opened(file, "mov", "MP4 or MOV") as container:
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            raise Uncuttable("has no video track")
        pictures: Any = streams[0]
        if _codec(pictures) not in PICTURES or not pictures.time_base:
            raise Uncuttable("has a video track of an encoding that cannot be cut")
        sounds = [s for s in container.streams.audio if _codec(s) in SOUNDS and s.time_base]
        sound: Any = sounds[0] if sounds else None
        cutter = _Cutter(options, media_type, pictures, sound)
        for index, piece in packets(container, [pictures, *([sound] if sound else [])]):
            if index == pictures.index:
                cutter.add_picture(piece)
            else:
                cutter.add_sound(piece)
            yield from cutter.ready()
        if cutter.is_empty:
            raise Uncuttable("is a damaged MP4 or MOV")
        yield from cutter.rest()


def _closed_up(first: list[Piece], groups: list[_Group]) -> list[Piece]:
    """All packets; where some after the key frame were left out, decoding does not wait for them."""
    pieces = first + [piece for group in groups[1:] for piece in group.pieces]
    if len(first) == len(groups[0].pieces) or len(pieces) < 2:
        return pieces
    gap = max(0, pieces[1].dts - pieces[0].dts - pieces[0].duration)
    return pieces[:1] + [replace(piece, dts=piece.dts - gap) for piece in pieces[1:]]


def _codec(stream: Any) -> str:
    return str(stream.codec_context.name) if stream.codec_context else ""


class _Cutter:
    """Times are of presentation, in seconds. Held are one piece, and, for a moment, the one before it."""

    def __init__(self, options: CutOptions, media_type: str, pictures: Any, sound: Any) -> None:
        self._options = options
        self._media_type = media_type
        self._pictures, self._sound = pictures, sound
        self._longest = Fraction(options.video_seconds)
        self._zero: Fraction | None = None
        self._piece: list[_Group] = []
        self._group = _Group(Fraction(0), Fraction(0))
        self._closed: deque[list[_Group]] = deque()
        self._sounds: deque[tuple[Fraction, Piece]] = deque()
        self._sound_size = 0
        self._sound_at = self._sound_end = self._picture_at = Fraction(-1 << 40)

    @property
    def is_empty(self) -> bool:
        return self._zero is None

    def add_picture(self, piece: Piece) -> None:
        base = self._pictures.time_base
        at, end = piece.pts * base, (piece.pts + piece.duration) * base
        self._picture_at = max(self._picture_at, at)
        group = self._group
        if self._zero is None:
            self._zero = at
            group = self._group = _Group(at, at, error=None if piece.is_key else self._no_key())
        elif piece.is_key and at > group.start:
            group.end = at
            self._complete()
            group = self._group = _Group(at, at)
        group.end = max(group.end, end)
        if group.error is None:
            group.pieces.append(piece)
            group.size += len(piece.data) + _ENTRY_BYTES
            self._check()
        else:
            self._drop_sound(at - _LATE_SECONDS)

    def add_sound(self, piece: Piece) -> None:
        base = self._sound.time_base
        at = piece.pts * base
        self._sound_at = max(self._sound_at, at)
        self._sound_end = max(self._sound_end, at + piece.duration * base)
        if self._sound_size <= self._options.media_bytes:
            self._sounds.append((at, piece))
            self._sound_size += len(piece.data) + _ENTRY_BYTES

    def ready(self) -> Iterator[Segment]:
        while self._closed:
            end = self._closed[0][-1].end
            if self._sound and self._sound_at < end and self._picture_at < end + _LATE_SECONDS:
                return
            yield from self._segments(self._closed.popleft())

    def rest(self) -> Iterator[Segment]:
        self._complete()
        self._close()
        self._sound_at = max(self._sound_at, self._group.end)
        yield from self.ready()
        assert self._zero is not None
        end = self._group.end
        claimed = (self._pictures.duration or 0) * self._pictures.time_base + self._zero
        if claimed - end > _TOLERANCE_SECONDS:
            second = float(end - self._zero)
            yield self._error(end, claimed, f"cannot be read from second {second:.1f} on")
        elif self._sound_end - end > _TOLERANCE_SECONDS:
            yield self._error(end, self._sound_end, "has sound without pictures")

    def _fits(self, start: Fraction, end: Fraction, size: int) -> bool:
        room = self._options.media_bytes - _HEADER_BYTES - self._sound_size
        return end - start <= self._longest and size <= room

    def _check(self) -> None:
        group = self._group
        before = sum(each.size for each in self._piece)
        if self._piece and not self._fits(self._piece[0].start, group.end, before + group.size):
            self._close()
        if not self._piece and not self._fits(group.start, group.end, group.size):
            too_long = group.end - group.start > self._longest
            if too_long or group.size > self._options.media_bytes:
                group.error = self._no_key() if too_long else self._too_large()
                group.pieces.clear()

    def _complete(self) -> None:
        """What the group is is known now: it joins the piece, or begins one."""
        group = self._group
        if self._piece and not self._fits(self._piece[0].start, group.end, 0):
            self._close()
        if group.error is None and group.end - group.start > self._longest:
            group.error = self._no_key()
            group.pieces.clear()
        if group.error is not None:
            self._close()
            self._closed.append([group])
        else:
            self._piece.append(group)

    def _close(self) -> None:
        if self._piece:
            self._closed.append(self._piece)
            self._piece = []

    def _segments(self, groups: list[_Group]) -> Iterator[Segment]:
        start, end = groups[0].start, groups[-1].end
        self._drop_sound(start)
        if groups[0].error is not None:
            yield self._error(start, end, groups[0].error)
            self._drop_sound(end)
            return
        data, seconds = self._muxed(groups)
        if data and seconds <= self._options.video_seconds and len(data) <= self._options.media_bytes:
            where = seconds_range(start - (self._zero or 0), end - (self._zero or 0))
            yield Segment(Modality.VIDEO, where, data=data, media_type=self._media_type, seconds=seconds)
        elif len(groups) > 1:
            middle = len(groups) // 2
            yield from self._segments(groups[:middle])
            yield from self._segments(groups[middle:])
        else:
            yield self._error(start, end, "cannot be cut small enough" if data else "cannot be read")
        self._drop_sound(end)

    def _muxed(self, groups: list[_Group]) -> tuple[bytes, float]:
        """With its seconds as they are counted elsewhere; nothing if it cannot be written."""
        start, end = groups[0].start, groups[-1].end
        base = self._pictures.time_base
        pieces = _closed_up([p for p in groups[0].pieces if p.pts * base >= start], groups)
        tracks = [(self._pictures, pieces, start)]
        if self._sound:
            base = self._sound.time_base
            last = start + self._longest
            heard = [p for at, p in self._sounds if start <= at < end and at + p.duration * base <= last]
            if heard:
                tracks.append((self._sound, heard, start))
        try:
            data = remuxed("mov" if self._media_type == "video/quicktime" else "mp4", tracks)
            return data, video_seconds(data)
        except (Damaged, OSError, ValueError):
            return b"", 0.0

    def _drop_sound(self, before: Fraction) -> None:
        if self._closed and self._closed[0][0].start < before:
            return
        while self._sounds and self._sounds[0][0] < before:
            self._sound_size -= len(self._sounds.popleft()[1].data) + _ENTRY_BYTES

    def _error(self, start: Fraction, end: Fraction, error: str) -> Segment:
        zero = self._zero or 0
        return Segment(Modality.VIDEO, seconds_range(start - zero, end - zero), error=error)

    def _no_key(self) -> str:
        return f"has no key frame within {self._options.video_seconds:g} seconds"

    def _too_large(self) -> str:
        return f"has more than {self._options.media_bytes} bytes between two key frames"
