"""Money in whole pico-dollars (1e-12 USD): $0.20 per million tokens is 200,000 a token, so sums are exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

PICO = 10**12


@dataclass(frozen=True, slots=True)
class Price:
    """What an upstream takes for one token, in pico-dollars."""

    per_token: int

    FREE: ClassVar[Price]

    @classmethod
    def per_million(cls, usd: str) -> Price:
        """From the unit every provider quotes: USD per 1,000,000 tokens."""
        return cls(int(Decimal(usd) * PICO / 1_000_000))

    def of(self, tokens: int) -> int:
        return tokens * self.per_token

    @property
    def usd_per_token(self) -> str:
        return usd_text(self.per_token)


Price.FREE = Price(0)


def from_usd(usd: float | str) -> int:
    """A provider's own figure in pico-dollars; a negative, infinite or NaN one counts as nothing."""
    amount = Decimal(str(usd))
    if not amount.is_finite() or amount < 0:
        return 0
    return int((amount * PICO).to_integral_value())


def usd_text(pico: int) -> str:
    """Plain decimal text, no exponent and no trailing zeros: 4_000_000 → '0.000004'."""
    if not pico:
        return "0"
    text = f"{Decimal(pico) / PICO:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Split `total` over `weights` so that the parts add up exactly (largest remainder, ties by position)."""
    whole = sum(weights)
    if not weights:
        return []
    if whole <= 0:
        weights, whole = [1] * len(weights), len(weights)
    shares = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(total * weights[i] % whole), i))
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares
