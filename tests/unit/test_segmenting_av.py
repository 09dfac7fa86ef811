"""Audio and video are cut without encoding anew, and into the same bytes each time."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import pytest

from embedonce.core.content import Modality
from embedonce.core.segment import CutOptions, Segment, Uncuttable, Unit
from embedonce.media.inspect import inspected
from embedonce.segmenting import av as cutter
from embedonce.segmenting import avsource
from support import clips, media

GOLDEN_WAV = (
    "14085888c7439a8c7e6a130ab4a88cfd44b4bdf79b4256e3761716210985d1df",
    "cfbb9cb2ee74b938bd5aaf5e0d77ef5b942607411f4123ae04193649087f0b62",
    "b3de9826238981ede051b81e0d39f547bff9d884d7cbf28127e8731c9cc39293",
)
GOLDEN_MP3 = (
    "a84d1dbd32fcb68f1bbe9c0b071c935240263d7b23460e1bc8843436e8e18daa",
    "a84d1dbd32fcb68f1bbe9c0b071c935240263d7b23460e1bc8843436e8e18daa",
    "377a7108cfba47bf0857e6fe03bec352661fa8562449ee7a70e13af446531d4f",
)

SHORT: dict[str, float] = {"audio_seconds": 8.0, "video_seconds": 4.0}


def cut(data: bytes, kind: Modality, **options: Any) -> list[Segment]:
    return list(cutter.cut(BytesIO(data), CutOptions(**{**SHORT, **options}), kind))


def audio(data: bytes, **options: Any) -> list[Segment]:
    return checked(cut(data, Modality.AUDIO, **options), **options)


def video(data: bytes, **options: Any) -> list[Segment]:
    return checked(cut(data, Modality.VIDEO, **options), **options)


def checked(segments: list[Segment], **options: Any) -> list[Segment]:
    """What holds for all segments of all sources."""
    limits = CutOptions(**{**SHORT, **options})
    end = 0.0
    for segment in segments:
        assert segment.range.unit is Unit.SECONDS
        assert segment.range.start == end
        assert segment.range.end > end
        end = segment.range.end
        assert end == round(end, 3)
        if segment.data is None:
            assert segment.error
            continue
        found = inspected(segment.data, segment.modality, "x")
        assert (found.media_type, found.seconds) == (segment.media_type, segment.seconds)
        is_audio = segment.modality is Modality.AUDIO
        assert found.seconds <= (limits.audio_seconds if is_audio else limits.video_seconds)
        assert found.size <= limits.media_bytes
        assert abs(found.seconds - (end - segment.range.start)) < 0.35
    return segments


def bodies(segments: list[Segment]) -> list[bytes]:
    assert not [segment.error for segment in segments if segment.error]
    return [segment.data for segment in segments if segment.data]


def errors(segments: list[Segment]) -> list[tuple[float, float, str]]:
    return [(s.range.start, s.range.end, s.error) for s in segments if s.error]


@pytest.fixture(scope="module")
def h264() -> bytes:
    return clips.movie(10)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What FFmpeg wanted to open besides what it was given."""
    urls: list[str] = []

    def refuse(url: str, *_: object) -> None:
        urls.append(url)
        raise PermissionError

    monkeypatch.setattr(avsource, "refuse", refuse)
    return urls


# ---- what fits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (media.wav(8), Modality.AUDIO),
        (media.mp3(7.2, id3=True), Modality.AUDIO),
        (media.mp4(4, audio=True), Modality.VIDEO),
        (media.mov(4), Modality.VIDEO),
    ],
)
def test_what_is_within_the_limits_stays_as_it_is(data: bytes, kind: Modality) -> None:
    (segment,) = checked(cut(data, kind))
    assert segment.data == data
    assert cut(data, kind, media_bytes=len(data)) == [segment]


