"""How near vectors are to each other: numbers only, and what they mean.

`SAME`: providers compute in lower precision, so equal models do not agree bit for bit; different models of
one size are near 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from embedonce.core import vector

SAME = 0.999
UNCHANGED = 1 - 1e-6
CLOSE = 1e-5
"""Of a component: float32 text and the rounding of a provider's own renormalising are below that."""
UNIT = 1e-3


@dataclass(frozen=True, slots=True)
class Nearness:
    """Cosines of vectors that should be equal. `equal`: how many of `count` are, bit for bit."""

    least: float
    mean: float
    equal: int
    count: int

    @property
    def same(self) -> bool:
        return self.least > SAME


@dataclass(frozen=True, slots=True)
class Truncation:
    """The local cut against the provider's own smaller vectors. `length`: of the latter, furthest from 1."""

    size: int
    furthest: float
    furthest_scaled: float
    least: float
    equal: int
    count: int
    length: float

    @property
    def close(self) -> bool:
        return self.furthest <= CLOSE

    @property
    def close_scaled(self) -> bool:
        """The provider cuts too, and does not renormalise."""
        return self.furthest_scaled <= CLOSE


def nearness(one: Sequence[bytes], other: Sequence[bytes]) -> Nearness | None:
    """None: they are of different sizes."""
    pairs = list(zip(one, other, strict=True))
    if any(len(a) != len(b) for a, b in pairs):
        return None
    cosines = [cosine(a, b) for a, b in pairs]
    mean = sum(cosines) / len(cosines)
    return Nearness(min(cosines), mean, sum(a == b for a, b in pairs), len(pairs))


def cosine(one: bytes, other: bytes) -> float:
    import numpy as np

    a, b = vector.unpack(one).astype(np.float64), vector.unpack(other).astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def alike(vectors: Sequence[bytes]) -> float:
    """The largest cosine of two different ones; -1 of fewer than two."""
    found = [cosine(a, b) for i, a in enumerate(vectors) for b in vectors[:i]]
    return max(found, default=-1.0)


def truncation(full: Sequence[bytes], smaller: Sequence[bytes], size: int) -> Truncation:
    import numpy as np

    ours = [vector.cut(each, size) for each in full]
    scaled = [vector.cut(each, size) for each in smaller]

    def furthest(theirs: Sequence[bytes]) -> float:
        pairs = zip(ours, theirs, strict=True)
        return max(float(np.abs(vector.unpack(a) - vector.unpack(b)).max()) for a, b in pairs)

    lengths = [float(np.linalg.norm(vector.unpack(each).astype(np.float64))) for each in smaller]
    near = nearness(ours, smaller)
    assert near is not None  # both are of that size
    return Truncation(
        size=size,
        furthest=furthest(smaller),
        furthest_scaled=furthest(scaled),
        least=near.least,
        equal=near.equal,
        count=near.count,
        length=max(lengths, key=lambda length: abs(length - 1)),
    )
