"""`embedonce warm` in this process: forms of input, refusals, money, going on; against a fake provider."""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from embedonce.access.authenticate import DEVELOPMENT
from embedonce.cli.main import app
from embedonce.cli.warm import Shown
from embedonce.config import ConfigError, env_of, load
from embedonce.core.catalog import GEMINI_EMBEDDING_2
from embedonce.core.content import Content
from embedonce.core.errors import (
    BudgetExceeded,
    EmbedonceError,
    QuotaExceeded,
    ServiceUnavailable,
    UpstreamInvalid,
    UpstreamRejected,
    UpstreamUnavailable,
)
from embedonce.core.flight import MISCONFIGURED_SECONDS
from embedonce.core.options import EmbedOptions
from embedonce.local.warming import Begun, Finished, Told, Wish, warm
from embedonce.local.warmjournal import Journal, Kept
from embedonce.local.warmrows import Format
from embedonce.local.warmwaits import OTHERS
from embedonce.telemetry import LogTelemetry
from embedonce.usecases.warm.buying import LONGEST_PAUSED_SECONDS, PAUSED, TRIES, Buy, Order
from embedonce.usecases.warm.entry import Entry, Failure, Mark, Outcome, Slot, Tally, Wait, Waits
from embedonce.usecases.warm.prefix import Prefix
from fakes.behaviour import status
from fakes.openrouter import FakeOpenRouter
from support import media
from support.clock import FakeClock
from support.gateway import ImpatientClock

POISON = "poison"


class Picky(FakeOpenRouter):
    """Refuses every batch with a text that it does not like."""

    def _wrong(self, path: str, body: Any) -> str | None:
        if any(POISON in str(part) for parts in self.contents(path, body) for part in parts):
            return "cannot embed that"
        return super()._wrong(path, body)


@pytest.fixture
def fake() -> Iterator[Picky]:
    with Picky() as fake:
        yield fake


class Later(ImpatientClock):
    """`seconds`: how much later it is than elsewhere."""

    seconds = 0.0

    def now(self) -> float:
        return super().now() + self.seconds


@dataclass
class Lab:
    folder: Path
    fake: FakeOpenRouter
    failures: list[Failure] = field(default_factory=list)
    began: list[Begun] = field(default_factory=list)
    clock: Later = field(default_factory=Later)

    @property
    def environment(self) -> dict[str, str]:
        given = {
            "data_dir": str(self.folder / "data"),
            "openrouter_api_key": self.fake.key,
            "openrouter_base_url": self.fake.base_url,
        }
        return {env_of(name): value for name, value in given.items()}

    def file(self, name: str, data: str | bytes) -> Path:
        path = self.folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def warm(
        self, path: Path, *, show: Callable[[Tally, Mark], None] | None = None, **given: Any
    ) -> Finished:
        halt = given.pop("halt", threading.Event())
        waits = given.pop("waits", lambda _wait: None)
        self.failures.clear()
        told = Told(
            begun=self.began.append,
            show=show or (lambda _tally, _mark: None),
            failed=self.failures.append,
            waits=waits,
            halt=halt,
        )
        wish = Wish(path=path, **{"dimensions": 128, "concurrency": 2, "batch": 10, **given})
        return warm(load(self.environment), wish, told, LogTelemetry(), clock=self.clock)

    @property
    def billed(self) -> dict[str, int]:
        return dict(self.fake.billed)


@pytest.fixture
def lab(tmp_path: Path, fake: Picky) -> Lab:
    return Lab(tmp_path, fake)


def lines(texts: Sequence[str]) -> str:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def test_jsonl_is_bought_once_and_then_costs_nothing(lab: Lab) -> None:
    path = lab.file(
        "rows.jsonl", lines([f"text {n % 30}" for n in range(45)]) + '\n"plain"\n{"content": "c"}\n'
    )
    first = lab.warm(path)
    assert (first.tally.inputs, first.tally.misses, first.tally.failed) == (47, 32, 0)
    assert set(lab.billed.values()) == {1}
    assert len(lab.billed) == 32
    assert first.tally.spent > 0
    assert first.tally.saved > 0
    again = lab.warm(path)
    assert (again.tally.hits + again.tally.repeats, again.tally.misses, again.tally.spent) == (47, 0, 0)
    assert again.tally.saved == first.tally.spent + first.tally.saved
    assert len(lab.billed) == lab.fake.inputs_billed == 32
    assert not list((lab.folder / "data" / "warm").iterdir())


