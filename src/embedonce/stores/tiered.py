"""Vector stores made of vector stores: memory in front of a shared one, and two tiers by size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from embedonce.core.errors import StoreUnavailable
from embedonce.core.plan import VectorKey
from embedonce.core.record import StoredVector
from embedonce.ports import VectorScan, VectorStore
from embedonce.stores.memory import MemoryVectors

Result = TypeVar("Result")


class LayeredVectors:
    """Reads memory first and the rest in one call of the backing store. Memory only ever holds what stands in
    the backing store: a vector that it could not keep is not remembered either."""

    def __init__(self, memory: MemoryVectors, backing: VectorStore) -> None:
        self._memory = memory
        self._backing = backing

    def get_many(self, keys: Sequence[VectorKey]) -> dict[bytes, StoredVector]:
        found = self._memory.get_many(keys)
        rest = [key for key in keys if key.fingerprint not in found]
        if not rest:
            return found
        try:
            read = self._backing.get_many(rest)
        except StoreUnavailable:
            if found:
                return found
            raise
        for key in rest:
            record = read.get(key.fingerprint)
            if record is not None:
                self._memory.put(key, record, replace=False)
        return found | read

    def put_many(
        self, entries: Sequence[tuple[VectorKey, StoredVector]], *, overwrite: bool = False
    ) -> list[StoredVector | None]:
        winners = self._backing.put_many(entries, overwrite=overwrite)
        for (key, _), winner in zip(entries, winners, strict=True):
            if winner is not None:
                self._memory.put(key, winner, replace=overwrite)
            elif overwrite:
                self._memory.discard([key])
        return winners

    def delete_many(self, keys: Sequence[VectorKey]) -> None:
        try:
            self._backing.delete_many(keys)
        finally:
            self._memory.discard(keys)


class TieredVectors:
    """Keys of `large_from` dimensions or more live in `large`, all others (also of unknown size) in `small`.

    The rule looks at the key alone, so that a vector is always looked for where it was put; changing
    `large_from` of a running deployment hides what lies on the other side.
    """

    def __init__(self, small: VectorStore, large: VectorStore, *, large_from: int) -> None:
        self._small = small
        self._large = large
        self._large_from = large_from
        # Of its own: the tiers wait for threads of theirs, and sharing a pool with them could deadlock.
        self._pool = ThreadPoolExecutor(max_workers=16, thread_name_prefix="tier")

    def get_many(self, keys: Sequence[VectorKey]) -> dict[bytes, StoredVector]:
        small = [key for key in keys if not self._is_large(key)]
        large = [key for key in keys if self._is_large(key)]
        if not large:
            return self._small.get_many(small) if small else {}
        if not small:
            return self._large.get_many(large)
        of_small, of_large = self._both(
            lambda: self._small.get_many(small), lambda: self._large.get_many(large)
        )
        if isinstance(of_small, StoreUnavailable):
            if isinstance(of_large, StoreUnavailable):
                raise of_small
            return of_large
        return of_small if isinstance(of_large, StoreUnavailable) else of_small | of_large

    def put_many(
        self, entries: Sequence[tuple[VectorKey, StoredVector]], *, overwrite: bool = False
    ) -> list[StoredVector | None]:
        small = [entry for entry in entries if not self._is_large(entry[0])]
        large = [entry for entry in entries if self._is_large(entry[0])]
        if not large:
            return self._small.put_many(small, overwrite=overwrite) if small else []
        if not small:
            return self._large.put_many(large, overwrite=overwrite)
        of_small, of_large = self._both(
            lambda: self._small.put_many(small, overwrite=overwrite),
            lambda: self._large.put_many(large, overwrite=overwrite),
        )
        if isinstance(of_small, StoreUnavailable):
            if isinstance(of_large, StoreUnavailable):
                raise of_small
            of_small = [None] * len(small)
        if isinstance(of_large, StoreUnavailable):
            of_large = [None] * len(large)
        smalls, larges = iter(of_small), iter(of_large)
        return [next(larges) if self._is_large(key) else next(smalls) for key, _ in entries]

    def delete_many(self, keys: Sequence[VectorKey]) -> None:
        """:raises StoreUnavailable: also when one tier failed: an incomplete purge is no purge"""
        small = [key for key in keys if not self._is_large(key)]
        large = [key for key in keys if self._is_large(key)]
        for outcome in self._both(
            lambda: self._small.delete_many(small) if small else None,
            lambda: self._large.delete_many(large) if large else None,
        ):
            if isinstance(outcome, StoreUnavailable):
                raise outcome

    def close(self) -> None:
        self._pool.shutdown()

    def _is_large(self, key: VectorKey) -> bool:
        return key.dimensions is not None and key.dimensions >= self._large_from

    def _both(
        self, small: Callable[[], Result], large: Callable[[], Result]
    ) -> tuple[Result | StoreUnavailable, Result | StoreUnavailable]:
        at_it = self._pool.submit(_outcome, large)
        return _outcome(small), at_it.result()


class TieredScan:
    """Both tiers, by keys that lead `TieredVectors` back to the tier they were found in, whatever it was
    when they were put there."""

    def __init__(self, small: VectorScan, large: VectorScan, *, large_from: int) -> None:
        self._small = small
        self._large = large
        self._large_from = large_from

    def scan(self, *, vectors: bool) -> Iterator[tuple[VectorKey, StoredVector]]:
        for key, record in self._small.scan(vectors=vectors):
            size = key.dimensions
            if size is not None and size >= self._large_from:
                # Of a model whose own size is not known, and was not asked for.
                size = None
            yield VectorKey(key.fingerprint, size), record
        for key, record in self._large.scan(vectors=vectors):
            yield VectorKey(key.fingerprint, max(key.dimensions or 0, self._large_from)), record


def _outcome(call: Callable[[], Result]) -> Result | StoreUnavailable:
    try:
        return call()
    except StoreUnavailable as failure:
        return failure
