"""The same vector for different inputs, over calls.

Within a batch `core.validation` sees that; over calls it takes a memory. The first of the wrong vectors
cannot be told from a right one; those that repeat it are refused. So is the same picture in another file, if
its vector is the same to the bit (docs/adr/0010-*).
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from embedonce.core.content import Content, MediaPart
from embedonce.core.validation import checked_vectors

REMEMBERED = 256
"""Vectors, with their contents for comparison: texts of at most 64 KiB each, media without their bytes."""


class Repeats:
    """Thread-safe; of one upstream in one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: OrderedDict[bytes, Content] = OrderedDict()

    def check(self, vector: bytes, content: Content, upstream: str) -> None:
        """:raises UpstreamInvalid: another input was just given this vector"""
        content = _without_data(content)
        with self._lock:
            first = self._seen.setdefault(vector, content)
            self._seen.move_to_end(vector)
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        if first != content:
            checked_vectors((vector, vector), (first, content), None, upstream=upstream)


def _without_data(content: Content) -> Content:
    if content.is_text:
        return content
    return Content(tuple(p.without_data() if isinstance(p, MediaPart) else p for p in content.parts))
