"""docs/ingest.md says what the code does, as far as that can be compared."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from embedonce.bootstrap.catalog import catalog_of
from embedonce.bootstrap.ingest import rules_of
from embedonce.cli.main import app
from embedonce.config import load
from embedonce.core.manifest import (
    CHUNK_STALL_SECONDS,
    DEADLINE_SECONDS,
    RETENTION_SECONDS,
    STALL_SECONDS,
    Outcome,
)
from embedonce.core.resultname import MAX_NAME, MAX_PART, SUFFIXES
from embedonce.core.rule import Choosable
from embedonce.core.segment import CutOptions, Format, Unit
from embedonce.ingestrules import RuleSetting
from embedonce.local.inbox import LOOK_SECONDS, SETTLE_SECONDS
from embedonce.segmenting import rows
from embedonce.segmenting.run import MEDIA_MEMORY_BYTES, MEMORY_BYTES, Limits
from embedonce.segmenting.segmenter import _BY_NAME, IMAGE_BYTES
from embedonce.segmenting.wire import PAYLOAD_BYTES
from embedonce.stores.embedded.inbox import MAX_DEPTH, TEMPORARY
from embedonce.usecases.ingest.cut import ATTEMPTS, CHUNK_MEDIA, CHUNK_TEXTS, MODEL_BYTES

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "ingest.md").read_text()


def section(title: str) -> str:
    """From its heading to the next of its kind or a higher one."""
    level = title.split(" ", 1)[0]
    after = PAGE.split(f"\n{title}\n", 1)[1]
    return re.split(rf"\n#{{2,{len(level)}}} ", after, maxsplit=1)[0]


def cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def table(text: str) -> dict[str, list[str]]:
    """Rows whose first cell is code, by that."""
    return {row[0].strip("`"): row for row in cells(text) if row[0].startswith("`")}


def default_of(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    return f"`{json.dumps(value)}`"


def limits_of(field: Any) -> str:
    names = ("ge", "le", "min_length", "max_length")
    said = {name: getattr(each, name) for each in field.metadata for name in names if hasattr(each, name)}
    if "ge" in said:
        return f"{said['ge']} to {said['le']}"
    if "min_length" in said:
        return f"{said['min_length']} to {said['max_length']} characters"
    return f"at most {said['max_length']} characters" if "max_length" in said else ""


def test_the_table_of_rules_is_the_models() -> None:
    found = {name: row[:3] for name, row in table(section("## Rules").split("\n###")[0]).items()}
    expected = {
        name: [f"`{name}`", default_of(field), limits_of(field)]
        for name, field in RuleSetting.model_fields.items()
    }
    assert found == expected


def test_what_metadata_may_choose() -> None:
    found = table(section("### What metadata may choose"))
    assert set(found) == {name.value for name in Choosable}
    assert {row[1].strip("`") for row in found.values()} <= set(RuleSetting.model_fields)


def test_formats_and_their_names() -> None:
    found = table(section("## Formats and cuts"))
    assert set(found) == {each.value for each in Format}
    for name, row in found.items():
        suffixes = [suffix for suffix, kind in _BY_NAME.items() if kind.value == name]
        assert re.findall(r"`(\.\w+)`", row[1]) == suffixes, name
    units = {unit for row in found.values() for unit in re.findall(r"`(\w+)`", row[3])} - {"null"}
    assert units == {each.value for each in Unit} - {"whole"}


def test_suffixes_of_results() -> None:
    assert [row[0] for row in cells(section("## Results")) if "…." in row[0]] == [f"`…{s}`" for s in SUFFIXES]
    assert f"({MAX_PART} bytes a part, {MAX_NAME:,} in all)" in PAGE


def test_states() -> None:
    assert set(table(section("## States"))) == {"cutting", "embedding", "assembling", "ended"}
    for outcome in Outcome:
        assert f"`{outcome.value}`" in section("## States")


def test_example_rules_can_be_kept() -> None:
    for text in re.findall(r"```json\n(\[.*?\])\n```", PAGE, re.S):
        settings = load({"EMBEDONCE_INGEST_RULES": text})
        assert rules_of(settings, catalog_of(settings))
    for text in re.findall(r"`(\{\"metadata\".*?\})` in the rule", PAGE):
        RuleSetting.model_validate_json(text)


def test_options_of_the_command() -> None:
    import typer.main

    command = typer.main.get_command(app)
    options = [o for p in command.commands["ingest"].params for o in p.opts if o.startswith("--")]  # type: ignore[attr-defined]
    page = section("## From the command line")
    for option in options:
        assert f"`{option}`" in page, option


@pytest.mark.parametrize(
    "said",
    [
        f"{CutOptions().segment_bytes:,} unless a rule says otherwise",
        f"the model's {MODEL_BYTES:,} tokens",
        f"changed for {SETTLE_SECONDS:g} s",
        f"deeper than {MAX_DEPTH} folders",
        f"up to {CHUNK_TEXTS} texts, or {CHUNK_MEDIA} media",
        f"{rows.TEXT_BYTES:,} bytes of text; {rows.ID_CHARACTERS:,} characters of `id`",
        f"JSON Lines: {rows.LINE_BYTES >> 20} MiB a line; CSV: {rows.LINE_BYTES >> 20} Mi characters a field",
        f" a field, {rows.ROW_CHARACTERS >> 20} Mi a row",
        f"{Limits().cpu_seconds} s of processor, {MEMORY_BYTES >> 20} MiB of memory (PDF, audio, video: "
        f"{MEDIA_MEMORY_BYTES >> 30} GiB)",
        f"{Limits().output_bytes >> 30} GiB together, {PAYLOAD_BYTES >> 20} MiB one segment",
        f"| one image | {IMAGE_BYTES >> 20} MiB",
        f"A manifest is kept for {RETENTION_SECONDS / 86_400:g} days",
        f"from its arrival to its result | {DEADLINE_SECONDS / 86_400:g} days",
        "(200,000)",
    ],
)
def test_numbers(said: str) -> None:
    assert said in PAGE


def test_numbers_in_words() -> None:
    assert (ATTEMPTS, STALL_SECONDS, CHUNK_STALL_SECONDS, LOOK_SECONDS) == (5, 60, 300, 1)
    assert load({}).ingest_max_segments == 200_000
    assert load({}).ingest_spool_mb == 1024
    for suffix in TEMPORARY:
        assert f"`{suffix}`" in PAGE or suffix == "~"


@pytest.mark.parametrize("page", ["ingest.md", "README.md", "architecture.md", "storage-format.md"])
def test_links_lead_somewhere(page: str) -> None:
    def anchors(path: Path) -> set[str]:
        heads = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
        return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}

    for target in re.findall(r"\]\(([^)\s]+)\)", (DOCS / page).read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (DOCS / name) if name else DOCS / page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target
