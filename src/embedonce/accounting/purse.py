"""Money before it is spent: an upper bound is reserved before every paid call, and settled after it.

A process takes from the stores a slice for several purchases at once and promises parts of it to each, so
that a busy key does not make a hot row. A slice counts against the deployment's daily cap and the key's
monthly budget when it is taken, and is recorded with the time at which it lapses: whatever happens to the
process, what it did not settle or give back counts as unknown from then on, never as unspent (ADR 24).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from embedonce.access.authenticate import Caller
from embedonce.accounting.claim import Claim, Money, most_of
from embedonce.accounting.deployment import DeploymentView
from embedonce.core import usage
from embedonce.core.days import day_of
from embedonce.core.errors import BudgetExceeded, ServiceUnavailable, StoreUnavailable
from embedonce.core.pricing import usd_text
from embedonce.ports import Clock, QuotaStore, Telemetry, UsageStore

SLICE_SECONDS = 300.0
"""How long a slice is used before what is left of it is given back; it lapses up to `usage.BUCKET_SECONDS`
later."""
SLICE_PURCHASES = 16
"""A slice grows by up to as many purchases like the one that needs it: by one at first, then by twice as many
as before, while one follows the other within `BUSY_SECONDS`. So many processes that buy now and then, and
may stand still or end without a word, hold little;"""
BUSY_SECONDS = 1.0
SLICE_SHARE = 100
"""and at most this part of a limit: processes that hold slices do not keep a budget from the others."""
SMALL_SHARE = 10_000
"""A slice that is at most this part of each limit is taken whole at once and kept for its time, also where
purchases are rare: as much lost with a process is no loss, and writing for every purchase would be one."""
IDLE_SECONDS = 10.0
"""After which `tick` gives back what nobody uses, and writes what was settled meanwhile."""
ALARM = 0.8
"""Of a limit: from here on it is told, once for each process and period."""


class Reservation:
    """Of one purchase. Exactly one of its methods ends it; what comes later changes nothing."""

    def __init__(self, purse: Purse, slice_: Slice | None, amount: int, payer: Caller) -> None:
        self._purse = purse
        self._slice = slice_
        self._amount = amount
        self._payer = payer
        self._over = False

    def settle(self, cost: int) -> None:
        """It was billed with `cost` (pico-dollars)."""
        if self._ended():
            self._purse.settled(self._slice, self._payer, self._amount, cost)

    def doubt(self) -> None:
        """Nobody knows whether it was billed."""
        if self._ended() and self._slice is not None:
            self._purse.doubted(self._slice, self._amount)

    def release(self) -> None:
        """It was certainly not billed."""
        if self._ended() and self._slice is not None:
            self._purse.released(self._slice, self._amount)

    def _ended(self) -> bool:
        over, self._over = self._over, True
        return not over


@dataclass(eq=False)
class Slice:
    """`left`: neither promised nor given back. `settled` and `unknown` are still to be written, and `excess`:
    what was billed beyond all that was thought to be the most. `limits`: of the day and of the month, under
    which it was taken; it is not used under others. `purchases`: for so many more was taken last. `small`:
    it is kept for its time."""

    claim: Claim
    until: float
    left: int
    used: float
    limits: tuple[int, int | None]
    purchases: int = 1
    lock: threading.Lock = field(default_factory=threading.Lock)
    settled: int = 0
    unknown: int = 0
    excess: int = 0
    over: bool = False
    written: float = float("-inf")
    small: bool = False

    def spare(self, now: float) -> bool:
        """Whether it is to be given back."""
        return now >= self.until or (not self.small and now - self.used >= IDLE_SECONDS)

    def waits(self, now: float) -> bool:
        """Whether something is to be written."""
        return bool(self.settled or self.unknown) and now - self.written >= IDLE_SECONDS


class Purse:
    """`write_worth` (pico-dollars): what was settled is written when it is at least this, or has waited for
    `IDLE_SECONDS`; 0: at once."""

    def __init__(
        self,
        quotas: QuotaStore,
        usage_store: UsageStore,
        deployment: DeploymentView,
        clock: Clock,
        telemetry: Telemetry,
        *,
        daily: int,
        write_worth: int,
    ) -> None:
        self._money = Money(quotas, usage_store, clock, telemetry)
        self._deployment = deployment
        self._clock = clock
        self._telemetry = telemetry
        self._daily = daily
        self._write_worth = write_worth
        self._slices: dict[str, Slice] = {}
        self._taking: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._told: set[str] = set()

    @property
    def daily(self) -> int:
        """Pico-dollars that all keys together may spend today."""
        said = self._deployment.current().daily
        return self._daily if said is None else said

    def reserve(self, payer: Caller, amount: int) -> Reservation:
        """`amount`: the most that the purchase may cost.

        :raises BudgetExceeded: of the key, or of the deployment for the day
        :raises ServiceUnavailable: the operator has paused buying, or it cannot be counted right now
        """
        self._check_paused()
        if amount <= 0:
            return Reservation(self, None, 0, payer)
        with self._locked(payer.key_id):
            now = self._clock.now()
            current = self._slices.get(payer.key_id)
            if current is not None and not self._usable(current, payer, now):
                self._retire(payer.key_id, current)
                current = None
            while current is None or not self._promise(current, amount, now):
                current = self._slices[payer.key_id] = self._take(payer, amount, now, current)
        return Reservation(self, current, amount, payer)

    def claim(self, payer: Caller, amount: int, *, until: float) -> Claim | None:
        """The same for work whose end another process sees; it lapses after `until` (seconds since 1970).
        None: it costs nothing. Raises as above."""
        self._check_paused()
        if amount <= 0:
            return None
        daily, budget = self._limits(payer)
        claim = Claim.of(payer, amount, self._clock.now(), lapse=usage.lapse_after(until))
        refused = self._refused(claim, daily, budget)
        if refused is not None:
            raise self._refusal(refused, claim, daily, budget, amount)
        return claim

    def settle_claim(self, claim: Claim, cost: int) -> None:
        self._money.settle(claim, promised=claim.amount, settled=cost)
        self._count(cost)

    def doubt_claim(self, claim: Claim) -> None:
        self._money.settle(claim, promised=claim.amount, unknown=claim.amount)

    def release_claim(self, claim: Claim) -> None:
        self._money.settle(claim, promised=claim.amount)

    @property
    def due(self) -> bool:
        """Whether `tick` has something to do."""
        now = self._clock.now()
        slices = list(self._slices.values())
        return self._deployment.due or any(each.spare(now) or each.waits(now) for each in slices)

    def tick(self) -> None:
        """Writes what waits, gives back what is idle. Never fails."""
        self._deployment.tick()
        now = self._clock.now()
        for key_id, each in list(self._slices.items()):
            if each.spare(now):
                self._give_back(key_id, each)
            elif each.waits(now):
                self._write(each)

    def close(self) -> None:
        """The last call: everything that is not promised is given back, what was settled is written."""
        for key_id, each in list(self._slices.items()):
            self._give_back(key_id, each)

    settle_up = close
    """Also for who wants to report exactly: purchases go on, from new slices."""

    # ---- what becomes of reservations

    def settled(self, slice_: Slice | None, payer: Caller, amount: int, cost: int) -> None:
        self._count(cost)
        if slice_ is None:
            if cost:  # a provider that was thought to be free
                self._money.settle(Claim.of(payer, 0, self._clock.now(), lapse=0), promised=0, settled=cost)
            return
        with slice_.lock:
            slice_.settled += cost
            slice_.left += amount - cost
            if slice_.left < 0:
                slice_.excess -= slice_.left
                slice_.left = 0
        self._after(slice_)

    def doubted(self, slice_: Slice, amount: int) -> None:
        with slice_.lock:
            slice_.unknown += amount
        self._after(slice_)

    def released(self, slice_: Slice, amount: int) -> None:
        with slice_.lock:
            slice_.left += amount
        self._after(slice_)

    def _after(self, slice_: Slice) -> None:
        waiting = slice_.settled + slice_.unknown
        late = self._clock.now() - slice_.written >= IDLE_SECONDS
        if slice_.over or (waiting and (waiting >= self._write_worth or late)):
            self._write(slice_)

    # ---- slices

    @contextmanager
    def _locked(self, key_id: str) -> Iterator[None]:
        with self._lock:
            lock = self._taking.setdefault(key_id, threading.Lock())
        with lock:
            yield

    def _usable(self, slice_: Slice, payer: Caller, now: float) -> bool:
        same = slice_.claim.day == day_of(now) and slice_.limits == self._limits(payer)
        return same and now < slice_.until and not slice_.over

    def _limits(self, payer: Caller) -> tuple[int, int | None]:
        """Pico-dollars a day of all, a month of the key."""
        return self.daily, payer.limits.budget

    @staticmethod
    def _promise(slice_: Slice, amount: int, now: float) -> bool:
        with slice_.lock:
            if slice_.over or slice_.left < amount:
                return False
            slice_.left -= amount
            slice_.used = now
            return True

    def _take(self, payer: Caller, amount: int, now: float, current: Slice | None) -> Slice:
        """A slice with room for it: `current`, with more in it, where there is one."""
        limits = daily, budget = self._limits(payer)
        shares = [limit // SLICE_SHARE for limit in limits if limit is not None]
        missing = amount - (0 if current is None else current.left)
        if current is not None and missing <= 0:  # something came back meanwhile
            return current
        purchases = 1
        if small := amount * SLICE_PURCHASES <= min(x for x in limits if x is not None) // SMALL_SHARE:
            purchases = SLICE_PURCHASES
        elif current is not None and now - current.used < BUSY_SECONDS:
            purchases = min(2 * current.purchases, SLICE_PURCHASES)
        wanted = max(missing, min(amount * purchases, *shares))
        until = now + SLICE_SECONDS
        lapse = usage.lapse_after(until) if current is None else current.claim.lapse
        claim = Claim.of(payer, wanted, now, lapse=lapse)
        refused = self._refused(claim, daily, budget)
        if refused is not None and wanted > missing:
            claim = Claim.of(payer, missing, now, lapse=lapse)
            refused = self._refused(claim, daily, budget)
        if refused is not None:
            raise self._refusal(refused, claim, daily, budget, amount)
        if current is None:
            return Slice(claim, until, claim.amount, now, limits, small=small)
        with current.lock:
            current.left += claim.amount
            current.purchases = purchases
        return current

    def _refused(self, claim: Claim, daily: int, budget: int | None) -> str | None:
        """None: it is set aside; else the account that has no room for it.

        :raises ServiceUnavailable: it cannot be counted right now
        """
        try:
            refused = self._money.take(claim, daily=daily, budget=budget)
        except StoreUnavailable:
            self._telemetry.count("SpendStoreErrors")
            raise ServiceUnavailable(
                "what this would cost cannot be counted right now, so nothing is bought", retry_after=2
            ) from None
        if refused is None:
            self._tell(claim, daily=daily, budget=budget)
        return refused

    def _refusal(
        self, refused: str, claim: Claim, daily: int, budget: int | None, needed: int
    ) -> BudgetExceeded:
        if refused == claim.day_account:
            self._telemetry.count("DailyCapReached")
            return BudgetExceeded(
                f"this deployment may spend {usd_text(daily)} USD a day at providers, and what is left of it "
                f"does not cover up to {usd_text(needed)} USD for this; hits are still answered"
            )
        self._telemetry.count("BudgetsExceeded")
        return BudgetExceeded(
            f"the budget of this API key is {usd_text(budget or 0)} USD a month, and what is left of it does "
            f"not cover up to {usd_text(needed)} USD for this; hits are still answered"
        )

    def _tell(self, claim: Claim, *, daily: int, budget: int | None) -> None:
        """The soft alarm. What it reads is beside the matter, so failing is no harm."""
        for account, limit in ((claim.day_account, daily), (claim.month_account, budget)):
            if limit is None or account in self._told:
                continue
            total = self._money.total(account)
            if total is not None and total >= ALARM * limit:
                self._told.add(account)
                self._telemetry.count("BudgetAlarms")
                owner = claim.key_id if account == claim.month_account else "deployment"
                self._telemetry.event(
                    "budget_alarm", of=owner, committed_usd=usd_text(total), limit_usd=usd_text(limit)
                )

    def _retire(self, key_id: str, slice_: Slice) -> None:
        """Out of use. What is promised of it is given back, if need be, when that ends."""
        with slice_.lock:
            slice_.over = True
        if self._slices.get(key_id) is slice_:
            del self._slices[key_id]
        self._write(slice_)

    def _give_back(self, key_id: str, slice_: Slice) -> None:
        with self._locked(key_id):
            if self._slices.get(key_id) is slice_:
                self._retire(key_id, slice_)

    def _write(self, slice_: Slice) -> None:
        with slice_.lock:
            settled, unknown, back = slice_.settled, slice_.unknown, slice_.left if slice_.over else 0
            promised = settled + unknown + back - slice_.excess
            slice_.settled = slice_.unknown = slice_.excess = 0
            if slice_.over:
                slice_.left = 0
            slice_.written = self._clock.now()
        if settled or unknown or back:
            self._money.settle(slice_.claim, promised=promised, settled=settled, unknown=unknown)

    def _count(self, cost: int) -> None:
        if cost:
            self._telemetry.count("SpentMicroUSD", cost / 1e6)

    def _check_paused(self) -> None:
        if self._deployment.current().paused:
            raise ServiceUnavailable(
                "the operator has paused buying; hits are still answered", retry_after=60
            )


__all__ = ["Claim", "Purse", "Reservation", "most_of"]
