"""The in-process LRU."""

from __future__ import annotations

import os
import threading
import tracemalloc
from collections import OrderedDict
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from embedonce.core.record import StoredVector
from embedonce.stores.memory import MemoryVectors, cost_of
from support.clock import START, FakeClock
from support.stored import fingerprint, key, record

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 4), st.sampled_from([1, 64, 300, 1500])),
        st.tuples(st.just("keep"), st.integers(0, 4), st.sampled_from([1, 64, 300])),
        st.tuples(st.just("get"), st.integers(0, 4), st.just(0)),
        st.tuples(st.just("discard"), st.integers(0, 4), st.just(0)),
    ),
    max_size=60,
)


@given(operations=OPERATIONS, max_bytes=st.sampled_from([0, 900, 2_000, 3_000, 4_500, 8_000]))
@settings(max_examples=150, deadline=None)
def test_a_dict_that_forgets_the_least_recently_used(
    operations: list[tuple[str, int, int]], max_bytes: int
) -> None:
    memory = MemoryVectors(max_bytes=max_bytes, max_age=60, clock=FakeClock())
    model: OrderedDict[int, StoredVector] = OrderedDict()
    for number, (what, n, size) in enumerate(operations):
        if what == "discard":
            memory.discard([key(n)])
            model.pop(n, None)
        elif what == "get":
            found = memory.get_many([key(n)])
            assert found == ({fingerprint(n): model[n]} if n in model else {})
            if n in model:
                model.move_to_end(n)
        elif what == "put" or n not in model:
            given = replace(record(number, dimensions=1), data=os.urandom(4 * size))
            memory.put(key(n), given, replace=what == "put")
            model.pop(n, None)
            if cost_of(fingerprint(n), given) <= max_bytes:
                model[n] = given
            while sum(cost_of(fingerprint(m), kept) for m, kept in model.items()) > max_bytes:
                model.popitem(last=False)
        else:
            memory.put(key(n), record(99), replace=False)
        assert memory.bytes_held == sum(cost_of(fingerprint(m), kept) for m, kept in model.items())
        assert memory.bytes_held <= max_bytes
        assert len(memory) == len(model)


def test_reading_saves_from_eviction() -> None:
    one = cost_of(fingerprint(1), record(1))
    memory = MemoryVectors(max_bytes=2 * one, max_age=60, clock=FakeClock())
    memory.put(key(1), record(1))
    memory.put(key(2), record(2))
    memory.get_many([key(1)])
    memory.put(key(3), record(3))
    assert set(memory.get_many([key(n) for n in (1, 2, 3)])) == {fingerprint(1), fingerprint(3)}


def test_the_cost_is_what_it_takes() -> None:
    memory = MemoryVectors(max_bytes=100_000_000, max_age=60, clock=FakeClock())
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for n in range(1400):  # just after the table has grown
        fresh = replace(
            record(n, created=int(START) + n), data=os.urandom(3072), model=f"m{n}", upstream=f"u{n}"
        )
        memory.put(key(n), fresh)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0.9 * memory.bytes_held < taken <= memory.bytes_held


def test_too_old_or_expired_is_dropped() -> None:
    clock = FakeClock()
    memory = MemoryVectors(max_bytes=10_000, max_age=60, clock=clock)
    memory.put(key(1), record(1))
    memory.put(key(2), record(2, ttl=10))
    memory.put(key(3), record(3, ttl=0))
    assert set(memory.get_many([key(1), key(2), key(3)])) == {fingerprint(1), fingerprint(2)}
    clock.advance(10)
    assert set(memory.get_many([key(1), key(2)])) == {fingerprint(1)}
    clock.advance(49.5)
    assert set(memory.get_many([key(1)])) == {fingerprint(1)}  # reading does not make it younger
    clock.advance(0.5)
    assert memory.get_many([key(1)]) == {}
    assert (len(memory), memory.bytes_held) == (0, 0)


def test_a_clock_that_was_set_back_drops() -> None:
    clock = FakeClock()
    memory = MemoryVectors(max_bytes=10_000, max_age=60, clock=clock)
    memory.put(key(1), record(1))
    clock.advance(-5)
    assert memory.get_many([key(1)]) == {}


def test_keeping_what_stands_is_not_for_the_dead() -> None:
    clock = FakeClock()
    memory = MemoryVectors(max_bytes=10_000, max_age=60, clock=clock)
    memory.put(key(1), record(1))
    memory.put(key(1), record(8), replace=False)
    assert memory.get_many([key(1)]) == {fingerprint(1): record(1)}
    clock.advance(60)
    memory.put(key(1), record(8), replace=False)
    assert memory.get_many([key(1)]) == {fingerprint(1): record(8)}


def test_threads() -> None:
    memory = MemoryVectors(max_bytes=5_000, max_age=60, clock=FakeClock())
    records = [record(n) for n in range(20)]
    wrong: list[object] = []

    def run(start: int) -> None:
        for step in range(300):
            n = (start + step) % 20
            memory.put(key(n), records[n])
            found = memory.get_many([key(n), key(19 - n)])
            wrong.extend(each for each in found.values() if each not in records)
            if step % 7 == 0:
                memory.discard([key(n)])

    threads = [threading.Thread(target=run, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    memory.discard([key(n) for n in range(20)])
    assert (len(memory), memory.bytes_held) == (0, 0)


def test_cleared_it_holds_nothing_and_goes_on() -> None:
    memory = MemoryVectors(max_bytes=10_000, max_age=60, clock=FakeClock())
    for n in range(5):
        memory.put(key(n), record(n))
    memory.clear()
    assert (len(memory), memory.bytes_held) == (0, 0)
    assert memory.get_many([key(n) for n in range(5)]) == {}
    memory.put(key(1), record(1))
    assert memory.get_many([key(1)]) == {fingerprint(1): record(1)}
