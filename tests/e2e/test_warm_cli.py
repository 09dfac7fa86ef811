"""`embedonce warm` as a process of its own, and `kill -9`."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fakes.answers import Planned
from fakes.behaviour import delay, status
from fakes.openrouter import FakeOpenRouter
from support.process import clean_environment

WARM = [sys.executable, "-P", "-c", "from embedonce.cli import main; main()", "warm"]
SECONDS = 60.0
LINES, DISTINCT = 2000, 1200
BATCH, CONCURRENCY = 50, 4


class Watching(FakeOpenRouter):
    """Knows which texts are in requests that are open, or were answered less than a moment ago."""

    def __init__(self) -> None:
        self._of: dict[int, list[str]] = {}
        self._ended: list[tuple[float, list[str]]] = []
        super().__init__()

    def plan(self, path: str, headers: Mapping[str, str], raw: bytes) -> tuple[Planned, threading.Event]:
        self._of[threading.get_ident()] = json.loads(raw)["input"]
        return super().plan(path, headers, raw)

    def entered(self, step: int) -> None:
        if step < 0:
            self._ended.append((time.monotonic(), self._of.pop(threading.get_ident())))
        super().entered(step)

    def open_at(self, since: float) -> set[str]:
        ended = [texts for at, texts in list(self._ended) if at >= since]
        return {text for texts in [*self._of.values(), *ended] for text in texts}


@pytest.fixture
def fake() -> Iterator[Watching]:
    with Watching() as fake:
        yield fake


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    chosen = random.Random(3)
    numbers = [*range(DISTINCT), *(chosen.randrange(DISTINCT) for _ in range(LINES - DISTINCT))]
    chosen.shuffle(numbers)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"this is row {n}"}) + "\n" for n in numbers))
    return path


def environment(folder: Path, fake: FakeOpenRouter) -> dict[str, str]:
    return clean_environment() | {
        "EMBEDONCE_DATA_DIR": str(folder / "data"),
        "EMBEDONCE_UPSTREAM_TIMEOUT": "1.5",
        "OPENROUTER_API_KEY": fake.key,
        "OPENROUTER_BASE_URL": fake.base_url,
    }


def command(rows: Path) -> list[str]:
    sizes = ["--dimensions", "128", "--batch", str(BATCH), "--concurrency", str(CONCURRENCY)]
    return [*WARM, str(rows), *sizes, "--json", "--quiet"]


def poisoned(rows: Path) -> Path:
    """A folder whose files have the names of modules: nothing of it may be run."""
    (rows.parent / "orjson.py").write_text("raise SystemExit('what lies in the folder was run')")
    return rows.parent


def begin(rows: Path, fake: FakeOpenRouter) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(rows),
        cwd=poisoned(rows),
        env=environment(rows.parent, fake),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def again(rows: Path, fake: FakeOpenRouter, *more: str) -> Any:
    done = subprocess.run(
        [*command(rows), *more],
        cwd=poisoned(rows),
        env=environment(rows.parent, fake),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def stored(rows: Path) -> int:
    database = rows.parent / "data" / "embedonce.sqlite3"
    if not database.exists():
        return 0
    with closing(sqlite3.connect(database)) as connection:
        try:
            [count] = connection.execute("SELECT count(*) FROM vectors").fetchone()
        except sqlite3.OperationalError:
            return 0
    return int(count)


def kill_all(running: subprocess.Popen[str]) -> None:
    """The command, and the process in which it works."""
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    for pid in (*map(int, children), running.pid):
        os.kill(pid, signal.SIGKILL)
    running.wait()


def wait_for(condition: Callable[[], bool], running: subprocess.Popen[str], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited for {what}"
        assert running.poll() is None, "it ended"
        time.sleep(0.02)


def test_its_usage_errors_name_the_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [*WARM, str(tmp_path), "--batch", "0"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert "Usage: embedonce warm " in done.stderr


def test_killed_with_nothing_in_flight_each_line_is_paid_once(rows: Path, fake: Watching) -> None:
    """After some batches the provider only says that it is not there, so that nothing is in doubt."""
    fake.next(*["ok"] * 12)
    fake.always(status(503))
    running = begin(rows, fake)
    journals = rows.parent / "data" / "warm"
    wait_for(
        lambda: fake.calls > 12 and 0 < fake.inputs_billed == stored(rows) and any(journals.glob("*.json")),
        running,
        "the first batches and the journal",
    )
    kill_all(running)
    [journal] = journals.glob("*.json")
    noted = json.loads(journal.read_bytes())["mark"]["inputs"]
    assert 0 < noted < LINES
    assert fake.inputs_billed < DISTINCT
    fake.always("ok")
    said = again(rows, fake)
    assert said["resumed"] == noted
    assert (said["inputs"], said["failed"]) == (LINES, 0)
    assert Counter(fake.billed.values()) == {1: DISTINCT}
    assert stored(rows) == DISTINCT
    assert not list(journals.iterdir())


def test_a_killed_command_pays_for_nothing_twice(rows: Path, fake: Watching) -> None:
    """What providers were working on is kept by the process behind it; started again at once, they share."""
    calls = random.Random().randrange(3, 16)
    print(f"killed after call {calls}")
    fake.always(delay(0.1))
    running = begin(rows, fake)
    wait_for(lambda: fake.calls >= calls, running, "calls")
    running.kill()
    running.wait()
    assert 0 < fake.inputs_billed < DISTINCT
    said = again(rows, fake)
    assert (said["inputs"], said["failed"]) == (LINES, 0)
    assert Counter(fake.billed.values()) == {1: DISTINCT}
    assert stored(rows) == DISTINCT


def test_killed_with_all_its_processes_only_what_was_in_flight_is_paid_again(
    rows: Path, fake: Watching
) -> None:
    chosen = random.Random()
    calls, pause = chosen.randrange(3, 16), chosen.uniform(0, 0.1)
    print(f"killed {pause:.3f} s after call {calls}")
    fake.always(delay(0.1))
    running = begin(rows, fake)
    wait_for(lambda: fake.calls >= calls, running, "calls")
    time.sleep(pause)
    moment = time.monotonic()
    kill_all(running)
    kept = again(rows, fake, "--dry-run")["cached"]
    billed = Counter(fake.billed)
    doubtful = fake.open_at(moment - 1.0)
    assert billed.total() == len(billed)
    assert billed.total() - kept <= BATCH * CONCURRENCY, "no more is in flight than was allowed"
    fake.always("ok")
    said = again(rows, fake)
    assert (said["inputs"], said["failed"]) == (LINES, 0)
    assert stored(rows) == DISTINCT == len(fake.billed)
    twice = {text for text, count in fake.billed.items() if count > 1}
    assert twice <= doubtful
    assert len(twice) == billed.total() - kept, "what was kept is not paid again"
    assert set(fake.billed.values()) <= {1, 2}
