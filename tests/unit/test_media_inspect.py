"""What media are, how long and how large: by their bytes, and 400 for what is cut, lies or is a bomb."""

from __future__ import annotations

import base64
import contextlib
import struct
import time
import tracemalloc
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from embedonce.core.content import MediaPart, Modality
from embedonce.core.errors import InvalidRequest, LimitExceeded
from embedonce.media.decode import inline_bytes
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
    assert time.monotonic() - began < 8
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


def wav_of(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def form(encoding: int = 1, rate: int = 1000, *, bits: int = 8, align: int = 1) -> bytes:
    return struct.pack("<HHIIHH", encoding, 1, rate, rate * bits // 8, align, bits)


def extensible(encoding: int) -> bytes:
    return form(0xFFFE) + struct.pack("<HHI", 22, 8, 4) + struct.pack("<H", encoding) + bytes(14)


FAST = (b"fmt ", form(rate=100_000))
SOUND = (b"data", bytes(200_000))


@pytest.mark.parametrize(
    "data",
    [
        wav_of((b"fmt ", form()), FAST, SOUND),
        wav_of((b"fmt ", form()), SOUND, FAST),
        wav_of((b"fmt ", form()), SOUND, FAST, (b"data", bytes(10))),
        wav_of(FAST, (b"data", b""), (b"fmt ", form()), SOUND),
        wav_of(FAST, (b"data", bytes(10)), (b"junk\0", b""), (b"fmt ", form()), SOUND),
    ],
)
def test_a_wav_has_one_format(data: bytes) -> None:
    assert refusal(data) == "is a WAV of several formats"


def test_what_a_wav_of_an_extensible_format_is() -> None:
    for encoding in (1, 3, 6, 7):
        assert read(wav_of((b"fmt ", extensible(encoding)), SOUND)).seconds == 200
    for bad in (extensible(2), extensible(0x55), extensible(0xFFFE), extensible(1)[:38], form(0xFFFE)):
        assert "is a WAV of encoding" in refusal(wav_of((b"fmt ", bad), SOUND))


def test_the_slowest_reading_of_a_format_counts() -> None:
    assert read(wav_of((b"fmt ", form(7, bits=16, align=2)), SOUND)).seconds == 200
    assert read(wav_of((b"fmt ", form(1, bits=32, align=1)), SOUND)).seconds == 200


def ape(body: bytes, size: int | None = None) -> bytes:
    return body + b"APETAGEX" + struct.pack("<II", 2000, len(body) + 32 if size is None else size) + bytes(16)


FRAME = media.mp3(0.036)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (ape(media.mp3(300)), "is no MP3"),
        (FRAME + ape(media.mp3(300)), "inside of a tag"),
        (FRAME + ape(b"abc" + media.mp3(300)), "inside of a tag"),
        (FRAME * 9 + ape(b"", 0xFFFFFFFF), "damaged APE tag"),
        (FRAME * 40_000 + ape(bytes(1 << 20)), "damaged APE tag"),
        (FRAME + b"TAG" + FRAME * 3 + bytes(17), "inside of a tag"),
        (b"ID3\x03\0\0\0\0\x10\0" + FRAME * 50 + bytes(248) + FRAME, "inside of a tag"),
    ],
)
def test_no_tag_hides_sound(data: bytes, says: str) -> None:
    assert says in refusal(data)


def test_frames_in_a_tag_that_are_not_in_a_row_are_counted() -> None:
    scattered = (FRAME * 2 + b"some text") * 100
    assert read(media.mp3(3) + ape(scattered)).seconds == pytest.approx(2.988 + 200 * 0.036)
    assert read(media.mp3(3) + ape(b"Title\0a song" * 1000)).seconds == pytest.approx(2.988)


def test_hostile_audio_costs_little() -> None:
    began = time.monotonic()
    chunks = wav_of((b"fmt ", form()), *[(b"data", b"")] * 990)
    odd = wav_of((b"fmt ", form()), *[(b"data", b"\1\1")] * 990)
    for n in range(100):
        with contextlib.suppress(InvalidRequest):
            read((chunks, odd, chunks[:-4], odd + bytes(8))[n % 4])
    padded = b"ID3\x03\0\0\0\0\0\0" + bytes(20_000_000) + media.mp3(3)
    assert read(padded).seconds == pytest.approx(2.988)
    assert time.monotonic() - began < 8


@pytest.mark.parametrize("escape", ["%2B", "%2b"])
def test_base64_may_escape_what_urls_do_not_take(escape: str) -> None:
    data = b"\xfb\xef\xff\xfe"
    text = base64.b64encode(data).decode()
    assert "+" in text
    assert "/" in text
    escaped = text.replace("+", escape).replace("/", "%2f").replace("=", "%3d") + "%0D%0a"
    assert inline_bytes(escaped, "x") == inline_bytes(f"data:a/b;base64,{escaped}", "x") == data
    for other in ("%41AAA", "AAA%", "%2", "%%2B2B"):
        with pytest.raises(InvalidRequest):
            inline_bytes(other, "x")


def test_escapes_cost_no_memory_to_speak_of() -> None:
    tracemalloc.start()
    try:
        assert len(inline_bytes("%2B" * 1_000_000, "x")) == 750_000
        with pytest.raises(InvalidRequest):
            inline_bytes("%41" * 1_000_000, "x")
        with pytest.raises(LimitExceeded, match="65536 characters"):
            inline_bytes("data:," + "%41" * 1_000_000, "x")
        with pytest.raises(InvalidRequest):
            inline_bytes("data:,%41\ud800", "x")
        assert tracemalloc.get_traced_memory()[1] < 16_000_000
    finally:
        tracemalloc.stop()
    assert inline_bytes("data:,%41b", "x") == b"Ab"


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
