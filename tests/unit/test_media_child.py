"""SECURITY 10: PDFs are read in a process of their own, and whatever is in them, only that one suffers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import embedonce
from embedonce.core.errors import InvalidRequest, ServiceUnavailable
from embedonce.media import child
from embedonce.media.inspect import inspected
from support import media
from support.bombs import CATALOG, content_bomb, encrypted, nested_flate, page_tree_loop, wide_tree, xref_loop


def test_pages_are_counted_and_text_is_read() -> None:
    assert child.pdf_pages(media.pdf(7)) == 7
    assert child.pdf_text(media.pdf(["Hello (world)", "and more"])) == "Hello (world)\nand more"
    assert child.pdf_text(media.pdf([""])) == ""


def test_a_count_that_lies_changes_nothing() -> None:
    assert child.pdf_pages(media.pdf(7).replace(b"/Count 7", b"/Count 1")) == 7


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("xref loop", xref_loop(), "is a damaged PDF"),
        ("page tree loop", page_tree_loop(), None),
        ("wide tree", wide_tree(), "is a PDF that takes too much time or memory to read"),
        ("encrypted", encrypted(), "is an encrypted PDF"),
        ("no pages", media.pdf_of_objects([CATALOG]), "is a damaged PDF"),
        ("cut", media.pdf(3)[:400], None),
        ("head only", b"%PDF-1.7\n", "is a damaged PDF"),
        ("deep array", media.pdf_of_objects([b"[" * 200_000]), None),
        ("nested flate", nested_flate(), None),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "",
)
def test_bombs(name: str, data: bytes, reason: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "CPU_SECONDS", 2)
    monkeypatch.setattr(child, "WALL_SECONDS", 4.0)
    began = time.monotonic()
    for read in (child.pdf_pages, child.pdf_text):
        found: object
        try:
            found = read(data)
        except child.Unreadable as refused:
            found = refused
        if reason is not None:
            assert str(found) == reason
        else:  # a parser that repairs may well make something of it
            assert found in (0, 1) or isinstance(found, str | child.Unreadable)
    assert time.monotonic() - began < 9


@pytest.mark.parametrize("data", [content_bomb(), content_bomb(b"BT /F1 9 Tf (a) Tj ET " * 50_000, 60 << 20)])
def test_text_that_takes_too_long(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "CPU_SECONDS", 1)
    with pytest.raises(child.Unreadable, match="too much time or memory"):
        child.pdf_text(data)


def test_time_is_limited_from_outside_too() -> None:
    began = time.monotonic()
    with pytest.raises(ServiceUnavailable) as hurried:  # with more time it might have been read
        child.pdf_pages(wide_tree(), timeout=0.4)
    assert hurried.value.retry_after
    assert time.monotonic() - began < 2


def test_its_whole_time_is_enough_to_judge_a_pdf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "WALL_SECONDS", 0.4)
    with pytest.raises(child.Unreadable, match="too much time"):
        child.pdf_pages(wide_tree())


def test_waiting_for_a_process_takes_nothing_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "WALL_SECONDS", 1.0)
    given: list[float] = []

    def run(data: bytes, what: str, end: float) -> bytes:
        given.append(end - time.monotonic())
        return b'{"pages": 1}'

    monkeypatch.setattr(child, "_run", run)
    for _ in range(child.AT_ONCE):
        assert child._slots.acquire(blocking=False)
    timer = threading.Timer(0.3, child._slots.release, (child.AT_ONCE,))
    timer.start()
    assert child.pdf_pages(media.pdf(), timeout=5.0) == 1
    timer.join()
    assert given[0] > 0.9


def test_one_error_for_all_that_cannot_be_read() -> None:
    with pytest.raises(InvalidRequest) as refused:
        inspected(encrypted(), None, "pdf")
    assert refused.value.message == "pdf: is an encrypted PDF"


def test_no_more_than_a_few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(child.AT_ONCE):
        assert child._slots.acquire(blocking=False)
    try:
        with pytest.raises(ServiceUnavailable):
            child.pdf_pages(media.pdf(), timeout=0.05)
    finally:
        child._slots.release(child.AT_ONCE)
    assert child.pdf_pages(media.pdf()) == 1


def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Run this in the place of the parser."""
    path = tmp_path / "program.py"
    path.write_text(text)
    monkeypatch.setattr(child, "_PROGRAM", path)


@pytest.mark.parametrize(
    "text",
    [
        "while True: print('x' * 65536)",  # endless output
        "import sys; sys.stdin.buffer.read(); print('{')",
        "print('[1]')",
        'print(\'{"error": "; rm -rf"}\')',
        "import os; os.kill(os.getpid(), 9)",
        "raise SystemExit(3)",
        "import os, time; os.close(0); time.sleep(60)",
    ],
)
def test_a_child_that_misbehaves(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, text)
    monkeypatch.setattr(child, "WALL_SECONDS", 1.0)
    with pytest.raises(child.Unreadable, match=r"^is a "):
        child.pdf_pages(bytes(1_000_000))


def test_the_child_sees_no_environment_and_no_site_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    text = """
import json, os, sys
print(json.dumps({"text": json.dumps([dict(os.environ), sys.path, os.listdir("/proc/self/fd")])}))
"""
    program(tmp_path, monkeypatch, text)
    seen = child.pdf_text(b"")
    assert "secret" not in seen
    assert "site-packages" not in seen
    assert str(tmp_path) not in seen.replace(str(tmp_path / "program.py"), "")
    assert seen.endswith('["0", "1", "2", "3"]]')


def test_its_limits_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path(child.__file__).with_name("pdfparser.py")
    text = f"""
import importlib.util, json, os, resource, sys
spec = importlib.util.spec_from_file_location("parser", {str(real)!r})
parser = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parser)
parser.limit(int(sys.argv[2]), int(sys.argv[3]))
try:
    bytearray(1 << 30)
    found = "memory"
except MemoryError:
    found = ""
try:
    os.write(os.open({str(tmp_path / "out")!r}, os.O_CREAT | os.O_WRONLY), b"x")
    found += " file"
except OSError:
    pass
print(json.dumps({{"text": found + str(resource.getrlimit(resource.RLIMIT_CPU))}}))
"""
    program(tmp_path, monkeypatch, text)
    assert child.pdf_text(b"") == f"({child.CPU_SECONDS}, {child.CPU_SECONDS})"


def test_without_an_interpreter_it_is_our_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(ServiceUnavailable):
        child.pdf_pages(media.pdf())


def test_no_process_and_no_descriptor_is_left() -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        child.pdf_pages(media.pdf())
        with pytest.raises(child.Unreadable):
            child.pdf_pages(b"%PDF-1.7\n")
    assert os.listdir("/proc/self/fd") == before
    children = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True, check=False
    )
    assert "pdfparser" not in children.stdout


def test_the_parser_imports_nothing_of_ours() -> None:
    text = Path(embedonce.__file__).parent.joinpath("media", "pdfparser.py").read_text()
    assert "from embedonce" not in text
    assert "import embedonce" not in text
