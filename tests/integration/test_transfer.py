"""Vectors out of one deployment and into another, and those that were paid for elsewhere."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from embedonce.bootstrap.stores import Stores, open_stores
from embedonce.cli.main import app
from embedonce.config import ConfigError, load
from embedonce.core import vector
from embedonce.core.catalog import GEMINI_EMBEDDING_2, Catalog, Dimensions, Model
from embedonce.core.errors import StoreUnavailable
from embedonce.core.plan import VectorKey
from embedonce.stores.embedded.database import Database
from embedonce.stores.embedded.vectors import EmbeddedVectors
from embedonce.stores.tiered import TieredVectors
from embedonce.usecases.purge import EVERYTHING, Filter
from embedonce.usecases.transfer import OwnExport, bring_in, exported
from fakes.openrouter import FakeOpenRouter
from support import media
from support.clock import START, FakeClock
from support.gateway import gateway
from support.stored import fingerprint, key, record

LINEAGE = "gemini:google/gemini-embedding-2:prefix-1"
ASSERTED = ("--lineage", LINEAGE, "--i-assert-they-are-interchangeable")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def stores(tmp_path: Path, clock: FakeClock) -> Iterator[Stores]:
    stores = open_stores(load({"EMBEDONCE_DATA_DIR": str(tmp_path / "there")}), clock)
    yield stores
    stores.close()


class Shelf:
    """Makes vector stores, each in a file of its own."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self._folder = folder
        self._clock = clock
        self.made: list[Database] = []

    def __call__(self) -> EmbeddedVectors:
        self.made.append(Database(self._folder / f"{len(self.made)}.sqlite3"))
        return EmbeddedVectors(self.made[-1], self._clock)


@pytest.fixture
def shelf(tmp_path: Path, clock: FakeClock) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path / "shelf", clock)
    yield shelf
    for database in shelf.made:
        database.close()


def run(folder: Path, *arguments: str) -> Result:
    env = {
        "EMBEDONCE_DATA_DIR": str(folder),
        "EMBEDONCE_UPSTREAMS": "openrouter",
        "OPENROUTER_API_KEY": "unused",
        "COLUMNS": "200",
    }
    return CliRunner().invoke(app, list(arguments), env=env, catch_exceptions=False)


