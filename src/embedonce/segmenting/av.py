"""Audio and video, cut without encoding anew. What is within the limits stays as it is: it
is the same content as when it is given to the API by itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

import av

from embedonce.core.content import Modality
from embedonce.core.segment import CutOptions, Range, Segment, Uncuttable, Unit
from embedonce.media.audio import mp3_seconds, wav_seconds
from embedonce.media.damage import Damaged
from embedonce.media.inspect import sniffed
from embedonce.media.video import video_seconds
from embedonce.segmenting.avaudio import audio
from embedonce.segmenting.avvideo import video

_VERSION = 1
_SNIFFED_BYTES = 1024
_SECONDS = {
    "audio/wav": wav_seconds,
    "audio/mpeg": mp3_seconds,
    "video/mp4": video_seconds,
    "video/quicktime": video_seconds,
}


def lineage() -> str:
    libavformat = ".".join(str(n) for n in av.library_versions["libavformat"])
    return f"av/{_VERSION} pyav {av.__version__} libavformat {libavformat}"


def cut(file: BinaryIO, options: CutOptions, kind: Modality) -> Iterator[Segment]:
    """:raises Uncuttable: not WAV or MP3 (`kind` AUDIO), not MP4 or MOV (VIDEO), or damaged"""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    found = sniffed(file.read(_SNIFFED_BYTES))
    if found is None or found[0] is not kind or found[1] not in _SECONDS:
        raise Uncuttable("is neither WAV nor MP3" if kind is Modality.AUDIO else "is neither MP4 nor MOV")
    media_type = found[1]
    if size <= options.media_bytes:
        file.seek(0)
        whole = _whole(file.read(), options, kind, media_type)
        if whole is not None:
            yield whole
            return
    if kind is Modality.AUDIO:
        yield from audio(file, options, media_type, size)
    else:
        yield from video(file, options, media_type)


def _whole(data: bytes, options: CutOptions, kind: Modality, media_type: str) -> Segment | None:
    """None: it is too long, or damaged."""
    longest = options.audio_seconds if kind is Modality.AUDIO else options.video_seconds
    try:
        seconds = _SECONDS[media_type](data)
    except Damaged:
        return None
    if seconds > longest:
        return None
    where = Range(Unit.SECONDS, 0.0, round(seconds, 3))
    return Segment(kind, where, data=data, media_type=media_type, seconds=seconds)
