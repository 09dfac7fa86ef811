"""Everything that counts, as one process has it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, wait
from contextlib import contextmanager
from dataclasses import dataclass

from embedonce.accounting.deployment import DeploymentView
from embedonce.accounting.meter import Meter
from embedonce.accounting.purse import Purse
from embedonce.accounting.rates import Rates

BESIDE_SECONDS = 1.0
"""A request waits no longer than this for what was written beside it."""


@dataclass(frozen=True, slots=True)
class Accounts:
    deployment: DeploymentView
    meter: Meter
    purse: Purse
    rates: Rates

    def tick(self) -> None:
        """To be called every second or so, or beside a request. Never fails."""
        if self.meter.due:
            self.meter.flush()
        self.purse.tick()

    def settle_up(self) -> None:
        """Write everything that waits, and give back what is not needed now. Never fails."""
        self.meter.flush()
        self.purse.settle_up()

    @contextmanager
    def beside(self, pool: Executor) -> Iterator[None]:
        """`tick` at the same time as what a request does; for processes that stand still between requests."""
        ticking = pool.submit(self.tick) if self.meter.due or self.purse.due else None
        try:
            yield
        finally:
            if ticking is not None:
                wait((ticking,), BESIDE_SECONDS)
