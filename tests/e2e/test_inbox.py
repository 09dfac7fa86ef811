"""The inbox of a real server, and the command line, as a data team uses them: all formats, and kill -9."""

from __future__ import annotations

import base64
import itertools
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from embedonce.config import ConfigError, load
from embedonce.local import ingesting, loops
from fakes.answers import vector_for
from fakes.openrouter import FakeOpenRouter
from support import clips, documents, media
from support.process import ServerProcess, clean_environment, server

INGEST = [sys.executable, "-c", "from embedonce.cli import main; main()", "ingest"]
SECONDS = 90.0
DIMENSIONS = 128
RULES = json.dumps([{"dimensions": DIMENSIONS}])


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeOpenRouter]:
    with FakeOpenRouter() as fake:
        yield fake


def paid(fake: FakeOpenRouter) -> dict[str, str]:
    return {
        "OPENROUTER_API_KEY": fake.key,
        "OPENROUTER_BASE_URL": fake.base_url,
        "EMBEDONCE_INGEST_RULES": RULES,
        "EMBEDONCE_UPSTREAM_TIMEOUT": "4",
    }


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.05)


def dropped(inbox: Path, files: dict[str, bytes]) -> None:
    inbox.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (inbox / f".{name}").write_bytes(data)
        os.replace(inbox / f".{name}", inbox / name)


def read(results: Path, name: str) -> list[dict[str, Any]]:
    many, one = results / f"{name}.embedding.jsonl", results / f"{name}.embedding.json"
    if one.exists():
        said = json.loads(one.read_bytes())
        return [said["source"], *said["segments"], said["summary"]]
    return [json.loads(line) for line in many.read_bytes().splitlines()]


def finished(results: Path, names: list[str]) -> bool:
    return all(list(results.glob(f"{name}.e*.json*")) for name in names)


def book(words: int) -> bytes:
    chosen = random.Random(1)
    lines: list[str] = []
    count = 0
    while count < words:
        lines.append("#" * chosen.randint(1, 3) + " " + " ".join(chosen.choices(WORDS, k=4)))
        for _ in range(chosen.randint(1, 4)):
            size = chosen.randint(30, 150)
            lines.append(" ".join(chosen.choices(WORDS, k=size)) + ".")
            count += size
    return "\n\n".join(lines).encode()


WORDS = ["".join(random.Random(n).choices("abcdefghij", k=2 + n % 7)) for n in range(3000)]


def jsonl(count: int) -> bytes:
    return b"".join(json.dumps({"text": f"row {n} {WORDS[n % 3000]}"}).encode() + b"\n" for n in range(count))


def test_every_format_ends_in_a_result_or_an_error(tmp_path: Path) -> None:
    """Offline, as `make run` starts it."""
    files = {
        "doc.pdf": documents.many(40),
        "talk.wav": clips.wav(clips.pcm(600, rate=8000)),
        "talk.mp3": media.mp3(600),
        "clip.mp4": clips.movie(300, fps=2, keys=range(0, 300, 10)),
        "picture.png": media.png(),
        "book.md": book(100_000),
        "rows.jsonl": jsonl(10_000),
        "corrupt.pdf": documents.many(3)[:600],
    }
    data = tmp_path / "data"
    with server(data) as running:
        assert "inbox" in running.said
        dropped(data / "inbox", files)
        wait_for(lambda: finished(data / "results", list(files)), "all results")
    results = data / "results"
    assert "damaged PDF" in (results / "corrupt.pdf.error.json").read_text()
    assert ranges(results, "doc.pdf", "pages") == [[n, n] for n in range(1, 41)]
    assert ranges(results, "rows.jsonl", "rows") == [[n, n] for n in range(1, 10_001)]
    assert [line["range"] for line in read(results, "picture.png")[1:-1]] == [None]
    text = files["book.md"].decode()
    found = ranges(results, "book.md", "characters")
    tiled(found, 0, len(text), 0)
    # A token is at least one byte, so none can be over the model's 8,192.
    assert max(len(text[int(start) : int(end)].strip().encode()) for start, end in found) <= 8192
    for name, seconds, longest in (("talk.wav", 600, 180), ("talk.mp3", 600, 180), ("clip.mp4", 300, 120)):
        found = ranges(results, name, "seconds")
        tiled(found, 0, seconds, 0.2)
        assert all(end - start <= longest + 0.001 for start, end in found), name
    for name in files.keys() - {"corrupt.pdf"}:
        summary = read(results, name)[-1]
        assert summary["failed"] == 0, name
        assert summary["segments"] == len(read(results, name)) - 2


def ranges(results: Path, name: str, unit: str) -> list[list[float]]:
    return [line["range"][unit] for line in read(results, name)[1:-1]]


def tiled(found: list[list[float]], start: float, end: float, slack: float) -> None:
    """In order, without a gap, over all of it."""
    assert found[0][0] == start
    assert all(one[1] == other[0] for one, other in itertools.pairwise(found))
    assert abs(found[-1][1] - end) <= slack


def test_killed_in_the_middle_it_goes_on_and_pays_for_no_stored_row_again(
    tmp_path: Path, fake: FakeOpenRouter
) -> None:
    count = 3000
    data = tmp_path / "data"
    first = ServerProcess(data, **paid(fake))
    dropped(data / "inbox", {"rows.jsonl": jsonl(count)})
    wait_for(lambda: sum(fake.billed.values()) >= 500, "the first rows")
    first.kill()
    billed = sum(fake.billed.values())
    with closing(sqlite3.connect(data / "embedonce.sqlite3")) as database:
        [stored] = database.execute("SELECT count(*) FROM vectors").fetchone()
    assert billed < count
    with server(data, **paid(fake)):
        wait_for(lambda: finished(data / "results", ["rows.jsonl"]), "the result")
    source, *segments, summary = read(data / "results", "rows.jsonl")
    assert [s["range"]["rows"] for s in segments] == [[n, n] for n in range(1, count + 1)]
    assert [s["index"] for s in segments] == list(range(count))
    assert summary["failed"] == 0
    assert source["sha256"]
    assert sum(fake.billed.values()) - count <= billed - stored, "no stored row is paid again"
    assert len(fake.billed) == count