@pytest.mark.parametrize(
    ("name", "data", "given"),
    [
        ("a.csv", 'id,text\n1,one\n2,"two\nlines"\n3,"a ""quoted"" one"\n', {}),
        ("a.csv", 'name;id\none;1\n"two\nlines";2\n\'a "quoted" one;3\n', {"field": "name"}),
        ("a.tsv", 'id\tcontent\n1\tone\n2\t"two\nlines"\n', {}),
        ("a.txt", "one\r\n\n two lines\nthree", {}),
        ("a.log", b"\xef\xbb\xbfone\ntwo\n", {"form": Format.TEXT}),
        ("a.md", "# one\n\ntwo\n", {}),
    ],
)
def test_every_format(lab: Lab, name: str, data: str | bytes, given: dict[str, Any]) -> None:
    expected = {
        "a.csv": {"one", "two\nlines", 'a "quoted" one' if "field" not in given else '\'a "quoted" one'},
        "a.tsv": {"one", "two\nlines"},
        "a.txt": {"one", " two lines", "three"},
        "a.log": {"one", "two"},
        "a.md": {"# one\n\ntwo\n"},
    }[name]
    done = lab.warm(lab.file(name, data), **given)
    assert (done.tally.misses, done.tally.failed) == (len(expected), 0)
    assert set(lab.billed) == expected


def test_a_folder_is_walked_and_what_does_not_count_is_counted(lab: Lab) -> None:
    lab.file("b/rows.jsonl", lines(["one", "two"]))
    lab.file("a.txt", "a whole file\nof two lines\n")
    lab.file("picture.png", media.png())
    lab.file("b/wrong.png", b"no picture")
    lab.file("b/program.exe", b"MZ")
    lab.file(".hidden/x.txt", "hidden")
    outside = lab.folder / "outside.txt"
    outside.write_text("outside")
    (lab.folder / "in" / "link.txt").symlink_to(outside)
    done = lab.warm(lab.folder / "in")
    assert (done.tally.misses, done.tally.failed) == (4, 1)
    assert (done.begun.survey.files, done.begun.survey.skipped) == (4, 3)
    assert done.begun.survey.passed == [
        ".hidden: is hidden",
        "b/program.exe: .exe is no ending of what is embedded",
        "link.txt: is a link",
    ]
    assert [f.where for f in lab.failures] == ["b/wrong.png"]
    assert {"one", "two", "a whole file\nof two lines\n"} < set(lab.billed)


def test_what_is_refused_is_named_and_the_rest_goes_on(lab: Lab) -> None:
    good = [f"good {n}" for n in range(25)]
    data = lines([*good[:12], f"the {POISON}"]).encode() + b'{"x": 1}\nnot json\n"\xff"\n{"text": 7}\n'
    data += lines(["y" * 70_000, " ", *good[12:]]).encode()
    done = lab.warm(lab.file("rows.jsonl", data))
    assert (done.tally.misses, done.tally.failed, done.stop) == (25, 7, None)
    assert set(lab.billed) == set(good)
    said = {f.where.rpartition(":")[2]: f.why for f in lab.failures}
    assert said.keys() == {"13", "14", "15", "16", "17", "18", "19"}
    assert "no field 'text'" in said["14"]
    assert "not JSON" in said["15"]
    assert "not valid UTF-8 at byte 1" in said["16"]
    assert "65536 bytes" in said["18"]


def test_csv_rows_that_cannot_be_read_do_not_end_the_file(lab: Lab) -> None:
    data = b"id,text\n1,one\n2\n3,\xff\xfe\n4,two\n"
    done = lab.warm(lab.file("a.csv", data))
    assert set(lab.billed) == {"one", "two"}
    assert [f.where.rpartition(":")[2] for f in lab.failures] == ["3", "4"]
    assert done.tally.failed == 2
    done = lab.warm(lab.file("b.csv", "a,b\n1,2\n"))
    assert "no column 'text'" in lab.failures[0].why
    assert "a, b (--field" in lab.failures[0].why
    assert done.tally.failed == 1


