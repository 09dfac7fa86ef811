"""How a request's contents are to be embedded, as every dialect says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from embedonce.core.catalog import Model
from embedonce.core.tasks import TaskType


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """`dimensions` is None only where the catalogue does not know the model's own size.

    `parameters` may change the vector: they are sent and are part of the key. `passthrough` cannot change
    it (who asks, where it is billed, how it is traced): it is sent and is not in the key.
    """

    model: Model
    dimensions: int | None
    task_type: TaskType | None = None
    title: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    passthrough: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def derives_from(self) -> int | None:
        """The full size this one can be cut from, or None where it cannot or already is the full size."""
        full = self.model.dimensions.default
        if not self.model.derivable or full is None or self.dimensions is None:
            return None
        return full if self.dimensions < full else None