def lines_of(path: Path) -> list[dict[str, Any]]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt") as file:
        return [json.loads(line) for line in file]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_all_is_found_in_the_other_deployment_bit_for_bit(
    tmp_path: Path, fake: FakeOpenRouter, name: str
) -> None:
    data = base64.b64encode(media.png()).decode()
    image = [{"content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}]}]
    asked: list[tuple[Any, dict[str, Any]]] = [
        (["a", "b"], {}),
        (["a"], {"dimensions": 128, "task_type": "CLUSTERING"}),
        (["a"], {"cache": {"namespace": "blue"}}),
        (image, {"dimensions": 256}),
    ]
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / name
    with gateway(here, fake) as gate:
        vectors = [gate.embed(inputs, **more).vectors for inputs, more in asked]
    done = run(here, "export", str(file))
    assert (done.exit_code, done.stdout) == (0, f"5 vectors are in {file}\n")
    assert file.stat().st_mode & 0o777 == 0o600
    first, *rows, last = lines_of(file)
    assert (first["embedonce_vectors"], last, len(rows)) == (1, {"end": 5}, 5)

    done = run(there, "import", str(file))
    assert (done.exit_code, done.stdout) == (0, "5 new, 0 already there, 0 refused\n")
    bought = fake.calls
    with gateway(there, fake) as gate:
        for (inputs, more), expected in zip(asked, vectors, strict=True):
            answer = gate.embed(inputs, **more)
            assert (answer.headers["X-Cache"], answer.vectors) == ("HIT", expected)
    assert fake.calls == bought
    assert run(there, "import", str(file)).stdout == "0 new, 5 already there, 0 refused\n"


def test_nothing_is_replaced(stores: Stores, shelf: Shelf, clock: FakeClock) -> None:
    mine = record(8, ttl=50_000)
    stores.vectors.put_many([(key(1), mine)])
    theirs = shelf()
    theirs.put_many([(key(n), record(n)) for n in (1, 2)])
    tally = bring_in(exported(theirs, EVERYTHING, START), own(), stores.vectors, clock, refused=fail)
    assert (tally.new, tally.there) == (1, 1)
    assert stores.vectors.get_many([key(1), key(2)]) == {fingerprint(1): mine, fingerprint(2): record(2)}


def test_nothing_is_kept_for_longer_than_here(stores: Stores, clock: FakeClock, shelf: Shelf) -> None:
    theirs = shelf()
    theirs.put_many([(key(1), record(1, ttl=10**10))])
    bring_in(exported(theirs, EVERYTHING, START), own(), stores.vectors, clock, refused=fail)
    assert stores.vectors.get_many([key(1)])[fingerprint(1)].expires == LATEST


LATEST = int(START) + 10**9


def own(*models: Model) -> OwnExport:
    return OwnExport(Catalog(models).find, LATEST)


def fail(number: int, why: str) -> None:
    raise AssertionError((number, why))


def test_what_is_exported_can_be_chosen(stores: Stores) -> None:
    now = int(START)
    given = [
        record(1, created=now),
        record(2, created=now + 9),
        replace(record(3), upstream="google"),
        record(4, model="other"),
    ]
    stores.vectors.put_many([(key(n), each) for n, each in enumerate(given, 1)])

    def found(wanted: Filter) -> set[str]:
        rows = [json.loads(line) for line in exported(stores.scan, wanted, START)]
        assert rows[-1] == {"end": len(rows) - 2}
        return {row["fp"] for row in rows[1:-1]}

    def expected(*numbers: int) -> set[str]:
        return {fingerprint(n).hex() for n in numbers}

    assert found(EVERYTHING) == expected(1, 2, 3, 4)
    assert found(Filter(model="other")) == expected(4)
    assert found(Filter(upstream="google")) == expected(3)
    assert found(Filter(since=now + 5)) == expected(2)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"v": base64.b64encode(b"\0" * 12).decode()}, "another size"),
        ({"v": base64.b64encode(vector.pack([1, float("inf"), 1, 1])).decode()}, "not finite"),
        ({"v": base64.b64encode(b"\0" * 16).decode()}, "zero"),
        ({"v": "?"}, "no base64"),
        ({"v": None}, "no exported vector"),
        ({"f": "2"}, "unknown vector format"),
        ({"fp": "00"}, "32 bytes"),
        ({"fp": "zz"}, "no exported vector"),
        ({"k": "smell"}, "no exported vector"),
        ({"key_d": "4"}, "no size"),
        ({"t": None}, "no exported vector"),
        ({"v": base64.b64encode(vector.pack([0.5, 0.5, 0.5, 0.5])).decode()}, "damaged"),
        ({"s": None}, "damaged"),
    ],
)
def test_a_line_that_is_wrong_is_named_and_the_others_go_on(
    stores: Stores, tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    stores.vectors.put_many([(key(n), record(n, ttl=10**8)) for n in range(3)])
    file, there = tmp_path / "out.jsonl", tmp_path / "other"
    run(tmp_path / "there", "export", str(file))
    rows = lines_of(file)
    rows[2] |= change
    write(file, *rows)
    done = run(there, "import", str(file))
    assert (done.exit_code, done.stdout) == (1, "2 new, 0 already there, 1 refused\n")
    assert f"{file}:3: " in done.stderr
    assert why in done.stderr


def test_a_file_that_ends_early_is_told(stores: Stores, tmp_path: Path) -> None:
    stores.vectors.put_many([(key(n), record(n, ttl=10**8)) for n in range(3)])
    file, packed, there = tmp_path / "out.jsonl", tmp_path / "out.jsonl.gz", tmp_path / "other"
    run(tmp_path / "there", "export", str(file))
    run(tmp_path / "there", "export", str(packed))
    write(file, *lines_of(file)[:3])
    packed.write_bytes(packed.read_bytes()[:-9])
    done = run(there, "import", str(file))
    assert (done.exit_code, "not complete" in done.stderr) == (1, True)
    assert done.stdout.startswith("2 new")
    done = run(there, "import", str(packed))
    assert (done.exit_code, "cannot be read to its end" in done.stderr) == (1, True)


def test_what_has_expired_is_not_kept(stores: Stores, shelf: Shelf, clock: FakeClock) -> None:
    theirs = shelf()
    theirs.put_many([(key(1), record(1, ttl=50)), (key(2), record(2, ttl=100))])
    lines = list(exported(theirs, EVERYTHING, START))
    clock.advance(60)
    tally = bring_in(lines, own(), stores.vectors, clock, refused=fail)
    assert (tally.new, tally.expired) == (1, 1)


def test_of_a_model_of_unknown_size_both_tiers_have_it(shelf: Shelf, clock: FakeClock) -> None:
    """Requests may name the size, or not, and look in one tier only."""
    plain = replace(GEMINI_EMBEDDING_2, id="plain", aliases=(), dimensions=Dimensions(None))
    theirs = shelf()
    theirs.put_many([(key(1), record(1, dimensions=8, model="plain"))])
    theirs.put_many([(key(2), record(2, dimensions=8, model=GEMINI_EMBEDDING_2.id))])
    small, large = shelf(), shelf()
    tiered = TieredVectors(small, large, large_from=8)
    reader = own(plain, GEMINI_EMBEDDING_2)
    tally = bring_in(exported(theirs, EVERYTHING, START), reader, tiered, clock, refused=fail)
    assert tally.new == 2
    for size in (None, 8):
        assert fingerprint(1) in tiered.get_many([VectorKey(fingerprint(1), size)])
    assert [len(list(each.scan(vectors=False))) for each in (small, large)] == [1, 2]
    tiered.close()


def test_a_store_that_fails_halfway_leaves_what_was_put(
    stores: Stores, shelf: Shelf, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = shelf()
    theirs.put_many([(key(n), record(n)) for n in range(250)])
    lines = list(exported(theirs, EVERYTHING, START))
    real, left = stores.vectors.put_many, [2]

    def put(entries: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise StoreUnavailable("down")
        return real(entries)

    with monkeypatch.context() as patched:
        patched.setattr(stores.vectors, "put_many", put)
        with pytest.raises(StoreUnavailable):
            bring_in(lines, own(), stores.vectors, clock, refused=fail)
    again = bring_in(lines, own(), stores.vectors, clock, refused=fail)
    assert again.new + again.there == 250
    assert again.there in (199, 200)  # the header is in the first batch


def test_vectors_that_were_paid_for_elsewhere(tmp_path: Path, fake: FakeOpenRouter) -> None:
    made = {text: fake.vector_for(text, 256) for text in ("one", "two", "three")}
    rows = [
        {"text": "one", "embedding": vector.unpack(made["one"]).tolist(), "tokens": 7},
        {"text": "two", "embedding": base64.b64encode(made["two"]).decode(), "model": "gemini-embedding-2"},
        {"text": "three", "embedding": base64.b64encode(made["three"]).decode()},
        {"text": "one", "embedding": base64.b64encode(made["one"]).decode()},
    ]
    file = write(tmp_path / "theirs.jsonl", *rows)
    options = ("--dimensions", "256", "--task-type", "CLUSTERING", "--namespace", "shared/blue")
    done = run(tmp_path, "import", str(file), *ASSERTED, *options, "--cost-per-million", "0.20")
    assert (done.exit_code, done.stdout) == (0, "3 new, 1 already there, 0 refused\n"), done.output
    with gateway(tmp_path, fake) as gate:
        asked = {"dimensions": 256, "task_type": "CLUSTERING", "cache": {"namespace": "blue"}}
        answer = gate.embed(["one", "two", "three"], **asked)
        assert (answer.headers["X-Cache"], answer.vectors) == ("HIT", list(made.values()))
        assert gate.embed(["one"], dimensions=256).headers["X-Cache"] == "MISS"
        kept = {each.upstream: each for _, each in gate.app.parts.stores.scan.scan(vectors=False)}
        assert set(kept) == {"import", "openrouter"}
        assert kept["import"].lineage == LINEAGE
        costs = {
            (each.tokens, each.cost, each.estimated)
            for _, each in gate.app.parts.stores.scan.scan(vectors=False)
            if each.upstream == "import"
        }
        assert costs == {(7, 1_400_000, False), (1, 200_000, True), (2, 400_000, True)}
    done = run(tmp_path, "purge", "--upstream", "import", "--yes", "--no-wait")
    assert "removed 3 vectors" in done.stdout


def test_lines_that_are_no_vectors_are_named(tmp_path: Path, fake: FakeOpenRouter) -> None:
    good = base64.b64encode(fake.vector_for("good", 128)).decode()
    rows = [
        {"text": "good", "embedding": good},
        "{",
        [1],
        {"embedding": good},
        {"text": "", "embedding": good},
        {"text": "another", "embedding": good},
        {"text": "short", "embedding": [0.5] * 127},
        {"text": "zero", "embedding": [0.0] * 128},
        {"text": "huge", "embedding": [1e300] * 128},
        {"text": "flag", "embedding": [True] * 128},
        {"text": "none", "embedding": None},
        {"text": "other model", "embedding": good, "model": "text-embedding-3-large"},
        {"text": "tokens", "embedding": good, "tokens": -1},
        {"text": "x" * 70_000, "embedding": good},
        "",
        {"text": "long", "embedding": [0.5] * 128},
    ]
    file = write(tmp_path / "theirs.jsonl", *rows)
    done = run(tmp_path, "import", str(file), *ASSERTED, "--dimensions", "128")
    assert (done.exit_code, done.stdout) == (1, "2 new, 0 already there, 13 refused\n"), done.output
    said = dict(
        line.split(":", 1)[1].split(": ", 1) for line in done.stderr.splitlines() if ".jsonl:" in line
    )
    assert {int(number): why for number, why in said.items()} == {
        2: "is no JSON",
        3: "is no JSON object",
        4: "has no text",
        5: "text: text must not be empty",
        6: "has the vector of another text",
        7: "has 127 dimensions, not 128",
        8: "is zero",
        9: "has a value that is not finite",
        10: "embedding: is neither a list of numbers nor base64 of float32",
        11: "embedding: is neither a list of numbers nor base64 of float32",
        12: "is of another model",
        13: "tokens: is no whole number from 0",
        14: "text: limit is 65536 bytes of text (about 8192 tokens) for google/gemini-embedding-2, "
        "got 70000 bytes",
    }
    assert "1 of the new ones do not have the length 1" in done.stderr


def test_a_backup_does_not_undo_the_purge_of_a_model(
    stores: Stores, tmp_path: Path, clock: FakeClock
) -> None:
    """Its vectors lie under keys that no request has any more."""
    here, before, after = tmp_path / "there", tmp_path / "before.jsonl", tmp_path / "after.jsonl"
    name = GEMINI_EMBEDDING_2.id
    mixed = [record(1, model=name, ttl=10**8), record(2, model="other", ttl=10**8)]
    stores.vectors.put_many([(key(n), each) for n, each in enumerate(mixed, 1)])
    run(here, "export", str(tmp_path / "mixed.jsonl"))
    run(here, "export", str(before), "--model", name)
    assert lines_of(before)[0]["generations"] == {}
    done = run(here, "purge", "--model", name, "--yes")
    assert "stored of it, with what earlier purges left behind: 1 vectors (16 bytes, bought" in done.stderr
    assert "an export made before will not bring them back" in done.stderr
    stores.vectors.delete_many([key(1)])

    done = run(here, "import", str(before))
    assert (done.exit_code, done.stdout) == (1, "1 new, 0 already there, 0 refused\n")
    assert f"1 are of {name}, which was purged" in done.stderr
    assert "no request finds them" in done.stderr
    done = run(here, "import", str(tmp_path / "mixed.jsonl"))
    assert (done.exit_code, "no request finds them" in done.stderr) == (0, True)

    run(here, "export", str(after), "--model", name)
    assert lines_of(after)[0]["generations"] == {name: 1}
    assert run(here, "import", str(after)).exit_code == 0
    assert run(tmp_path / "new", "import", str(after)).exit_code == 1
    header, *rows = lines_of(after)
    write(after, {**header, "generations": {name: "one"}}, *rows)
    with pytest.raises(ConfigError, match="generations are no numbers"):
        run(here, "import", str(after))
    del header["generations"]  # it does not say, so nobody can tell
    assert run(here, "import", str(write(after, header, *rows))).exit_code == 0


def test_an_export_of_nothing_is_no_success(stores: Stores, tmp_path: Path) -> None:
    stores.vectors.put_many([(key(1), record(1, ttl=10**8))])
    here, file = tmp_path / "there", tmp_path / "out.jsonl"
    for upstream, why in (("google", "no stored vector is meant"), ("nope", "no upstream is called nope")):
        done = run(here, "export", str(file), "--upstream", upstream)
        assert (done.exit_code, done.stdout, why in done.stderr) == (1, "", True)
    with pytest.raises(ConfigError, match="unknown model"):
        run(here, "export", str(file), "--model", "nope")
    assert [each.name for each in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), f"is no export.*--lineage: .* texts of google/gemini-embedding-2 have {LINEAGE}"),
        (("--lineage", LINEAGE), "--i-assert-they-are-interchangeable"),
        (("--lineage", "mine", "--i-assert-they-are-interchangeable"), f"never be found.*{LINEAGE}"),
        ((*ASSERTED, "--model", "nobody's"), "unknown model"),
        ((*ASSERTED, "--dimensions", "5"), "128 to 3072"),
        ((*ASSERTED, "--namespace", "nobody"), "no key has nobody"),
    ],
)
def test_what_nobody_would_find_or_nobody_vouches_for(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    file = write(tmp_path / "theirs.jsonl", {"text": "a", "embedding": [1.0] * 3072})
    with pytest.raises(ConfigError, match=said):
        run(tmp_path, "import", str(file), *arguments)


def test_files_that_are_not_what_they_should_be(stores: Stores, tmp_path: Path) -> None:
    there, file = tmp_path / "there", tmp_path / "out.jsonl"
    with pytest.raises(ConfigError, match="No such file"):
        run(there, "import", str(file))
    with pytest.raises(ConfigError, match="is empty"):
        run(there, "import", str(write(file)))
    with pytest.raises(ConfigError, match="in format 2, not 1"):
        run(there, "import", str(write(file, {"embedonce_vectors": 2})))
    with pytest.raises(ConfigError, match="says itself"):
        run(there, "import", str(write(file, {"embedonce_vectors": 1})), *ASSERTED)
    with pytest.raises(ConfigError, match="exists"):
        run(there, "export", str(file))
    with pytest.raises(ConfigError, match="there is no store"):
        run(tmp_path / "nowhere", "export", str(tmp_path / "new.jsonl"))


def test_an_export_that_fails_leaves_no_file(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("sqlite: disk I/O error")

    monkeypatch.setattr("embedonce.stores.embedded.vectors.EmbeddedVectors.scan", down)
    done = run(tmp_path / "there", "export", str(tmp_path / "out.jsonl.gz"))
    assert (done.exit_code, "disk I/O error" in done.stderr) == (1, True)
    assert [each.name for each in tmp_path.iterdir()] == ["there"]
