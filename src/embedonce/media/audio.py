"""How long WAV and MP3 play, by the bytes that are there: a header may make it longer, never shorter."""

from __future__ import annotations

import re

from embedonce.media.damage import Damaged

MAX_WAV_CHUNKS = 1000
_UNKNOWN_SIZES = frozenset({0, 0x7FFFFFFF, *range(0xFFFFFF00, 0x100000000)})
"""What programs write that stream a WAV and cannot know its size."""
_EXTENSIBLE = 0xFFFE
_WAV_FORMATS = frozenset({1, 3, 6, 7})
"""PCM, float, A-law, mu-law, also within extensible: those whose bytes are proportional to time."""
_LAWS = frozenset({6, 7})
"""One byte a sample, whatever the header says."""
_MAX_RATE = 768_000
_ANOTHER_FORMAT = re.compile(rb"fmt ..\0\0", re.DOTALL)
_CHUNK_ID = re.compile(rb"[\x20-\x7e]{4}")

MAX_MP3_FRAMES = 200_000
"""More than 40 minutes at the shortest frames there are, which is over any limit: counting stops there."""
_JUNK_BYTES = 64 * 1024
_MAX_APE_BYTES = 1 << 20
_HIDDEN_FRAMES = 3
"""So many in a row inside of a tag are no accident."""
_NULS = re.compile(rb"\0*")
_SYNC = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]")
_BITRATES_V1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_BITRATES_V2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = (44_100, 48_000, 32_000)


def wav_seconds(data: bytes) -> float:
    """:raises Damaged: no format or data, an encoding that says nothing about time, or cut off"""
    position, byte_rate, audio = 12, 0.0, 0
    well_formed = False  # from the first data on to the end
    for _ in range(MAX_WAV_CHUNKS):
        kind = data[position : position + 4]
        start, present = position + 8, len(data) - position - 8
        if present < 0:
            break
        claimed = int.from_bytes(data[position + 4 : start], "little")
        position = _after(data, start, claimed)
        if kind == b"data":
            if not byte_rate:
                raise Damaged("is a WAV without a format")
            if claimed > present and claimed not in _UNKNOWN_SIZES:
                raise Damaged(
                    f"is a truncated WAV: {claimed / byte_rate:.6g} s announced, "
                    f"{present / byte_rate:.6g} s there"
                )
            well_formed = well_formed or _chunks_follow(data, position)
            if claimed in _UNKNOWN_SIZES or not well_formed:
                if _ANOTHER_FORMAT.search(data, start):
                    raise Damaged("is a WAV of several formats")
                audio += present  # a player that ignores the size hears all of it
                break
            audio += claimed
        elif claimed > present:
            raise Damaged("is a truncated WAV")
        elif kind == b"fmt ":
            if byte_rate:
                raise Damaged("is a WAV of several formats")
            byte_rate = _wav_byte_rate(data[start : start + claimed])
    else:
        raise Damaged("is a WAV of too many chunks")
    if not audio:
        raise Damaged("is a WAV without sound")
    return audio / byte_rate


def _after(data: bytes, start: int, size: int) -> int:
    """Where the next chunk begins: chunks are padded to even sizes, but for the last in many files."""
    end = start + size
    return end if end == len(data) else end + size % 2


def _chunks_follow(data: bytes, position: int) -> bool:
    """Whether from here to the end there is nothing but well-formed chunks, or nothing."""
    for _ in range(MAX_WAV_CHUNKS):
        if position == len(data):
            return True
        if not _CHUNK_ID.fullmatch(data[position : position + 4]):
            return False
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        position = _after(data, position + 8, size)
    return False


def _wav_byte_rate(form: bytes) -> float:
    if len(form) < 16:
        raise Damaged("is a WAV without a format")
    encoding, channels = int.from_bytes(form[:2], "little"), int.from_bytes(form[2:4], "little")
    rate, said = int.from_bytes(form[4:8], "little"), int.from_bytes(form[8:12], "little")
    align, bits = int.from_bytes(form[12:14], "little"), int.from_bytes(form[14:16], "little")
    if encoding == _EXTENSIBLE and len(form) >= 40:
        encoding = int.from_bytes(form[24:26], "little")
    if encoding not in _WAV_FORMATS:
        raise Damaged(f"is a WAV of encoding {encoding}; PCM is taken")
    if not 1 <= rate <= _MAX_RATE or not 1 <= channels <= 64 or bits not in (8, 16, 24, 32, 64):
        raise Damaged("is a WAV with an impossible format")
    width = 1 if encoding in _LAWS else bits // 8
    return float(min(n for n in (rate * channels * width, rate * align, said) if n))


