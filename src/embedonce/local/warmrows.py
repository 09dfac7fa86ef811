"""Rows of a file, one at a time and with the byte where each ends, so that reading can begin anywhere."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, BinaryIO

import orjson

LINE_BYTES = 4 << 20
ROW_BYTES = 16 << 20
"""A CSV row that goes on for longer has a quote left open."""
USUAL_FIELDS = ("text", "input", "content")
COLUMNS_NAMED = 20
_DELIMITERS = ",;\t|"
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


class Format(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"
    TEXT = "text"
    FILE = "file"
    """The whole file is one input."""


@dataclass(frozen=True, slots=True)
class Row:
    """`line`: the (last) line it is on, from 1; `end`: the byte after it."""

    line: int
    end: int
    text: str = ""
    error: str | None = None


class Unreadable(Exception):
    """`str()` says why nothing (more) of a file can be read."""


class Lines:
    """Lines as they lie there. `offset` and `line` are those of what was read."""

    def __init__(self, file: BinaryIO, offset: int = 0, line: int = 0) -> None:
        self._file = file
        self.offset = offset
        self.line = line

    def next(self) -> bytes | None:
        """None at the end. A line that is too long is passed over.

        :raises ValueError: it was too long
        """
        data = self._file.readline(LINE_BYTES + 1)
        if not data:
            return None
        start = self.offset
        self.offset += len(data)
        self.line += 1
        if len(data) > LINE_BYTES and not data.endswith(b"\n"):
            while data and not data.endswith(b"\n"):
                data = self._file.readline(LINE_BYTES)
                self.offset += len(data)
            raise ValueError(f"is longer than {LINE_BYTES:,} bytes")
        if start == 0:
            if data.startswith(_WIDE):
                raise Unreadable("is not UTF-8")
            data = data.removeprefix(codecs.BOM_UTF8)
        return data


def rows(lines: Lines, file_format: Format, field: str | None) -> Iterator[Row]:
    """Of JSONL or text; blank lines are none.

    :raises Unreadable: it is not text
    """
    while True:
        try:
            data = lines.next()
        except ValueError as error:
            yield Row(lines.line, lines.offset, error=str(error))
            continue
        if data is None:
            return
        if not data.strip():
            continue
        try:
            text = _json(data, field) if file_format is Format.JSONL else data.rstrip(b"\r\n").decode()
        except UnicodeDecodeError as error:
            yield Row(lines.line, lines.offset, error=f"is not valid UTF-8 at byte {error.start}")
        except _Bad as error:
            yield Row(lines.line, lines.offset, error=str(error))
        else:
            yield _row(lines, text)


def table_rows(lines: Lines, file_format: Format, field: str | None, header: bytes | None) -> Iterator[Row]:
    """Of CSV or TSV. `header`: its first row, where reading begins behind it; None: it is still to be read.

    :raises Unreadable: no header, no such column, or a quote left open
    """
    csv.field_size_limit(LINE_BYTES)
    source = _Table(lines)
    raw = header if header is not None else header_of(lines)
    delimiter, columns, wanted = _columns(raw, file_format, field)
    reader = csv.reader(source, delimiter=delimiter)
    while True:
        source.taken = 0
        try:
            values = next(reader, None)
        except csv.Error as error:
            yield Row(lines.line, lines.offset, error=f"cannot be read as CSV: {error}")
            continue
        if values is None:
            return
        if not values or not any(value.strip() for value in values):
            continue
        if len(values) < columns:
            said = f"has {len(values):,} of {columns:,} columns"
            yield Row(lines.line, lines.offset, error=said)
            continue
        yield _row(lines, values[wanted])


def header_of(lines: Lines) -> bytes:
    """The first row, which may have several lines.

    :raises Unreadable: there is none
    """
    header = b""
    try:
        while (data := lines.next()) is not None:
            header += data
            if header.strip() and header.count(b'"') % 2 == 0:
                return header
            if len(header) > LINE_BYTES:
                break
    except ValueError:
        pass
    if not header.strip():
        raise Unreadable("is empty: a CSV file needs a header")
    raise Unreadable("has a quote left open in its header")


def _columns(raw: bytes, file_format: Format, field: str | None) -> tuple[str, int, int]:
    """The delimiter, how many columns there are, and which one is wanted."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Unreadable("is not valid UTF-8 in its header") from None
    names = (field,) if field is not None else USUAL_FIELDS
    found: list[tuple[int, int, str, int]] = []
    listed: list[str] = []
    for order, delimiter in enumerate("\t" if file_format is Format.TSV else _DELIMITERS):
        columns = [
            name.strip() for name in next(csv.reader(text.splitlines(keepends=True), delimiter=delimiter), [])
        ]
        listed = max(listed, columns, key=len)
        for name in names:
            if name in columns:
                found.append((len(columns), -order, delimiter, columns.index(name)))
                break
    if not found:
        there = ", ".join(listed[:COLUMNS_NAMED]) + (", …" if len(listed) > COLUMNS_NAMED else "")
        raise Unreadable(f"has no column {_either(names)} in its header, but: {there} (--field says which)")
    count, _, delimiter, wanted = max(found)
    return delimiter, count, wanted


class _Table:
    """Lines for `csv`, which asks for as many as a row goes on for. Bytes that are no UTF-8 become lone
    surrogates, by which their row is known."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self.taken = 0

    def __iter__(self) -> _Table:
        return self

    def __next__(self) -> str:
        try:
            data = self._lines.next()
        except ValueError:
            raise Unreadable(
                f"has a line of more than {LINE_BYTES:,} bytes, line {self._lines.line}"
            ) from None
        if data is None:
            raise StopIteration
        self.taken += len(data)
        if self.taken > ROW_BYTES:
            raise Unreadable(f"has a quote left open before line {self._lines.line}")
        return data.decode(errors="surrogateescape")


class _Bad(Exception):
    """`str()` says what is wrong with a row."""


def _json(data: bytes, field: str | None) -> str:
    """:raises UnicodeDecodeError: it is not UTF-8
    :raises _Bad:
    """
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        data.decode()
        raise _Bad("is not JSON") from None
    if isinstance(found, str):
        return found
    if not isinstance(found, dict):
        raise _Bad("is neither an object nor a string")
    names: Sequence[str] = (field,) if field is not None else USUAL_FIELDS
    for name in names:
        if (value := _at(found, name)) is not None:
            if not isinstance(value, str):
                raise _Bad(f"field '{name}' is not a string")
            return value
    raise _Bad(f"has no field {_either(names)}")


def _at(found: dict[str, Any], path: str) -> Any:
    """What is under the name `path`, or where `path` leads from dot to dot; None: nothing."""
    if path in found:
        return found[path]
    value: Any = found
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _either(names: Sequence[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)


def _row(lines: Lines, text: str) -> Row:
    if not text.strip():
        return Row(lines.line, lines.offset, error="is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        return Row(lines.line, lines.offset, error="is not valid Unicode")
    return Row(lines.line, lines.offset, text)
