"""A point on the monotonic clock by which an answer must be there."""

from __future__ import annotations

from dataclasses import dataclass

HANDLER_SECONDS = 27.0
"""What a request may take: API Gateway's HTTP API gives up at 30 s and cannot be told otherwise."""


@dataclass(frozen=True, slots=True)
class Deadline:
    at: float

    @classmethod
    def after(cls, seconds: float, monotonic: float) -> Deadline:
        return cls(monotonic + seconds)

    def remaining(self, monotonic: float) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self.at - monotonic)
