"""Every source is cut in a process of its own: memory, CPU, time and output limited, the environment empty.

One thread reads and feeds it by turns, only when a segment is asked for: a slow consumer holds back the child
and the source, and nothing piles up.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

import embedonce
from embedonce.core.errors import ServiceUnavailable
from embedonce.core.segment import CutOptions, Format, Segment, Uncuttable
from embedonce.media.child import scrubbed_environment
from embedonce.segmenting.cutter import SEEKING
from embedonce.segmenting.wire import COMPLEX, DAMAGED, End, Frames, Malformed

MEMORY_BYTES = 384 << 20
MEDIA_MEMORY_BYTES = 1 << 30
_CHUNK = 1 << 16
_PROGRAM = Path(__file__).with_name("program.py")
_LIBRARIES = {Format.JSONL: "orjson", Format.PDF: "pypdf", Format.AUDIO: "av", Format.VIDEO: "av"}


MISSING = "is of a kind whose library is not installed here"


class TimeUp(Exception):
    """`Limits.seconds` are over. No fault of the source."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one source. `seconds` are those of the clock, what the consumer does between segments included;
    `cpu_seconds` are the child's alone. `memory_bytes`: by default `MEMORY_BYTES`, for PDF, audio and video
    `MEDIA_MEMORY_BYTES`. `output_bytes`: of all texts and media together."""

    seconds: float = 600.0
    cpu_seconds: int = 300
    memory_bytes: int | None = None
    segments: int = 100_000
    output_bytes: int = 4 << 30


def segments(
    source: BinaryIO | Iterable[bytes], format_: Format, options: CutOptions, limits: Limits | None = None
) -> Cutting:
    """Segments in order, from a child process that ends with the last one or when the context is left.

    A file with a descriptor becomes the child's own input, read from its beginning; leave it alone meanwhile.
    PDF, audio and video need such a file. Anything else is read chunk by chunk in the thread of the consumer,
    and what it raises reaches the consumer.

    :raises ServiceUnavailable: no process could be started
    :raises Uncuttable: a library is missing
    :raises ValueError: PDF, audio or video that is not a file

    While segments are taken:

    :raises Uncuttable: the source's fault
    :raises TimeUp: `limits.seconds` are over
    """
    return Cutting(source, format_, options, limits or Limits())


class Cutting(Iterator[Segment]):
    def __init__(
        self, source: BinaryIO | Iterable[bytes], format_: Format, options: CutOptions, limits: Limits
    ) -> None:
        self._closed = True
        self._limits = limits
        self._end = time.monotonic() + limits.seconds
        self._frames = Frames()
        self._lineage: str | None = None
        self._segments = 0
        self._bytes = 0
        self._rest = memoryview(b"")
        descriptor, self._source = _opened(source, format_)
        try:
            self._child = _started(_task(format_, options, limits), descriptor)
        finally:
            if descriptor is not None:
                os.close(descriptor)
        self._selector = selectors.DefaultSelector()
        self._closed = False
        if self._child.stdin is not None:
            os.set_blocking(self._child.stdin.fileno(), False)
            self._selector.register(self._child.stdin, selectors.EVENT_WRITE)
        assert self._child.stdout is not None
        self._selector.register(self._child.stdout, selectors.EVENT_READ)

    def __enter__(self) -> Cutting:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    @property
    def lineage(self) -> str:
        """Of the cutter and the libraries it had.

        :raises RuntimeError: not known before the last segment
        """
        if self._lineage is None:
            raise RuntimeError("the lineage is known at the end")
        return self._lineage

    def __next__(self) -> Segment:
        if self._closed:
            raise StopIteration
        try:
            return self._next()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """The child is killed, if it still runs, and reaped."""
        if self._closed:
            return
        self._closed = True
        self._selector.close()
        self._child.kill()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()
        self._child.wait()

    def _next(self) -> Segment:
        while True:
            try:
                found = self._frames.take()
            except Malformed:
                raise Uncuttable(DAMAGED) from None
            if isinstance(found, Segment):
                return self._counted(found)
            if isinstance(found, End):
                self._lineage = found.lineage
                if found.unavailable:
                    raise Uncuttable(MISSING)
                if found.uncuttable is not None:
                    raise Uncuttable(found.uncuttable)
                raise StopIteration
            self._exchange()

    def _counted(self, segment: Segment) -> Segment:
        self._segments += 1
        self._bytes += len(segment.data or b"") if segment.text is None else len(segment.text.encode())
        if self._segments > self._limits.segments:
            raise Uncuttable(f"has more than {self._limits.segments:,} segments")
        if self._bytes > self._limits.output_bytes:
            raise Uncuttable(f"has segments of more than {self._limits.output_bytes:,} bytes")
        return segment

    def _exchange(self) -> None:
        """Takes what the child says, or else gives it what it reads.

        :raises Uncuttable: it ended without saying so: a limit of its own has killed it
        """
        if (left := self._end - time.monotonic()) <= 0:
            raise TimeUp
        ready = {key.fileobj for key, _ in self._selector.select(left)}
        assert self._child.stdout is not None
        if self._child.stdout in ready:
            said = os.read(self._child.stdout.fileno(), _CHUNK)
            if not said:
                raise Uncuttable(COMPLEX)
            self._frames.feed(said)
        elif ready:
            self._give()

    def _give(self) -> None:
        pipe = self._child.stdin
        assert pipe is not None
        if not self._rest:
            chunk = next(self._source, None)
            if chunk is not None:
                self._rest = memoryview(chunk)
        try:
            if self._rest:
                self._rest = self._rest[os.write(pipe.fileno(), self._rest[:_CHUNK]) :]
                return
            if chunk is not None:
                return  # an empty one
        except BrokenPipeError:
            pass  # it has read enough, and will say why
        except BlockingIOError:
            return
        self._rest = memoryview(b"")
        self._selector.unregister(pipe)
        pipe.close()


def _opened(source: BinaryIO | Iterable[bytes], format_: Format) -> tuple[int | None, Iterator[bytes]]:
    """The descriptor of a file, or else its chunks."""
    file = cast(BinaryIO, source) if hasattr(source, "read") else None
    if file is not None:
        try:
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            descriptor = _again(file.fileno())
        except (OSError, ValueError, AttributeError):  # a BytesIO, a pipe, an object of an SDK's
            pass
        else:
            return descriptor, iter(())
    if format_ in SEEKING:
        raise ValueError(f"{format_} is read from a file")
    return None, iter(source) if file is None else iter(lambda: file.read(_CHUNK), b"")


def _again(descriptor: int) -> int:
    """The same file, with a position of its own where the system can do that (Linux)."""
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return os.dup(descriptor)


def _task(format_: Format, options: CutOptions, limits: Limits) -> str:
    # Our own folder first: no library may stand in for a module of ours.
    folders = [str(Path(embedonce.__file__).parent.parent)]
    if library := _LIBRARIES.get(format_):
        spec = importlib.util.find_spec(library)
        if spec is None or spec.origin is None:
            raise Uncuttable(MISSING)
        folders.append(str(Path(spec.origin).parent.parent))
    usual = MEDIA_MEMORY_BYTES if format_ in SEEKING else MEMORY_BYTES
    return json.dumps(
        {
            "folders": folders,
            "memory": limits.memory_bytes or usual,
            "cpu": limits.cpu_seconds,
            "format": format_,
            "options": dataclasses.asdict(options),
        }
    )


def _started(task: str, descriptor: int | None) -> subprocess.Popen[bytes]:
    # -I and -S: no environment, no current folder, no site-packages; the folders it needs are in its task.
    try:
        return subprocess.Popen(  # noqa: S603  # our own interpreter and program
            [sys.executable, "-I", "-S", "-B", str(_PROGRAM), task],
            stdin=subprocess.PIPE if descriptor is None else descriptor,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=scrubbed_environment(),
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )
    except OSError:
        raise ServiceUnavailable("files cannot be cut at the moment", retry_after=2.0) from None
