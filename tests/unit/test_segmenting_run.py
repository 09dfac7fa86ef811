"""The child: limited, killed when it is left, believed nothing; who feeds it is held back by who reads it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedonce.core.content import Modality
from embedonce.core.errors import ServiceUnavailable
from embedonce.core.segment import CutOptions, Format, Range, Segment, Uncuttable, Unit
from embedonce.segmenting import cutter, run
from embedonce.segmenting.run import Cutting, Limits, TimeUp, segments
from embedonce.segmenting.wire import End, Frames, Malformed, frame

OPTIONS = CutOptions()
TEXT = b"Some words are here. " * 2000


def ended(cutting: Cutting) -> bool:
    return cutting._child.returncode is not None


def imitating(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str) -> None:
    """The child runs this instead."""
    path = tmp_path / "program.py"
    path.write_text(program)
    monkeypatch.setattr(run, "_PROGRAM", path)


@pytest.mark.parametrize("kind", [Format.TEXT, Format.MARKDOWN, Format.HTML])
def test_the_child_gives_what_the_cutter_gives(kind: Format, tmp_path: Path) -> None:
    here = list(cutter.cut(io.BytesIO(TEXT), kind, OPTIONS))
    path = tmp_path / "source"
    path.write_bytes(TEXT)
    pieces = iter([TEXT[:10], b"", TEXT[10:]])
    with (
        path.open("rb") as file,
        segments(file, kind, OPTIONS) as one,
        segments(pieces, kind, OPTIONS) as two,
    ):
        file.read(100)
        assert list(one) == list(two) == here
        assert one.lineage == two.lineage == cutter.LINEAGE[kind]
        assert ended(one)
        assert list(one) == []
    with segments(io.BytesIO(TEXT), kind, OPTIONS) as three:
        assert list(three) == here


def test_rows_and_their_errors_come_through() -> None:
    with segments(iter([b'{"text": "a", "n": 1}\n{}\n']), Format.JSONL, CutOptions(id_field="n")) as found:
        one, two = found
    assert (one.text, one.id, one.error, one.range) == ("a", "1", None, Range(Unit.ROWS, 1, 1))
    assert (two.text, two.id, two.error) == (None, None, "row 2: field 'text' is missing")


def test_what_the_cutter_refuses_is_refused_after_the_segments_before_it() -> None:
    with segments(iter([b"text\na\n", b'"' + b"b" * (5 << 20)]), Format.CSV, OPTIONS) as found:
        assert next(found).text == "a"
        with pytest.raises(Uncuttable, match="a quote left open, in row 2"):
            next(found)
        assert ended(found)


def test_the_lineage_is_known_at_the_end() -> None:
    with segments(iter([TEXT]), Format.TEXT, OPTIONS) as found:
        next(found)
        with pytest.raises(RuntimeError):
            _ = found.lineage


def test_an_error_of_the_source_reaches_the_consumer_as_it_is() -> None:
    class Broken(Exception):
        pass

    def source() -> Iterator[bytes]:
        yield TEXT
        raise Broken

    with segments(source(), Format.TEXT, OPTIONS) as found:
        with pytest.raises(Broken):
            list(found)
        assert ended(found)


def test_who_does_not_read_holds_back_the_source() -> None:
    given = 0

    def endless() -> Iterator[bytes]:
        nonlocal given
        while True:
            given += len(TEXT)
            yield TEXT

    with segments(endless(), Format.TEXT, OPTIONS) as found:
        for _ in range(3):
            next(found)
        before = given
        assert before < 5_000_000
        for _ in range(2000):
            next(found)
        assert before < given < 2003 * 8000 + 5_000_000
    assert ended(found)
    assert list(found) == []


def test_leaving_reaps_the_child_also_without_a_context() -> None:
    found = segments(iter([TEXT]), Format.TEXT, OPTIONS)
    child = found._child
    del found
    assert child.returncode is not None


def test_segments_and_bytes_have_limits() -> None:
    with (
        segments(iter([TEXT]), Format.TEXT, OPTIONS, Limits(segments=3)) as found,
        pytest.raises(Uncuttable, match="has more than 3 segments"),
    ):
        list(found)
    with (
        segments(iter([TEXT]), Format.TEXT, OPTIONS, Limits(output_bytes=9000)) as found,
        pytest.raises(Uncuttable, match="has segments of more than 9,000 bytes"),
    ):
        list(found)
    assert ended(found)


def test_the_time_of_the_clock_is_no_fault_of_the_source() -> None:
    with segments(iter([TEXT]), Format.TEXT, OPTIONS, Limits(seconds=0)) as found:
        with pytest.raises(TimeUp):
            next(found)
        assert ended(found)


def test_too_much_time_of_its_own_is() -> None:
    pages = (b"<p>a" * 20_000 for _ in range(1000))
    with (
        pytest.raises(Uncuttable, match="takes too much time or memory to read"),
        segments(pages, Format.HTML, OPTIONS, Limits(cpu_seconds=1)) as found,
    ):
        list(found)


@pytest.mark.parametrize("block", [b"<div>", b"a b\n", b" \n"])
def test_a_long_source_takes_little_memory(block: bytes) -> None:
    """64 MiB of addresses, of which the interpreter takes about half."""
    size = 1_500_000 if block == b"<div>" else 16_000_000
    blocks = [b"<", *(block * 50_000 for _ in range(size // 50_000 // len(block))), b"."]
    kind = Format.HTML if block == b"<div>" else Format.TEXT
    with segments(iter(blocks), kind, OPTIONS, Limits(memory_bytes=64 << 20)) as found:
        assert list(found)[-1].range.end == sum(map(len, blocks))


def test_the_child_has_no_environment_no_site_packages_and_no_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EMBEDONCE_SECRET", "secret")
    real = run._PROGRAM
    program = f"""
