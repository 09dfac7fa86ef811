"""Vectors as little-endian float32: the bytes that are stored are the bytes that are answered.

numpy is imported where it is used: a hit answered in base64 never needs it, and it would be a third of a
cold start.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    import numpy as np

BYTES_PER_DIMENSION = 4


def pack(values: Sequence[float] | np.ndarray) -> bytes:
    """Numbers to little-endian float32 bytes (too large ones become infinite; validation refuses them).

    :raises ValueError: not a flat sequence of numbers
    """
    import numpy as np

    with np.errstate(over="ignore"):
        array = np.asarray(values, dtype=np.float64).astype("<f4")
    if array.ndim != 1:
        raise ValueError("not a flat list of numbers")
    return array.tobytes()


def unpack(data: bytes) -> np.ndarray:
    """A read-only float32 view, shape (dimensions,)."""
    import numpy as np

    return np.frombuffer(data, dtype="<f4")


def dimensions_of(data: bytes) -> int:
    return len(data) // BYTES_PER_DIMENSION


def cut(data: bytes, dimensions: int) -> bytes:
    """The first `dimensions` values, renormalised to length 1 (MRL truncation), computed in float64.

    :raises ValueError: `dimensions` is larger than the vector, or the cut has no length to normalise by
    """
    import numpy as np

    if dimensions > dimensions_of(data):
        raise ValueError(f"cannot cut {dimensions_of(data)} dimensions to {dimensions}")
    head = unpack(data)[:dimensions].astype(np.float64)
    length = float(np.sqrt(head @ head))
    if not np.isfinite(length) or length == 0.0:
        raise ValueError("the cut vector has no length")
    return (head / length).astype("<f4").tobytes()


def to_base64(data: bytes) -> bytes:
    return base64.b64encode(data)


def to_json(data: bytes) -> bytes:
    """The shortest JSON text that reads back as the same float32 values."""
    return orjson.dumps(unpack(data), option=orjson.OPT_SERIALIZE_NUMPY)
