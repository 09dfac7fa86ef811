"""Stores that count their calls, and fail while they are told to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from embedonce.bootstrap.stores import Stores, open_stores
from embedonce.config import load
from embedonce.core.errors import StoreUnavailable
from embedonce.ports import Clock

WATCHED = ("vectors", "flights", "access", "tickets", "blobs", "quotas", "usage")


class Outage:
    """`down`: names of stores every call of which fails. `calls` by `store.method`; `hook` is told of each
    before it is made, with its arguments."""

    def __init__(self) -> None:
        self.down: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.hook: Callable[[str, tuple[Any, ...]], None] = lambda name, arguments: None

    def over(self, stores: Stores) -> Stores:
        watched = {name: _Watched(getattr(stores, name), name, self) for name in WATCHED}
        assert watched.keys() <= {field.name for field in fields(stores)}
        return replace(stores, **watched)

    def opened(self, folder: Path, clock: Clock) -> Stores:
        return self.over(open_stores(load({"EMBEDONCE_DATA_DIR": str(folder)}), clock))


class _Watched:
    def __init__(self, inner: Any, name: str, outage: Outage) -> None:
        self._inner = inner
        self._name = name
        self._outage = outage

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return value

        def called(*arguments: Any, **named: Any) -> Any:
            self._outage.calls[f"{self._name}.{name}"] += 1
            if self._name in self._outage.down:
                raise StoreUnavailable("down")
            self._outage.hook(f"{self._name}.{name}", arguments)
            return value(*arguments, **named)

        return called
