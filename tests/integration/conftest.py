from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.openrouter import FakeOpenRouter
from support.anymodal import AnyModal
from support.gateway import ImpatientClock, TestGateway, gateway


@pytest.fixture
def fake() -> Iterator[FakeOpenRouter]:
    with FakeOpenRouter() as server:
        yield server


@pytest.fixture
def gate(tmp_path: Path, fake: FakeOpenRouter) -> Iterator[TestGateway]:
    """A gateway that buys from `fake`; pauses between retries are short."""
    with gateway(tmp_path, fake, clock=ImpatientClock()) as running:
        yield running


@pytest.fixture
def anymodal() -> AnyModal:
    return AnyModal()


@pytest.fixture
def anygate(tmp_path: Path, anymodal: AnyModal) -> Iterator[TestGateway]:
    """A gateway that buys from `anymodal`, which takes every modality."""
    with gateway(tmp_path, clock=ImpatientClock(), upstreams=[anymodal]) as running:
        yield running
