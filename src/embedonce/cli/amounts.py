"""How amounts are written on the command line."""

from __future__ import annotations

import re

import typer

from embedonce.configvalues import USD
from embedonce.core.pricing import from_usd, usd_text

NONE = "none"
MOST = 10**12
RANGE = "USD from 0 to 999999.999999999 in steps of 0.000000001, as in 50 or 0.25"
"""What `USD` takes."""


def money(text: str, option: str, *, instead: str = "") -> int:
    """Pico-dollars of decimal text, such as 50 or 0.25. `instead`: what else may be said.

    :raises typer.BadParameter: anything else
    """
    if not re.fullmatch(USD, text):
        raise typer.BadParameter(f"must be {RANGE}{instead}", param_hint=option)
    return from_usd(text)


def money_or_none(text: str, option: str) -> int | None:
    return None if text == NONE else money(text, option, instead=f"; `{NONE}`: no limit")


def count_or_none(text: str, option: str) -> int | None:
    if text == NONE:
        return None
    if not re.fullmatch(r"[0-9]{1,13}", text) or not 1 <= int(text) <= MOST:
        raise typer.BadParameter(f"must be a whole number from 1 to {MOST}, or {NONE}", param_hint=option)
    return int(text)


def shown_money(pico: int | None) -> str:
    return NONE if pico is None else f"{usd_text(pico)} USD"


def shown_count(count: int | None) -> str:
    return NONE if count is None else str(count)
