"""What media are, how long and how large: by their bytes, and 400 for what is cut, lies or is a bomb."""

from __future__ import annotations

import contextlib
import struct
import time
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from embedonce.core.content import MediaPart, Modality
from embedonce.core.errors import InvalidRequest, LimitExceeded
from embedonce.media.inspect import inspected, sniffed
from support import media
from support.bombs import BOMBS

CONTAINERS = {
    "png": media.png(),
    "jpeg": media.jpeg(),
    "wav": media.wav(0.2),
    "mp4": media.mp4(audio=True),
    "mov": media.mov(),
}


def read(data: bytes, expected: Modality | None = None) -> MediaPart:
    return inspected(data, expected, "input.0")


def refusal(data: bytes, expected: Modality | None = None) -> str:
    began = time.monotonic()
    with pytest.raises(InvalidRequest) as refused:
        read(data, expected)
    assert time.monotonic() - began < 3.0
    assert refused.value.param == "input.0"
    assert refused.value.message.startswith("input.0: ")
    return refused.value.message.removeprefix("input.0: ")


@pytest.mark.parametrize(
    ("data", "modality", "media_type"),
    [
        (media.png(), "image", "image/png"),
        (media.jpeg(100, 50), "image", "image/jpeg"),
        (media.webp(), "image", "image/webp"),
        (media.gif(), "image", "image/gif"),
        (media.wav(), "audio", "audio/wav"),
        (media.mp3(), "audio", "audio/mpeg"),
        (media.mp3(id3=True), "audio", "audio/mpeg"),
        (media.mp4(), "video", "video/mp4"),
        (media.mov(), "video", "video/quicktime"),
        (media.mov()[20:], "video", "video/quicktime"),
        (media.mp4(brand=b"M4A "), "audio", "audio/mp4"),
        (media.mp4(brand=b"avif"), "image", "image/avif"),
        (media.mp4(brand=b"heic"), "image", "image/heic"),
        (b"\xff\xf1\x50\x80" + bytes(8), "audio", "audio/aac"),
        (b"fLaC" + bytes(8), "audio", "audio/flac"),
        (b"OggS" + bytes(8), "audio", "audio/ogg"),
        (b"\x1a\x45\xdf\xa3" + bytes(8), "video", "video/webm"),
        (media.pdf(), "pdf", "application/pdf"),
        (b"\0" * 1000 + media.pdf(), "pdf", "application/pdf"),
    ],
)
def test_types_by_their_first_bytes(data: bytes, modality: str, media_type: str) -> None:
    assert sniffed(data) == (Modality(modality), media_type)


@pytest.mark.parametrize("data", [b"", b"\xff", b"<!doctype html>", b"RIFF", b"RIFF1234JUNK", b"\0" * 2000])
def test_unknown_types(data: bytes) -> None:
    assert sniffed(data) is None
    assert refusal(data) == "is of no known media type"


def test_what_its_field_is_not_for() -> None:
    assert refusal(media.png(), Modality.AUDIO) == "is image/png, not audio"
    assert read(media.png(), Modality.IMAGE).modality is Modality.IMAGE


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (media.wav(2.5), 2.5),
        (media.wav(181), 181),
        (media.wav(300, claimed=1), 300),
        (media.wav(3, claimed=0), 3),
        (media.wav(3, claimed=0xFFFFFFFF / 1000), 3),
        (media.wav(2) + b"LIST" + struct.pack("<I", 4) + b"abcd", 2),
        (media.wav(2) + b"abcd" * 250, 3),
        (media.mp3(3), 2.988),
        (media.mp3(300, xing_frames=1), 300.024),
        (media.mp3(3, xing_frames=10_000), 360),
        (media.mp3(3, id3=True) + b"TAG" + bytes(125), 2.988),
        (media.mp3(3) + b"APETAGEX" + struct.pack("<II", 2000, 32) + bytes(16), 2.988),
        (media.mp4(121), 121),
        (media.mp4(2, audio=True), 2),
        (media.mp4(300, claimed=1), 300),
        (media.mp4(1, claimed=300), 300),
        (media.mov(7), 7),
    ],
)
def test_durations_are_of_what_is_there(data: bytes, seconds: float) -> None:
    assert read(data).seconds == pytest.approx(seconds)


def test_an_mp4_in_fragments_is_counted_fragment_by_fragment() -> None:
    whole = media.mp4(1, claimed=0)
    run = media.box(b"trun", struct.pack(">II", 0, 100))
    fragment = media.box(
        b"moof",
        media.box(b"mfhd", struct.pack(">II", 0, 1)),
        media.box(b"traf", media.box(b"tfhd", struct.pack(">III", 8, 1, 1000)), run),
    )
    assert read(whole + fragment * 3).seconds == pytest.approx(301)
    run = media.box(b"trun", struct.pack(">II", 0x300, 2), struct.pack(">IIII", 60_000, 1, 90_000, 1))
    fragment = media.box(b"moof", media.box(b"traf", media.box(b"tfhd", struct.pack(">II", 0, 1)), run))
    assert read(whole + fragment).seconds == pytest.approx(151)


@pytest.mark.parametrize("name", CONTAINERS)
def test_no_truncated_file_passes(name: str) -> None:
    data = CONTAINERS[name]
    read(data)
    for end in range(len(data)):
        refusal(data[:end])


def test_an_mp3_cut_inside_of_a_frame() -> None:
    data = media.mp3(1)
    for end in range(len(data)):
        if end % 36:
            refusal(data[:end])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (media.mp4(video=False, audio=True), "has no video track"),
        (media.wav(1, claimed=500), "is a truncated WAV: 500 s announced, 1 s there"),
        (media.wav(1).replace(b"\1\0\1\0\xe8", b"\2\0\1\0\xe8"), "is a WAV of encoding 2; PCM is taken"),
        (b"ID3\x03\0\0\x7f\x7f\x7f\x7f" + media.mp3(1), "is a truncated MP3"),
        (b"ID3\x03\0\0\0\0\0\0" + b"no sound at all", "is no MP3, whatever its first bytes say"),
        (media.png()[:33] + media.png()[-12:], "is a PNG without a picture"),
        (b"\xff\xd8\xff\xd9", "is a damaged JPEG"),
    ],
)
def test_damage_is_named(data: bytes, says: str) -> None:
    assert refusal(data) == says


def test_pictures_of_too_many_pixels() -> None:
    with pytest.raises(LimitExceeded) as refused:
        read(media.png_claiming(50_000, 50_000))
    assert refused.value.message == ("input.0: limit is 100 megapixels, got 50000 x 50000 (2500 megapixels)")
    jpeg = media.jpeg().replace(struct.pack(">HH", 8, 8), struct.pack(">HH", 65_535, 65_535), 1)
    assert "megapixels" in refusal(jpeg)
    read(media.png_claiming(10_000, 10_000))


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_soon(name: str) -> None:
    refusal(BOMBS[name])


def test_long_mp3s_are_counted_no_further_than_any_limit() -> None:
    assert 1600 < read(media.mp3(300_000 * 0.036)).seconds < 8000


@given(st.sampled_from(sorted(CONTAINERS)), st.data())
def test_any_damage_is_a_400_or_nothing(name: str, data: st.DataObject) -> None:
    damaged = bytearray(CONTAINERS[name])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidRequest):
        read(bytes(damaged))


@given(st.binary(max_size=200))
@example(zlib.compress(b""))
def test_any_bytes_behind_a_known_head(junk: bytes) -> None:
    for data in CONTAINERS.values():
        with contextlib.suppress(InvalidRequest):
            read(data[:12] + junk)