# ---- WAV --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "bits", "channels"),
    [(1, 8, 1), (1, 16, 2), (1, 24, 1), (1, 24, 2), (1, 32, 1), (3, 32, 2), (3, 64, 1), (6, 8, 1), (7, 8, 2)],
)
def test_the_samples_of_a_wav_are_all_there(encoding: int, bits: int, channels: int) -> None:
    samples = clips.pcm(20, channels=channels, width=bits // 8)
    source = clips.wav(samples, encoding=encoding, bits=bits, channels=channels, info=b"INFOISFT\4\0\0\0Tool")
    pieces = bodies(audio(source))
    assert len(pieces) == 3
    assert b"".join(piece[piece.index(b"data") + 8 :] for piece in pieces) == samples
    assert not any(b"LIST" in piece[:200] or b"Tool" in piece[:200] for piece in pieces)


def test_the_golden_segments_of_a_wav() -> None:
    source = clips.wav(clips.pcm(20), size=None)
    assert tuple(hashlib.sha256(piece).hexdigest() for piece in bodies(audio(source))) == GOLDEN_WAV


def test_a_wav_of_unknown_size_is_read_to_its_end() -> None:
    samples = clips.pcm(20)
    for size in (0xFFFFFFFF, 0x7FFFFFFF):
        pieces = bodies(audio(clips.wav(samples, size=size)))
        assert b"".join(piece[44:] for piece in pieces) == samples


def test_a_wav_is_cut_by_bytes_too() -> None:
    pieces = bodies(audio(clips.wav(clips.pcm(20)), media_bytes=50_000))
    assert len(pieces) == 7
    assert min(map(len, pieces[:-1])) > 48_000


def test_of_a_truncated_wav_what_is_there_is_cut() -> None:
    segments = audio(clips.wav(clips.pcm(20))[:-80_000])
    assert [bool(s.data) for s in segments] == [True, True, False]
    assert errors(segments) == [(15.0, 20.0, "cannot be read from second 15.0 on")]


# ---- MP3 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dressed", [False, True])
def test_pieces_of_an_mp3_are_its_frames(dressed: bool) -> None:
    frames = media.mp3(20, tone=7)
    source = media.mp3(20, tone=7, id3=dressed, xing_frames=556 if dressed else None)
    if dressed:
        source += b"TAG" + bytes(125)
    pieces = bodies(audio(source))
    assert b"".join(pieces) == frames
    assert [len(piece) % 36 for piece in pieces] == [0, 0, 0]


def test_the_golden_segments_of_an_mp3() -> None:
    source = media.mp3(20, tone=9)
    assert tuple(hashlib.sha256(piece).hexdigest() for piece in bodies(audio(source))) == GOLDEN_MP3


def test_of_a_truncated_mp3_the_last_frame_is_no_sound() -> None:
    segments = audio(media.mp3(20)[:-10])
    assert errors(segments) == [(19.98, 20.016, "cannot be read from second 20.0 on")]
    assert b"".join(s.data or b"" for s in segments) == media.mp3(20)[:-36]


def test_rounding_does_not_bring_an_mp3_over_the_limit() -> None:
    """0.036 s a frame, 200 frames: 7.2 s, which are a little more when added up one by one."""
    pieces = audio(media.mp3(40), audio_seconds=7.2)
    assert all(7.1 < piece.seconds <= 7.2 for piece in pieces[:-1])


# ---- video ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["mp4", "mov"])
def test_a_video_is_cut_before_key_frames(form: str) -> None:
    segments = video(clips.movie(10, form=form), video_seconds=4.2)
    assert [(s.range.start, s.range.end) for s in segments] == [(0.0, 4.0), (4.0, 8.0), (8.0, 10.0)]
    assert {s.media_type for s in segments} == {"video/quicktime" if form == "mov" else "video/mp4"}
    counts = [clips.decoded(piece) for piece in bodies(segments)]
    assert [pictures for pictures, _ in counts] == [40, 40, 20]
    for (_, heard), seconds in zip(counts, (4, 4, 2), strict=True):
        assert abs(heard * clips.FRAME / clips.RATE - seconds) < 0.15
    for piece in bodies(segments):
        with av.open(BytesIO(piece)) as opened:
            assert opened.streams.video[0].start_time == 0
            assert 0 <= (opened.streams.audio[0].start_time or 0) < clips.FRAME * 2
            assert "encoder" not in opened.metadata
            assert "creation_time" not in opened.metadata


def test_pictures_that_need_what_is_before_the_cut_are_left_out() -> None:
    """MPEG-4's groups are open: up to two pictures are shown before the key frame that they follow."""
    segments = video(clips.movie(10, codec="mpeg4", sound=False))
    counts = [clips.decoded(piece)[0] for piece in bodies(segments)]
    assert 100 - 2 * (len(segments) - 1) <= sum(counts) <= 100


def test_a_video_that_is_turned_stays_turned(h264: bytes) -> None:
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, clips.WIDTH << 16, 0, 1 << 30)
    at = h264.index(upright, h264.index(b"tkhd"))
    source = h264[:at] + turned + h264[at + len(turned) :]
    for piece in bodies(video(source)):
        with av.open(BytesIO(piece)) as opened:
            assert next(opened.decode(video=0)).rotation == -90


