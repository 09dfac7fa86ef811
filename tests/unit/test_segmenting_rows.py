"""JSONL and CSV: a row is one content, a bad row is an error of its own and says nothing of its values."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedonce.core.segment import CutOptions, Format, Segment, Uncuttable, Unit
from embedonce.segmenting.cutter import cut


def jsonl(data: bytes | str, **options: Any) -> list[Segment]:
    return _cut(data, Format.JSONL, options)


def table(data: bytes | str, **options: Any) -> list[Segment]:
    return _cut(data, Format.CSV, options)


def _cut(data: bytes | str, kind: Format, options: dict[str, Any]) -> list[Segment]:
    raw = data.encode() if isinstance(data, str) else data
    return list(cut(io.BytesIO(raw), kind, CutOptions(**options)))


def digest(found: list[Segment]) -> str:
    told = [(s.range.start, s.id, s.error, s.sha256.hex()) for s in found]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def test_rows_do_not_change_by_accident() -> None:
    lines = [json.dumps({"text": f"row {n}\n", "id": n}) if n % 7 else f"row {n}" for n in range(50)]
    assert digest(jsonl("\n".join(lines), id_field="id")) == "e13ab987538ab78d"
    rows = [f'{n};"row ""{n}""\n"' if n % 7 else f"{n}" for n in range(50)]
    assert digest(table("\n".join(["id;text", *rows]), id_field="id")) == "5a0429f10d59bee9"


def test_rows_are_counted_without_blank_lines_and_keep_their_white_space() -> None:
    found = jsonl('{"text": " a "}\n\n  \r\n{"text": "b"}\r\n{"text": "b"}')
    assert [(s.text, s.range.start, s.range.end) for s in found] == [(" a ", 1, 1), ("b", 2, 2), ("b", 3, 3)]
    assert {s.range.unit for s in found} == {Unit.ROWS}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "row 2: is not JSON"),
        (b'{"text": "\xff"}', "row 2: is not JSON"),
        ('{"text": "\\ud800"}', "row 2: is not JSON"),
        ("[" * 100_000, "row 2: is not JSON"),
        ('["secret"]', "row 2: is not an object"),
        ('{"secret": 1}', "row 2: field 'text' is missing"),
        ('{"text": null}', "row 2: field 'text' is not a string"),
        ('{"text": 5}', "row 2: field 'text' is not a string"),
        ('{"text": ""}', "row 2: field 'text' is empty"),
        ('{"text": " \\n"}', "row 2: field 'text' is empty"),
        (json.dumps({"text": "é" * 40_000}), "row 2: field 'text': limit is 65,536 bytes, got 80,000"),
        (json.dumps({"text": "a", "id": "b" * 2000}), "row 2: field 'id': limit is 1,024 characters"),
        ('{"text": "' + "a" * (5 << 20) + '"}', "row 2: is longer than 4,194,304 bytes"),
    ],
)
def test_a_bad_row_is_an_error_and_the_others_are_not(line: str | bytes, why: str) -> None:
    bad = line.encode() if isinstance(line, str) else line
    found = jsonl(b'{"text": "a"}\n' + bad + b'\n{"text": "b"}', id_field="id")
    assert [s.error for s in found] == [None, why, None]
    assert [s.text for s in found] == ["a", None, "b"]


def test_fields_have_paths_and_ids_are_strings_or_numbers() -> None:
    rows = [{"a": {"b": "x"}, "n": {"id": value}} for value in ("one", 2, 2.5, True, None, [1])]
    found = jsonl("\n".join(map(json.dumps, [*rows, {"a.b": "x"}])), field="a.b", id_field="n.id")
    assert [s.id for s in found] == ["one", "2", "2.5", None, None, None, None]
    assert {s.text for s in found} == {"x"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_in_any_delimiter_and_encoding(delimiter: str, encoding: str) -> None:
    header, row = delimiter.join(["id", "text", "x"]), delimiter.join(["7", '"a, b; ""c""\r\nd | é"', "1"])
    found = table(
        f"\r\n{header}\r\n{row}\r\n\r\n8{delimiter}e{delimiter}\r\n".encode(encoding), id_field="id"
    )
    assert [(s.id, s.text, s.range.start) for s in found] == [("7", 'a, b; "c"\r\nd | é', 1), ("8", "e", 2)]


def test_short_and_empty_rows_are_errors() -> None:
    found = table("id,text\n1\n2,\n3,a\n4,b,c\n")
    assert [s.error for s in found] == [
        "row 1: has 1 of 2 columns",
        "row 2: field 'text' is empty",
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("read", "data", "why"),
    [
        (jsonl, b"", "is empty"),
        (jsonl, b"\n \n", "is empty"),
        (jsonl, b"a\x00", "is not text"),
        (table, b"", "is empty"),
        (table, b"\n\n", "is empty"),
        (table, b"text\n", "has no rows"),
        (table, b"id,body\n1,a\n", "has no column 'text' in its header"),
        (table, b"text\n\xff\n", "is not valid UTF-8 at byte 5"),
        (table, b"a\x00", "is not text"),
    ],
)
def test_what_has_no_rows_is_refused(read: Callable[[bytes], list[Segment]], data: bytes, why: str) -> None:
    with pytest.raises(Uncuttable) as refused:
        read(data)
    assert str(refused.value) == why


@pytest.mark.parametrize("rest", [b"a\n", b"a", b'a\n","', b'""'])
def test_an_open_quote_is_not_held_for_long(rest: bytes) -> None:
    data = io.BytesIO(b'text\nfirst\n"' + rest * (18_000_000 // len(rest)))
    rows = cut(data, Format.CSV, CutOptions())
    assert next(rows).text == "first"
    with pytest.raises(
        Uncuttable, match="has a field of more than 4,194,304 characters, or a quote left open"
    ):
        next(rows)
    assert data.tell() < 17_500_000


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40),
        min_size=1,
        max_size=20,
    ),
    st.randoms(),
)
def test_every_row_comes_back(values: list[str], chance: Any) -> None:
    found = jsonl("\n".join(json.dumps({"text": value}) for value in values))
    assert [s.text for s in found] == [value if value.strip() else None for value in values]
    quoted = ['"' + value.replace('"', '""') + '"' for value in values]
    found = table(chance.choice(["\n", "\r\n", "\r"]).join(["text", *quoted]))
    assert [s.text for s in found] == [value if value.strip() else None for value in values]
