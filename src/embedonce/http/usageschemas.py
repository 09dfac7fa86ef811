"""The answer of GET /v1/usage, as the OpenAPI description has it (docs/usage.md)."""

from __future__ import annotations

from typing import Any

from embedonce.core.usage import TOKENS
from embedonce.http.schemas import list_of, object_of, ref

COUNT = {"type": "integer", "minimum": 0}
USD = {"type": "number"}
TEXT = {"type": "string"}
DAY = {"type": "string", "format": "date"}


def usage_schemas() -> dict[str, Any]:
    counts = ("requests", "inputs", "hits", "derived", "collapsed", "misses", "cached_tokens")
    row: dict[str, Any] = {
        **dict.fromkeys(counts, COUNT),
        "hit_ratio": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "tokens": object_of({modality.value: COUNT for modality in TOKENS}),
        "usd": object_of(dict.fromkeys(("settled", "reserved", "unknown", "saved", "aws", "net_saved"), USD)),
        "jobs": object_of(dict.fromkeys(("submitted", "completed", "failed"), COUNT)),
    }
    key: dict[str, Any] = {
        "id": TEXT,
        "name": TEXT,
        "budget_usd_per_month": _or_null("number"),
        "requests_per_minute": _or_null("integer"),
        "tokens_per_minute": _or_null("integer"),
    }
    budget = object_of({"month": TEXT, "limit_usd": USD, "committed_usd": USD, "alarm": {"type": "boolean"}})
    total = ref("UsageRow")
    each = {**key, "month_committed_usd": USD, "revoked": {"type": "boolean"}, "total": total}
    cap = {"daily_limit_usd": USD, "today_committed_usd": USD, "paused": {"type": "boolean"}}
    calls: dict[str, Any] = {
        "name": TEXT,
        **dict.fromkeys(("calls", "errors", "rate_limited"), COUNT),
        **dict.fromkeys(("mean_ms", "p50_ms", "p95_ms"), _or_null("integer")),
    }
    queue = {"name": TEXT, **dict.fromkeys(("ready", "delayed", "in_flight", "dead"), COUNT)}
    always: dict[str, Any] = {
        "object": {"const": "usage"},
        "from": DAY,
        "to": DAY,
        "scope": {"enum": ["key", "all"]},
        "key": object_of(key),
        "budget": {"anyOf": [budget, {"type": "null"}]},
        "total": total,
        "days": list_of({"allOf": [total, object_of({"date": DAY})]}),
    }
    for_all = {
        "keys": list_of(object_of(each)),
        "deployment": object_of(cap),
        "upstreams": list_of(object_of(calls)),
        "queues": list_of(object_of(queue)),
    }
    usage = {"type": "object", "properties": {**always, **for_all}, "required": list(always)}
    return {"Usage": usage, "UsageRow": object_of(row)}


def _or_null(kind: str) -> dict[str, Any]:
    return {"type": [kind, "null"]}
