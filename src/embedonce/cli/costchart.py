"""The chart of `embedonce cost`: monthly cost against the share of repeats, as one SVG without anything from
outside; its colours follow the reader's light or dark."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

from embedonce.core.costcalls import Tier
from embedonce.core.costmodel import Policy, Traffic, monthly
from embedonce.core.prices import Prices
from embedonce.core.pricing import PICO

WIDTH, HEIGHT = 760, 470
LEFT, RIGHT, TOP, BOTTOM = 78, 20, 64, 118
"""Margins, in px."""
RATIOS = tuple(n * 0.025 for n in range(39))
"""0 to 0.95."""
MOST_TIMES_DIRECT = 3.0
"""What costs more than this is cut off at the top: below it is where one decides."""
TICKS = 5

_STYLE = """
:root { color-scheme: light dark; }
.ground { fill: #ffffff; } text { fill: #1f2430; font: 13px system-ui, sans-serif; }
.small { font-size: 12px; } .quiet { fill: #5a6274; } .title { font-size: 16px; font-weight: 600; }
.grid { stroke: #e3e6ec; } .axis { stroke: #8a92a3; }
.line { fill: none; stroke-width: 2.25; stroke-linejoin: round; }
.always { stroke-dasharray: 2 5; stroke-linecap: round; } .direct { stroke: #1f2430; stroke-dasharray: 9 5; }
.t0 { stroke: #0b62c4; } .t1 { stroke: #b3430a; } .t2 { stroke: #157a4a; } .t3 { stroke: #8a3ab9; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #14171f; } text { fill: #e9ecf3; } .quiet { fill: #a3abbd; }
  .grid { stroke: #2b303c; } .axis { stroke: #6f7789; } .direct { stroke: #e9ecf3; }
  .t0 { stroke: #6cb0ff; } .t1 { stroke: #ff9a5c; } .t2 { stroke: #55d197; } .t3 { stroke: #d19bf5; }
}
"""


def svg(traffic: Traffic, prices: Prices, tiers: Iterable[Tier]) -> str:
    """Provider and cache, without the gateway's own cost, which is there at every share."""
    shown = list(dict.fromkeys(tiers))
    curves = {
        (tier, policy): [
            monthly(traffic.at(ratio), policy, tier, prices).beside_gateway / PICO for ratio in RATIOS
        ]
        for tier in shown
        for policy in Policy
    }
    direct = monthly(traffic, Policy.ALWAYS, shown[0], prices).direct / PICO
    step, count = _steps(min(max(*map(max, curves.values()), direct * 1.1), direct * MOST_TIMES_DIRECT))
    top = step * count

    def x(ratio: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ratio / RATIOS[-1]

    def y(usd: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * usd / top if top else HEIGHT - BOTTOM

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-labelledby="title"><style>{_STYLE}</style>',
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>',
        _text(LEFT, 24, "Provider and cache, USD a month, by the share of repeats", "title", id="title"),
        _text(LEFT, 45, _about(traffic, prices), "small quiet"),
    ]
    for n in range(count + 1):
        at = y(n * step)
        parts.append(_line(LEFT, at, WIDTH - RIGHT, at, "grid"))
        parts.append(_text(LEFT - 8, at + 4, _amount(n * step, step), "small", anchor="end"))
    for percent in (0, 20, 40, 60, 80, 95):
        at = x(percent / 100)
        parts.append(_line(at, HEIGHT - BOTTOM, at, HEIGHT - BOTTOM + 5, "axis"))
        parts.append(_text(at, HEIGHT - BOTTOM + 20, f"{percent}%", "small", anchor="middle"))
    parts.append(_line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "axis"))
    parts.append(
        f'<clipPath id="plot"><rect x="{LEFT}" y="{TOP - 2}" width="{WIDTH - LEFT - RIGHT}" '
        f'height="{HEIGHT - TOP - BOTTOM + 4}"/></clipPath><g clip-path="url(#plot)">'
    )
    for (tier, policy), usd in curves.items():
        points = " ".join(f"{x(r):.1f},{y(min(u, top * 4)):.1f}" for r, u in zip(RATIOS, usd, strict=True))
        name = f"{tier.name}, {policy.value}"
        css = f"line t{shown.index(tier)} {policy.value}"
        parts.append(f'<polyline class="{css}" points="{points}"><title>{escape(name)}</title></polyline>')
    parts.append(f"{_line(LEFT, y(direct), WIDTH - RIGHT, y(direct), 'line direct')}</g>")
    parts += _legend(shown)
    return "\n".join([*parts, "</svg>\n"])


def _legend(tiers: list[Tier]) -> list[str]:
    """Two rows: what the strokes mean, and the tiers' colours."""
    parts = []
    first = HEIGHT - BOTTOM + 52
    rows = [
        ("line direct", "without the cache"),
        ("line axis always", "policy always"),
        ("line axis", "policy pays"),
    ]
    colours = [(f"line t{n}", tier.name) for n, tier in enumerate(tiers)]
    for at, entries in ((first, rows), (first + 28, colours)):
        width = (WIDTH - LEFT - RIGHT) / max(3, len(entries))
        for n, (css, name) in enumerate(entries):
            left = LEFT + n * width
            parts += [_line(left, at - 4, left + 34, at - 4, css), _text(left + 42, at, name, "small")]
    return parts


def _about(traffic: Traffic, prices: Prices) -> str:
    kinds = {kind.modality.value for kind in traffic.kinds}
    return (
        f"{traffic.inputs:,.0f} inputs ({', '.join(sorted(kinds))}), {traffic.dimensions} dimensions; "
        f"AWS prices of {prices.date}; the gateway's own cost not included"
    )


def _steps(most: float) -> tuple[float, int]:
    """A round step and how many of them."""
    if most <= 0:
        return 1.0, 1
    rough = most / TICKS
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough)
    return step, math.ceil(most / step - 1e-9)


def _amount(usd: float, step: float) -> str:
    digits = max(0, 1 - math.floor(math.log10(step))) if step < 10 else 0
    return f"${usd:,.{digits}f}"


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    return f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, css: str, *, anchor: str = "start", id: str = "") -> str:
    name = f' id="{id}"' if id else ""
    return f'<text{name} class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
