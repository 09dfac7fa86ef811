"""The same vector for different inputs, over calls.

Within a batch `core.validation` sees that; over calls it takes a memory. The first of the wrong vectors
cannot be told from a right one; those that repeat it are refused. So is the same picture in another file, if
its vector is the same to the bit (docs/adr/0010-*).
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

from embedonce.core.errors import UpstreamInvalid

REMEMBERED = 4096
"""Vectors, each with the subject of the content it was given for (`core.validation.subject_of`)."""


class Repeats:
    """Thread-safe; of one upstream in one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: OrderedDict[bytes, bytes] = OrderedDict()

    def check(self, vector: bytes, subject: bytes, upstream: str) -> None:
        """:raises UpstreamInvalid: another input was just given this vector"""
        key = hashlib.sha256(vector).digest()
        with self._lock:
            first = self._seen.setdefault(key, subject)
            self._seen.move_to_end(key)
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        if first != subject:
            raise UpstreamInvalid(
                f"{upstream} answered with an embedding that cannot be used: equal for different inputs"
            )
