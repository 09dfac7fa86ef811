"""Requests and tokens a minute, by leased slices: a process takes a part of the minute's allowance at a time.

The minutes are the clock's (UTC), and what a process leased and did not use is lost with its minute, so of a
limit never more than itself is let through in one of them, and at most twice as much in 60 seconds that lie
across two. Where the store fails, requests are let through: these limits protect from load, not from bills.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass

from embedonce.access.authenticate import Caller
from embedonce.core.errors import LimitExceeded, QuotaExceeded, StoreUnavailable, WouldBlock
from embedonce.core.patience import Patience
from embedonce.ports import Clock, QuotaStore, Telemetry

MINUTE = 60.0
SLICES = 20
"""The largest lease is that part of a minute's allowance."""
MAX_LEASES = 10_000


@dataclass(slots=True)
class _Lease:
    """`refused`: that much, or more, is not to be had in this minute any more. `grain`: how much is leased
    the next time."""

    minute: int
    left: int = 0
    grain: int = 0
    refused: int | None = None


class Rates:
    def __init__(self, quotas: QuotaStore, clock: Clock, telemetry: Telemetry) -> None:
        self._quotas = quotas
        self._clock = clock
        self._telemetry = telemetry
        self._lock = threading.Lock()
        self._leases: OrderedDict[tuple[str, str], _Lease] = OrderedDict()

    def admit(
        self, caller: Caller, tokens: int, *, requests: int = 1, patience: Patience = Patience.PROVIDERS
    ) -> None:
        """Count a request and its tokens; `requests` 0: it was counted before.

        :raises QuotaExceeded: `retry_after` says when the next minute begins
        :raises LimitExceeded: more tokens than any minute allows
        :raises WouldBlock: the store has to be asked, and there is no patience for it
        """
        limits = caller.limits
        if not limits.rated:
            return
        per_minute = limits.tokens_per_minute
        if per_minute is not None and tokens > per_minute:
            raise LimitExceeded(
                "input",
                limit=f"{per_minute} tokens a minute for this API key",
                value=f"about {tokens} tokens",
            )
        wanted = [
            ("rpm", "requests", requests, limits.requests_per_minute),
            ("tpm", "tokens", tokens, per_minute),
        ]
        taken: list[tuple[str, int]] = []
        for kind, what, amount, limit in wanted:
            if limit is None or not amount:
                continue
            try:
                self._use(caller.key_id, kind, what, amount, limit, patience)
            except (QuotaExceeded, WouldBlock):
                self._unuse(caller.key_id, taken)
                raise
            taken.append((kind, amount))

    def forget(self, caller: Caller, tokens: int) -> None:
        """The request was not handled after all, and will come again."""
        limits = caller.limits
        given = (("rpm", 1, limits.requests_per_minute), ("tpm", tokens, limits.tokens_per_minute))
        self._unuse(caller.key_id, [(kind, amount) for kind, amount, limit in given if limit is not None])

    def _use(self, key_id: str, kind: str, what: str, amount: int, limit: int, patience: Patience) -> None:
        """Leased is what is missing at first, and twice as much each time, up to a part of the limit: so many
        processes that send now and then do not keep a minute's allowance from each other."""
        now = self._clock.now()
        minute = int(now // MINUTE)
        while True:
            with self._lock:
                lease = self._lease(key_id, kind, minute)
                if lease.left >= amount:
                    lease.left -= amount
                    return
                if lease.refused is not None and amount >= lease.refused:
                    raise self._refusal(what, limit, now)
                missing = amount - lease.left
                wanted = max(missing, min(lease.grain, limit // SLICES))
                lease.grain = 2 * wanted
            if patience < Patience.STORES:
                raise WouldBlock
            leased = self._take(f"{kind}/{key_id}/{minute}", {wanted, missing}, limit, (minute + 2) * MINUTE)
            with self._lock:
                lease = self._lease(key_id, kind, minute)
                lease.left += leased
                if leased < wanted:  # near the end of the limit
                    lease.grain = wanted // 2
                if not leased and lease.left < amount:
                    lease.refused = amount if lease.refused is None else min(lease.refused, amount)
                    self._telemetry.count("RateLimited")

    def _take(self, name: str, amounts: set[int], limit: int, expires: float) -> int:
        """The largest of them that there is room for, or nothing."""
        try:
            for amount in sorted(amounts, reverse=True):
                if self._quotas.take(name, amount, limit=limit, expires=expires):
                    return amount
        except StoreUnavailable:
            self._telemetry.count("SpendStoreErrors")
            return min(amounts)
        return 0

    def _lease(self, key_id: str, kind: str, minute: int) -> _Lease:
        """Under the lock."""
        lease = self._leases.get((key_id, kind))
        if lease is None or lease.minute != minute:
            lease = self._leases[key_id, kind] = _Lease(minute)
            while len(self._leases) > MAX_LEASES:
                self._leases.popitem(last=False)
        self._leases.move_to_end((key_id, kind))
        return lease

    def _unuse(self, key_id: str, taken: list[tuple[str, int]]) -> None:
        minute = int(self._clock.now() // MINUTE)
        with self._lock:
            for kind, amount in taken:
                lease = self._leases.get((key_id, kind))
                if lease is not None and lease.minute == minute:
                    lease.left += amount

    @staticmethod
    def _refusal(what: str, limit: int, now: float) -> QuotaExceeded:
        wait = max(1, math.ceil(MINUTE - now % MINUTE))
        return QuotaExceeded(f"this API key may send {limit} {what} a minute", retry_after=wait)
