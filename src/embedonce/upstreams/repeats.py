"""The same vector for different inputs, where each call holds one input only.

Within a batch `core.validation` sees that; over calls it takes a memory. The first of the wrong vectors
cannot be told from a right one; those that repeat it are refused.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from embedonce.core.content import Content, MediaPart, Modality
from embedonce.core.errors import UpstreamInvalid
from embedonce.core.validation import checked_vectors
from embedonce.upstreams.failure import Kind, UpstreamFailure

REMEMBERED = 128
"""Texts are kept for comparison: at most 64 KiB each."""


class Repeats:
    """Thread-safe; of one upstream in one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: OrderedDict[bytes, Content] = OrderedDict()

    def check(self, vector: bytes, content: Content, upstream: str) -> None:
        """Equal vectors of two media of one modality are let pass: the same picture in another file has the
        same vector, and one refused for that could never be embedded.

        :raises UpstreamFailure: INVALID, another input was just given this vector
        """
        with self._lock:
            first = self._seen.setdefault(vector, _without_data(content))
            self._seen.move_to_end(vector)
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        if first.modality is content.modality is not Modality.TEXT or not vector:
            return
        if first.parts == content.parts:
            return
        try:
            checked_vectors((vector, vector), (first, content), None, upstream=upstream)
        except UpstreamInvalid:
            message = f"{upstream} gave an answer that cannot be used: the vector of another input"
            raise UpstreamFailure(Kind.INVALID, message) from None


def _without_data(content: Content) -> Content:
    return Content(tuple(p.without_data() if isinstance(p, MediaPart) else p for p in content.parts))
