"""WAV and MP3, cut between packets: some hundredths of a second of samples, or one MP3 frame.

The first frames of an MP3 piece may refer to sound data in frames before the cut (the bit reservoir);
decoders conceal that: a piece may begin with a few hundredths of a second of silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, BinaryIO

from embedonce.core.content import Modality
from embedonce.core.segment import CutOptions, Range, Segment, Uncuttable, Unit
from embedonce.media.audio import mp3_seconds, wav_seconds
from embedonce.media.damage import Damaged
from embedonce.segmenting.avsource import MP3, PCM, Piece, opened, packets, remuxed

_HEADER_BYTES = 128
"""More than a WAV's without chunks of information."""
_ROUNDING = Fraction(1, 1_000_000)
"""The inspector adds up frames in floating point, and must not come to more than the limit."""
_UNKNOWN_SIZES = frozenset({0, 0x7FFFFFFF, *range(0xFFFFFF00, 0x100000000)})


def audio(file: BinaryIO, options: CutOptions, media_type: str, size: int) -> Iterator[Segment]:
    """:raises Uncuttable: damaged, or an encoding whose bytes say nothing about time"""
    form, name, codecs = ("wav", "WAV", PCM) if media_type == "audio/wav" else ("mp3", "MP3", MP3)
    with opened(file, form, name) as container:
        stream = next(iter(container.streams.audio), None)
        if stream is None or not stream.time_base:
            raise Uncuttable(f"is a damaged {name}")
        if stream.codec_context.name not in codecs:
            raise Uncuttable(f"is a {name} of an encoding that cannot be cut")
        cutter = _Cutter(options, media_type, stream)
        for _, piece in packets(container, [stream]):
            yield from cutter.add(piece)
        if cutter.is_empty:
            raise Uncuttable(f"is a damaged {name}")
        yield from cutter.rest()
        missing = _missing_bytes(file, size) if form == "wav" else 0
        byte_rate = cutter.byte_rate
    if missing and byte_rate:
        yield _unread(cutter.end, cutter.end + missing / byte_rate)


def _missing_bytes(file: BinaryIO, size: int) -> int:
    """Of a WAV whose header says that it is longer."""
    file.seek(4)
    claimed = int.from_bytes(file.read(4), "little")
    return 0 if claimed in _UNKNOWN_SIZES else max(0, claimed + 8 - size)


class _Cutter:
    def __init__(self, options: CutOptions, media_type: str, stream: Any) -> None:
        self._options = options
        self._media_type = media_type
        self._is_wav = media_type == "audio/wav"
        self._stream = stream
        self._seconds: Callable[[bytes], float] = wav_seconds if self._is_wav else mp3_seconds
        self._longest = Fraction(options.audio_seconds) - (0 if self._is_wav else _ROUNDING)
        self._largest = options.media_bytes - (_HEADER_BYTES if self._is_wav else 0)
        self._held: list[Piece] = []
        self._size = 0
        self._all_bytes = 0
        self._start = Fraction(0)
        self.end = Fraction(0)

    @property
    def is_empty(self) -> bool:
        return not self.end

    @property
    def byte_rate(self) -> Fraction:
        return self._all_bytes / self.end

    def add(self, piece: Piece) -> Iterator[Segment]:
        end = self.end + piece.duration * self._stream.time_base
        if self._held and (end - self._start > self._longest or self._size + len(piece.data) > self._largest):
            yield self._segment(self._held, self._start, self.end)
            self._held, self._size, self._start = [], 0, self.end
        self._held.append(piece)
        self._size += len(piece.data)
        self._all_bytes += len(piece.data)
        self.end = end

    def rest(self) -> Iterator[Segment]:
        """Of an MP3 that ends within a frame, that frame is no sound."""
        whole = self._segment(self._held, self._start, self.end)
        if whole.error is None or self._is_wav or len(self._held) == 1:
            yield whole
            return
        last = self.end - self._held[-1].duration * self._stream.time_base
        without = self._segment(self._held[:-1], self._start, last)
        if without.error is not None:
            yield whole
            return
        yield without
        yield _unread(last, self.end)

    def _segment(self, pieces: list[Piece], start: Fraction, end: Fraction) -> Segment:
        where = seconds_range(start, end)
        try:
            data = self._joined(pieces)
            seconds = self._seconds(data)
        except (Damaged, OSError, ValueError):
            return _unread(start, end)
        if seconds > self._options.audio_seconds or len(data) > self._options.media_bytes:
            return Segment(Modality.AUDIO, where, error="cannot be cut small enough")
        return Segment(Modality.AUDIO, where, data=data, media_type=self._media_type, seconds=seconds)

    def _joined(self, pieces: list[Piece]) -> bytes:
        if not self._is_wav:
            return b"".join(each.data for each in pieces)
        zero = pieces[0].pts * self._stream.time_base
        return remuxed("wav", [(self._stream, pieces, zero)])


def seconds_range(start: Fraction, end: Fraction) -> Range:
    """Rounded to milliseconds."""
    return Range(Unit.SECONDS, float(round(start, 3)), float(round(end, 3)))


def _unread(start: Fraction, end: Fraction) -> Segment:
    where = seconds_range(start, end)
    return Segment(Modality.AUDIO, where, error=f"cannot be read from second {where.start:.1f} on")
