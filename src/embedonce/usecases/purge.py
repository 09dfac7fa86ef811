"""Taking vectors back: wrong ones, and those that must not be kept. Safe to stop and to run again.

What is deleted: stored vectors, and the outcomes of flights, which hold a vector too and would be served once
more, to whoever asks next or to a ticket. Rows of what is being bought are left alone. Processes forget what
they remember when they see `Deployment.purged` changed, within a minute. Until then one may still store what
it remembers or has under way, which is why everything is looked at once more after that (`patience`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from embedonce.core.errors import StoreUnavailable
from embedonce.core.flight import Flight, Landed
from embedonce.core.manifest import Assembling, Embedding
from embedonce.core.plan import VectorKey
from embedonce.core.record import StoredVector
from embedonce.core.source import Source
from embedonce.core.vector import BYTES_PER_DIMENSION
from embedonce.ports import (
    AccessStore,
    Clock,
    Deployment,
    FlightStore,
    ManifestStore,
    VectorScan,
    VectorStore,
)

BATCH = 100
FORGOTTEN_SECONDS = 60.0
"""After this long every process has forgotten, and no request is answered that began before."""
PASSES = 5
"""A scan is repeated until it finds nothing more, as requests store vectors meanwhile; at most so often."""
ATTEMPTS = 5
"""At changing the deployment's row, which others change too."""
DIGEST_BYTES = 8
"""Of a fingerprint, to know it again."""

FAR_SECONDS = 10.0**8
"""Later than anything that is looked after."""
MOST_FILES = 10_000

Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class Filter:
    """What is said of a vector, all of it together; None: anything. `since` <= created < `until`, in seconds
    since 1970."""

    model: str | None = None
    upstream: str | None = None
    since: float | None = None
    until: float | None = None

    def takes(self, record: StoredVector) -> bool:
        return (
            (self.model is None or record.model == self.model)
            and (self.upstream is None or record.upstream == self.upstream)
            and (self.since is None or record.created >= self.since)
            and (self.until is None or record.created < self.until)
        )


EVERYTHING = Filter()


@dataclass(slots=True)
class Count:
    """Vectors in the stores, their `bytes` and what they cost (pico-dollars); `flights`: rows of flights that
    hold one."""

    vectors: int = 0
    bytes: int = 0
    cost: int = 0
    flights: int = 0


