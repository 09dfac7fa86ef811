"""`embedonce cost`: profiles in, table, JSON and chart out; and the page that shows its output."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from embedonce.cli.main import app

PAGE = (Path(__file__).parents[2] / "docs" / "cost.md").read_text()
TRAFFIC: dict[str, Any] = {"requests": 1000, "mix": [{"tokens": 20}], "hit_ratio": 0.5}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["cost", *map(str, arguments)], env={"COLUMNS": "100"})


def profile(folder: Path, said: object, name: str = "traffic.json") -> Path:
    path = folder / name
    path.write_text(said if isinstance(said, str) else json.dumps(said))
    return path


def as_json(*arguments: object) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    read: dict[str, Any] = json.loads(done.stdout)
    return read


def row(said: dict[str, Any], tier: str, policy: str) -> dict[str, Any]:
    (found,) = [each for each in said["rows"] if (each["tier"], each["policy"]) == (tier, policy)]
    return dict(found)


def test_the_page_shows_what_the_program_prints(tmp_path: Path) -> None:
    for table in run("--units").stdout.rstrip().split("\n\n"):
        assert table in PAGE
    example = PAGE.partition("## An example by hand")[2]
    said, shown = (re.search(rf"```{kind}\n(.*?)\n```", example, re.DOTALL) for kind in ("json", "text"))
    assert said is not None
    assert shown is not None
    printed = run("--profile", profile(tmp_path, said[1])).stdout
    assert [line.rstrip() for line in printed.rstrip().split("\n")] == shown[1].split("\n")


def test_every_field_and_every_price_is_on_the_page() -> None:
    from embedonce.cli.costprofile import Parameters

    for name in Parameters.model_fields:
        assert f"`{name}`" in PAGE, name


def test_a_sample_on_the_page_is_read(tmp_path: Path) -> None:
    section = PAGE.partition("## traffic.jsonl")[2]
    lines = re.search(r"```json\n(.*?)\n```", section, re.DOTALL)
    assert lines is not None
    said = as_json("--profile", profile(tmp_path, lines[1], "traffic.jsonl"))
    assert said["seen_before"] == 0


def test_json_adds_up(tmp_path: Path) -> None:
    said = as_json("--profile", profile(tmp_path, TRAFFIC))
    assert said["direct_usd"] == "0.004"
    for each in said["rows"]:
        assert sum(map(float, each["lines_usd"].values())) == pytest.approx(float(each["total_usd"]))
        saving = float(said["direct_usd"]) - float(each["total_usd"])
        assert float(each["saving_usd"]) == pytest.approx(saving)
    assert {each["tier"] for each in said["rows"]} == {"dynamodb", "s3", "express"}, "as deployed is s3"
    small = as_json("--profile", profile(tmp_path, TRAFFIC), "--dimensions", 768)
    assert {each["tier"] for each in small["rows"]} == {"deployed", "dynamodb", "s3", "express"}


def test_a_mix_of_modalities_with_ratios_of_their_own(tmp_path: Path) -> None:
    mix = [
        {"share": 0.5, "tokens": 20, "hit_ratio": 0.9},
        {"share": 0.3, "modality": "image", "hit_ratio": 0.5},
        {"share": 0.1, "modality": "audio", "seconds": 10, "hit_ratio": 0.1},
        {"share": 0.1, "modality": "pdf", "pages": 2, "hit_ratio": 0.1},
    ]
    said = as_json("--profile", profile(tmp_path, {"requests": 1000, "mix": mix}))
    assert said["seen_before"] == pytest.approx(0.62)
    assert float(row(said, "s3", "always")["lines_usd"]["tickets"]) > 0


def sample(*, repeats: int, at: bool) -> str:
    lines = []
    for n in range(40):
        for again in range(repeats if n < 10 else 1):
            line: dict[str, Any] = {"text": f"text number {n:04}"}
            if at:
                line["at"] = f"2026-11-{1 + again + n % 20:02}T00:00:00Z"
            lines.append(json.dumps(line))
    return "\n".join(lines)


def test_a_samples_sizes_and_repetition_are_counted(tmp_path: Path) -> None:
    path = profile(tmp_path, sample(repeats=4, at=False), "traffic.jsonl")
    said = as_json("--profile", path)
    assert said["inputs"] == 70
    assert said["seen_before"] == pytest.approx(30 / 70)
    assert row(said, "s3", "always")["bought"] == 40
    # 16 bytes of text are 4 tokens.
    assert float(said["direct_usd"]) == pytest.approx(70 * 4 * 0.2e-6)


def test_a_sample_with_times_is_multiplied_up_to_a_month(tmp_path: Path) -> None:
    said = as_json("--profile", profile(tmp_path, sample(repeats=4, at=True), "traffic.jsonl"))
    span = 19
    assert said["inputs"] == pytest.approx(70 * 30 / span)
    assert row(said, "s3", "always")["bought"] == pytest.approx(40 * 30 / span)


def test_a_sample_of_many_sizes_is_quick(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({"id": n % 2000, "tokens": 1 + n % 500}) for n in range(4000))
    path = profile(tmp_path, lines, "traffic.ndjson")
    chart = tmp_path / "cost.svg"
    assert run("--profile", path, "--chart", chart).exit_code == 0


def test_other_prices(tmp_path: Path) -> None:
    other = {"date": "2027-02-03", "region": "mars", "source": "x", "usd": {"s3_put_million": "0"}}
    path = profile(tmp_path, other, "prices.json")
    said = as_json("--profile", profile(tmp_path, TRAFFIC), "--prices", path)
    assert said["prices"]["region"] == "mars"
    assert row(said, "s3", "always")["lines_usd"]["vector writes"] == "0"


def test_no_number_is_cut_in_a_narrow_console(tmp_path: Path) -> None:
    path = profile(tmp_path, TRAFFIC)
    narrow, wide = (
        CliRunner().invoke(app, ["cost", "--profile", str(path)], env={"COLUMNS": columns})
        for columns in ("40", "200")
    )
    assert "…" not in narrow.stdout
    assert {line for line in wide.stdout.splitlines() if "always" in line} <= set(narrow.stdout.splitlines())


def test_the_chart_is_one_file_with_every_line(tmp_path: Path) -> None:
    chart = tmp_path / "cost.svg"
    assert run("--profile", profile(tmp_path, TRAFFIC), "--chart", chart).exit_code == 0
    text = chart.read_text()
    root = ET.fromstring(text)
    svg = "{http://www.w3.org/2000/svg}"
    names = {title.text for title in root.iter(f"{svg}title")}
    assert names == {f"{t}, {p}" for t in ("dynamodb", "s3", "express") for p in ("always", "pays")}
    for line in root.iter(f"{svg}polyline"):
        assert len(line.attrib["points"].split()) == 39
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"href|url\((?!#)|<script|@import", text), "nothing from outside"
    said = " ".join("".join(each.itertext()) for each in root.iter(f"{svg}text"))
    assert "without the cache" in said
    assert "nan" not in text


BAD: dict[str, tuple[object, str]] = {
    "unknown field": (TRAFFIC | {"hits": 1}, "hits: no such field (its fields: docs/cost.md)"),
    "unknown field inside": (TRAFFIC | {"mix": [{"tokens": 1, "x": 1}]}, "mix.0.x"),
    "a ratio of one": (TRAFFIC | {"hit_ratio": 1}, "hit_ratio"),
    "no repetition": ({"requests": 1, "mix": [{"tokens": 1}]}, "needs one of hit_ratio, distinct_share"),
    "two of them": (TRAFFIC | {"distinct_share": 0.5}, "needs one of hit_ratio, distinct_share"),
    "nothing at all": ({"mix": []}, "requests: is missing; mix: needs at least one entry"),
    "shares": (TRAFFIC | {"mix": [{"tokens": 1, "share": 0.5}]}, "must add up to 1"),
    "no size": (TRAFFIC | {"mix": [{}]}, "needs one of tokens"),
    "size of another": (TRAFFIC | {"mix": [{"seconds": 3}]}, "seconds is no size of text"),
    "unknown modality": (TRAFFIC | {"mix": [{"tokens": 1, "modality": "smell"}]}, "mix.0.modality"),
    "unknown model": (TRAFFIC | {"model": "x"}, "unknown model"),
    "not JSON": ("{", "not JSON"),
    "not an object": ("[]", "must be an object"),
    "negative": (TRAFFIC | {"requests": -1}, "requests"),
}
BAD_LINES = {
    "not JSON": ("{", "line 1"),
    "unknown field": ('{"text": "a", "x": 1}', "line 1: x: no such field; a line may have modality, tokens"),
    "nothing that repeats": ('{"tokens": 3}', "line 1: needs text, id or sha256"),
    "no size": ('{"text": "a"}\n{"id": 1}', "line 2: needs one of tokens"),
    "another size": ('{"id": 1, "tokens": 3}\n{"id": 1, "tokens": 4}', "line 2: the same input"),
    "half of them timed": ('{"text": "a", "at": 1}\n{"text": "b"}', "1 of 2 lines have at"),
    "empty": ("\n\n", "no lines"),
    "no hash": ('{"sha256": "12", "tokens": 3}', "line 1: sha256"),
}


def refused(done: Result) -> str:
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("embedonce: ")
    assert done.stderr.count("\n") == 1, "one line"
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize("case", BAD)
def test_parameters_that_cannot_be_meant(case: str, tmp_path: Path) -> None:
    said, why = BAD[case]
    assert why in refused(run("--profile", profile(tmp_path, said)))


@pytest.mark.parametrize("case", BAD_LINES)
def test_samples_that_cannot_be_read(case: str, tmp_path: Path) -> None:
    lines, why = BAD_LINES[case]
    assert why in refused(run("--profile", profile(tmp_path, lines, "traffic.jsonl")))


def test_files_that_are_not_there_and_options_that_cannot_be(tmp_path: Path) -> None:
    good = profile(tmp_path, TRAFFIC)
    assert "No such file" in refused(run("--profile", tmp_path / "none.json"))
    assert "docs/cost.md" in refused(run("--profile", tmp_path / "none.jsonl"))
    assert "No such file" in refused(run("--profile", good, "--prices", tmp_path / "none.json"))
    assert "unknown field" in refused(run("--profile", good, "--prices", good))
    assert "No such file" in refused(run("--profile", good, "--chart", tmp_path / "no" / "cost.svg"))
    assert "embedonce: --dimensions: " in refused(run("--profile", good, "--dimensions", 0))
    lines = profile(tmp_path, '{"text": "a"}', "good.jsonl")
    assert "embedonce: --dimensions: " in refused(run("--profile", lines, "--dimensions", 0))
    assert "only SVG" in refused(run("--profile", good, "--chart", tmp_path / "x.png"))
    assert not (tmp_path / "x.png").exists()
    assert "encoding" in refused(run("--profile", good, "--encoding", "hex"))
    assert "--profile" in refused(run())
    (tmp_path / "latin.json").write_bytes(b'{"\xe9": 1}')
    assert "UTF-8" in refused(run("--profile", tmp_path / "latin.json"))
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "\xe9"}')
    assert "UTF-8" in refused(run("--profile", tmp_path / "latin.jsonl"))
