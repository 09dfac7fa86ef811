"""How long a provider asks to be left alone: headers in seconds, milliseconds, dates and times of reset."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_RETRY_AFTER = 3600.0
_SECONDS = re.compile(r"-?\d{1,9}(\.\d{1,9})?")
_MILLISECONDS_FROM = 1e11
"""An epoch time beyond this is in milliseconds (in seconds it would be the year 5138)."""


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait by `retry-after-ms` or `Retry-After` (seconds or a date; `now` in seconds since 1970).

    0 to 3600: a longer or an earlier one is cut to that; what cannot be read is None.
    """
    wait: float | None = None
    milliseconds = headers.get("retry-after-ms", "").strip()
    text = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(milliseconds):
        wait = float(milliseconds) / 1000
    elif _SECONDS.fullmatch(text):
        wait = float(text)
    elif text:
        try:
            when = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        wait = when.replace(tzinfo=when.tzinfo or UTC).timestamp() - now
    if wait is None or not math.isfinite(wait):
        return None
    return min(max(wait, 0.0), LONGEST_RETRY_AFTER)


def seconds_until(text: str, now: float) -> float | None:
    """From `now` (seconds since 1970) to an ISO 8601 time (UTC unless it says otherwise) or an epoch time.

    0 to 3600; None for what cannot be read.
    """
    text = text.strip()
    try:
        when = float(text)
        when = when / 1000 if when > _MILLISECONDS_FROM else when
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        when = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    wait = when - now
    return None if math.isnan(wait) else min(max(wait, 0.0), LONGEST_RETRY_AFTER)
