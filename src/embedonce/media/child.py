"""PDFs are parsed in a process of their own: memory, CPU, time and output limited, the environment empty.

What is in a PDF is a program for its parser, so that one must be able to die. The child limits itself before
it reads a byte (`pdfparser`), because a `preexec_fn` may deadlock in a process with threads.
"""

from __future__ import annotations

import importlib.util
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal

from embedonce.core.errors import ServiceUnavailable

MAX_BYTES = 64 << 20
MEMORY_BYTES = 256 << 20
CPU_SECONDS = 8
WALL_SECONDS = 10.0
PATIENCE_SECONDS = 2 * WALL_SECONDS
"""For a process to be free and for what it does then."""
OUTPUT_BYTES = 4 << 20
AT_ONCE = 2
"""Children of this process at a time, `MEMORY_BYTES` each: half of the 1,024 MiB that the function has."""

_PROGRAM = Path(__file__).with_name("pdfparser.py")
_REASONS = {
    "encrypted": "is an encrypted PDF",
    "damaged": "is a damaged PDF",
    "complex": "is a PDF that takes too much time or memory to read",
}
_slots = threading.BoundedSemaphore(AT_ONCE)


class Unreadable(Exception):
    """The PDF cannot be read, and never will be; `str()` says why, as in "is an encrypted PDF"."""


class _TimeUp(Exception):
    pass


def pdf_pages(data: bytes, *, timeout: float = PATIENCE_SECONDS) -> int:
    """How many pages there are, counted one by one.

    :raises Unreadable: encrypted, damaged or too much work
    :raises ServiceUnavailable: no process could be started, none was free in time, or `timeout` cut it short
    """
    return int(_asked(data, "pages", timeout)["pages"])


def pdf_text(data: bytes, *, timeout: float = PATIENCE_SECONDS) -> str:
    """The text of the first 64 pages, at most 262,144 characters; empty where there is none (a scan).

    :raises Unreadable: encrypted, damaged or too much work
    :raises ServiceUnavailable: no process could be started, none was free in time, or `timeout` cut it short
    """
    return str(_asked(data, "text", timeout)["text"])


def _asked(data: bytes, what: Literal["pages", "text"], timeout: float) -> dict[str, Any]:
    if len(data) > MAX_BYTES:
        raise Unreadable(_REASONS["complex"])
    end = time.monotonic() + timeout
    if not _slots.acquire(timeout=min(max(0.0, timeout), WALL_SECONDS)):
        raise ServiceUnavailable("too many PDFs are being read at the moment", retry_after=2.0)
    try:
        began = time.monotonic()
        seconds = min(end - began, WALL_SECONDS)
        output = _run(data, what, began + seconds)
    except _TimeUp:
        if seconds < WALL_SECONDS:  # that it had so little time is no fault of the PDF
            raise ServiceUnavailable("there was not enough time to read the PDF", retry_after=2.0) from None
        raise Unreadable(_REASONS["complex"]) from None
    finally:
        _slots.release()
    try:
        found = json.loads(output)
    except ValueError:
        raise Unreadable(_REASONS["complex"]) from None  # it was killed by a limit
    if not isinstance(found, dict) or "error" in found or what not in found:
        reason = found.get("error") if isinstance(found, dict) else None
        raise Unreadable(_REASONS.get(str(reason), _REASONS["damaged"]))
    return found


def _run(data: bytes, what: str, end: float) -> bytes:
    # -I and -S: no environment, no current folder, no site-packages; the one folder it needs is an argument.
    command = [sys.executable, "-I", "-S", "-B", str(_PROGRAM), _pypdf_folder()]
    command += [str(MEMORY_BYTES), str(CPU_SECONDS), what]
    try:
        child = subprocess.Popen(  # noqa: S603  # our own interpreter and program
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=scrubbed_environment(),
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )
    except OSError:
        raise ServiceUnavailable("PDFs cannot be read at the moment", retry_after=2.0) from None
    with child:
        try:
            return _talk(child, data, end)
        finally:
            child.kill()


def _talk(child: subprocess.Popen[bytes], data: bytes, end: float) -> bytes:
    """What it says until it closes its output; nothing if it says too much.

    :raises _TimeUp: it did not close it in time
    """
    assert child.stdin is not None
    assert child.stdout is not None
    rest = memoryview(data)
    said = bytearray()
    with selectors.DefaultSelector() as selector:
        os.set_blocking(child.stdin.fileno(), False)
        selector.register(child.stdin, selectors.EVENT_WRITE)
        selector.register(child.stdout, selectors.EVENT_READ)
        while len(said) <= OUTPUT_BYTES:
            if (left := end - time.monotonic()) <= 0:
                raise _TimeUp
            for key, _ in selector.select(left):
                if key.fileobj is child.stdout:
                    chunk = os.read(child.stdout.fileno(), 65_536)
                    if not chunk:
                        return bytes(said)
                    said += chunk
                    continue
                try:
                    rest = rest[os.write(child.stdin.fileno(), rest[:65_536]) :]
                except BrokenPipeError:
                    rest = rest[:0]
                if not rest:
                    selector.unregister(child.stdin)
                    child.stdin.close()
    return b""


def _pypdf_folder() -> str:
    spec = importlib.util.find_spec("pypdf")
    if spec is None or spec.origin is None:
        raise ServiceUnavailable("PDFs cannot be read: pypdf is not installed")
    return str(Path(spec.origin).parent.parent)


def scrubbed_environment() -> dict[str, str]:
    """Of a child that parses: nothing but where the interpreter's own libraries are (Lambda's is found only
    through this)."""
    libraries = os.environ.get("LD_LIBRARY_PATH")
    return {"LD_LIBRARY_PATH": libraries} if libraries else {}
