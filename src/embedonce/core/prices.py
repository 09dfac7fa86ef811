"""What AWS takes, from one dated file beside this one (prices.json), in pico-dollars (1e-12 USD).

What providers take is in `embedonce.core.catalog`, by model and modality.

A GB is 1e9 bytes here. AWS bills by 2**30, so what is counted by the GB is up to 7% too much, never too
little."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from embedonce.core.pricing import PICO

FILE = Path(__file__).with_name("prices.json")
_PER = {"_million": 10**6, "_gb": 10**9, "_gb_month": 10**9, "_gb_second": 1}
"""What a price's name ends in, and how many of the unit in which it is counted that is."""
MOST_USD = Decimal(1_000_000)
"""A price above this is a mistake."""


class BadPrices(ValueError):
    """The text says what is wrong, in one line."""


@dataclass(frozen=True, slots=True)
class Prices:
    """By what AWS bills: `pico` in pico-dollars for one write or read unit, request, message, byte, byte and
    month (30 days), or GB-second."""

    date: str
    region: str
    source: str
    pico: Mapping[str, Fraction]

    def of(self, name: str, amount: int | Fraction = 1) -> int:
        """`amount` of what `name` is the price of, rounded to whole pico-dollars."""
        return round(self.pico[name] * amount)


@cache
def built_in() -> Prices:
    return parse(FILE.read_bytes())


def parse(text: bytes | str, over: Prices | None = None) -> Prices:
    """The prices of a file in the form of prices.json. `over`: those that it need not name.

    :raises BadPrices: no such file, an unknown or a missing price, or one that is no price
    """
    try:
        said = json.loads(text, parse_float=Decimal)
    except ValueError:
        raise BadPrices("not JSON") from None
    if not isinstance(said, dict):
        raise BadPrices("must be an object with date, region, source and usd")
    known = set(over.pico) if over is not None else set(_names())
    if unknown := set(said) - {"date", "region", "source", "usd"}:
        raise BadPrices(f"unknown field {sorted(unknown)[0]!r}")
    given = said.get("usd")
    if not isinstance(given, dict):
        raise BadPrices("usd must be an object of prices")
    if unknown := set(given) - known:
        raise BadPrices(f"unknown price {sorted(unknown)[0]!r}; known: {', '.join(sorted(known))}")
    pico = {} if over is None else dict(over.pico)
    pico |= {name: _pico(name, usd) for name, usd in given.items()}
    if missing := known - set(pico):
        raise BadPrices(f"no price {sorted(missing)[0]!r}")
    date = said.get("date")
    if not isinstance(date, str) or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", date):
        raise BadPrices("date must read YYYY-MM-DD")
    return Prices(date, _text(said, "region"), _text(said, "source"), pico)


def _names() -> frozenset[str]:
    """Of every price there is: those of the file, which a test compares with what is asked for."""
    return frozenset(json.loads(FILE.read_bytes())["usd"])


def _pico(name: str, usd: Any) -> Fraction:
    try:
        amount = Decimal(usd) if isinstance(usd, str | int | Decimal) and not isinstance(usd, bool) else None
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite() or not 0 <= amount <= MOST_USD:
        raise BadPrices(f'{name} must be USD, 0 or more, as in "0.25"')
    unit = next(per for ending, per in _PER.items() if name.endswith(ending))
    return Fraction(amount) * PICO / unit


def _text(said: dict[str, Any], name: str) -> str:
    text = said.get(name)
    if not isinstance(text, str) or not text or len(text) > 500:
        raise BadPrices(f"{name} must be a text")
    return text
