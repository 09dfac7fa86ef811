"""The reader of results, on what the writer writes."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import struct
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedonce import results
from embedonce.core import manifest as machine
from embedonce.core.answer import Origin
from embedonce.core.content import Modality
from embedonce.core.errors import InvalidRequest
from embedonce.core.manifest import Manifest
from embedonce.core.record import StoredVector
from embedonce.core.rule import Output, Terms
from embedonce.core.segment import Range, Segment, Unit
from embedonce.core.source import Source
from embedonce.results import ResultError, iter_segments, read
from embedonce.usecases.ingest.lines import (
    Embedded,
    Line,
    closing,
    document,
    error_document,
    json_line,
    opening,
    rendered,
    totals_of,
    unembedded,
)
from embedonce.usecases.ingest.pieces import piece_of

SOURCE = Source("inbox", "a/book.md", "1-2-3", "", 99, "01")
NOW = 1_800_000_000.0


def values(index: int, size: int = 3) -> list[float]:
    return [index + 1, 0.1, -1e-30][:size]


def embedded(index: int, *, size: int = 3, **said: Any) -> Embedded:
    where = Range(Unit.CHARACTERS, index * 10, index * 10 + 10)
    piece = piece_of(index, Segment(Modality.TEXT, where, text="x", id=said.pop("id", None)))
    data = struct.pack(f"<{size}f", *values(index, size))
    record = StoredVector(data, "m", "l", "openrouter", Modality.TEXT, 7, 1_400_000, int(NOW), int(NOW) + 9)
    return Embedded(piece, record, said.pop("origin", Origin.MISS), 1_400_000, b"\x01" * 32, **said)


def failed(index: int) -> Line:
    piece = piece_of(index, Segment(Modality.TEXT, Range(Unit.ROWS, index + 1, index + 1), error="row: bad"))
    return unembedded(piece, InvalidRequest("row: bad"))


def manifest(lines: list[Line], output: Output = Output.BASE64) -> Manifest:
    terms = Terms(payer="k", model="google/gemini-embedding-2", dimensions=3, output=output)
    begun = machine.announced("0" * 32, SOURCE, "r", terms, now=NOW)
    totals = replace(totals_of(lines, since=NOW), segments=len(lines))
    return replace(begun, totals=totals, sha256="ab", cutter="markdown/1")


def written(lines: list[Line], output: Output = Output.BASE64) -> bytes:
    """As `usecases.ingest.publish` puts it together."""
    m = manifest(lines, output)
    parts = [
        json_line(opening(m)),
        *(rendered(line, output) for line in lines),
        json_line(closing(m, m.totals, NOW + 2)),
    ]
    return b"".join(parts)


THREE: list[Line] = [embedded(0, id="row-1"), failed(1), embedded(2, origin=Origin.HIT, made_up=True)]


@pytest.mark.parametrize("output", Output)
def test_everything_the_writer_says_is_read(tmp_path: Path, output: Output) -> None:
    path = tmp_path / "book.md.embedding.jsonl"
    path.write_bytes(written(THREE, output))
    found = read(path)
    assert (found.source["key"], found.source["encoding"], found.source["cutter"]) == (
        "a/book.md",
        output.value,
        "markdown/1",
    )
    assert found.summary["segments"] == 3
    assert found.summary["saved_usd"] == "0"
    one, bad, last = found.segments
    assert (one.index, one.modality, one.range, one.id) == (0, "text", ("characters", 0, 10), "row-1")
    assert (one.tokens, one.cache, one.cost_usd, one.upstream) == (
        7,
        "miss",
        Decimal("0.0000014"),
        "openrouter",
    )
    assert (one.fingerprint, one.dimensions, one.made_up, one.error) == ("01" * 32, 3, False, None)
    assert (last.cache, last.cost_usd, last.made_up, last.id) == ("hit", 0, True, None)
    assert bad.error == ("invalid_request", "row: bad")
    assert (bad.range, bad.vector, bad.cost_usd) == (("rows", 2, 2), None, 0)
    expected = np.array([values(0), values(2)], dtype=np.float32)
    assert found.matrix.dtype == np.float32
    assert found.matrix.tobytes() == expected.tobytes()
    assert found.indexes.tolist() == [0, 2]
    assert one.vector is not None
    assert np.shares_memory(one.vector, found.matrix)


def one_document(line: Embedded) -> bytes:
    m = manifest([line])
    return document(m, rendered(line, Output.BASE64), m.totals, NOW)


def test_one_segment_is_one_document(tmp_path: Path) -> None:
    line = embedded(0)
    m = manifest([line])
    path = tmp_path / "x.embedding.json"
    path.write_bytes(document(m, rendered(line, Output.BASE64), m.totals, NOW))
    assert read(str(path)).matrix.shape == (1, 3)
    assert [s.index for s in iter_segments(path)] == [0]
    path.write_text(json.dumps(json.loads(path.read_text()), indent=2))
    assert read(path).matrix.shape == (1, 3)


def test_a_whole_source_has_no_range() -> None:
    piece = piece_of(0, Segment(Modality.IMAGE, Range(Unit.WHOLE, 0, 0), data=b"x", media_type="image/png"))
    line = replace(embedded(0), piece=piece)
    found = read(io.BytesIO(one_document(line)))
    assert found.segments[0].range is None
    assert found.segments[0].modality == "image"


def test_an_error_document_raises_what_it_says() -> None:
    m = machine.failed(manifest([]), InvalidRequest("the source is empty"), now=NOW)
    for reads in (read, lambda file: list(iter_segments(file))):
        with pytest.raises(ResultError, match=r"^the source is empty$") as caught:
            reads(io.BytesIO(error_document(m)))
        assert caught.value.code == "invalid_request"


def test_without_a_vector_the_matrix_is_empty() -> None:
    found = read(io.BytesIO(written([failed(0), failed(1)])))
    assert found.matrix.shape == (0, 3)
    assert found.indexes.shape == (0,)


def test_files_may_be_of_text_and_give_little_at_a_time() -> None:
    class Slow:
        def __init__(self, data: bytes) -> None:
            self.file = io.BytesIO(data)

        def read(self, size: int, /) -> bytes:
            return self.file.read(min(size, 7))

    data = written(THREE)
    assert read(io.StringIO(data.decode())).indexes.tolist() == [0, 2]
    assert read(Slow(data)).indexes.tolist() == [0, 2]
    assert read(Slow(data.rstrip(b"\n"))).indexes.tolist() == [0, 2]


def test_wherever_it_is_cut_off_it_is_refused() -> None:
    data = written(THREE)
    for end in range(len(data) - 1):
        with pytest.raises(ResultError):
            read(io.BytesIO(data[:end]))
    one = one_document(embedded(0))
    for end in range(len(one) - 1):
        with pytest.raises(ResultError):
            read(io.BytesIO(one[:end]))


def changed(number: int, **said: Any) -> bytes:
    lines = written(THREE).splitlines(keepends=True)
    lines[number] = json_line({**json.loads(lines[number]), **said})
    return b"".join(lines)


LINES = written(THREE).splitlines(keepends=True)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"\n", "cut off or damaged"),
        (b"[]", "is no result"),
        (b"{}", "is no result"),
        (b'{"segments": 1, "source": {"format": 1}, "summary": {}}', "no list"),
        (b'{"text": "a row"}\n{"text": "b"}\n', "is no result"),
        (LINES[0] + LINES[1] + LINES[3] + LINES[4], "segment 1 is missing"),
        (LINES[0] + LINES[1] + LINES[1] + LINES[4], "segment 1 is missing"),
        (b"".join(LINES[:4]), "cut off after 3 segments"),
        (b"".join(LINES) + LINES[1], "goes on after"),
        (LINES[0] + LINES[0], "no segment"),
        (changed(0, format=2), "has the format 2"),
        (changed(4, segments=4), "3 segments, says 4"),
        (changed(4, failed=0), "1 failed, says 0"),
        (changed(1, dimensions=4), "has 3 numbers, not 4"),
        (changed(1, embedding="AA"), "base64"),
        (changed(1, embedding="AAAA"), "ValueError"),
        (changed(1, embedding=[[1.0, 2, 3]]), "TypeError"),
        (changed(1, embedding=["a", "b", "c"]), "ValueError"),
        (changed(1, embedding=None), "TypeError"),
        (changed(1, range=[1, 2]), "is no result"),
        (changed(1, range={"pages": [1]}), "ValueError"),
        (changed(1, cost_usd="much"), "is no result"),
        (changed(1, index="0"), "TypeError"),
        (changed(3, dimensions=2, embedding=[1, 2]), "another size"),
    ],
)
def test_what_does_not_add_up_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ResultError, match=why):
        read(io.BytesIO(data))


def test_an_endless_line_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "LINE_BYTES", 1 << 20)

    class Endless:
        taken = 0

        def read(self, size: int, /) -> bytes:
            self.taken += size
            return b"x" * size

    endless = Endless()
    with pytest.raises(ResultError, match="a line has more than"):
        read(endless)
    assert endless.taken < 8 << 20


def test_segments_of_a_huge_result_are_not_held(tmp_path: Path) -> None:
    path = tmp_path / "huge.embedding.jsonl"
    many = [embedded(n, size=2) for n in range(4000)]
    m = manifest(list(many))
    padding = hashlib.sha256(b"").hexdigest() * 30
    with path.open("wb") as file:
        file.write(json_line(opening(m)))
        for line in many:
            file.write(json_line({**json.loads(rendered(line, Output.BASE64)), "later": padding}))
        file.write(json_line(closing(m, m.totals, NOW)))
    assert path.stat().st_size > 8 << 20
    tracemalloc.start()
    try:
        count = sum(1 for _ in iter_segments(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 4000
    assert peak < 4 << 20


def test_what_a_stream_gives_before_it_breaks_off_is_given() -> None:
    found = iter_segments(io.BytesIO(b"".join(LINES[:2])))
    assert next(found).index == 0
    with pytest.raises(ResultError, match="cut off"):
        next(found)


def test_it_needs_numpy_and_nothing_of_ours() -> None:
    source = Path(results.__file__).read_text()
    names = [n.module or "" for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ImportFrom)]
    assert not [name for name in names if name.startswith("embedonce")]
    program = (
        "import sys; import embedonce.results;"
        "print([m for m in ('orjson', 'pydantic', 'boto3', 'httpx', 'embedonce.core') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
