"""Vectors and flights to put into stores."""

from __future__ import annotations

import hashlib
import struct

from embedonce.core.content import Modality
from embedonce.core.flight import Flight, Leading
from embedonce.core.plan import VectorKey
from embedonce.core.record import StoredVector
from support.clock import START


def fingerprint(n: int) -> bytes:
    return hashlib.sha256(str(n).encode()).digest()


def key(n: int, dimensions: int | None = 4) -> VectorKey:
    return VectorKey(fingerprint(n), dimensions)


def record(
    n: int,
    *,
    dimensions: int = 4,
    created: int = int(START),
    ttl: int = 1000,
    model: str = "gemini-embedding-2",
) -> StoredVector:
    """Another vector for every `n`, with values that no shorter float type could hold."""
    values = [1.0 / (n + i + 3) for i in range(dimensions)]
    return StoredVector(
        data=struct.pack(f"<{dimensions}f", *values),
        model=model,
        lineage=f"space/{model}/1",
        upstream="openrouter",
        modality=Modality.TEXT,
        tokens=7 + n,
        cost=1_400_000 + n,
        created=created,
        expires=created + ttl,
        estimated=n % 2 == 1,
    )


def leading(n: int, version: int = 1, *, owner: str = "a", expires: float = START + 100.5) -> Flight:
    return Flight(
        fingerprint=fingerprint(n),
        version=version,
        state=Leading(owner, START + 30.25),
        expires=expires,
        attempts=1,
        window_since=START,
    )
