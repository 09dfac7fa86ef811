"""Rows of JSONL and CSV: each is one content as it is, never cut, and a bad one is an error of its own."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any, BinaryIO

from embedonce.core.content import Modality
from embedonce.core.segment import CutOptions, Range, Segment, Uncuttable, Unit
from embedonce.segmenting.decoding import decoded, utf8

LINE_BYTES = 4 << 20
ROW_CHARACTERS = 16 << 20
TEXT_BYTES = 65_536
"""That one text may have, as in every request."""
ID_CHARACTERS = 1024
_DELIMITERS = ",;\t|"
_LINE_END = re.compile(r"[\r\n]")
_MISSING = object()
_HEADER_CHARACTERS = 65_536
_TOO_LONG = f"has a field of more than {LINE_BYTES:,} characters, or a quote left open, in {{}}"


def cut_jsonl(file: BinaryIO, options: CutOptions) -> Iterator[Segment]:
    """Blank lines are not rows.

    :raises Uncuttable: not text, or no rows in it
    """
    import orjson

    row = 0
    for line in _lines(file):
        if line is not None and not line.strip():
            continue
        row += 1
        if line is None:
            yield _error(row, f"is longer than {LINE_BYTES:,} bytes")
            continue
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError:
            yield _error(row, "is not JSON")
            continue
        if isinstance(found, dict):
            name = None if options.id_field is None else _at(found, options.id_field)
            yield _segment(row, _at(found, options.field), name, options)
        else:
            yield _error(row, "is not an object")
    if row == 0:
        raise Uncuttable("is empty")


def cut_csv(file: BinaryIO, options: CutOptions) -> Iterator[Segment]:
    """The first row names the columns. The delimiter: that of , ; tab | that gives the wanted ones.

    :raises Uncuttable: not text, no such column, no rows, or a row that is too long to be one
    """
    csv.field_size_limit(LINE_BYTES)
    lines = _Lines(decoded(file))
    try:
        rows = _opened(lines, options)
        columns = [name.strip() for name in next(rows)]
    except csv.Error:
        raise Uncuttable(_TOO_LONG.format("its header")) from None
    wanted = columns.index(options.field)
    named = columns.index(options.id_field) if options.id_field in columns else None
    row = 0
    while (values := _row(rows, lines, row + 1)) is not None:
        if not values:
            continue
        row += 1
        if len(values) < len(columns):
            yield _error(row, f"has {len(values):,} of {len(columns):,} columns")
            continue
        yield _segment(row, values[wanted], None if named is None else values[named], options)
    if row == 0:
        raise Uncuttable("has no rows")


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """None for a line that is too long, which is not held."""
    rest, dropping = b"", False
    for block in utf8(file):
        first, *more = block.split(b"\n")
        if not dropping:
            rest += first
            dropping = len(rest) > LINE_BYTES
        if dropping:
            rest = b""
        if not more:
            continue
        yield None if dropping else rest
        dropping = False
        yield from more[:-1]
        rest = more[-1]
    yield None if dropping else rest


def _at(found: Any, path: str) -> Any:
    """What is under the name `path`, or where `path` leads from dot to dot."""
    if path in found:
        return found[path]
    for name in path.split("."):
        if not isinstance(found, dict) or name not in found:
            return _MISSING
        found = found[name]
    return found


def _segment(row: int, value: Any, name: Any, options: CutOptions) -> Segment:
    field = f"field '{options.field}'"
    if value is _MISSING:
        return _error(row, f"{field} is missing")
    if not isinstance(value, str):
        return _error(row, f"{field} is not a string")
    if not value.strip():
        return _error(row, f"{field} is empty")
    if (size := len(value.encode())) > TEXT_BYTES:
        return _error(row, f"{field}: limit is {TEXT_BYTES:,} bytes, got {size:,}")
    given = None
    if isinstance(name, str | int | float) and not isinstance(name, bool):
        given = str(name)
        if len(given) > ID_CHARACTERS:
            return _error(row, f"field '{options.id_field}': limit is {ID_CHARACTERS:,} characters")
    return Segment(Modality.TEXT, _range(row), text=value, id=given)


def _error(row: int, why: str) -> Segment:
    return Segment(Modality.TEXT, _range(row), error=f"row {row}: {why}")


def _range(row: int) -> Range:
    return Range(Unit.ROWS, row, row)


class _Lines:
    """Lines with their ends, for `csv`, which asks for as many as a row goes on for."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._lines = self._split(pieces)
        self.taken = 0
        """Characters since it was last set to 0."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.taken += len(line)
        if self.taken > ROW_CHARACTERS:
            raise csv.Error
        return line

    @staticmethod
    def _split(pieces: Iterator[str]) -> Iterator[str]:
        rest = ""
        for piece in pieces:
            if len(rest) > ROW_CHARACTERS:
                break
            if not _LINE_END.search(piece) and not rest.endswith("\r"):
                rest += piece
                continue
            lines = io.StringIO(rest + piece, newline="")
            rest = ""
            for line in lines:
                if rest:
                    yield rest
                rest = line
        # A line that may go on ("\r" before "\n") was kept, and the last one.
        if rest:
            yield from io.StringIO(rest, newline="")


def _opened(lines: _Lines, options: CutOptions) -> Iterator[list[str]]:
    """All rows, the header first.

    :raises Uncuttable: no header, or the column is not in it
    """
    header: list[str] = []
    for line in lines:
        if header or line.strip():
            header.append(line)
            if sum(part.count('"') for part in header) % 2 == 0 or lines.taken > _HEADER_CHARACTERS:
                break
    if not header:
        raise Uncuttable("is empty")
    ways: list[tuple[bool, int, int, str]] = []
    for order, delimiter in enumerate(_DELIMITERS):
        columns = [name.strip() for name in next(csv.reader(header, delimiter=delimiter), [])]
        if options.field in columns:
            ways.append((options.id_field in columns, len(columns), -order, delimiter))
    if not ways:
        raise Uncuttable(f"has no column '{options.field}' in its header")
    return csv.reader(chain(header, lines), delimiter=max(ways)[3])


def _row(rows: Iterator[list[str]], lines: _Lines, row: int) -> list[str] | None:
    lines.taken = 0
    try:
        return next(rows, None)
    except csv.Error:
        raise Uncuttable(_TOO_LONG.format(f"row {row}")) from None