def test_what_passes_is_tried_again(lab: Lab) -> None:
    lab.fake.next(status(503), status(429, retry_after="1"), status(503), status(503), status(503))
    done = lab.warm(lab.file("a.txt", "\n".join(f"text {n}" for n in range(40))))
    assert (done.tally.misses, done.tally.failed, done.stop) == (40, 0, None)
    assert set(lab.billed.values()) == {1}


def test_a_provider_that_stays_away_ends_the_run_which_goes_on_later(lab: Lab) -> None:
    path = lab.file("a.txt", "\n".join(f"text {n}" for n in range(40)))
    lab.fake.next("ok")
    lab.fake.always(status(401))
    done = lab.warm(path, concurrency=1)
    assert done.stop is not None
    assert done.tally.failed == 0
    assert done.journal is not None
    lab.fake.always("ok")
    lab.clock.seconds += MISCONFIGURED_SECONDS + 1
    again = lab.warm(path, concurrency=1)
    assert lab.began[-1].start.inputs == 10
    assert (again.tally.inputs, again.tally.misses, again.stop) == (40, 40, None)
    assert set(lab.billed.values()) == {1}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_stopped_it_goes_on_where_it_was(lab: Lab, name: str) -> None:
    texts = [f"text\n{n}" for n in range(90)]
    table = "text\n" + "".join(f'"{text}"\n' for text in texts)
    path = lab.file(name, lines(texts) if name.endswith("jsonl") else table)
    halt = threading.Event()

    def show(tally: Tally, _mark: Mark) -> None:
        if tally.misses >= 30:
            halt.set()

    first = lab.warm(path, halt=halt, show=show)
    assert first.stop is not None
    assert first.stop.interrupted
    assert first.journal is not None
    bought = first.tally.misses
    assert 30 <= bought < 90
    calls = lab.fake.calls
    second = lab.warm(path)
    assert lab.began[-1].start.inputs == bought, "what was in flight was waited for"
    assert lab.fake.calls - calls == (90 - bought) // 10
    assert second.tally.inputs == second.tally.misses == 90
    assert set(lab.billed.values()) == {1}
    assert len(lab.billed) == 90
    assert not first.journal.exists()


def test_a_journal_of_something_else_is_not_believed(lab: Lab) -> None:
    path = lab.file("rows.txt", "\n".join(f"text {n}" for n in range(50)))
    journal = lab.folder / "journal.json"

    def stopped() -> None:
        halt = threading.Event()
        lab.warm(
            path, halt=halt, journal=journal, show=lambda tally, _mark: tally.inputs >= 20 and halt.set()
        )
        assert journal.exists()

    stopped()
    lab.warm(path, journal=journal, dimensions=256)
    assert lab.began[-1].start == Mark(), "other options"
    lab.file("rows.txt", "\n".join(f"text {n}" for n in range(60)))
    stopped()
    lab.file("rows.txt", "another\n" + "\n".join(f"text {n}" for n in range(60)))
    assert lab.warm(path, journal=journal).tally.inputs == 61
    assert lab.began[-1].start == Mark(), "another file"
    journal.write_text("{broken")
    assert lab.warm(path, journal=journal).tally.inputs == 61


def test_in_a_folder_it_goes_on_in_the_middle_of_a_file(lab: Lab) -> None:
    for name in "abc":
        lab.file(f"{name}.jsonl", lines([f"{name} {n}" for n in range(30)]))
    folder = lab.folder / "in"

    def stopped() -> None:
        halt = threading.Event()
        lab.warm(
            folder, halt=halt, concurrency=1, show=lambda tally, _mark: tally.inputs >= 45 and halt.set()
        )

    stopped()
    lab.file("d.jsonl", lines(["a later one"]))
    done = lab.warm(folder)
    start = lab.began[-1].start
    assert (start.files, start.line, start.inputs) == (1, 20, 50)
    assert done.tally.inputs == 91
    assert set(lab.billed.values()) == {1}
    assert len(lab.billed) == 91
    stopped()
    os.utime(folder / "a.jsonl", ns=(1, 1))
    assert lab.warm(folder).tally.inputs == 91
    assert lab.began[-1].start == Mark(), "an earlier file was changed"


