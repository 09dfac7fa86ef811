"""Money that is set aside, settled, doubted and lost: never less than was spent, or more than may be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)

from embedonce.access.authenticate import Caller
from embedonce.accounting.claim import Claim, day_account, month_account
from embedonce.accounting.deployment import DeploymentView
from embedonce.accounting.meter import FLUSH_SECONDS, Meter
from embedonce.accounting.purse import (
    BUSY_SECONDS,
    IDLE_SECONDS,
    SLICE_PURCHASES,
    SLICE_SECONDS,
    SMALL_SHARE,
    Purse,
    Reservation,
)
from embedonce.accounting.rates import Rates
from embedonce.core import usage
from embedonce.core.days import day_of, month_of
from embedonce.core.errors import (
    BudgetExceeded,
    LimitExceeded,
    QuotaExceeded,
    ServiceUnavailable,
    WouldBlock,
)
from embedonce.core.patience import Patience
from embedonce.ports import Deployment
from embedonce.telemetry import LogTelemetry
from support.clock import START, FakeClock
from support.moneystores import MemoryDeployment, MemoryQuotas, MemoryUsage, lapsed, payer

DAILY = 10**9
DAY = day_of(START)
MONTH = month_of(START)


@dataclass
class Bank:
    """What the purses of several processes share."""

    clock: FakeClock
    quotas: MemoryQuotas
    usage: MemoryUsage
    operator: MemoryDeployment
    telemetry: LogTelemetry
    daily: int = DAILY

    def purse(self, write_worth: int = 0) -> Purse:
        view = DeploymentView(self.operator, self.clock, self.telemetry)  # type: ignore[arg-type]
        return Purse(
            self.quotas,
            self.usage,
            view,
            self.clock,
            self.telemetry,
            daily=self.daily,
            write_worth=write_worth,
        )

    @property
    def today(self) -> int:
        return self.quotas.total(day_account(day_of(self.clock.now())))

    def month(self, key_id: str = "k1") -> int:
        return self.quotas.total(month_account(key_id, month_of(self.clock.now())))

    def spent(self, key_id: str = "k1", *, later: bool = False) -> tuple[int, int, int]:
        """Settled, reserved, unknown."""
        now = lapsed(self.clock) if later else self.clock.now()
        said = self.usage.spent(key_id, now)
        return said.settled, said.reserved, said.unknown


def new_bank(daily: int = DAILY) -> Bank:
    return Bank(FakeClock(), MemoryQuotas(), MemoryUsage(), MemoryDeployment(), LogTelemetry(), daily)


@pytest.fixture
def bank() -> Bank:
    return new_bank()


# ---- one purse


def test_what_was_billed_is_settled_and_the_rest_given_back(bank: Bank) -> None:
    purse, key = bank.purse(), payer(budget=10_000)
    first, second, third = (purse.reserve(key, 100) for _ in range(3))
    assert bank.month() == bank.today >= 300
    assert bank.spent()[1] == bank.month()
    first.settle(60)
    second.doubt()
    third.release()
    purse.close()
    assert bank.spent() == (60, 0, 100)
    assert bank.month() == bank.today == 160


def test_only_the_first_end_of_a_reservation_counts(bank: Bank) -> None:
    purse = bank.purse()
    reservation = purse.reserve(payer(), 100)
    reservation.settle(10)
    reservation.settle(10)
    reservation.doubt()
    reservation.release()
    purse.close()
    assert bank.spent() == (10, 0, 0)
    assert bank.today == 10


def busy(purse: Purse, key: Caller, times: int, cost: int = 100) -> None:
    for _ in range(times):
        purse.reserve(key, 100).settle(cost)


def test_a_busy_key_takes_slices(bank: Bank) -> None:
    purse, key = bank.purse(write_worth=10**6), payer(budget=10**7)
    busy(purse, key, 1 + 2 + 4 + 8)
    assert bank.quotas.calls["take"] == 2 * 4, "each twice as large as the one before, in two accounts"
    busy(purse, key, 10 * SLICE_PURCHASES)
    assert bank.quotas.calls["take"] == 2 * 14


def test_who_buys_now_and_then_holds_no_more_than_it_needs(bank: Bank) -> None:
    """A process may stand still or end without a word at any time: what it holds is lost to the others."""
    purse, key = bank.purse(), payer(budget=10**7)
    for n in range(1, 5):
        purse.reserve(key, 100).settle(100)
        assert bank.month() == n * 100
        bank.clock.advance(BUSY_SECONDS)


def test_a_slice_grows_by_no_more_than_a_hundredth_of_the_limits(bank: Bank) -> None:
    purse = bank.purse()
    busy(purse, payer(budget=30_000), 10)
    assert bank.month() == 100 + 200 + 3 * 300
    tight = new_bank(daily=30_000)
    busy(tight.purse(), payer(), 10)
    assert tight.today == 100 + 200 + 3 * 300
    busy(purse, payer("k2", budget=1_000), 3)
    assert bank.month("k2") == 300


def test_a_budget_can_be_spent_to_the_last_bit(bank: Bank) -> None:
    purse, key = bank.purse(), payer(budget=1_000)
    for _ in range(10):
        purse.reserve(key, 100).settle(100)
    with pytest.raises(BudgetExceeded, match=r"budget of this API key is 0\.000000001 USD a month"):
        purse.reserve(key, 1)
    assert bank.spent() == (1_000, 0, 0)
    assert bank.month() == 1_000


def test_what_a_purse_holds_counts_towards_what_it_needs(bank: Bank) -> None:
    """970 of 1,000 are spent and 30 are left, 20 of them in the slice."""
    purse, key = bank.purse(), payer(budget=1_000)
    purse.reserve(key, 990).settle(970)
    assert bank.month() == 990
    purse.reserve(key, 30).settle(30)
    assert bank.spent() == (1_000, 0, 0)
    assert bank.telemetry.counts["BudgetsExceeded"] == 0


def test_a_slice_that_is_too_large_is_no_refusal(bank: Bank) -> None:
    """Nor is it counted as one: an alarm hangs on that."""
    purse = bank.purse()
    purse.reserve(payer(budget=10_000), 9_940).settle(9_940)
    purse.reserve(payer(budget=10_000), 50).settle(50)
    assert bank.telemetry.counts["BudgetsExceeded"] == 0
    with pytest.raises(BudgetExceeded):
        purse.reserve(payer(budget=10_000), 50)
    assert bank.telemetry.counts["BudgetsExceeded"] == 1


def test_more_than_the_most_counts_in_full(bank: Bank) -> None:
    purse, key = bank.purse(), payer(budget=1_000)
    one, other = purse.reserve(key, 100), purse.reserve(key, 100)
    one.settle(250)
    other.settle(100)
    purse.close()
    assert bank.spent() == (350, 0, 0)
    assert bank.month() == bank.today == 350


def test_a_provider_that_was_thought_to_be_free_counts_too(bank: Bank) -> None:
    purse, key = bank.purse(), payer(budget=1_000)
    purse.reserve(key, 0).settle(70)
    purse.reserve(key, 0).settle(0)
    purse.reserve(key, 0).doubt()
    assert bank.spent() == (70, 0, 0)
    assert bank.month() == bank.today == 70


def test_what_a_key_without_a_budget_spends_counts_when_it_is_given_one(bank: Bank) -> None:
    purse = bank.purse()
    purse.reserve(payer(), 100).settle(40)
    purse.close()
    assert dict(bank.quotas.sums) == {day_account(DAY): 40, month_account("k1", MONTH): 40}
    with pytest.raises(BudgetExceeded):
        purse.reserve(payer(budget=100), 61)


def test_keys_do_not_pay_for_each_other(bank: Bank) -> None:
    purse = bank.purse()
    purse.reserve(payer("k1", budget=100), 100).settle(100)
    purse.reserve(payer("k2", budget=100), 100).settle(90)
    with pytest.raises(BudgetExceeded):
        purse.reserve(payer("k1", budget=100), 100)
    purse.close()
    assert (bank.spent("k1"), bank.spent("k2")) == ((100, 0, 0), (90, 0, 0))


# ---- time


def test_what_is_idle_is_given_back_by_the_clock(bank: Bank) -> None:
    purse, key = bank.purse(), payer(budget=100_000)
    busy(purse, key, 4)
    reservation = purse.reserve(key, 100)
    purse.tick()
    assert bank.month() == 700
    bank.clock.advance(IDLE_SECONDS)
    assert purse.due
    purse.tick()
    assert bank.month() == 500, "what is promised stays"
    reservation.settle(30)
    assert bank.spent() == (430, 0, 0)
    assert bank.month() == bank.today == 430


def test_a_purse_that_dies_leaves_unknown(bank: Bank) -> None:
    purse = bank.purse()
    purse.reserve(payer(), 100).settle(30)
    purse.reserve(payer(), 100)
    del purse
    settled, reserved, unknown = bank.spent()
    assert (settled, unknown) == (30, 0)
    bank.clock.advance(SLICE_SECONDS + usage.BUCKET_SECONDS)
    assert bank.spent() == (30, 0, reserved)
    assert bank.today == 30 + reserved


def test_an_old_slice_is_exchanged(bank: Bank) -> None:
    purse, key = bank.purse(), payer(budget=100_000)
    long = purse.reserve(key, 100)
    for _ in range(40):
        bank.clock.advance(9)
        purse.reserve(key, 100).settle(50)
        purse.tick()
    assert len({name for name in bank.usage.days["k1", DAY] if name.startswith("r")}) == 2
    purse.close()
    long.settle(100)
    assert bank.spent() == (2_100, 0, 0)
    assert bank.month() == 2_100


def test_what_settles_after_it_lapsed_is_not_unknown_any_more(bank: Bank) -> None:
    purse = bank.purse()
    reservation = purse.reserve(payer(), 100)
    purse.close()
    bank.clock.advance(3_000)
    assert bank.spent() == (0, 0, 100)
    reservation.settle(80)
    assert bank.spent() == (80, 0, 0)
    assert bank.today == 80


@pytest.mark.parametrize("to", ["day", "month"])
def test_over_the_end_of_a_day_money_stays_where_it_was_promised(to: str) -> None:
    bank = new_bank()
    midnight = (START // 86_400 + 1) * 86_400 if to == "day" else 1_801_440_000.0
    bank.clock.advance(midnight - 5 - START)
    before, old, month = bank.clock.now(), day_of(midnight - 1), month_of(midnight - 1)
    purse, key = bank.purse(), payer(budget=10_000)
    on_its_way = purse.reserve(key, 100)
    bank.clock.advance(10)
    assert day_of(bank.clock.now()) != day_of(before)
    purse.reserve(key, 100).settle(70)
    on_its_way.settle(40)
    purse.close()
    new = day_of(bank.clock.now())
    assert bank.usage.days["k1", old][usage.SETTLED] == 40
    assert bank.usage.days["k1", new][usage.SETTLED] == 70
    assert bank.quotas.total(day_account(old)) == 40
    assert bank.quotas.total(day_account(new)) == 70
    same_month = month_of(bank.clock.now()) == month
    assert same_month == (to == "day")
    assert bank.quotas.total(month_account("k1", month)) == (110 if same_month else 40)


def test_a_new_month_has_its_whole_budget(bank: Bank) -> None:
    purse, key = bank.purse(), payer(budget=100)
    purse.reserve(key, 100).settle(100)
    bank.clock.advance(31 * 86_400)
    purse.reserve(key, 100).settle(100)
    assert bank.spent()[0] == 200


def test_settled_money_is_written_when_it_is_worth_it_or_has_waited(bank: Bank) -> None:
    purse = bank.purse(write_worth=100)
    purse.reserve(payer(), 60).settle(60)
    writes = bank.usage.calls["add"]
    assert bank.spent()[0] == 60, "the first is written: nothing was, before"
    purse.reserve(payer(), 60).settle(60)
    assert bank.spent()[0] == 60
    purse.reserve(payer(), 60).settle(60)
    assert bank.spent()[0] == 180
    purse.reserve(payer(), 60).settle(60)
    bank.clock.advance(IDLE_SECONDS)
    purse.reserve(payer(), 60).settle(60)
    assert bank.spent()[0] == 300
    assert bank.usage.calls["add"] - bank.quotas.calls["take"] // 2 == writes - 1 + 2, "but for slices"


def test_slices_of_little_are_kept_where_purchases_are_rare(bank: Bank) -> None:
    bank.daily = SMALL_SHARE * SLICE_PURCHASES * 100
    purse = bank.purse()
    for _ in range(14):
        purse.reserve(payer(), 100).settle(25)
        bank.clock.advance(20)
        purse.tick()
    assert bank.quotas.calls["take"] == 2, "of the day and of the month"
    bank.clock.advance(20)
    purse.tick()
    assert bank.today == 14 * 25, "what was left is given back"


def test_where_writing_costs_nothing_counters_are_written_every_second(bank: Bank) -> None:
    meters = [
        Meter(bank.usage, bank.clock, bank.telemetry, flush_seconds=seconds)
        for seconds in (1.0, FLUSH_SECONDS)
    ]
    for each in meters:
        each.count("k1", {usage.REQUESTS: 1})
    bank.clock.advance(1)
    assert [each.due for each in meters] == [True, False]


# ---- the operator


def test_a_process_that_was_frozen_believes_nothing_of_before(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    purse = bank.purse()
    purse.reserve(payer(), 100).settle(1)
    stood = bank.clock.monotonic()
    monkeypatch.setattr(bank.clock, "monotonic", lambda: stood)
    bank.operator.set(paused=True)
    bank.clock.advance(3600)
    with pytest.raises(ServiceUnavailable, match="paused"):
        purse.reserve(payer(), 1)
    bank.operator.set(paused=False)
    bank.clock.advance(-7200)
    purse.reserve(payer(), 1).release()


def test_paused_nothing_is_bought_within_a_minute(bank: Bank) -> None:
    purse = bank.purse()
    purse.reserve(payer(), 100).settle(1)
    bank.operator.set(paused=True)
    bank.clock.advance(60)
    for buy in (lambda: purse.reserve(payer(), 0), lambda: purse.claim(payer(), 1, until=bank.clock.now())):
        with pytest.raises(ServiceUnavailable, match="paused") as refused:
            buy()
        assert refused.value.retry_after == 60
    bank.operator.set(paused=False)
    bank.clock.advance(60)
    purse.reserve(payer(), 100)


def test_the_daily_cap_is_of_all_keys(bank: Bank) -> None:
    bank.operator.set(daily=250)
    purse = bank.purse()
    purse.reserve(payer("k1"), 100).settle(100)
    purse.reserve(payer("k2"), 100).settle(100)
    with pytest.raises(BudgetExceeded, match=r"deployment may spend 0\.00000000025 USD a day"):
        purse.reserve(payer("k3"), 100)
    assert bank.telemetry.counts["DailyCapReached"] == 1
    bank.clock.advance(86_400)
    purse.reserve(payer("k3"), 100)


@pytest.mark.parametrize("lowered", ["cap", "budget"])
def test_a_lowered_limit_holds_for_slices_that_are_taken(bank: Bank, lowered: str) -> None:
    purse = bank.purse()
    busy(purse, payer(budget=10**6), 8)
    assert bank.month() == 1_500
    if lowered == "cap":
        bank.operator.set(daily=850)
    bank.clock.advance(9)
    purse.reserve(payer(budget=10**6), 100).release()
    if lowered == "cap":
        bank.clock.advance(60)
    with pytest.raises(BudgetExceeded):
        purse.reserve(payer(budget=850 if lowered == "budget" else 10**6), 100)
    assert bank.month() == 800


def test_a_raised_budget_is_used_at_once(bank: Bank) -> None:
    purse = bank.purse()
    purse.reserve(payer(budget=100), 100).settle(100)
    with pytest.raises(BudgetExceeded):
        purse.reserve(payer(budget=100), 100)
    purse.reserve(payer(budget=200), 100).settle(100)


def test_a_budget_of_nothing_buys_nothing(bank: Bank) -> None:
    with pytest.raises(BudgetExceeded):
        bank.purse().reserve(payer(budget=0), 1)


def test_the_alarm_rings_once_for_each_limit(bank: Bank) -> None:
    purse, key = bank.purse(), payer(budget=1_000)
    for n in range(10):
        assert bank.telemetry.counts["BudgetAlarms"] == (1 if n >= 8 else 0), n
        purse.reserve(key, 100).settle(100)
    bank.operator.set(daily=1_200)
    bank.clock.advance(60)
    purse.reserve(payer("k2"), 100)
    purse.reserve(payer("k3"), 1)
    assert bank.telemetry.counts["BudgetAlarms"] == 2


def test_a_store_that_fails_is_not_asked_at_every_tick(bank: Bank) -> None:
    view = DeploymentView(bank.operator, bank.clock, bank.telemetry)  # type: ignore[arg-type]
    bank.operator.set(paused=True)
    assert view.current().paused
    bank.operator.down = True
    bank.clock.advance(60)
    for _ in range(10):
        view.tick()
        assert view.current().paused, "what was last read holds"
    assert not view.due
    assert bank.operator.reads == 2
    bank.operator.down = False
    bank.operator.set(paused=False)
    bank.clock.advance(5)
    assert not view.current().paused


def test_ticks_keep_it_fresh_so_that_requests_do_not_wait(bank: Bank) -> None:
    view = DeploymentView(bank.operator, bank.clock, bank.telemetry)  # type: ignore[arg-type]
    with pytest.raises(WouldBlock):
        view.current(Patience.MEMORY)
    for _ in range(100):
        view.tick()
        view.current(Patience.MEMORY)
        bank.clock.advance(1)
    assert bank.operator.reads == 5


def test_who_asks_while_it_is_read_does_not_read_it_again(bank: Bank) -> None:
    view = DeploymentView(bank.operator, bank.clock, bank.telemetry)  # type: ignore[arg-type]
    reading, ticking = threading.Event(), threading.Thread(target=view.tick)
    read = bank.operator.deployment

    def slowly() -> Deployment:
        if not reading.is_set():
            reading.set()
            ticking.start()
            ticking.join(0.05)
        return read()

    bank.operator.deployment = slowly  # type: ignore[method-assign]
    view.current()
    ticking.join(10)
    assert bank.operator.reads == 1


def test_who_remembers_is_told_of_a_purge_once(bank: Bank) -> None:
    view = DeploymentView(bank.operator, bank.clock, bank.telemetry)  # type: ignore[arg-type]
    told: list[int] = []
    view.on_purge(lambda: told.append(1))
    view.current()
    bank.operator.set(purged=5)
    for _ in range(3):
        view.current()
        bank.clock.advance(30)
        view.tick()
    assert told == [1]


def test_what_nobody_asks_for_is_not_read(bank: Bank) -> None:
    view = DeploymentView(bank.operator, bank.clock, bank.telemetry)  # type: ignore[arg-type]
    view.current()
    for _ in range(10):
        bank.clock.advance(30)
        view.tick()
    assert bank.operator.reads == 1
    bank.operator.set(paused=True)
    assert view.current().paused


# ---- claims


def test_a_claim_is_ended_by_another_process(bank: Bank) -> None:
    key = payer(budget=1_000)
    claims = [bank.purse().claim(key, 100, until=bank.clock.now() + 7200) for _ in range(4)]
    assert bank.spent() == (0, 400, 0)
    settled, doubted, released, lost = [Claim.decode(claim.encode()) for claim in claims if claim]
    assert lost == claims[3]
    bank.clock.advance(86_400 - 3_000)
    other = bank.purse()
    other.settle_claim(settled, 30)
    other.doubt_claim(doubted)
    other.release_claim(released)
    assert bank.spent() == (30, 0, 200)
    assert bank.quotas.total(month_account("k1", MONTH)) == 230
    assert bank.quotas.total(day_account(DAY)) == 230


def test_a_claim_lapses(bank: Bank) -> None:
    assert bank.purse().claim(payer(), 0, until=0) is None
    bank.purse().claim(payer(), 100, until=bank.clock.now() + 7200)
    bank.clock.advance(7_199)
    assert bank.spent() == (0, 100, 0)
    bank.clock.advance(301)
    assert bank.spent() == (0, 0, 100)


def test_claims_keep_within_the_budget(bank: Bank) -> None:
    purse, key = bank.purse(), payer(budget=250)
    purse.claim(key, 100, until=0)
    purse.claim(key, 100, until=0)
    with pytest.raises(BudgetExceeded):
        purse.claim(key, 100, until=0)
    assert bank.today == bank.month() == 200


@pytest.mark.parametrize("text", ["", "k1", "k1/d/x/1", "k1/20270115/1/2/b"])
def test_what_is_no_claim(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        Claim.decode(text)


# ---- failing stores


@pytest.mark.parametrize("how", ["before", "after"])
@pytest.mark.parametrize("step", range(3))
def test_what_cannot_be_counted_is_not_bought(bank: Bank, step: int, how: str) -> None:
    if step < 2:
        bank.quotas.script.extend(["ok"] * step + [how])
    else:
        bank.usage.script.extend([how, "before"])
    purse, key = bank.purse(), payer(budget=1_000)
    with pytest.raises(ServiceUnavailable, match="nothing is bought"):
        purse.reserve(key, 100)
    assert bank.telemetry.counts["SpendStoreErrors"] == 1
    left_behind = 100 if how == "after" else 0
    assert bank.today == (left_behind if step == 0 else 0)
    assert bank.month() == (left_behind if step == 1 else 0)
    purse.reserve(key, 100).settle(50)
    purse.close()
    assert bank.spent(later=True)[0] == 50


@pytest.mark.parametrize("how", ["before", "after"])
@pytest.mark.parametrize("step", range(3))
@pytest.mark.parametrize("cost", [50, 100, 180])
def test_what_cannot_be_settled_is_never_less_than_what_was_billed(
    bank: Bank, step: int, how: str, cost: int
) -> None:
    purse, key = bank.purse(), payer(budget=1_000)
    claim = purse.claim(key, 100, until=bank.clock.now())
    assert claim is not None
    if step == 0:
        bank.usage.script.append(how)
    else:
        bank.quotas.script.extend(["ok"] * (step - 1) + [how])
    purse.settle_claim(claim, cost)
    settled, _, unknown = bank.spent(later=True)
    assert settled <= cost
    assert settled + unknown >= min(cost, 100), "what was reserved stays counted"
    if cost <= 100 or step == 0:
        assert bank.today >= cost
        assert bank.month() >= cost
    if step == 0 and how == "after":
        assert settled == cost


def test_one_failure_while_a_slice_is_written_loses_none_of_it(bank: Bank) -> None:
    purse, key = bank.purse(), payer(budget=1_000)
    one, other = purse.reserve(key, 100), purse.reserve(key, 100)
    bank.usage.always = "before"
    one.settle(100)
    bank.usage.always = "ok"
    other.settle(100)
    purse.close()
    assert bank.spent(later=True) == (100, 0, 100)
    assert bank.month() == bank.today == 200


def test_ticking_and_closing_never_fail(bank: Bank) -> None:
    purse = bank.purse()
    purse.reserve(payer(), 100)
    bank.quotas.always = bank.usage.always = "before"
    bank.operator.down = True
    bank.clock.advance(60)
    purse.tick()
    purse.close()
    assert bank.spent(later=True)[2] >= 100


# ---- threads


def test_threads_share_a_slice_and_never_more_than_the_budget(bank: Bank) -> None:
    purses, key, refused = [bank.purse(), bank.purse()], payer(budget=5_000), []

    def buy(purse: Purse) -> None:
        for _ in range(50):
            try:
                purse.reserve(key, 100).settle(100)
            except BudgetExceeded:
                refused.append(1)

    threads = [threading.Thread(target=buy, args=(purses[n % 2],)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bank.spent() == (5_000, 0, 0)
    assert len(refused) == 250
    assert bank.month() == bank.today == 5_000


# ---- any order


class Purses(RuleBasedStateMachine):
    """Two keys and three processes over one store; a process may stop or die at any time, and the store fail
    before or after it has counted."""

    reservations = Bundle("reservations")
    BUDGETS = (700, 90)
    CAP = 1_500

    @initialize(write_worth=st.sampled_from([0, 50]))
    def begin(self, write_worth: int) -> None:
        self.bank = new_bank(daily=self.CAP)
        self.bank.clock.advance(86_400 - START % 86_400 - 900)
        self.write_worth = write_worth
        self.purses = [self.bank.purse(write_worth) for _ in range(3)]
        self.billed = [0, 0]

    def key(self, n: int) -> Any:
        return payer(f"k{n}", budget=self.BUDGETS[n])

    @rule(
        target=reservations,
        process=st.integers(0, 2),
        key=st.integers(0, 1),
        amount=st.integers(0, 60),
    )
    def reserve(self, process: int, key: int, amount: int) -> Any:
        try:
            reservation = self.purses[process].reserve(self.key(key), amount)
        except (BudgetExceeded, ServiceUnavailable):
            return multiple()
        return process, self.purses[process], key, amount, reservation

    def alive(self, taken: Any) -> bool:
        """The dead end nothing; what they bought was billed all the same."""
        process, purse, *_ = taken
        return self.purses[process] is purse

    @rule(taken=reservations, share=st.integers(0, 100))
    def settle(self, taken: Any, share: int) -> None:
        _, _, key, amount, reservation = taken
        if reservation._over or not self.alive(taken):
            return
        cost = amount * share // 100
        self.billed[key] += cost
        reservation.settle(cost)

    @rule(taken=reservations, billed=st.booleans())
    def doubt(self, taken: Any, billed: bool) -> None:
        _, _, key, amount, reservation = taken
        if reservation._over or not self.alive(taken):
            return
        self.billed[key] += amount * billed
        reservation.doubt()

    @rule(taken=reservations)
    def release(self, taken: Any) -> None:
        if self.alive(taken):
            taken[4].release()

    @rule(process=st.integers(0, 2), seconds=st.integers(0, 400))
    def tick(self, process: int, seconds: int) -> None:
        self.bank.clock.advance(seconds)
        self.purses[process].tick()

    @rule(process=st.integers(0, 2))
    def close(self, process: int) -> None:
        self.purses[process].close()

    @rule(taken=reservations, billed=st.booleans())
    def die(self, taken: Any, billed: bool) -> None:
        """In the middle of a purchase that was billed, or was not."""
        process, _, key, amount, reservation = taken
        if not self.alive(taken):
            return
        if not reservation._over:
            self.billed[key] += amount * billed
        self.purses[process] = self.bank.purse(self.write_worth)

    @rule(
        how=st.lists(st.sampled_from(["before", "after"]), min_size=1, max_size=3),
        store=st.sampled_from(["quotas", "usage"]),
    )
    def fail(self, how: list[str], store: str) -> None:
        getattr(self.bank, store).script.extend(how)

    @invariant()
    def within_the_limits(self) -> None:
        if not hasattr(self, "bank"):
            return
        sums = self.bank.quotas.sums
        assert all(total <= self.CAP for name, total in sums.items() if name.startswith("spend/"))
        for n, budget in enumerate(self.BUDGETS):
            months = [total for name, total in sums.items() if name.startswith(f"budget/k{n}/")]
            assert all(0 <= total <= budget for total in months)

    def teardown(self) -> None:
        if not hasattr(self, "bank"):
            return
        self.bank.quotas.script.clear()
        self.bank.usage.script.clear()
        for purse in self.purses:
            purse.close()
        committed = sum(n for name, n in self.bank.quotas.sums.items() if name.startswith("spend/"))
        assert committed >= sum(self.billed)
        for n in range(2):
            settled, reserved, unknown = self.bank.spent(f"k{n}", later=True)
            assert reserved == 0
            assert settled <= self.billed[n] <= settled + unknown
            month = sum(v for name, v in self.bank.quotas.sums.items() if name.startswith(f"budget/k{n}/"))
            assert month >= self.billed[n]


TestPurses = Purses.TestCase
TestPurses.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(
    costs=st.lists(st.tuples(st.integers(1, 50), st.integers(0, 100), st.integers(0, 2)), max_size=60),
    write_worth=st.sampled_from([0, 70]),
)
@settings(max_examples=60, deadline=None)
def test_without_trouble_settled_is_what_was_billed(
    costs: list[tuple[int, int, int]], write_worth: int
) -> None:
    bank = new_bank()
    purses, key = [bank.purse(write_worth) for _ in range(3)], payer(budget=10_000)
    open_: list[tuple[Reservation, int]] = []
    for amount, share, process in costs:
        open_.append((purses[process].reserve(key, amount), amount * share // 100))
        if share % 3 == 0:
            reservation, cost = open_.pop(0)
            reservation.settle(cost)
        if share % 10 == 1:
            bank.clock.advance(share)
            purses[process].tick()
    for reservation, cost in open_:
        reservation.settle(cost)
    for purse in purses:
        purse.close()
    billed = sum(amount * share // 100 for amount, share, _ in costs)
    assert bank.spent(later=True) == (billed, 0, 0)
    assert bank.month() == billed


# ---- requests and tokens a minute


def rates(bank: Bank) -> Rates:
    return Rates(bank.quotas, bank.clock, bank.telemetry)


def admitted(each: Rates, caller: Any, tokens: int = 0) -> bool:
    try:
        each.admit(caller, tokens)
    except QuotaExceeded:
        return False
    return True


def test_a_minute_allows_what_it_says(bank: Bank) -> None:
    each, caller = rates(bank), payer(requests_per_minute=30)
    bank.clock.advance(60 - START % 60 + 12.5)
    assert sum(admitted(each, caller) for _ in range(50)) == 30
    with pytest.raises(QuotaExceeded, match="30 requests a minute") as refused:
        each.admit(caller, 0)
    assert refused.value.retry_after == 48
    bank.clock.advance(refused.value.retry_after - 1)
    assert not admitted(each, caller)
    bank.clock.advance(1)
    assert admitted(each, caller)


@pytest.mark.parametrize("limit", [1, 7, 20, 100])
def test_several_processes_never_let_through_more(bank: Bank, limit: int) -> None:
    fleet, caller = [rates(bank) for _ in range(3)], payer(requests_per_minute=limit)
    for _ in range(2):
        assert sum(admitted(fleet[n % 3], caller) for n in range(limit * 4)) == limit
        bank.clock.advance(60)


@given(
    limit=st.integers(1, 200),
    calls=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60), st.booleans()), max_size=80),
)
@settings(max_examples=60, deadline=None)
def test_tokens_and_refunds_keep_the_limit(limit: int, calls: list[tuple[int, int, bool]]) -> None:
    bank = new_bank()
    fleet, caller = [rates(bank) for _ in range(3)], payer(tokens_per_minute=limit)
    used: dict[int, int] = {}
    for process, tokens, again in calls:
        minute = int(bank.clock.now() // 60)
        try:
            fleet[process].admit(caller, tokens)
        except LimitExceeded:
            assert tokens > limit
            continue
        except QuotaExceeded as refused:
            if again:
                bank.clock.advance(refused.retry_after or 0)
                assert int(bank.clock.now() // 60) == minute + 1
            continue
        if again:
            fleet[process].forget(caller, tokens)
        else:
            used[minute] = used.get(minute, 0) + tokens
    assert all(total <= limit for total in used.values())


def test_a_busy_key_asks_the_store_once_for_many(bank: Bank) -> None:
    each, caller = rates(bank), payer(requests_per_minute=1_000)
    for _ in range(1_000):
        each.admit(caller, 0)
    assert bank.quotas.calls["take"] < 50
    for _ in range(50):
        assert not admitted(each, caller)
    assert bank.quotas.calls["take"] < 52, "what is refused is refused here"


def test_what_others_use_while_the_store_is_asked_is_leased_again(bank: Bank) -> None:
    each, caller = rates(bank), payer(tokens_per_minute=100_000)
    each.admit(caller, 1_000)
    each.admit(caller, 2_000)
    take, others = bank.quotas.take, iter([1_000, 1_000])

    def taken(*args: Any, **kwargs: Any) -> bool:
        if (tokens := next(others, None)) is not None:
            each.admit(caller, tokens)
        return take(*args, **kwargs)

    bank.quotas.take = taken  # type: ignore[method-assign]
    each.admit(caller, 9_000)
    each.admit(caller, 9_000)


def test_many_that_send_little_do_not_starve_each_other(bank: Bank) -> None:
    caller = payer(requests_per_minute=600)
    for _ in range(600):
        rates(bank).admit(caller, 0)
    assert not admitted(rates(bank), caller)


def test_a_request_over_one_limit_uses_nothing_of_the_other(bank: Bank) -> None:
    each, caller = rates(bank), payer(requests_per_minute=2, tokens_per_minute=100)
    assert admitted(each, caller, 90)
    assert not admitted(each, caller, 90)
    assert admitted(each, caller, 10)


def test_more_tokens_than_any_minute_has_is_no_matter_of_waiting(bank: Bank) -> None:
    with pytest.raises(LimitExceeded, match="100 tokens a minute"):
        rates(bank).admit(payer(tokens_per_minute=100), 101)


def test_without_limits_no_store_is_asked(bank: Bank) -> None:
    for _ in range(10):
        rates(bank).admit(payer(), 10**9, patience=Patience.MEMORY)
    assert not bank.quotas.calls


def test_who_must_not_wait_is_told_so_and_counted_once(bank: Bank) -> None:
    each, caller = rates(bank), payer(requests_per_minute=1)
    with pytest.raises(WouldBlock):
        each.admit(caller, 0, patience=Patience.MEMORY)
    assert not bank.quotas.calls
    assert admitted(each, caller)
    assert not admitted(each, caller)


def test_while_the_store_fails_requests_go_on(bank: Bank) -> None:
    bank.quotas.always = "before"
    each, caller = rates(bank), payer(requests_per_minute=2, tokens_per_minute=10)
    assert all(admitted(each, caller, 5) for _ in range(20))
    assert bank.telemetry.counts["SpendStoreErrors"] > 0
    bank.quotas.always = "ok"
    assert sum(admitted(each, caller, 5) for _ in range(20)) == 2


# ---- the meter


def meter(bank: Bank) -> Meter:
    return Meter(bank.usage, bank.clock, bank.telemetry)


def test_what_is_counted_is_written_beside(bank: Bank) -> None:
    each = meter(bank)
    for _ in range(5):
        each.count("k1", {usage.REQUESTS: 1, usage.HITS: 2})
    assert not each.due
    assert not bank.usage.calls
    bank.clock.advance(FLUSH_SECONDS)
    assert each.due
    each.flush()
    each.flush()
    assert dict(bank.usage.days["k1", DAY]) == {usage.REQUESTS: 5, usage.HITS: 10}
    assert bank.usage.calls["add"] == 1
    assert not each.due


@pytest.mark.parametrize("how", ["before", "after"])
def test_a_flush_may_lose_and_never_doubles(bank: Bank, how: str) -> None:
    each = meter(bank)
    each.count("k1", {usage.HITS: 1})
    bank.usage.script.append(how)
    each.flush()
    each.count("k1", {usage.HITS: 1})
    each.flush()
    assert bank.usage.days["k1", DAY][usage.HITS] == (2 if how == "after" else 1)
    assert bank.telemetry.counts["UsageNotCounted"] == 1


def test_threads_count_all(bank: Bank) -> None:
    each = meter(bank)

    def count() -> None:
        for _ in range(200):
            each.count("k1", {usage.HITS: 1})
            each.flush()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    each.flush()
    assert bank.usage.days["k1", DAY][usage.HITS] == 800


def test_days_are_counted_apart(bank: Bank) -> None:
    each = meter(bank)
    each.count("k1", {usage.HITS: 1})
    bank.clock.advance(86_400)
    each.count("k1", {usage.HITS: 2})
    each.flush()
    assert [c[usage.HITS] for _, c in sorted(bank.usage.days.items())] == [1, 2]


def test_upstreams_have_counters_of_their_own(bank: Bank) -> None:
    each = meter(bank)
    for seconds, outcome in ((0.02, "ok"), (0.3, "ok"), (40.0, "timeout"), (0.01, "busy")):
        each.called("openrouter", seconds, outcome)
    each.flush()
    counts = bank.usage.days[f"{usage.UPSTREAM_OWNER}openrouter", DAY]
    assert (counts[usage.CALLS], counts[usage.ERRORS], counts[usage.RATE_LIMITED]) == (4, 1, 1)
    assert usage.latency_quantile(counts, 0.5) == 100
    assert usage.latency_quantile(counts, 0.75) == 500
    assert usage.latency_quantile(counts, 1.0) == 100_000


# ---- what is reserved, by the time


def test_reserved_becomes_unknown() -> None:
    lapse = usage.lapse_after(START + 1)
    counts = {usage.SETTLED: 5, usage.UNKNOWN: 2, usage.reserved_until(lapse): 30, "requests": 7, "rate": 9}
    assert usage.spent(counts, lapse - 1) == usage.Spent(5, 30, 2)
    assert usage.spent(counts, lapse) == usage.Spent(5, 0, 32)


@pytest.mark.parametrize("when", [START, START + 0.5, START + 299, START + 300, START + 301])
def test_a_reservation_lapses_not_before_and_at_most_five_minutes_after(when: float) -> None:
    assert when <= usage.lapse_after(when) < when + usage.BUCKET_SECONDS


def test_no_latencies_no_quantile() -> None:
    assert usage.latency_quantile({}, 0.5) is None


@pytest.fixture(autouse=True)
def _no_threads_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() <= before
