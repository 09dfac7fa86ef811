"""The stored float32: packing, cutting, writing."""

from __future__ import annotations

import base64
import json
import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedonce.core import vector

GOLDEN = "cdcccc3d000080be59d9003300000080"

float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def test_golden_bytes_are_little_endian_float32() -> None:
    data = vector.pack([0.1, -0.25, 3e-8, -0.0])
    assert data.hex() == GOLDEN
    assert struct.unpack("<4f", data) == pytest.approx((0.1, -0.25, 3e-8, 0.0))
    assert base64.b64decode(vector.to_base64(data)) == data
    assert vector.to_json(data) == b"[0.1,-0.25,3e-8,-0.0]"


@given(st.lists(float32, min_size=1, max_size=64))
def test_json_reads_back_as_the_same_bits(values: list[float]) -> None:
    data = vector.pack(values)
    assert vector.pack(json.loads(vector.to_json(data))) == data


@given(st.lists(float32.filter(lambda x: abs(x) > 1e-6), min_size=4, max_size=64), st.integers(1, 4))
def test_a_cut_has_length_1_and_the_same_direction(values: list[float], size: int) -> None:
    head = np.array(values[:size], dtype=np.float64)
    made = vector.unpack(vector.cut(vector.pack(values), size)).astype(np.float64)
    assert math.isclose(float(np.linalg.norm(made)), 1.0, rel_tol=1e-5)
    assert np.allclose(made, head / np.linalg.norm(head), atol=1e-6)


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot cut 2 dimensions to 3"):
        vector.cut(vector.pack([1.0, 2.0]), 3)
    with pytest.raises(ValueError, match="no length"):
        vector.cut(vector.pack([0.0, 2.0]), 1)


def test_too_large_numbers_become_infinite_and_nested_ones_are_refused() -> None:
    assert not np.isfinite(vector.unpack(vector.pack([1e300]))).any()
    with pytest.raises(ValueError, match="flat"):
        vector.pack([[1.0], [2.0]])  # type: ignore[list-item]