def test_a_dry_run_prices_it_and_buys_nothing(lab: Lab) -> None:
    path = lab.file(
        "rows.txt", "\n".join(["four by 4 = 16 b"] * 5 + [f"text number {n:04}" for n in range(20)])
    )
    lab.warm(path, limit=10)
    calls = lab.fake.calls
    done = lab.warm(path, dry_run=True)
    assert lab.fake.calls == calls
    bill = done.bill
    assert bill is not None
    assert (done.tally.inputs, bill.distinct, bill.cached, bill.new) == (25, 21, 6, 15)
    assert (bill.tokens, bill.likely, bill.most) == (15 * 4, 15 * 4 * 200_000, 15 * 16 * 200_000)
    assert lab.warm(path).tally.misses == 15


@pytest.mark.parametrize(
    ("given", "path", "expected"),
    [
        ({"key": "nope"}, "a.txt", "--key: there is no API key nope"),
        ({"journal": Path("/")}, "a.txt", "--journal /: is a folder"),
        ({"journal": Path("/no/such/folder/j")}, "a.txt", "--journal .*: there is no folder /no/such/folder"),
        ({"model": "nobody's"}, "a.txt", "unknown model"),
        ({"dimensions": 5}, "a.txt", "128 to 3072"),
        ({}, "nowhere", "no such file"),
        ({}, "a.bin", "--format"),
        ({"form": Format.CSV}, ".", "--format"),
    ],
)
def test_what_cannot_work_is_said_at_once(lab: Lab, given: Any, path: str, expected: str) -> None:
    lab.file("a.txt", "text")
    lab.file("a.bin", "text")
    with pytest.raises(ConfigError, match=expected):
        lab.warm(lab.folder / "in" / path, **given)
    assert lab.fake.calls == 0


def test_a_revoked_key_is_no_unknown_one(lab: Lab) -> None:
    made = CliRunner().invoke(app, ["keys", "create", "somebody"], env=lab.environment)
    found = re.search(r"key_[0-9a-f]{16}", made.output)
    assert found is not None
    CliRunner().invoke(app, ["keys", "revoke", found[0]], env=lab.environment)
    with pytest.raises(ConfigError, match=f"--key: the API key {found[0]} is revoked"):
        lab.warm(lab.file("a.txt", "text"), key=found[0])


def test_what_is_waited_for_is_told_and_named_when_it_is_stopped(lab: Lab) -> None:
    lab.fake.always(status(503))
    halt = threading.Event()
    told: list[Wait] = []

    def waits(wait: Wait) -> None:
        told.append(wait)
        halt.set()

    done = lab.warm(lab.file("a.txt", "one\ntwo\n"), halt=halt, waits=waits)
    assert done.stop is not None
    assert done.stop.interrupted, "though all of it had been read"
    assert told[0].then == f"; try 2 of {TRIES} in"
    assert done.stop.why.endswith(told[-1].why)


def test_what_another_run_has_in_flight_is_waited_for_and_told(lab: Lab) -> None:
    path = lab.file("a.txt", "one\ntwo\n")
    lab.fake.next("hang")
    first = threading.Thread(target=lab.warm, args=(path,))
    first.start()
    told: list[Wait] = []

    def waits(wait: Wait) -> None:
        told.append(wait)
        lab.fake.release()

    while not lab.fake.calls:
        time.sleep(0.005)
    done = lab.warm(path, waits=waits)
    first.join()
    assert (done.tally.inputs, done.stop) == (2, None)
    assert {wait.why for wait in told} == {OTHERS}
    assert 0 < told[0].seconds < 100
    assert set(lab.billed.values()) == {1}


def test_on_aws_it_needs_a_key(lab: Lab) -> None:
    settings = load({"EMBEDONCE_MODE": "aws"})
    with pytest.raises(ConfigError, match="--key"):
        warm(settings, Wish(lab.file("a.txt", "text")), Told(), LogTelemetry())


