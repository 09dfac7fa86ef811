"""Several processes spend one budget, at a provider in a bad mood, and some are killed: never more than the
budget, and never less counted than billed.

`EMBEDONCE_MONEY_SEEDS=200 pytest tests/integration/test_money.py -k seed` runs as many of them.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

import pytest

from embedonce.access.keys import Scope, issue
from embedonce.accounting.claim import month_account
from embedonce.bootstrap.stores import Stores, open_stores
from embedonce.clock import SystemClock
from embedonce.config import load
from embedonce.core import usage
from embedonce.core.days import day_of, month_of
from embedonce.ports import KeyLimits
from embedonce.stores.aws import clients as aws_clients
from embedonce.stores.aws.clients import AwsClients
from fakes.behaviour import Behaviour
from support import aws, motoserver
from support.motoserver import PATIENCE, be_patient, process, received, serve_aws
from support.spenders import CALM, FORKED, STORMY, TOKEN, Ledger, Spender, spend

SEEDS = int(os.environ.get("EMBEDONCE_MONEY_SEEDS", "1"))
LIVES = 5
AT_ONCE = 3
BUDGETS = (900 * TOKEN, 250 * TOKEN, 3000 * TOKEN)
"""A text has 2 or 3 tokens, and about 17 are reserved for it; what is killed keeps its slice."""
LONG = 3 * 86_400.0
"""Until all that was reserved has lapsed."""


@dataclass(frozen=True)
class Outcome:
    """Pico-dollars; what was reserved has lapsed."""

    billed: int
    settled: int
    unknown: int
    committed: int
    calls: int
    statuses: Counter[int]
    killed: int


@dataclass
class Town:
    """One deployment: who spends in it shares nothing but its stores and the provider."""

    environment: Mapping[str, str]
    stores: Stores

    def run(
        self, seed: int, moods: tuple[Behaviour, ...], *, budget: int | None, kills: bool, lives: int = LIVES
    ) -> Outcome:
        rng = random.Random(seed)
        clock = SystemClock()
        key, record = issue(
            "spender",
            namespace=f"n{rng.getrandbits(48)}",
            scopes=frozenset({Scope.EMBED}),
            isolated=False,
            now=0,
            limits=KeyLimits(budget=budget),
        )
        self.stores.access.add(record)
        began = clock.now()
        running: dict[Any, Any] = {}

        def kill() -> None:
            for victim in list(running.values())[:1]:
                victim.kill()

        statuses: Counter[int] = Counter()
        killed = 0
        with Ledger(moods, seed, kill if kills else None) as provider:
            environment = {
                **self.environment,
                "OPENROUTER_API_KEY": provider.key,
                "OPENROUTER_BASE_URL": provider.base_url,
                "EMBEDONCE_UPSTREAMS": "openrouter",
                "EMBEDONCE_UPSTREAM_TIMEOUT": "0.3" if kills else "60",
            }
            waiting = []
            for n in range(lives):
                die_at = rng.randint(1, 120) if kills and n % 3 else None
                patience = 6.0 if kills else 100.0
                waiting.append(Spender(environment, key, rng.getrandbits(32), die_at, patience))
            while waiting or running:
                while waiting and len(running) < AT_ONCE:
                    ours, theirs = FORKED.Pipe()
                    started = FORKED.Process(target=spend, args=(theirs, waiting.pop()), daemon=True)
                    started.start()
                    theirs.close()
                    running[ours] = started
                done = wait(list(running), PATIENCE)
                assert done, "no process ends"
                for pipe in done:
                    ended = running.pop(pipe)
                    try:
                        statuses.update(pipe.recv())
                        ended.join(PATIENCE)
                    except EOFError:
                        ended.join(PATIENCE)
                        assert ended.exitcode == -signal.SIGKILL, "it crashed by itself"
                        killed += 1
                    pipe.close()
            provider.release()
            billed, calls = provider.bill, provider.calls
        days = self.stores.usage.read(record.id, day_of(began - LONG), day_of(began + LONG))
        spent = usage.spent(usage.summed(days.values()), clock.now() + LONG)
        assert spent.reserved == 0
        months = {month_of(began), month_of(clock.now())}
        committed = sum(self.stores.quotas.total(month_account(record.id, month)) for month in months)
        return Outcome(billed, spent.settled, spent.unknown, committed, calls, statuses, killed)


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    environment = {"EMBEDONCE_DATA_DIR": str(tmp_path_factory.mktemp("money"))}
    stores = open_stores(load(environment), SystemClock())
    yield Town(environment, stores)
    stores.close()


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[Town]:
    with pytest.MonkeyPatch.context() as patch, process(serve_aws) as server:
        patch.delenv("AWS_PROFILE", raising=False)
        environment = {**motoserver.SETTINGS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{received(server)}"}
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(aws_clients, "CONFIG", aws_clients.CONFIG)
        be_patient()
        clients = AwsClients()
        aws.create(clients)
        stores = open_stores(load(environment), SystemClock())
        yield Town(environment, stores)
        stores.close()
        clients.close()


@pytest.fixture(params=["sqlite", "dynamodb"])
def town(request: pytest.FixtureRequest) -> Town:
    found: Town = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("seed", range(SEEDS))
def test_killed_or_not_what_was_billed_is_counted_and_within_the_budget(town: Town, seed: int) -> None:
    budget = BUDGETS[seed % 3]
    outcome = town.run(seed, STORMY, budget=budget, kills=True)
    told(outcome)
    assert outcome.killed or seed
    assert outcome.calls or seed
    assert outcome.settled <= outcome.billed <= outcome.settled + outcome.unknown
    assert outcome.billed <= outcome.committed <= budget


@pytest.mark.parametrize("seed", range(SEEDS))
def test_without_crashes_and_timeouts_all_that_was_billed_is_settled(town: Town, seed: int) -> None:
    budget = BUDGETS[1]
    outcome = town.run(seed, CALM, budget=budget, kills=False, lives=AT_ONCE)
    told(outcome)
    assert outcome.settled == outcome.billed == outcome.committed <= budget
    assert outcome.unknown == 0
    assert outcome.statuses[200]
    assert outcome.statuses[402] or seed, "the budget is the limit here"


def told(outcome: Outcome) -> None:
    print(outcome)
