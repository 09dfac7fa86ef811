"""Stores of money in memory, which fail when they are told to, before or after they have counted."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from embedonce.access.authenticate import Caller
from embedonce.access.keys import SHARED
from embedonce.core import usage
from embedonce.core.errors import StoreUnavailable
from embedonce.core.usage import Spent
from embedonce.ports import Clock, Deployment, KeyLimits


class _Failing:
    """`script`: for the next calls of `take`, `give` and `add` "ok", "before" or "after"; then `always`."""

    def __init__(self) -> None:
        self.script: deque[str] = deque()
        self.always = "ok"
        self.calls: Counter[str] = Counter()
        self._lock = threading.RLock()

    def _call(self, name: str, work: Callable[[], Any]) -> Any:
        with self._lock:
            self.calls[name] += 1
            how = self.script.popleft() if self.script else self.always
            if how == "before":
                raise StoreUnavailable("down")
            result = work()
            if how == "after":
                raise StoreUnavailable("the answer is lost")
            return result


class MemoryQuotas(_Failing):
    def __init__(self) -> None:
        super().__init__()
        self.sums: Counter[str] = Counter()

    def take(self, name: str, amount: int, *, limit: int, expires: float) -> bool:
        assert amount >= 0

        def work() -> bool:
            if self.sums[name] + amount > limit:
                return False
            self.sums[name] += amount
            return True

        return bool(self._call("take", work))

    def give(self, name: str, amount: int) -> None:
        assert amount >= 0

        def work() -> None:
            if self.sums[name] >= amount:
                self.sums[name] -= amount

        self._call("give", work)

    def total(self, name: str) -> int:
        return self.sums[name]


class MemoryUsage(_Failing):
    def __init__(self) -> None:
        super().__init__()
        self.days: dict[tuple[str, str], Counter[str]] = {}

    def add(self, owner: str, day: str, counts: Mapping[str, int]) -> None:
        def work() -> None:
            sums = self.days.setdefault((owner, day), Counter())
            for name, amount in counts.items():
                sums[name] += amount

        self._call("add", work)

    def read(self, owner: str, first: str, last: str) -> dict[str, dict[str, int]]:
        found = {day: dict(c) for (who, day), c in sorted(self.days.items()) if who == owner}
        return {day: counts for day, counts in found.items() if first <= day <= last}

    def spent(self, owner: str, now: float) -> Spent:
        return usage.spent(usage.summed(self.read(owner, "0", "9").values()), now)


class MemoryDeployment:
    """The part of an access store that says what an operator set."""

    def __init__(self) -> None:
        self.said = Deployment()
        self.down = False
        self.reads = 0

    def deployment(self) -> Deployment:
        self.reads += 1
        if self.down:
            raise StoreUnavailable("down")
        return self.said

    def set(self, **changes: Any) -> None:
        self.said = replace(self.said, **changes)


def payer(key_id: str = "k1", **limits: int | None) -> Caller:
    return Caller(key_id, SHARED, frozenset({"embed"}), isolated=False, limits=KeyLimits(**limits))


def lapsed(clock: Clock) -> float:
    """When all that was reserved by now has lapsed, jobs included."""
    return clock.now() + 3 * 86_400