def test_the_command_tells_how_it_ended(lab: Lab) -> None:
    path = lab.file("rows.jsonl", lines(["one", "two", f"the {POISON}"]))
    errors = lab.folder / "errors.jsonl"

    def run(*arguments: str, text: str | None = None) -> Any:
        return CliRunner().invoke(app, ["warm", *arguments], env=lab.environment, input=text)

    done = run(str(path), "--errors", str(errors), "--json", "--dimensions", "128")
    assert done.exit_code == 1, done.output
    said = json.loads(done.stdout)
    assert (said["inputs"], said["misses"], said["failed"], said["stopped"]) == (3, 2, 1, None)
    [refused] = [json.loads(line) for line in errors.read_text().splitlines()]
    assert refused["where"] == f"{path}:3"
    assert refused["code"] == "upstream_rejected"
    assert f"{path}:3" in done.stderr
    done = run("-", "--format", "text", "--dimensions", "128", text="one\ntwo\n")
    assert done.exit_code == 0, done.output
    assert re.search(r"bought +0\n", done.stdout)
    priced = run(str(path), "--dry-run", "--dimensions", "128")
    assert re.search(r"cached +2\n", priced.stdout)
    assert priced.exit_code == 0
    with pytest.raises(ConfigError, match="--format"):
        CliRunner().invoke(app, ["warm", "-"], env=lab.environment, catch_exceptions=False)
    empty = lab.file("empty.jsonl", "")
    done = run(str(empty), "--title", "T")
    assert f"no inputs in {empty}" in done.stderr
    assert "--title changes nothing" in done.stderr
    lab.file("x.exe", "MZ")
    done = run(str(lab.folder / "in"), "--dry-run", "--title", "T", "--task-type", "RETRIEVAL_DOCUMENT")
    assert "skipped: x.exe: .exe is no ending" in done.stderr
    assert "--title" not in done.stderr


def test_a_wait_of_several_batches_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    waits = [Wait("nobody answers", f"; try {n} of 6 in", 1.2) for n in (2, 2, 3, 2)]
    for quiet in (False, True):
        shown = Shown(quiet=quiet, dry_run=False)
        for wait in waits:
            shown.waits(wait)
    assert capsys.readouterr().err == "nobody answers; try 2 of 6 in 2 s\nnobody answers; try 3 of 6 in 2 s\n"


def slots(count: int) -> list[Slot]:
    return [Slot(Entry(Mark(), f"f:{n}", Content.of_text(f"text {n}"))) for n in range(count)]


def settled(
    batch: list[Slot], refuse: Callable[[list[str], int], EmbedonceError | None], **given: Any
) -> tuple[Outcome, int]:
    """What comes of a batch when `refuse` says, of the texts and the number of the call, what goes wrong."""
    calls = 0

    @dataclass
    class Answered:
        record: Any
        origin: str = "hit"
        stored: bool = True
        cost: int = 0

    @dataclass
    class Record:
        tokens: int = 1
        cost: int = 1
        created: int = 0

    @dataclass
    class Result:
        answers: list[Answered]
        order: list[int]
        fingerprints: list[bytes]

    def embed(request: Any) -> Any:
        nonlocal calls
        calls += 1
        texts = [part.text for content in request.contents for part in content.parts]
        if (error := refuse(texts, calls)) is not None:
            raise error
        return Result(
            [Answered(Record()) for _ in texts], list(range(len(texts))), [t.encode() for t in texts]
        )

    order = Order(EmbedOptions(GEMINI_EMBEDDING_2, 128), DEVELOPMENT, "", 0.0, 0.0)
    buy = Buy(order, embed, given.pop("clock", FakeClock()), lambda: False, **given)  # type: ignore[arg-type]
    return buy(batch), calls


def test_over_budget_it_ends_when_not_even_one_more_can_be_bought() -> None:
    left = 5

    def refuse(texts: list[str], _call: int) -> EmbedonceError | None:
        nonlocal left
        if len(texts) > left:
            return BudgetExceeded("the month's budget is spent")
        left -= len(texts)
        return None

    out, _ = settled(slots(8), refuse)
    assert out.stop is not None
    assert out.stop.budget
    assert (len(out.done), out.failed, left) == (5, [], 0)