def test_a_stream_of_h265_keeps_its_name() -> None:
    source = clips.movie(6, codec="libx265", tag="hvc1")
    for piece in bodies(video(source)):
        with av.open(BytesIO(piece)) as opened:
            assert opened.streams.video[0].codec_context.codec_tag == "hvc1"


def test_a_fragmented_mp4_is_cut_as_any_other(h264: bytes) -> None:
    fragmented = clips.movie(10, flags="frag_keyframe+empty_moov+default_base_moof")
    assert b"moof" in fragmented
    one, other = (video(each, video_seconds=4.2) for each in (h264, fragmented))
    assert [s.range for s in one] == [s.range for s in other]
    assert [clips.decoded(p) for p in bodies(one)] == [clips.decoded(p) for p in bodies(other)]


def test_a_stretch_without_key_frames_is_an_error_and_the_rest_goes_on() -> None:
    segments = video(clips.movie(14, keys={2, 9, 10, 12}))
    assert errors(segments) == [(2.0, 9.0, "has no key frame within 4 seconds")]
    assert [s.range.start for s in segments] == [0.0, 2.0, 9.0, 12.0]
    assert [clips.decoded(s.data)[0] for s in segments if s.data] == [20, 30, 20]


def test_a_video_is_cut_by_bytes_too(h264: bytes) -> None:
    segments = video(h264, media_bytes=len(h264) * 2 // 3, video_seconds=60.0)
    assert len(segments) > 2
    assert sum(clips.decoded(piece)[0] for piece in bodies(segments)) == 100


def test_a_group_of_pictures_that_is_too_large_is_an_error(h264: bytes) -> None:
    segments = video(h264, media_bytes=300)
    assert {s.error for s in segments} == {"has more than 300 bytes between two key frames"}


def test_sound_after_the_last_picture_is_not_passed_over() -> None:
    segments = video(clips.movie(5, sound_seconds=9))
    assert errors(segments) == [(5.0, pytest.approx(9.0, abs=0.1), "has sound without pictures")]


def test_of_a_truncated_video_what_is_there_is_cut(tmp_path: Path) -> None:
    source = clips.movie(10, flags="faststart", path=tmp_path / "movie.mp4")
    segments = video(source[: -len(source) // 4])
    ((start, end, error),) = errors(segments)
    assert (end, error) == (10.0, f"cannot be read from second {start:.1f} on")
    assert start > 2


# ---- the same each time -----------------------------------------------------------------------------------

PROGRAM = """
import hashlib, sys
from embedonce.core.segment import CutOptions
from embedonce.core.content import Modality
from embedonce.segmenting import av
options = CutOptions(audio_seconds=8.0, video_seconds=4.0)
segments = av.cut(sys.stdin.buffer, options, Modality(sys.argv[1]))
print(*(hashlib.sha256(s.data or b"").hexdigest() for s in segments))
if len(sys.argv) > 2:
    import resource
    print(next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')))
"""


def in_a_process(path: Path, *arguments: str) -> list[str]:
    environment = {"PYTHONPATH": str(Path(cutter.__file__).parents[2])}
    with path.open("rb") as file:
        command = [sys.executable, "-c", PROGRAM, *arguments]
        done = subprocess.run(command, stdin=file, env=environment, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().split()


@pytest.mark.parametrize("kind", [Modality.VIDEO, Modality.AUDIO])
def test_another_process_cuts_the_same_bytes(kind: Modality, h264: bytes, tmp_path: Path) -> None:
    source = h264 if kind is Modality.VIDEO else clips.wav(clips.pcm(20))
    path = tmp_path / "source"
    path.write_bytes(source)
    expected = [hashlib.sha256(piece).hexdigest() for piece in bodies(cut(source, kind))]
    assert in_a_process(path, kind) == in_a_process(path, kind) == expected


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    head = clips.wav(b"", rate=48_000, channels=2, size=300 << 20)
    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + (300 << 20))
    *digests, kilobytes = in_a_process(path, Modality.AUDIO, "memory")
    assert len(digests) > 100
    assert int(kilobytes) < 150_000


# ---- what is hostile or no such thing ---------------------------------------------------------------------


def _bomb() -> bytes:
    inner = b""
    for _ in range(200):
        inner = media.box(b"moov", media.box(b"trak", inner))
    return media.box(b"ftyp", b"isom\0\0\2\0") + inner


def _huge_table() -> bytes:
    return (
        media.mp4(60)
        .replace(b"stsz\0\0\0\0\0\0\0\1", b"stsz\0\0\0\0\0\0\0\0")
        .replace(b"stts\0\0\0\0\0\0\0\1", b"stts\0\0\0\0\x0f\xff\xff\xff")
    )


NO_VIDEO: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "ffconcat": lambda: b"ffconcat version 1.0\nfile /etc/hostname\n" * 9,
    "m3u8": lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n",
    "sdp": lambda: b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 9 RTP/AVP 96\n",
    "a playlist in an MP4's clothes": lambda: b"\0\0\0\x10ftypisom\0\0\0\0#EXTM3U\nfile:///etc/hostname\n",
    "deep boxes": _bomb,
    "huge tables": _huge_table,
    "no index": lambda: clips.movie(6).partition(b"moov")[0],
    "sound only": clips.sound_only,
    "WebM": lambda: b"\x1a\x45\xdf\xa3" + bytes(100),
}


@pytest.mark.parametrize("name", NO_VIDEO)
def test_what_is_no_video(name: str, asked: list[str]) -> None:
    with pytest.raises(Uncuttable) as caught:
        cut(NO_VIDEO[name](), Modality.VIDEO, media_bytes=64)
    assert str(caught.value) in {"is neither MP4 nor MOV", "is a damaged MP4 or MOV", "has no video track"}
    assert not asked


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF\xff\0\0\0WAVE",
        b"RIFF\xff\0\0\0WAVEdata\xff\0\0\0",
        b"ID3\3\0\0\0\0\0\0",
        b"\xff\xfb" + bytes(900),
    ],
)
def test_what_is_no_sound(data: bytes) -> None:
    with pytest.raises(Uncuttable):
        cut(data, Modality.AUDIO)


