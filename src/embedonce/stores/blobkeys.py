"""What a blob may be called: one rule for every store, so that a key is a safe path where it becomes one."""

from __future__ import annotations

import re

MAX_KEY = 1024

_SEGMENT = re.compile(r"[A-Za-z0-9_.-]{1,200}")


def segments(key: str) -> tuple[str, ...]:
    """:raises ValueError: not segments of `A-Za-z0-9_.-` joined by `/`, or one is `.` or `..`; or too long
    (200 each, 1024 together)"""
    parts = tuple(key.split("/"))
    if len(key) > MAX_KEY or not all(map(_allowed, parts)):
        raise ValueError("no blob can be called that")
    return parts


def checked(key: str) -> str:
    """:raises ValueError: see `segments`"""
    segments(key)
    return key


def _allowed(segment: str) -> bool:
    return segment not in (".", "..") and _SEGMENT.fullmatch(segment) is not None
