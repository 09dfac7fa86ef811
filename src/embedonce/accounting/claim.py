"""One sum of money that was set aside, and the three places where it is counted.

In this order it is taken: the deployment's cap for the day, the key's budget for the month, the reserved
money of the key and day. Settled in the opposite one: whoever dies in between leaves too much counted, never
too little.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from embedonce.access.authenticate import Caller
from embedonce.core import usage
from embedonce.core.catalog import Model, most_billed_tokens
from embedonce.core.content import Content
from embedonce.core.days import day_of
from embedonce.core.errors import StoreUnavailable
from embedonce.core.pricing import Price
from embedonce.ports import Clock, Offer, QuotaStore, Telemetry, UsageStore

KEPT_DAYS = 40
"""For which sums are kept after their day or month is over."""
NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class Claim:
    """`amount` pico-dollars that a key has reserved on a `day` (UTC), until `lapse` (seconds since 1970)."""

    key_id: str
    day: str
    lapse: int
    amount: int

    @classmethod
    def of(cls, payer: Caller, amount: int, now: float, *, lapse: int) -> Claim:
        return cls(payer.key_id, day_of(now), lapse, amount)

    @property
    def day_account(self) -> str:
        return day_account(self.day)

    @property
    def month_account(self) -> str:
        """Also of a key without a budget: it may be given one in the middle of the month."""
        return month_account(self.key_id, self.day[:6])

    def encode(self) -> str:
        return f"{self.key_id}/{self.day}/{self.lapse}/{self.amount}"

    @classmethod
    def decode(cls, text: str) -> Claim:
        """:raises ValueError: it is none"""
        key_id, day, lapse, amount = text.split("/")
        return cls(key_id, day, int(lapse), int(amount))


def day_account(day: str) -> str:
    """What all keys together have spent or promised on a day."""
    return f"spend/{day}"


def month_account(key_id: str, month: str) -> str:
    """The same of one key in a month."""
    return f"budget/{key_id}/{month}"


class Money:
    def __init__(
        self, quotas: QuotaStore, usage_store: UsageStore, clock: Clock, telemetry: Telemetry
    ) -> None:
        self._quotas = quotas
        self._usage = usage_store
        self._clock = clock
        self._telemetry = telemetry

    def take(self, claim: Claim, *, daily: int, budget: int | None) -> str | None:
        """None: it is set aside, everywhere; else the account that has no room for it.

        :raises StoreUnavailable: it may be counted somewhere, but must not be spent
        """
        begins = datetime.strptime(claim.day, "%Y%m%d").replace(tzinfo=UTC)
        kept = (begins + timedelta(days=31 + KEPT_DAYS)).timestamp()
        taken: list[str] = []
        for account, limit in ((claim.day_account, daily), (claim.month_account, budget)):
            most = NO_LIMIT if limit is None else limit
            try:
                room = self._quotas.take(account, claim.amount, limit=most, expires=kept)
            except StoreUnavailable:
                self._back(taken, claim.amount)
                raise
            if not room:
                self._back(taken, claim.amount)
                return account
            taken.append(account)
        try:
            self._reserve(claim)
        except StoreUnavailable:
            self._back(taken, claim.amount)
            raise
        return None

    def _reserve(self, claim: Claim) -> None:
        """Tried twice, as a connection may be found broken only when it is used: counted twice it lapses, and
        is too much."""
        counts = {usage.reserved_until(claim.lapse): claim.amount}
        try:
            self._usage.add(claim.key_id, claim.day, counts)
        except StoreUnavailable:
            self._usage.add(claim.key_id, claim.day, counts)

    def settle(self, claim: Claim, *, promised: int, settled: int = 0, unknown: int = 0) -> None:
        """Of `promised`, that much was billed, or may have been; what is left of it is given back. Never
        fails: what cannot be written lapses, and counts as unknown."""
        counts = {
            usage.SETTLED: settled,
            usage.UNKNOWN: unknown,
            usage.reserved_until(claim.lapse): -promised,
        }
        counts = {name: amount for name, amount in counts.items() if amount}
        if not counts:
            return
        back = promised - settled - unknown
        if back < 0:
            self._exceed(claim, -back)
        try:
            self._usage.add(claim.key_id, claim.day, counts)
        except StoreUnavailable:
            self._telemetry.count("SpendNotSettled")
            return
        if back > 0:
            self._back(self._accounts(claim), back)

    def _exceed(self, claim: Claim, amount: int) -> None:
        """More was billed than was set aside: it counts, whatever the limit."""
        for account in self._accounts(claim):
            try:
                expires = self._clock.now() + (31 + KEPT_DAYS) * 86_400.0
                self._quotas.take(account, amount, limit=NO_LIMIT, expires=expires)
            except StoreUnavailable:
                self._telemetry.count("SpendNotSettled")

    def total(self, account: str) -> int | None:
        """None: it cannot be read."""
        try:
            return self._quotas.total(account)
        except StoreUnavailable:
            return None

    @staticmethod
    def _accounts(claim: Claim) -> list[str]:
        return [claim.day_account, claim.month_account]

    def _back(self, accounts: Iterable[str], amount: int) -> None:
        for account in accounts:
            try:
                self._quotas.give(account, amount)
            except StoreUnavailable:
                self._telemetry.count("SpendNotSettled")


def most_of(contents: Iterable[Content], model: Model, offers: Iterable[Offer]) -> int:
    """Pico-dollars that buying them certainly does not exceed, at the dearest of the upstreams."""
    candidates = tuple(offers)
    return sum(
        max(offer.prices.get(content.modality, Price.FREE).per_token for offer in candidates)
        * most_billed_tokens(content, model.limits)
        for content in contents
    )
