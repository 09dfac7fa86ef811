"""Days and months as counters are named by them, in UTC. The clock is whoever asks."""

from __future__ import annotations

from datetime import UTC, datetime


def day_of(now: float) -> str:
    """YYYYMMDD of seconds since 1970."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y%m%d")


def month_of(now: float) -> str:
    """YYYYMM."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y%m")