def test_an_encoding_without_a_fixed_rate_is_not_cut() -> None:
    source = clips.wav(clips.pcm(20), encoding=2, bits=16)  # ADPCM
    with pytest.raises(Uncuttable):
        cut(source, Modality.AUDIO)


def test_what_a_file_is_decides_not_what_it_was_called() -> None:
    for data, kind in (
        (media.wav(1), Modality.VIDEO),
        (media.mp4(1), Modality.AUDIO),
        (b"fLaC", Modality.AUDIO),
    ):
        with pytest.raises(Uncuttable):
            cut(data, kind)


@pytest.fixture
def referring(h264: bytes, tmp_path: Path) -> bytes:
    other = tmp_path / "other.mov"
    other.write_bytes(h264)
    return clips.elsewhere(h264, str(other))


def test_media_in_other_files_are_not_opened(referring: bytes, asked: list[str]) -> None:
    try:
        segments = cut(referring, Modality.VIDEO)
    except Uncuttable:
        segments = []
    assert not any(segment.data for segment in segments)
    assert asked == []


def test_the_file_of_the_test_above_would_be_opened_by_others(referring: bytes) -> None:
    urls = []

    def refuse(url: str, *_: object) -> None:
        urls.append(url)
        raise PermissionError

    options = {"enable_drefs": "1", "use_absolute_path": "1"}
    try:
        with av.open(BytesIO(referring), "r", format="mov", options=options, io_open=refuse):
            pass
    except (OSError, av.FFmpegError):
        pass
    assert any("other.mov" in url for url in urls)


def test_the_lineage_names_the_libraries() -> None:
    assert cutter.lineage().startswith("av/1 pyav 18.1.")
    assert " libavformat 62." in cutter.lineage()
