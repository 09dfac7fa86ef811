"""What was used, spent and saved: from counters to numbers that people and pages read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from embedonce.access.authenticate import Caller
from embedonce.access.keys import Scope
from embedonce.accounting.accounts import Accounts
from embedonce.accounting.claim import day_account, month_account
from embedonce.accounting.purse import ALARM
from embedonce.core import usage
from embedonce.core.days import day_of, month_of
from embedonce.core.errors import (
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ServiceUnavailable,
    StoreUnavailable,
)
from embedonce.ports import AccessKey, AccessStore, Clock, Depth, KeyLimits, QuotaStore, UsageStore

MOST_DAYS = 400
"""That long counters are kept."""
DEFAULT_DAYS = 30
EARLIEST = date(2020, 1, 1)
"""Nothing was counted before."""
ALL = "all"
SELF = "self"


@dataclass(frozen=True, slots=True)
class Period:
    """Days in UTC, both inclusive."""

    first: date
    last: date

    @classmethod
    def of(cls, first: str | None, last: str | None, now: float) -> Period:
        """From ISO dates; without them the last 30 days.

        :raises InvalidRequest: no dates, more than `MOST_DAYS`, or none that has begun
        """
        today = datetime.fromtimestamp(now, UTC).date()
        end = _date(last, "to") if last else today
        begin = _date(first, "from") if first else end - timedelta(days=DEFAULT_DAYS - 1)
        if begin > today:
            raise InvalidRequest("from: lies in the future", param="from")
        if begin > end:
            raise InvalidRequest("from: must not be after `to`", param="from")
        if (end - begin).days >= MOST_DAYS:
            raise InvalidRequest(f"from: limit is {MOST_DAYS} days at once", param="from")
        return cls(begin, end)


def _date(text: str, param: str) -> date:
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise InvalidRequest(f"{param}: must read YYYY-MM-DD", param=param) from None
    if day < EARLIEST:
        raise InvalidRequest(f"{param}: must not be before {EARLIEST}", param=param)
    return day


@dataclass(frozen=True, slots=True)
class Budget:
    """Pico-dollars. `committed`: settled, promised and perhaps billed, of this month."""

    month: str
    limit: int
    committed: int

    @property
    def alarm(self) -> bool:
        """Not of a budget of nothing, with which a key is for hits only."""
        return self.limit > 0 and self.committed >= ALARM * self.limit


@dataclass(frozen=True, slots=True)
class KeyUse:
    id: str
    name: str
    limits: KeyLimits
    revoked: bool
    counts: Mapping[str, int]
    committed: int
    budget: Budget | None


@dataclass(frozen=True, slots=True)
class DeploymentUse:
    """Pico-dollars."""

    daily_limit: int
    today_committed: int
    paused: bool


@dataclass(frozen=True, slots=True)
class Report:
    """`days`: counters by day (YYYYMMDD), ascending, of all that was asked for. `keys`, `deployment`,
    `upstreams` and `queues` only where all keys were asked for."""

    period: Period
    key: KeyUse
    days: Mapping[str, Mapping[str, int]]
    keys: Sequence[KeyUse] | None = None
    deployment: DeploymentUse | None = None
    upstreams: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    queues: Mapping[str, Depth] = field(default_factory=dict)

    @property
    def total(self) -> dict[str, int]:
        return usage.summed(self.days.values())


class MakeReport:
    """`upstreams`: the names of those that answer; `depths` of the queues by name."""

    def __init__(
        self,
        store: UsageStore,
        quotas: QuotaStore,
        access: AccessStore,
        accounts: Accounts,
        clock: Clock,
        pool: Executor,
        *,
        upstreams: Sequence[str],
        depths: Callable[[], Mapping[str, Depth]],
    ) -> None:
        self._store = store
        self._quotas = quotas
        self._access = access
        self._accounts = accounts
        self._clock = clock
        self._pool = pool
        self._upstreams = tuple(upstreams)
        self._depths = depths

    def __call__(self, caller: Caller, period: Period, which: str | None) -> Report:
        """`which`: a key's id, `self`, `all`; None: all where the caller may see that, else its own.

        :raises InvalidRequest: `which` is empty
        :raises PermissionDenied: another key than the caller's, without the scope `admin`
        :raises NotFound: no such key
        :raises ServiceUnavailable: a store cannot be read
        """
        admin = caller.may(Scope.ADMIN)
        if which == "":
            raise InvalidRequest(f"key: must be {ALL}, {SELF} or a key's id", param="key")
        which = which or (ALL if admin else SELF)
        if which == SELF:
            which = caller.key_id
        if which != caller.key_id and not admin:
            raise PermissionDenied("this API key lacks the scope admin, so it sees its own usage only")
        self._accounts.settle_up()
        try:
            if which == ALL:
                return self._of_all(caller, period)
            return self._of_one(caller, period, which)
        except StoreUnavailable:
            raise ServiceUnavailable("usage cannot be read right now", retry_after=2) from None

    def _of_one(self, caller: Caller, period: Period, key_id: str) -> Report:
        days = self._read(key_id, period)
        known = self._access.find_by_id(key_id)
        if known is None and key_id != caller.key_id and not days:
            raise NotFound("key: no such API key", param="key")
        use = self._use(self._known(caller, key_id, known), days)
        return Report(period, use, days)

    def _of_all(self, caller: Caller, period: Period) -> Report:
        known = self._access.list()
        if all(key.id != caller.key_id for key in known):
            known = [self._known(caller, caller.key_id, None), *known]
        each = list(self._pool.map(lambda key: self._read(key.id, period), known))
        uses = list(self._pool.map(self._use, known, each))
        days = {
            day: usage.summed(of_key.get(day, {}) for of_key in each)
            for day in sorted({day for of_key in each for day in of_key})
        }
        own = next(use for use in uses if use.id == caller.key_id)
        names = [usage.UPSTREAM_OWNER + name for name in self._upstreams]
        upstreams = [
            usage.summed(of.values()) for of in self._pool.map(lambda n: self._read(n, period), names)
        ]
        now = self._clock.now()
        deployment = DeploymentUse(
            daily_limit=self._accounts.purse.daily,
            today_committed=self._quotas.total(day_account(day_of(now))),
            paused=self._accounts.deployment.current().paused,
        )
        return Report(
            period,
            own,
            days,
            [use for use in uses if use.counts or not use.revoked],
            deployment,
            dict(zip(self._upstreams, upstreams, strict=True)),
            self._depths(),
        )

    def _read(self, owner: str, period: Period) -> dict[str, dict[str, int]]:
        return self._store.read(owner, f"{period.first:%Y%m%d}", f"{period.last:%Y%m%d}")

    def _use(self, key: AccessKey, days: Mapping[str, Mapping[str, int]]) -> KeyUse:
        month = month_of(self._clock.now())
        committed = self._quotas.total(month_account(key.id, month))
        budget = None
        if key.limits.budget is not None:
            budget = Budget(f"{month[:4]}-{month[4:]}", key.limits.budget, committed)
        counts = usage.summed(days.values())
        return KeyUse(key.id, key.name, key.limits, not key.live, counts, committed, budget)

    @staticmethod
    def _known(caller: Caller, key_id: str, known: AccessKey | None) -> AccessKey:
        """The key's record; of the caller, who may have none, what it is known by."""
        if known is not None:
            return known
        limits = caller.limits if key_id == caller.key_id else KeyLimits()
        return AccessKey(key_id, "", key_id, "", frozenset(), isolated=False, created=0, limits=limits)
