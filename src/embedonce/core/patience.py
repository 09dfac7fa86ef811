"""How long a request may keep whoever handles it."""

from __future__ import annotations

from enum import IntEnum


class Patience(IntEnum):
    """A server tries them in this order, each where it does no harm; what would take longer raises
    `WouldBlock`. So hits never queue behind misses. Lambda, with one request at a time, needs only the last.
    """

    MEMORY = 0
    """Not at all: on an event loop."""
    STORES = 1
    """For our own stores: milliseconds."""
    PROVIDERS = 2
    """For origins of media and for providers: until the deadline."""