def mp3_seconds(data: bytes) -> float:
    """:raises Damaged: no frames, bytes between them that are none, or cut off inside of one"""
    first, end = _after_id3(data), _before_tags(data)
    position, kind = first, b""
    seconds, claimed, frames, junk = 0.0, 0.0, 0, 0
    while position < end and frames < MAX_MP3_FRAMES:
        frame = _mp3_frame(data, position)
        if frame is None:
            if end - position < 4 and data[position] == 0xFF:
                raise Damaged("is a truncated MP3")
            found = _SYNC.search(data, position + 1, min(end, position + 1 + _JUNK_BYTES))
            following = found.start() if found else end
            junk += following - position
            if junk > _JUNK_BYTES:
                raise Damaged("is a damaged MP3")
            position = following
            continue
        length, duration = frame
        if position + length > end:
            raise Damaged("is a truncated MP3")
        if frames == 0:
            kind = _kind(data, position)
            claimed = _claimed_frames(data[position : position + length]) * duration
        seconds += duration
        frames += 1
        position += length
    if not frames or junk >= len(data) / 2:
        raise Damaged("is no MP3, whatever its first bytes say")
    seconds += _hidden_seconds(data, 0, first, kind) + _hidden_seconds(data, end, len(data), kind)
    return max(seconds, claimed)


def _hidden_seconds(data: bytes, start: int, end: int, kind: bytes) -> float:
    """How long the frames of this kind play that are in a tag: few are an accident, but count.

    :raises Damaged: it is no tag, but sound
    """
    seconds, following, row = 0.0, -1, 0
    found = _SYNC.search(data, start, end)
    while found:
        position = found.start()
        frame = _mp3_frame(data, position)
        if frame is None or position + frame[0] > end:
            found = _SYNC.search(data, position + 1, end)
            continue
        row = row + 1 if position == following else 1
        if row == _HIDDEN_FRAMES:
            raise Damaged("is an MP3 with sound inside of a tag")
        if _kind(data, position) == kind:
            seconds += frame[1]
        following = position + frame[0]
        found = _SYNC.search(data, following, end)
    return seconds


def _kind(data: bytes, position: int) -> bytes:
    """Version and sample rate of the frame that starts here, which do not change within a file."""
    return bytes((data[position + 1] & 0x18, data[position + 2] & 0x0C))


def _after_id3(data: bytes) -> int:
    """Past the ID3v2 tags at the start."""
    position = 0
    for _ in range(8):
        if data[position : position + 3] != b"ID3":
            return position
        size = data[position + 6 : position + 10]
        if len(size) < 4 or max(size) > 0x7F:
            raise Damaged("is an MP3 with a damaged ID3 tag")
        footer = 10 if data[position + 5] & 0x10 else 0
        position += 10 + footer + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3])
        if position >= len(data):
            raise Damaged("is a truncated MP3")
        padding = _NULS.match(data, position)
        position = min(padding.end() if padding else position, len(data) - 1)
    return position


def _before_tags(data: bytes) -> int:
    """Where an ID3v1 or APE tag at the end begins."""
    end = len(data)
    if data[-128:-125] == b"TAG":
        end -= 128
    if data[end - 32 : end - 24] == b"APETAGEX":
        has_header = int.from_bytes(data[end - 12 : end - 8], "little") >> 31
        size = int.from_bytes(data[end - 20 : end - 16], "little") + 32 * has_header
        if size > min(end, _MAX_APE_BYTES):
            raise Damaged("is an MP3 with a damaged APE tag")
        end -= size
    return end


def _mp3_frame(data: bytes, position: int) -> tuple[int, float] | None:
    """Length in bytes and duration in seconds of the layer III frame that starts here."""
    head = data[position : position + 4]
    if len(head) < 4 or not _SYNC.match(head):
        return None
    version = head[1] >> 3 & 3  # 0: MPEG 2.5, 2: MPEG 2, 3: MPEG 1
    bitrate_index, rate_index = head[2] >> 4, head[2] >> 2 & 3
    if bitrate_index in (0, 15) or rate_index == 3:
        return None
    rate = _RATES[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    samples = 1152 if version == 3 else 576
    bitrate = (_BITRATES_V1 if version == 3 else _BITRATES_V2)[bitrate_index] * 1000
    return samples // 8 * bitrate // rate + (head[2] >> 1 & 1), samples / rate


def _claimed_frames(frame: bytes) -> int:
    """What a Xing, Info or VBRI header in the first frame says."""
    for name in (b"Xing", b"Info"):
        at = frame.find(name, 4, 64)
        if at >= 0 and frame[at + 7 : at + 8] and frame[at + 7] & 1:
            return int.from_bytes(frame[at + 8 : at + 12], "big")
    at = frame.find(b"VBRI", 4, 64)
    return int.from_bytes(frame[at + 14 : at + 18], "big") if at >= 0 else 0
