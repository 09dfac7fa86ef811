"""GET /v1/usage: what was used, spent and saved, as JSON. Money in exact decimal USD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from embedonce.access.authenticate import Caller
from embedonce.access.keys import Scope
from embedonce.core import usage
from embedonce.core.errors import InvalidRequest, WouldBlock
from embedonce.core.patience import Patience
from embedonce.core.pricing import usd_text
from embedonce.http.message import Request, Response
from embedonce.http.routes import Dialect, Route
from embedonce.ports import Clock
from embedonce.usecases.report import Budget, KeyUse, MakeReport, Period, Report

PARAMETERS = ("from", "to", "key")


class UsageRoutes:
    def __init__(self, report: MakeReport, errors_as: Dialect, clock: Clock) -> None:
        self._report = report
        self._errors_as = errors_as
        self._clock = clock

    def routes(self) -> list[Route]:
        route = Route("GET", "/v1/usage", Scope.EMBED, self._errors_as, self.usage, instead=Scope.ADMIN)
        return [route]

    def usage(self, request: Request, caller: Caller | None, _path: dict[str, str]) -> Response:
        assert caller is not None
        if request.patience < Patience.PROVIDERS:
            raise WouldBlock
        for name in request.query:
            if name not in PARAMETERS:
                raise InvalidRequest(f"{name}: unknown; there are {', '.join(PARAMETERS)}", param=name)
        period = Period.of(request.query.get("from"), request.query.get("to"), self._clock.now())
        report = self._report(caller, period, request.query.get("key"))
        return Response(200, orjson.dumps(rendered(report, self._clock.now())))


def rendered(report: Report, now: float) -> dict[str, Any]:
    """See docs/usage.md."""
    body: dict[str, Any] = {
        "object": "usage",
        "from": report.period.first.isoformat(),
        "to": report.period.last.isoformat(),
        "scope": "key" if report.keys is None else "all",
        "key": _key(report.key),
        "budget": None if report.key.budget is None else _budget(report.key.budget),
        "total": row(report.total, now),
        "days": [
            {"date": f"{day[:4]}-{day[4:6]}-{day[6:]}", **row(counts, now)}
            for day, counts in report.days.items()
        ],
    }
    if report.keys is not None and report.deployment is not None:
        body["keys"] = [
            {
                **_key(use),
                "month_committed_usd": _usd(use.committed),
                "revoked": use.revoked,
                "total": row(use.counts, now),
            }
            for use in report.keys
        ]
        body["deployment"] = {
            "daily_limit_usd": _usd(report.deployment.daily_limit),
            "today_committed_usd": _usd(report.deployment.today_committed),
            "paused": report.deployment.paused,
        }
        body["upstreams"] = [{"name": name, **_calls(counts)} for name, counts in report.upstreams.items()]
        body["queues"] = [
            {
                "name": name,
                "ready": depth.ready,
                "delayed": depth.delayed,
                "in_flight": depth.in_flight,
                "dead": depth.dead,
            }
            for name, depth in report.queues.items()
        ]
    return body


def row(counts: Mapping[str, int], now: float) -> dict[str, Any]:
    """The numbers of a day, a key, or all."""

    def of(name: str) -> int:
        return counts.get(name, 0)

    spent = usage.spent(counts, now)
    answered = of(usage.HITS) + of(usage.DERIVED) + of(usage.COLLAPSED) + of(usage.MISSES)
    return {
        "requests": of(usage.REQUESTS),
        "inputs": of(usage.INPUTS),
        "hits": of(usage.HITS),
        "derived": of(usage.DERIVED),
        "collapsed": of(usage.COLLAPSED),
        "misses": of(usage.MISSES),
        "hit_ratio": (answered - of(usage.MISSES)) / answered if answered else None,
        "tokens": {modality.value: of(name) for modality, name in usage.TOKENS.items()},
        "cached_tokens": of(usage.CACHED_TOKENS),
        "usd": {
            "settled": _usd(spent.settled),
            "reserved": _usd(spent.reserved),
            "unknown": _usd(spent.unknown),
            "saved": _usd(of(usage.SAVED)),
            "aws": _usd(of(usage.AWS)),
            "net_saved": _usd(of(usage.SAVED) - of(usage.AWS)),
        },
        "jobs": {
            "submitted": of(usage.JOBS_SUBMITTED),
            "completed": of(usage.JOBS_COMPLETED),
            "failed": of(usage.JOBS_FAILED),
        },
    }


def _key(use: KeyUse) -> dict[str, Any]:
    return {
        "id": use.id,
        "name": use.name,
        "budget_usd_per_month": None if use.limits.budget is None else _usd(use.limits.budget),
        "requests_per_minute": use.limits.requests_per_minute,
        "tokens_per_minute": use.limits.tokens_per_minute,
    }


def _budget(budget: Budget) -> dict[str, Any]:
    return {
        "month": budget.month,
        "limit_usd": _usd(budget.limit),
        "committed_usd": _usd(budget.committed),
        "alarm": budget.alarm,
    }


def _calls(counts: Mapping[str, int]) -> dict[str, Any]:
    calls = counts.get(usage.CALLS, 0)
    return {
        "calls": calls,
        "errors": counts.get(usage.ERRORS, 0),
        "rate_limited": counts.get(usage.RATE_LIMITED, 0),
        "mean_ms": round(counts.get(usage.MILLISECONDS, 0) / calls) if calls else None,
        "p50_ms": usage.latency_quantile(counts, 0.5),
        "p95_ms": usage.latency_quantile(counts, 0.95),
    }


def _usd(pico: int) -> orjson.Fragment:
    """A JSON number with every digit of it."""
    return orjson.Fragment(usd_text(pico).encode())