import importlib.util, json, os, resource, sys
spec = importlib.util.spec_from_file_location("program", {str(real)!r})
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)
def say(task, output):
    from embedonce.core.segment import Segment, Range, Unit, Modality
    from embedonce.segmenting.wire import frame, End
    def writes():
        try:
            with open("/tmp/embedonce-written", "w") as file:
                file.write("a")
        except OSError:
            return False
        return True
    told = [dict(os.environ), os.getcwd(), os.getsid(0) == os.getpid(), sorted(os.listdir("/proc/self/fd"))]
    told += ["site" in sys.modules, task["folders"], writes()]
    told += [resource.getrlimit(r) for r in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_NOFILE)]
    print("a library prints")
    segment = Segment(Modality.TEXT, Range(Unit.WHOLE, 0, 0), text=json.dumps(told))
    os.write(output, frame(segment) + frame(End("x")))
program.say = say
program.main(sys.argv[1])
"""
    imitating(monkeypatch, tmp_path, program)
    with segments(iter([b"a"]), Format.TEXT, OPTIONS) as found:
        (told,) = found
    environment, folder, leader, files, site, folders, wrote, memory, cpu, descriptors = json.loads(
        told.text or ""
    )
    assert set(environment) <= {"LD_LIBRARY_PATH", "LC_CTYPE"}
    assert (folder, leader, site, wrote) == ("/", True, False, False)
    assert len(files) <= 6
    assert len(folders) == 1
    assert (memory, cpu, descriptors) == ([384 << 20] * 2, [300] * 2, [32] * 2)


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (b"", "takes too much time or memory to read"),
        (b"\xff\xff\xff\xff", "is damaged"),
        (b"\x00\x00\x00\x02{}", "is damaged"),
        (b"\x00\x00\x00\x02[]", "is damaged"),
        (b"\x00\x00\x00\x02\xff\xff", "is damaged"),
        (b'\x00\x00\x00\x18{"bytes": 99999999999999}', "is damaged"),
        (b"\x00\x00\xff\x00" + b"[" * 0xFF00, "is damaged"),
        (frame(End("text/1", "is odd")), "is odd"),
        (frame(End("text/1"))[:-1], "takes too much time or memory to read"),
    ],
)
def test_nothing_that_a_child_says_is_believed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: bytes, why: str
) -> None:
    imitating(monkeypatch, tmp_path, f"import os\nos.write(1, {says!r})")
    with pytest.raises(Uncuttable) as refused, segments(iter([TEXT]), Format.TEXT, OPTIONS) as found:
        list(found)
    assert str(refused.value) == why


@pytest.mark.parametrize(
    ("raised", "why"),
    [
        ("MemoryError", "takes too much time or memory to read"),
        ("bytearray(1 << 30)", "takes too much time or memory to read"),
        ("RecursionError", "takes too much time or memory to read"),
        ("KeyError('secret')", "is damaged"),
        ("AssertionError('secret')", "is damaged"),
    ],
)
def test_whatever_a_parser_raises(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, raised: str, why: str
) -> None:
    program = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("program", {str(run._PROGRAM)!r})
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)
def cut(*args):
    raise {raised}
    yield
sys.path.append({str(Path(run.__file__).parents[2])!r})
import embedonce.segmenting.cutter
embedonce.segmenting.cutter.cut = cut
program.main(sys.argv[1])
"""
    imitating(monkeypatch, tmp_path, program)
    with pytest.raises(Uncuttable) as refused:
        list(segments(iter([b"a"]), Format.TEXT, OPTIONS))
    assert str(refused.value) == why


