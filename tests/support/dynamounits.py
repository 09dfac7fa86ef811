"""Capacity units as DynamoDB bills them, computed from what was really sent: moto's own are constant."""

from __future__ import annotations

from typing import Any


class Puts:
    """Write units of PutItem. Knows what was put before, which counts too."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, str], tuple[int, Any]] = {}

    def units(self, asked: Any, answered: Any) -> int:
        """A condition that failed costs what stands there; a row in the index `due` counts there as well."""
        item = asked["Item"]
        name = (asked["TableName"], str(item.get("fp") or item.get("k")))
        before, due_before = self._before.get(name, (0, None))
        if "Error" in answered:
            return max(1, -(-before // 1024))
        size, due = item_size(item), (item["ds"], item["dt"]) if "ds" in item else None
        self._before[name] = (size, due)
        # An entry of the index is removed, added, or both.
        index = 0 if due == due_before else (due is not None) + (due_before is not None)
        return max(1, -(-max(size, before) // 1024)) + index


def half_read_units(item: Any, *, strongly: bool) -> int:
    """Halves of read units: one for 4 KB read eventually, two strongly; for what is not there as well."""
    return max(1, -(-item_size(item or {}) // 4096)) * (2 if strongly else 1)


def item_size(item: Any) -> int:
    """As DynamoDB counts it: names and values."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(value: Any) -> int:
    ((kind, said),) = value.items()
    match kind:
        case "S":
            return len(said.encode())
        case "B":
            return len(said)
        case "N":
            return len(said.lstrip("-0.").replace(".", "")) // 2 + 2
        case "L":
            return 3 + sum(1 + _value_size(each) for each in said)
        case _:
            return 1
