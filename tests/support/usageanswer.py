"""What /v1/usage could answer: a made-up deployment, the same at every call."""

from __future__ import annotations

import math
from datetime import date, timedelta
from typing import Any

KINDS = ("text", "image", "audio", "video", "pdf")
PRICE = {"text": 0.2e-6, "image": 0.45e-6, "audio": 6.5e-6, "video": 12e-6, "pdf": 0.45e-6}
"""USD a token."""


def row(inputs: int, ratio: float, *, jobs: int = 0, open_share: float = 0.0) -> dict[str, Any]:
    """Of a day or of more: `ratio` of the inputs were found, `open_share` of the money is not settled."""
    found = round(inputs * ratio)
    derived, collapsed = found // 12, found // 30
    tokens = {"text": inputs * 180, "image": inputs * 40, "audio": inputs * 6, "video": 0, "pdf": inputs * 22}
    worth = sum(tokens[kind] * PRICE[kind] for kind in KINDS)
    spent, saved, aws = worth * (1 - ratio), worth * ratio, inputs * 0.9e-6
    return {
        "requests": inputs // 7,
        "inputs": inputs,
        "hits": found - derived - collapsed,
        "derived": derived,
        "collapsed": collapsed,
        "misses": inputs - found,
        "hit_ratio": found / inputs if inputs else None,
        "tokens": tokens,
        "cached_tokens": round(sum(tokens.values()) * ratio),
        "usd": {
            "settled": spent * (1 - open_share),
            "reserved": spent * open_share * 0.75,
            "unknown": spent * open_share * 0.25,
            "saved": saved,
            "aws": aws,
            "net_saved": saved - aws,
        },
        "jobs": {"submitted": jobs, "completed": jobs - jobs // 40, "failed": jobs // 60},
    }


def summed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums all but the ratio."""
    total = row(0, 0)
    for one in rows:
        for name, value in one.items():
            if isinstance(value, dict):
                for key, number in value.items():
                    total[name][key] += number
            elif name not in ("date", "hit_ratio"):
                total[name] += value
    found = total["hits"] + total["derived"] + total["collapsed"]
    return {**total, "hit_ratio": found / total["inputs"] if total["inputs"] else None}


def days(first: str, last: str) -> list[dict[str, Any]]:
    """Busier on working days, better with time; nothing at all on one day of the second week."""
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    length = (end - start).days + 1
    found = []
    for i in range(length):
        day = start + timedelta(i)
        if i == 9:
            continue
        weekend = 0.35 if day.weekday() >= 5 else 1.0
        inputs = round(52_000 * weekend * (1 + 0.25 * math.sin(i * 1.7)))
        ratio = 0.86 - 0.62 * math.exp(-i / max(4, length / 4)) + 0.03 * math.sin(i * 2.3)
        one = row(inputs, ratio, jobs=round(130 * weekend), open_share=0.12 if i >= length - 2 else 0.0)
        found.append({"date": day.isoformat(), **one})
    return found


def usage_answer(
    first: str,
    last: str,
    *,
    names: tuple[str, ...] = ("search-api", "nightly ingest", "mobile app", "eval", "replays"),
) -> dict[str, Any]:
    """What an admin sees; the keys have the given names."""
    rows = days(first, last)
    total = summed(rows)
    budgets = (60.0, 25.0, None, 5.0, 0.0)
    committed = (31.84, 21.437, 7.5, 0.0000412, 0.0)
    keys = [
        {
            "id": f"k{i:03}",
            "name": name,
            "budget_usd_per_month": budgets[i % 5],
            "month_committed_usd": committed[i % 5],
            "revoked": i == 3,
            "total": summed([row(total["inputs"] // (i + 2), 0.85 - 0.2 * i, jobs=40 * i)]),
        }
        for i, name in enumerate(names)
    ]
    return {
        "object": "usage",
        "from": first,
        "to": last,
        "scope": "all",
        "key": {
            "id": "k000",
            "name": names[0],
            "budget_usd_per_month": None,
            "requests_per_minute": None,
            "tokens_per_minute": None,
        },
        "budget": None,
        "total": total,
        "days": rows,
        "keys": keys,
        "deployment": {"daily_limit_usd": 50, "today_committed_usd": 4.318, "paused": False},
        "upstreams": [
            {"name": "openrouter", "calls": 48_211, "errors": 96, "rate_limited": 31}
            | {"mean_ms": 412.5, "p50_ms": 250, "p95_ms": 1000},
            {"name": "google", "calls": 9_120, "errors": 0, "rate_limited": 4}
            | {"mean_ms": 288.1, "p50_ms": 250, "p95_ms": 500},
            {"name": "segmind", "calls": 0, "errors": 0, "rate_limited": 0}
            | {"mean_ms": None, "p50_ms": None, "p95_ms": None},
        ],
        "queues": [
            {"name": "work", "ready": 3, "delayed": 0, "in_flight": 2, "dead": 0},
            {"name": "poll", "ready": 0, "delayed": 14, "in_flight": 1, "dead": 1},
        ],
    }


def own_answer(first: str, last: str, *, name: str = "search-api") -> dict[str, Any]:
    """What a key without the scope for more sees, close to its budget."""
    everything = usage_answer(first, last)
    shown = {name: everything[name] for name in ("object", "from", "to", "total", "days")}
    key = {"id": "k000", "name": name, "budget_usd_per_month": 25}
    return {
        **shown,
        "scope": "key",
        "key": {**key, "requests_per_minute": 600, "tokens_per_minute": 1_000_000},
        "budget": {"month": last[:7], "limit_usd": 25, "committed_usd": 21.437, "alarm": True},
    }


def empty_answer(first: str, last: str) -> dict[str, Any]:
    return {**own_answer(first, last), "total": row(0, 0), "days": [], "budget": None}