def test_a_missing_library_and_a_missing_process_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    imitating(monkeypatch, tmp_path, f"import os\nos.write(1, {frame(End(unavailable=True))!r})")
    with pytest.raises(Uncuttable, match="not installed here"):
        list(segments(iter([b"a"]), Format.TEXT, OPTIONS))
    monkeypatch.setattr(run, "_LIBRARIES", {Format.JSONL: "no_such_library"})
    with pytest.raises(Uncuttable, match="not installed here"):
        segments(iter([b"a"]), Format.JSONL, OPTIONS)
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(ServiceUnavailable, match="at the moment"):
        segments(iter([b"a"]), Format.TEXT, OPTIONS)


def test_media_are_read_from_files() -> None:
    for kind in (Format.PDF, Format.AUDIO, Format.VIDEO):
        with pytest.raises(ValueError, match="is read from a file"):
            segments(io.BytesIO(b"a"), kind, OPTIONS)


def test_frames_are_put_together_from_single_bytes() -> None:
    sent = [
        Segment(
            Modality.AUDIO, Range(Unit.SECONDS, 0, 1.5), data=b"\x00\xff", media_type="audio/wav", seconds=1.5
        ),
        Segment(Modality.PDF, Range(Unit.PAGES, 1, 2), data=b"", pages=2),
        Segment(Modality.TEXT, Range(Unit.ROWS, 3, 3), text="é", id="ü"),
        Segment(Modality.TEXT, Range(Unit.ROWS, 4, 4), error="row 4: is not JSON"),
        End("text/1"),
    ]
    frames = Frames()
    got: list[Segment | End] = []
    for byte in b"".join(map(frame, sent)):
        frames.feed(bytes([byte]))
        while (found := frames.take()) is not None:
            got.append(found)
    assert got == sent


def test_a_frame_has_limits() -> None:
    with pytest.raises(Malformed):
        frame(Segment(Modality.TEXT, Range(Unit.ROWS, 1, 1), text="a", id="a" * 70_000))


def test_the_program_ends_by_itself_when_nobody_listens() -> None:
    task = run._task(Format.TEXT, OPTIONS, Limits())
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-I", "-S", "-B", str(run._PROGRAM), task]
    done = subprocess.run(command, input=TEXT * 100, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == b""
