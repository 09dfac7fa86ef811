from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.openrouter import FakeOpenRouter
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