def test_one_refused_input_is_found_by_halving() -> None:
    def refuse(texts: list[str], _call: int) -> EmbedonceError | None:
        return UpstreamRejected("no") if "text 5" in texts else None

    out, calls = settled(slots(8), refuse)
    assert [failure.where for _, failure in out.failed] == ["f:5"]
    assert (len(out.done), out.stop, calls) == (7, None, 7)


@pytest.mark.parametrize("kind", [UpstreamUnavailable, QuotaExceeded])
def test_what_does_not_pass_ends_the_run_and_no_input_is_given_up(kind: type[EmbedonceError]) -> None:
    out, calls = settled(slots(8), lambda _texts, _call: kind("not now", retry_after=3.0))
    assert out.stop is not None
    assert not out.stop.budget
    assert (out.done, out.failed, calls) == ([], [], TRIES)


def test_an_answer_that_is_never_usable_is_one_inputs_fault_or_nobodys() -> None:
    def refuse(texts: list[str], _call: int) -> EmbedonceError | None:
        return UpstreamInvalid("bad vectors") if "text 2" in texts else None

    out, _ = settled(slots(8), refuse)
    assert [failure.where for _, failure in out.failed] == ["f:2"]
    assert (len(out.done), out.stop) == (7, None)
    out, _ = settled(slots(8), lambda _texts, _call: UpstreamInvalid("bad vectors"))
    assert out.stop is not None
    assert out.failed == []


def test_a_pause_that_is_asked_for_is_kept_and_a_short_failure_passes() -> None:
    out, calls = settled(
        slots(2), lambda _texts, call: UpstreamUnavailable("later", retry_after=30.0) if call == 1 else None
    )
    assert (len(out.done), out.stop, calls) == (2, None, 2)


def test_while_the_operator_has_paused_buying_it_looks_again_every_ten_seconds() -> None:
    clock, told = FakeClock(), list[Wait]()
    begun = clock.monotonic()

    def paused() -> bool:
        return clock.monotonic() - begun < resumed

    def refuse(_texts: list[str], _call: int) -> EmbedonceError | None:
        return ServiceUnavailable("paused", retry_after=60) if paused() else None

    resumed = 95.0
    out, calls = settled(slots(2), refuse, clock=clock, paused=paused, waits=Waits(told.append))
    assert (len(out.done), out.stop, calls) == (2, None, 2)
    assert clock.monotonic() - begun == pytest.approx(100.0)
    assert told == [Wait(PAUSED, "; next look in", 10.0)] * 10
    begun, resumed = clock.monotonic(), float("inf")
    out, calls = settled(slots(2), refuse, clock=clock, paused=paused)
    assert out.stop is not None
    assert (out.stop.why, out.failed, calls) == (PAUSED, [], 1)
    assert clock.monotonic() - begun == pytest.approx(LONGEST_PAUSED_SECONDS)


def test_only_what_has_no_gap_before_it_is_done() -> None:
    chosen = random.Random(7)
    prefix = Prefix(Mark(), Tally())
    held = [prefix.add(Entry(replace(Mark(), offset=n + 1))) for n in range(200)]
    done: set[int] = set()
    for n in chosen.sample(range(200), 200):
        prefix.finish(held[n], Tally(misses=1))
        done.add(n)
        whole = next(i for i in range(201) if i not in done)
        assert (prefix.mark.offset, prefix.tally.misses, len(prefix)) == (whole, whole, 200 - whole)


def test_two_runs_of_one_file_write_their_journal_at_the_same_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (Journal(tmp_path / "journal", "key") for _ in range(2))
    kept = Kept(Mark(), Tally(), 0.0)
    fsync, interrupts = os.fsync, iter([lambda: other.write(kept, 2.0)])

    def between(descriptor: int) -> None:
        next(interrupts, lambda: None)()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", between)
    one.write(kept, 1.0)
    assert one.read(3.0, believed=60.0) == kept
    assert [path.name for path in tmp_path.iterdir()] == ["journal"]