class Purge:
    """`count` grows as things are removed (`dry_run`: found). `show` is called after each batch with how many
    vectors were looked at, and with None before it waits `patience` seconds to look once more.

    Every call but the constructor raises `StoreUnavailable`; what `count` says is gone by then is gone.
    """

    def __init__(
        self,
        vectors: VectorStore,
        scan: VectorScan,
        flights: FlightStore,
        access: AccessStore,
        clock: Clock,
        *,
        dry_run: bool = False,
        patience: float = 0.0,
        show: Callable[[int | None], None] = lambda _seen: None,
    ) -> None:
        self.count = Count()
        self._vectors = vectors
        self._scan = scan
        self._flights = flights
        self._access = access
        self._clock = clock
        self._dry_run = dry_run
        self._patience = 0.0 if dry_run else patience
        self._show = show
        self._seen = 0
        self._gone: set[bytes] = set()

    def generations(self) -> Mapping[str, int]:
        """As they stand: by them the keys of contents are made."""
        return self._access.deployment().generations

    def by_record(self, wanted: Filter) -> None:
        """Look at every vector and every landed flight, and remove what `wanted` takes."""
        self._patiently(lambda: self._until_nothing_is_found(wanted))

    def by_key(self, keys: Iterable[VectorKey], wanted: Filter = EVERYTHING) -> None:
        """Remove what lies under these keys and is taken by `wanted`."""
        all_keys = list(keys)
        self._patiently(lambda: self._under(all_keys, wanted))

    def leave_behind(self, name: str) -> float:
        """Nothing that was stored under that name (`core.purge`) is found any more. When that was, in seconds
        since 1970."""

        def change(deployment: Deployment) -> Deployment:
            generations = dict(deployment.generations)
            generations[name] = generations.get(name, 0) + 1
            return replace(deployment, generations=generations)

        when = self._clock.now()
        self._change(change)
        return when

    def _patiently(self, work: Callable[[], None]) -> None:
        """Processes are told before anything is deleted, so that stopping halfway leaves no memory of what is
        gone, and after, as what was read in between is remembered again."""
        self._forget()
        work()
        if self._patience:
            self._forget()
            self._show(None)
            self._clock.sleep(self._patience)
            work()
        self._forget()

    def _until_nothing_is_found(self, wanted: Filter) -> None:
        for _ in range(PASSES):
            before = len(self._gone), self.count.flights
            self._once(wanted)
            if self._dry_run or before == (len(self._gone), self.count.flights):
                break

    def _under(self, keys: Sequence[VectorKey], wanted: Filter) -> None:
        for some in _batches(keys):
            found = self._vectors.get_many(some)
            rows = self._flights.get_many(list({key.fingerprint for key in some}))
            taken = {fp: record for fp, record in found.items() if wanted.takes(record)}
            # What could not be read is deleted all the same, unless it has to be looked at.
            keys_gone = some if wanted == EVERYTHING else [key for key in some if key.fingerprint in taken]
            if not self._dry_run and keys_gone:
                self._vectors.delete_many(keys_gone)
            for fingerprint, record in taken.items():
                self._counted(VectorKey(fingerprint, record.dimensions), record)
            self._drop([row for row in rows.values() if _lands(row, wanted)])
            self._seen += len(some)
            self._show(self._seen)

    def _once(self, wanted: Filter) -> None:
        found = (
            each for each in self._scan.scan(vectors=False) if self._looked_at() and wanted.takes(each[1])
        )
        for some in _batches(found):
            if not self._dry_run:
                self._vectors.delete_many([key for key, _ in some])
            for key, record in some:
                self._counted(key, record)
            self._show(self._seen)
        for rows in _batches(row for row in self._flights.landed() if _lands(row, wanted)):
            self._drop(rows)
        self._show(self._seen)

    def _looked_at(self) -> bool:
        self._seen += 1
        return True

    def _counted(self, key: VectorKey, record: StoredVector) -> None:
        """Once, also where a scan shows for a moment what was deleted."""
        digest = key.fingerprint[:DIGEST_BYTES]
        if digest in self._gone:
            return
        self._gone.add(digest)
        self.count.vectors += 1
        self.count.bytes += (key.dimensions or 0) * BYTES_PER_DIMENSION
        self.count.cost += record.cost

    def _drop(self, rows: Sequence[Flight]) -> None:
        if not self._dry_run:
            self._flights.delete_many(rows)
        self.count.flights += len(rows)

    def _forget(self) -> None:
        """Tell every process that something is purged."""
        if not self._dry_run:
            self._change(lambda deployment: deployment)

    def _change(self, change: Callable[[Deployment], Deployment]) -> None:
        if self._dry_run:
            return
        for _ in range(ATTEMPTS):
            standing = self._access.deployment()
            now = max(int(self._clock.now()), standing.purged + 1)
            if self._access.set_deployment(replace(change(standing), purged=now)):
                return
        raise StoreUnavailable("somebody else keeps changing the deployment's settings")


def being_embedded(manifests: ManifestStore, now: float) -> list[Source]:
    """Files parts of whose results are made already, and would be published with what is purged now.

    :raises StoreUnavailable:
    """
    found = (manifests.get(each) for each in manifests.due(now + FAR_SECONDS, MOST_FILES))
    return [each.source for each in found if each and isinstance(each.state, Embedding | Assembling)]


def _lands(row: Flight, wanted: Filter) -> bool:
    return isinstance(row.state, Landed) and wanted.takes(row.state.record)


def _batches(things: Iterable[Thing]) -> Iterator[list[Thing]]:
    left = iter(things)
    while some := list(islice(left, BATCH)):
        yield some