def test_the_same_files_again_are_hits_and_a_changed_page_is_one_miss(
    tmp_path: Path, fake: FakeOpenRouter
) -> None:
    files = {"rows.jsonl": jsonl(300), "book.md": book(5000)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    said = ingest(tmp_path, fake, "rows.jsonl", "book.md")
    assert "Results are in" in said
    results = tmp_path / "results"
    line = read(results, "rows.jsonl")[7]
    assert vector_of(line) == vector_for(json.loads(jsonl(300).splitlines()[6])["text"], DIMENSIONS)
    bought = sum(fake.billed.values())
    ingest(tmp_path, fake, "rows.jsonl", "book.md")
    assert sum(fake.billed.values()) == bought, "the same again"
    (tmp_path / "rows.jsonl").write_bytes(jsonl(300) + b'{"text": "one more row, never seen"}\n')
    ingest(tmp_path, fake, "rows.jsonl")
    assert sum(fake.billed.values()) == bought + 1
    assert read(results, "rows.jsonl")[-1]["misses"] == 1


def test_a_page_that_changed_is_the_only_one_bought(tmp_path: Path) -> None:
    """Offline: what is a hit and what a miss is the same whoever embeds."""
    document = documents.many(12)
    (tmp_path / "doc.pdf").write_bytes(document)
    ingest(tmp_path, None, "doc.pdf")
    assert read(tmp_path / "results", "doc.pdf")[-1]["misses"] == 12
    (tmp_path / "doc.pdf").write_bytes(documents.rewritten(document, page=4, line="another text"))
    ingest(tmp_path, None, "doc.pdf")
    summary = read(tmp_path / "results", "doc.pdf")[-1]
    assert (summary["hits"], summary["misses"]) == (11, 1)


def vector_of(line: dict[str, Any]) -> bytes:
    return base64.b64decode(line["embedding"])


def ingest(folder: Path, fake: FakeOpenRouter | None, *paths: str) -> str:
    settings = {} if fake is None else paid(fake)
    done = subprocess.run(
        [*INGEST, *paths],
        env=clean_environment() | {"EMBEDONCE_DATA_DIR": str(folder / "data"), **settings},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_killed_command_goes_on_with_what_it_had_submitted(tmp_path: Path) -> None:
    """Its queues died with it: the tickets of its pages must not wait for a janitor that is not there."""
    (tmp_path / "doc.pdf").write_bytes(documents.many(60))
    settings = {"EMBEDONCE_DATA_DIR": str(tmp_path / "data"), "EMBEDONCE_JOB_UPSTREAM_TIMEOUT": "4"}
    first = subprocess.Popen(
        [*INGEST, "doc.pdf"],
        env=clean_environment() | settings,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    database = tmp_path / "data" / "embedonce.sqlite3"
    wait_for(lambda: database.exists() and _tickets(database) > 10, "tickets")
    first.kill()
    first.wait()
    ingest(tmp_path, None, "doc.pdf")
    assert read(tmp_path / "results", "doc.pdf")[-1]["segments"] == 60
    assert read(tmp_path / "results", "doc.pdf")[-1]["failed"] == 0


def _tickets(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        try:
            [count] = connection.execute("SELECT count(*) FROM tickets").fetchone()
        except sqlite3.OperationalError:
            return 0
    return int(count)


def test_what_cannot_be_written_ends_the_command_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, as its pauses are shortened."""
    monkeypatch.setattr(loops, "FIRST_RETRY_SECONDS", 0.01)
    (tmp_path / "a.txt").write_text("hello")
    results = tmp_path / "results"
    obstacle = results / "a.txt.embedding.json" / "folder"
    obstacle.mkdir(parents=True)
    settings = load({"EMBEDONCE_DATA_DIR": str(tmp_path / "data")})
    with pytest.raises(ConfigError, match="does not get on"):
        ingesting.ingest(settings, [tmp_path / "a.txt"], results, lambda now: None)
    obstacle.rmdir()
    obstacle.parent.rmdir()
    done = ingesting.ingest(settings, [tmp_path / "a.txt"], results, lambda now: None)
    assert not done.open
    assert read(results, "a.txt")[-1]["segments"] == 1


def test_files_that_would_share_a_result_are_refused(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.md").write_text(folder)
    done = subprocess.run(
        [*INGEST, "one", "two"],
        env=clean_environment() | {"EMBEDONCE_DATA_DIR": str(tmp_path / "data")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert "one/a.md and two/a.md would have one result" in done.stderr


def test_the_command_line_says_what_is_wrong(tmp_path: Path) -> None:
    for arguments, expected in (
        (["nowhere"], "nowhere: no such file or folder"),
        (["--dimensions", "5", "a.txt"], "must be 128 to 3072"),
        (["--model", "x", "a.txt"], "unknown model"),
        (["--output", "hex", "a.txt"], "--output"),
    ):
        (tmp_path / "a.txt").write_text("hello")
        done = subprocess.run(
            [*INGEST, *arguments],
            env=clean_environment() | {"EMBEDONCE_DATA_DIR": str(tmp_path / "data")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 2, done.stdout + done.stderr
        assert expected in done.stderr
        assert "Traceback" not in done.stderr
