"""Memory over a store, and two tiers: who is asked, and what happens when a part fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from embedonce.core.errors import StoreUnavailable
from embedonce.core.plan import VectorKey
from embedonce.core.record import StoredVector
from embedonce.stores.memory import MemoryVectors
from embedonce.stores.tiered import LayeredVectors, TieredScan, TieredVectors
from support.clock import FakeClock
from support.stored import fingerprint, key, record


class DictVectors:
    """Keeps vectors in a dict and notes its calls; `before` runs at the start of each."""

    def __init__(self) -> None:
        self.kept: dict[bytes, StoredVector] = {}
        self.calls: list[list[bytes]] = []
        self.before: Callable[[], object] = lambda: None

    def get_many(self, keys: Sequence[VectorKey]) -> dict[bytes, StoredVector]:
        self._called(keys)
        return {
            each.fingerprint: self.kept[each.fingerprint] for each in keys if each.fingerprint in self.kept
        }

    def put_many(
        self, entries: Sequence[tuple[VectorKey, StoredVector]], *, overwrite: bool = False
    ) -> list[StoredVector | None]:
        self._called([each for each, _ in entries])
        for each, given in entries:
            if overwrite or each.fingerprint not in self.kept:
                self.kept[each.fingerprint] = given
        return [self.kept[each.fingerprint] for each, _ in entries]

    def delete_many(self, keys: Sequence[VectorKey]) -> None:
        self._called(keys)
        for each in keys:
            self.kept.pop(each.fingerprint, None)

    def scan(self, *, vectors: bool) -> Iterator[tuple[VectorKey, StoredVector]]:
        for each, standing in self.kept.items():
            yield (
                VectorKey(each, standing.dimensions),
                standing if vectors else replace(standing, data=b""),
            )

    def _called(self, keys: Sequence[VectorKey]) -> None:
        self.calls.append([each.fingerprint for each in keys])
        self.before()


def fail() -> None:
    raise StoreUnavailable("down")


@pytest.fixture
def backing() -> DictVectors:
    return DictVectors()


@pytest.fixture
def layered(backing: DictVectors, clock: FakeClock) -> LayeredVectors:
    return LayeredVectors(MemoryVectors(max_bytes=100_000, max_age=60, clock=clock), backing)


@pytest.fixture
def tiers() -> tuple[DictVectors, DictVectors]:
    return DictVectors(), DictVectors()


@pytest.fixture
def tiered(tiers: tuple[DictVectors, DictVectors]) -> Iterator[TieredVectors]:
    store = TieredVectors(*tiers, large_from=1536)
    yield store
    store.close()


def test_memory_first_then_the_rest_in_one_call(layered: LayeredVectors, backing: DictVectors) -> None:
    backing.kept = {fingerprint(n): record(n) for n in range(4)}
    layered.get_many([key(0), key(1)])
    found = layered.get_many([key(n) for n in range(5)])
    assert set(found) == {fingerprint(n) for n in range(4)}
    layered.get_many([key(n) for n in range(4)])
    assert backing.calls == [[fingerprint(0), fingerprint(1)], [fingerprint(n) for n in (2, 3, 4)]]


def test_memory_takes_the_winner(layered: LayeredVectors, backing: DictVectors) -> None:
    backing.kept = {fingerprint(1): record(1)}
    assert layered.put_many([(key(1), record(8))]) == [record(1)]
    assert layered.get_many([key(1)]) == {fingerprint(1): record(1)}
    assert layered.put_many([(key(1), record(8))], overwrite=True) == [record(8)]
    assert layered.get_many([key(1)]) == {fingerprint(1): record(8)}
    assert len(backing.calls) == 2


def test_what_was_not_stored_is_not_remembered(layered: LayeredVectors, backing: DictVectors) -> None:
    backing.before = fail
    with pytest.raises(StoreUnavailable):
        layered.put_many([(key(1), record(1))])
    backing.before = lambda: None
    assert layered.get_many([key(1)]) == {}


def test_memory_alone_is_a_partial_answer(layered: LayeredVectors, backing: DictVectors) -> None:
    layered.put_many([(key(1), record(1))])
    backing.before = fail
    assert layered.get_many([key(1), key(2)]) == {fingerprint(1): record(1)}
    with pytest.raises(StoreUnavailable):
        layered.get_many([key(2)])
    with pytest.raises(StoreUnavailable):
        layered.delete_many([key(1)])
    with pytest.raises(StoreUnavailable):
        layered.get_many([key(1)])


def test_a_read_does_not_undo_a_refresh_that_overtook_it(
    layered: LayeredVectors, backing: DictVectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    backing.kept = {fingerprint(1): record(1)}
    kept = backing.get_many

    def slow(keys: Sequence[VectorKey]) -> dict[bytes, StoredVector]:
        found = kept(keys)
        layered.put_many([(key(1), record(8))], overwrite=True)
        return found

    monkeypatch.setattr(backing, "get_many", slow)
    layered.get_many([key(1)])
    assert layered.get_many([key(1)]) == {fingerprint(1): record(8)}


def test_the_size_asked_for_picks_the_tier(
    tiered: TieredVectors, tiers: tuple[DictVectors, DictVectors]
) -> None:
    sizes = [None, 1535, 1536, 3072]
    tiered.put_many([(key(n, size), record(n)) for n, size in enumerate(sizes)])
    assert set(tiers[0].kept) == {fingerprint(0), fingerprint(1)}
    assert set(tiers[1].kept) == {fingerprint(2), fingerprint(3)}
    tiered.get_many([key(0, None)])
    tiered.get_many([key(3, 3072)])
    assert [len(tier.calls) for tier in tiers] == [2, 2]


def test_the_tiers_work_at_the_same_time(
    tiered: TieredVectors, tiers: tuple[DictVectors, DictVectors]
) -> None:
    together = threading.Barrier(2)
    for tier in tiers:
        tier.before = lambda: together.wait(10)
    entries = [(key(1), record(1)), (key(2, 3072), record(2)), (key(3), record(3))]
    assert tiered.put_many(entries) == [given for _, given in entries]
    assert len(tiered.get_many([each for each, _ in entries])) == 3
    tiered.delete_many([each for each, _ in entries])


@pytest.mark.parametrize("down", [0, 1])
def test_one_tier_down_is_a_partial_answer(
    tiered: TieredVectors, tiers: tuple[DictVectors, DictVectors], down: int
) -> None:
    entries = [(key(1), record(1)), (key(2, 3072), record(2)), (key(3), record(3))]
    keys = [each for each, _ in entries]
    tiered.put_many(entries)
    tiers[down].before = fail
    up = [n for n in (1, 2, 3) if (n == 2) != (down == 1)]
    assert set(tiered.get_many(keys)) == {fingerprint(n) for n in up}
    assert tiered.put_many(entries) == [record(n) if n in up else None for n in (1, 2, 3)]
    with pytest.raises(StoreUnavailable):
        tiered.delete_many(keys)
    with pytest.raises(StoreUnavailable):
        tiered.get_many([each for each in keys if each.fingerprint not in {fingerprint(n) for n in up}])


def test_both_tiers_down(tiered: TieredVectors, tiers: tuple[DictVectors, DictVectors]) -> None:
    for tier in tiers:
        tier.before = fail
    with pytest.raises(StoreUnavailable):
        tiered.get_many([key(1), key(2, 3072)])
    with pytest.raises(StoreUnavailable):
        tiered.put_many([(key(1), record(1)), (key(2, 3072), record(2))])


def test_both_tiers_are_scanned_by_keys_that_lead_back_to_where_they_lie() -> None:
    small, large = DictVectors(), DictVectors()
    before = TieredVectors(small, large, large_from=50)
    before.put_many([(key(1, 40), record(1, dimensions=40)), (key(2, 60), record(2, dimensions=60))])
    before.put_many([(key(3, 200), record(3, dimensions=200)), (key(4, None), record(4, dimensions=200))])
    assert set(small.kept) == {fingerprint(1), fingerprint(4)}
    before.close()
    store = TieredVectors(small, large, large_from=100)
    found = dict(TieredScan(small, large, large_from=100).scan(vectors=True))
    assert {each.fingerprint: standing for each, standing in found.items()} == small.kept | large.kept
    assert len(found) == 4
    store.delete_many(list(found))
    store.close()
    assert small.kept == {}
    assert large.kept == {}, "2 lies there since another number of dimensions was large"
