"""`embedonce cost --units`: what single operations cost, and from which share of repeats on the cache pays.

These are the Markdown tables of docs/cost.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import ROUND_HALF_UP, Decimal

from embedonce.core import costcalls as calls
from embedonce.core.content import Modality
from embedonce.core.costcalls import TIERS, Calls, Size, Tier
from embedonce.core.costmodel import Kind, Policy, Traffic, break_even, unit
from embedonce.core.costtraffic import tokens_of
from embedonce.core.costworth import simple_break_even
from embedonce.core.prices import Prices
from embedonce.core.sights import Geometric

PICO_OF_MICRO = 10**6
SIZES = (768, 3072)
KINDS = (
    ("text, 20 tokens", Modality.TEXT, 20.0),
    ("text, 200 tokens", Modality.TEXT, 200.0),
    ("image", Modality.IMAGE, tokens_of(Modality.IMAGE, 1)),
    ("audio, 10 s", Modality.AUDIO, tokens_of(Modality.AUDIO, 10)),
    ("video, 32 s", Modality.VIDEO, tokens_of(Modality.VIDEO, 32)),
)
GAP_DAYS = 7.0
UNIFORM = ("dynamodb", "s3", "express")


def text(prices: Prices) -> str:
    """Markdown."""
    return "\n".join([*_operations(prices), "", *_kinds(prices)]) + "\n"


def _operations(prices: Prices) -> Iterable[str]:
    yield "| µUSD, one text | " + " | ".join(f"{d}, {name}" for d in SIZES for name in UNIFORM) + " |"
    yield "|---" * (1 + len(SIZES) * len(UNIFORM)) + "|"
    columns = [(d, TIERS[name]) for d in SIZES for name in UNIFORM]

    def row(name: str, cost: Iterable[int]) -> str:
        return f"| {name} | " + " | ".join(_micro(pico) for pico in cost) + " |"

    def of(make: Callable[[Tier, Size], Calls]) -> list[int]:
        return [calls.cost(make(tier, Size.of(d, 3072, text=True)), prices) for d, tier in columns]

    units = [unit(Modality.TEXT, 20, d, tier, prices) for d, tier in columns]
    yield row("hit", of(calls.hit))
    yield row("derived hit: two look-ups", of(calls.derived))
    yield row("miss: look-ups", of(calls.looked_up))
    yield row("miss: flight, take-off", [calls.flight_led().cost(prices) for _ in columns])
    yield row("miss: the vector's write", of(calls.kept))
    yield row("miss: flight, landing", [calls.flight_landed(d).cost(prices) for d, _ in columns])
    yield row("**miss, together**", of(calls.miss))
    yield row("another has stored it meanwhile", _lost(columns, prices))
    yield row("following another process, 2 looks", _followed(columns, prices))
    yield row("keeping it, 30 days", [one.month for one in units])
    yield row("keeping it, 180 days", [one.storage(180) for one in units])


def _lost(columns: Iterable[tuple[int, Tier]], prices: Prices) -> list[int]:
    return [calls.cost(calls.vector_lost(tier.place(d), d), prices) for d, tier in columns]


def _followed(columns: Iterable[tuple[int, Tier]], prices: Prices) -> list[int]:
    return [calls.cost(calls.flight_followed(d, 2), prices) for d, _ in columns]


def _kinds(prices: Prices) -> Iterable[str]:
    heads = ["an input of", "provider, µUSD"]
    for name in UNIFORM:
        heads += [f"{name}: look-up and write", f"{name}: `always`", f"{name}: `pays` keeps"]
    yield "| " + " | ".join(heads) + " |"
    yield "|---" * len(heads) + "|"
    for dimensions in SIZES:
        for name, modality, tokens in KINDS:
            if dimensions == SIZES[-1] or modality is Modality.TEXT:
                yield _kind(name, modality, tokens, dimensions, prices)


def _kind(name: str, modality: Modality, tokens: float, dimensions: int, prices: Prices) -> str:
    kind = Kind(modality, tokens, Geometric(1e6, 0.5, GAP_DAYS))
    traffic = Traffic((kind,), dimensions=dimensions)
    cells = []
    upstream = 0
    for tier in (TIERS[each] for each in UNIFORM):
        one = unit(modality, tokens, dimensions, tier, prices)
        upstream = one.upstream
        cells.append(_percent(simple_break_even(one)))
        cells += [_percent(break_even(traffic, policy, tier, prices)) for policy in Policy]
    return f"| {name}, at {dimensions} | {upstream / PICO_OF_MICRO:,.0f} | " + " | ".join(cells) + " |"


def _micro(pico: int) -> str:
    digits = Decimal("0.01" if pico >= PICO_OF_MICRO else "0.001")
    return str((Decimal(pico) / PICO_OF_MICRO).quantize(digits, ROUND_HALF_UP))


def _percent(ratio: float | None) -> str:
    return "never" if ratio is None else f"{100 * ratio:.1f}%"
