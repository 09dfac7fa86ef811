"""Small sound and video: WAV by hand, MP4 and MOV by FFmpeg's encoders (their bytes vary by version)."""

from __future__ import annotations

import io
import struct
from collections.abc import Container
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

WIDTH = 32
RATE = 16_000
FRAME = 1024


def pcm(seconds: float, *, rate: int = 8000, channels: int = 1, width: int = 2) -> bytes:
    """Samples without a period that the cuts could hide in."""
    size = round(seconds * rate) * channels * width
    return bytes((n * 7 + n // 251) % 256 for n in range(4096)) * (size // 4096) + bytes(size % 4096)


def wav(
    samples: bytes,
    *,
    encoding: int = 1,
    rate: int = 8000,
    channels: int = 1,
    bits: int = 16,
    size: int | None = None,
    info: bytes = b"",
) -> bytes:
    """`size`: what the header says instead of the samples'; `info`: of a LIST chunk before them."""
    align = channels * bits // 8
    form = struct.pack("<HHIIHH", encoding, channels, rate, rate * align, align, bits)
    listed = b"LIST" + struct.pack("<I", len(info)) + info if info else b""
    claimed = len(samples) if size is None else size
    body = (
        b"WAVEfmt " + struct.pack("<I", 16) + form + listed + b"data" + struct.pack("<I", claimed) + samples
    )
    whole = len(body) if size is None else min(size, 0xFFFFFFFF)
    return b"RIFF" + struct.pack("<I", whole) + body


def movie(
    seconds: int = 10,
    *,
    codec: str = "libx264",
    form: str = "mp4",
    keys: Container[float] | None = None,
    fps: int = 10,
    between: int = 2,
    sound: bool = True,
    sound_seconds: float | None = None,
    flags: str = "",
    tag: str = "",
    path: Path | None = None,
) -> bytes:
    """Grey pictures and silence. `keys`: seconds with a key frame, else every one; `between`: B-frames."""
    target: Any = str(path) if path else io.BytesIO()
    options = {"fflags": "+bitexact", **({"movflags": flags} if flags else {})}
    with av.open(target, "w", format=form, container_options=options) as out:
        video: Any = out.add_stream(codec, rate=fps, options=_quiet(codec))
        video.width = video.height = WIDTH
        video.pix_fmt = "yuv420p"
        video.gop_size = fps if keys is None else 600
        video.codec_context.max_b_frames = between
        video.codec_context.thread_count = 1
        if tag:
            video.codec_context.codec_tag = tag
        audio: Any = out.add_stream("aac", rate=RATE) if sound else None
        if audio:
            audio.layout = "mono"
        count, heard = seconds * fps, 0
        for n in range(count):
            out.mux(video.encode(_picture(n, fps, n == 0 or (keys is not None and n / fps in keys))))
            end = (n + 1) / fps if n + 1 < count or sound_seconds is None else sound_seconds
            while audio and heard < end * RATE:
                out.mux(audio.encode(_silence(heard)))
                heard += FRAME
        for stream in (video, audio):
            if stream:
                out.mux(stream.encode(None))
    return path.read_bytes() if path else target.getvalue()


def _quiet(codec: str) -> dict[str, str]:
    """No key frames but those that are asked for; H.265's encoder does not write about itself."""
    return (
        {"x265-params": "log-level=none:pools=1:frame-threads=1"}
        if codec == "libx265"
        else {"sc_threshold": "0"}
    )


def _picture(n: int, fps: int, is_key: bool) -> Any:
    frame = av.VideoFrame(WIDTH, WIDTH, "yuv420p")
    for plane in frame.planes:
        plane.update(bytes([60 + n % 128]) * plane.buffer_size)
    frame.pts, frame.time_base = n, Fraction(1, fps)
    if is_key:
        frame.pict_type = av.video.frame.PictureType.I
    return frame


def _silence(start: int) -> Any:
    frame = av.AudioFrame("fltp", "mono", FRAME)
    frame.rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    return frame


def sound_only() -> bytes:
    """An MP4 without pictures."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as out:
        audio: Any = out.add_stream("aac", rate=RATE)
        audio.layout = "mono"
        for n in range(40):
            out.mux(audio.encode(_silence(n * FRAME)))
        out.mux(audio.encode(None))
    return target.getvalue()


def decoded(data: bytes) -> tuple[int, int]:
    """How many pictures and how many frames of sound a decoder gets out of it."""
    with av.open(io.BytesIO(data)) as source:
        pictures = sum(1 for _ in source.decode(video=0))
    with av.open(io.BytesIO(data)) as source:
        return pictures, sum(1 for _ in source.decode(audio=0)) if source.streams.audio else 0


def elsewhere(data: bytes, path: str) -> bytes:
    """The MP4, whose index follows its media, with references that say that its media are in another file."""
    return _patched(data, path.encode())


def _patched(data: bytes, path: bytes) -> bytes:
    out, position = b"", 0
    while position < len(data):
        size, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        inside = data[position + 8 : position + size]
        if kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
            inside = _patched(inside, path)
        elif kind == b"dref":
            inside = struct.pack(">II", 0, 1) + _alias(path)
        out += struct.pack(">I", 8 + len(inside)) + kind + inside
        position += size
    return out


def _alias(path: bytes) -> bytes:
    """As the Macintosh wrote them: a volume, a name and an absolute path."""
    name = path.rsplit(b"/", 1)[-1][:63]
    body = bytes(10) + b"\4disk".ljust(28, b"\0") + bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0")
    body += bytes(16) + struct.pack(">HH", 1, 1) + bytes(16)
    full = b"disk:" + path.lstrip(b"/").replace(b"/", b":")
    body += struct.pack(">HH", 2, len(full)) + full + bytes(len(full) % 2) + b"\xff\xff\0\0"
    return struct.pack(">I", 12 + len(body)) + b"alis" + bytes(4) + body
