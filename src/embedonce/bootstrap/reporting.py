"""Who reports what was used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor

from embedonce.accounting.accounts import Accounts
from embedonce.bootstrap.parts import Parts
from embedonce.bootstrap.stores import Stores
from embedonce.core.errors import StoreUnavailable
from embedonce.dialects.usage import UsageRoutes
from embedonce.http.routes import Dialect
from embedonce.ports import Clock, Depth
from embedonce.usecases.report import MakeReport


def report_from(
    stores: Stores, accounts: Accounts, clock: Clock, pool: Executor, *, upstreams: Sequence[str]
) -> MakeReport:
    return MakeReport(
        stores.usage,
        stores.quotas,
        stores.access,
        accounts,
        clock,
        pool,
        upstreams=upstreams,
        depths=lambda: _depths(stores),
    )


def usage_of(parts: Parts, readers: Executor, errors_as: Dialect) -> UsageRoutes:
    upstreams = [upstream.name for upstream in parts.router.upstreams]
    report = report_from(parts.stores, parts.accounts, parts.clock, readers, upstreams=upstreams)
    return UsageRoutes(report, errors_as, parts.clock)


def _depths(stores: Stores) -> Mapping[str, Depth]:
    """Without those that cannot be asked."""
    depths = {}
    for stage, queue in stores.queues.items():
        try:
            depths[stage.value] = queue.depth()
        except StoreUnavailable:
            continue
    return depths
