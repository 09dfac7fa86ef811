"""A failing store is left alone for a while."""

from __future__ import annotations

from typing import Any

import pytest

from embedonce.core.errors import StoreUnavailable
from embedonce.stores import breaker
from support.clock import FakeClock


class Store:
    def __init__(self) -> None:
        self.calls = 0
        self.down = True

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> str:
            self.calls += 1
            if self.down:
                raise StoreUnavailable("down")
            return name

        return call


@pytest.mark.parametrize(
    ("wrapper", "method"),
    [
        (breaker.BreakingVectors, "get_many"),
        (breaker.BreakingVectors, "put_many"),
        (breaker.BreakingVectors, "delete_many"),
        (breaker.BreakingFlights, "get_many"),
        (breaker.BreakingFlights, "swap_many"),
        (breaker.BreakingAccess, "find"),
        (breaker.BreakingAccess, "find_by_id"),
    ],
)
def test_it_is_asked_once_and_again_after_a_while(wrapper: Any, method: str) -> None:
    store, clock = Store(), FakeClock()
    guarded = wrapper(store, clock)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            getattr(guarded, method)([])
    assert store.calls == 1
    store.down = False
    clock.advance(breaker.OPEN_SECONDS)
    getattr(guarded, method)([])
    assert store.calls == 2
