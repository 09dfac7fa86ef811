"""FFmpeg, held short: one demuxer at a time by name, codecs from a list, and nothing is opened but the file
that was handed in (no protocol, no playlist, no reference to other files).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO, NoReturn

import av
from av.container import InputContainer

from embedonce.core.segment import Uncuttable

PCM = frozenset(
    {"pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_s64le", "pcm_f32le", "pcm_f64le"}
    | {"pcm_mulaw", "pcm_alaw"}
)
MP3 = frozenset({"mp3", "mp3float"})
PICTURES = frozenset(
    {"h264", "hevc", "av1", "libdav1d", "vp8", "vp9", "libvpx-vp9", "mpeg4", "mpeg2video", "mjpeg", "prores"}
)
SOUNDS = (
    PCM | MP3 | {"pcm_s16be", "pcm_s24be", "pcm_s32be", "pcm_f32be", "aac", "alac", "ac3", "eac3", "opus"}
)
SOUNDS |= {"libopus", "flac"}

_ALLOWED = {
    "wav": PCM,
    "mp3": MP3,
    "mov": PICTURES | SOUNDS,
}
_OUTPUT = {
    "wav": {},
    "mp4": {"write_btrt": "0"},
    "mov": {"write_btrt": "0"},
}


@dataclass(frozen=True, slots=True)
class Piece:
    """What is kept of a packet; times in the time base of its stream."""

    data: bytes
    pts: int
    dts: int
    duration: int
    is_key: bool


class _Only:
    """What a demuxer needs of a file: no name, and closing is not its business."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read
        self.seek = file.seek
        self.tell = file.tell


def refuse(*_: object) -> NoReturn:
    """FFmpeg asks this for any file but the one it was given."""
    raise PermissionError("no other file is opened")


@contextmanager
def opened(file: BinaryIO, demuxer: str, name: str) -> Iterator[InputContainer]:
    """`name`: of the format, as in "is a damaged …".

    :raises Uncuttable: it is not this format, or damaged
    """
    options = {
        "protocol_whitelist": "none",
        "format_whitelist": demuxer,
        "codec_whitelist": ",".join(sorted(_ALLOWED[demuxer])),
    }
    if demuxer == "mov":
        options |= {"enable_drefs": "0", "use_absolute_path": "0"}
    file.seek(0)
    try:
        container = av.open(
            _Only(file), "r", format=demuxer, options=options, metadata_errors="replace", io_open=refuse
        )
    except (av.FFmpegError, OSError, ValueError, RuntimeError):
        raise Uncuttable(f"is a damaged {name}") from None
    with container:
        yield container


def packets(container: InputContainer, streams: Iterable[Any]) -> Iterator[tuple[int, Piece]]:
    """Each with the index of its stream, up to the end or to where nothing can be read any more."""
    try:
        for packet in container.demux(list(streams)):
            pts = packet.dts if packet.pts is None else packet.pts
            if pts is None or not packet.size:
                continue
            dts = pts if packet.dts is None else packet.dts
            duration = max(0, packet.duration or 0)
            yield packet.stream.index, Piece(bytes(packet), pts, dts, duration, packet.is_keyframe)
    except (av.FFmpegError, OSError, ValueError):
        return


def remuxed(form: str, tracks: Iterable[tuple[Any, list[Piece], Fraction]]) -> bytes:
    """`tracks`: the stream that packets are of, the packets, and the time in seconds that becomes 0.

    Written without date, encoder, identifiers and bit rates, which FFmpeg estimates from the whole source.

    :raises ValueError, OSError: the format does not take this
    """
    buffer = io.BytesIO()
    options = {"fflags": "+bitexact", **_OUTPUT[form]}
    with av.open(buffer, "w", format=form, container_options=options, io_open=refuse) as output:
        row: list[tuple[Fraction, int, Piece, int, Fraction, Any]] = []
        for number, (source, pieces, zero) in enumerate(tracks):
            stream = output.add_stream_from_template(source, opaque=True)
            stream.codec_context.bit_rate = 0
            if source.codec_context.codec_tag == "hvc1":  # FFmpeg's own choice, hev1, is not for all players
                stream.codec_context.codec_tag = "hvc1"
            base = source.time_base
            shift = round(zero / base)
            row += [((p.dts - shift) * base, number, p, shift, base, stream) for p in pieces]
        row.sort(key=lambda each: each[:2])
        for _, _, piece, shift, base, stream in row:
            packet: Any = av.Packet(piece.data)
            packet.stream = stream
            packet.time_base = base
            packet.pts, packet.dts = piece.pts - shift, piece.dts - shift
            packet.duration = piece.duration
            packet.is_keyframe = piece.is_key
            output.mux_one(packet)
    return buffer.getvalue()
