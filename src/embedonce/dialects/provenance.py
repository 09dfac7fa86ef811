"""What happened to a request, as headers and totals: the same for every dialect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from embedonce.core.answer import EmbedResult, Origin
from embedonce.core.content import Modality
from embedonce.core.pricing import PICO, usd_text

OPENROUTER_NAMES = {
    Modality.TEXT: "text",
    Modality.IMAGE: "image",
    Modality.AUDIO: "audio",
    Modality.VIDEO: "video",
    Modality.PDF: "file",
}
"""What OpenRouter calls the modalities, in model lists and usage alike."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Over all inputs, a duplicate counted like the input it repeats. Money in pico-dollars."""

    tokens: int
    cached_tokens: int
    tokens_by_modality: dict[Modality, int]
    cost: int
    saved: int


def totals_of(result: EmbedResult) -> Totals:
    tokens = cached = saved = 0
    by_modality: dict[Modality, int] = {}
    paid: set[int] = set()
    for index in result.order:
        answered = result.answers[index]
        record = answered.record
        tokens += record.tokens
        by_modality[record.modality] = by_modality.get(record.modality, 0) + record.tokens
        if answered.origin is Origin.MISS and index not in paid:
            paid.add(index)
        else:
            cached += record.tokens
            saved += record.cost
    cost = sum(answered.cost for answered in result.answers)
    return Totals(tokens, cached, by_modality, cost, saved)


def usage_of(totals: Totals) -> dict[str, Any]:
    """The object `usage` as OpenRouter has it. Nothing in it is ever null."""
    details: dict[str, int] = {
        f"{OPENROUTER_NAMES[modality]}_tokens": count for modality, count in totals.tokens_by_modality.items()
    }
    details["cached_tokens"] = totals.cached_tokens
    return {
        "prompt_tokens": totals.tokens,
        "total_tokens": totals.tokens,
        "cost": totals.cost / PICO,
        "prompt_tokens_details": details,
    }


def headers_of(result: EmbedResult, totals: Totals, now: float) -> dict[str, str]:
    """`Cache-Status` (RFC 9211), `X-Cache`, cost and saving in USD, and whose the vectors are."""
    origins = [answered.origin for answered in result.answers]
    misses, derived = origins.count(Origin.MISS), origins.count(Origin.DERIVED)
    hits = len(origins) - misses
    detail = f'detail="hits={hits - derived} misses={misses} derived={derived}"'
    oldest = min((a.record.created for a in result.answers if a.origin is not Origin.MISS), default=None)
    age = None if oldest is None else max(0, int(now) - oldest)
    headers = {
        "Cache-Status": _cache_status(result, hits, misses, origins) + detail,
        "X-Cache": _x_cache(hits, misses),
        "X-OpenRouter-Cache-Status": "MISS" if misses else "HIT",
        "X-Cost-USD": usd_text(totals.cost),
        "X-Cost-Saved-USD": usd_text(totals.saved),
        "X-Embedonce-Upstream": ", ".join(sorted({a.record.upstream for a in result.answers})),
    }
    if age is not None:
        headers["X-OpenRouter-Cache-Age"] = str(age)
    if result.made_up:
        headers["X-Embedonce-Made-Up"] = ", ".join(sorted(result.made_up))
    return headers


def _cache_status(result: EmbedResult, hits: int, misses: int, origins: list[Origin]) -> str:
    if not misses:
        return f"embedonce; {'fwd=miss; collapsed' if Origin.COLLAPSED in origins else 'hit'}; "
    stored = all(a.stored for a in result.answers if a.origin is Origin.MISS)
    return f"embedonce; fwd={'partial' if hits else 'miss'}; {'stored' if stored else 'stored=?0'}; "


def _x_cache(hits: int, misses: int) -> str:
    if not misses:
        return "HIT"
    return "PARTIAL" if hits else "MISS"
