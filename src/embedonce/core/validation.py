"""An upstream batch is believed as a whole or not at all: a doubtful answer is never stored or returned."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence

from embedonce.core import vector
from embedonce.core.content import Content, TextPart, digest
from embedonce.core.errors import UpstreamInvalid

_WORD = re.compile(r"\w+")


def checked_vectors(
    vectors: Sequence[bytes],
    contents: Sequence[Content | None],
    dimensions: int | None,
    *,
    upstream: str,
    distinct: bool = True,
) -> None:
    """Count, dimension, finiteness, length and distinctness of every vector of one batch.

    `contents` are all different. `distinct`: equal vectors for different contents are refused, except where
    the contents differ only in what a tokenizer may drop (case, white space, word order). Without `distinct`
    a content may be None, where it is not at hand.

    :raises UpstreamInvalid: naming the first thing that is wrong, by position
    """
    import numpy as np

    if len(vectors) != len(contents):
        _refuse(upstream, f"{len(vectors)} vectors for {len(contents)} inputs")
    size = dimensions if dimensions is not None else vector.dimensions_of(vectors[0])
    for i, data in enumerate(vectors):
        if vector.dimensions_of(data) != size or not data:
            _refuse(upstream, f"vector {i} has {vector.dimensions_of(data)} dimensions, not {size}")
    matrix = np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), size)
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        _refuse(upstream, f"vector {int(np.argmin(finite))} has a value that is not finite")
    nonzero = matrix.any(axis=1)
    if not nonzero.all():
        _refuse(upstream, f"vector {int(np.argmin(nonzero))} is zero")
    if distinct:
        _check_distinct(vectors, [content for content in contents if content is not None], upstream)


def _check_distinct(vectors: Sequence[bytes], contents: Sequence[Content], upstream: str) -> None:
    first: dict[bytes, int] = {}
    for i, data in enumerate(vectors):
        j = first.setdefault(data, i)
        if j != i and subject_of(contents[i]) != subject_of(contents[j]):
            _refuse(upstream, f"vectors {j} and {i} are equal for different inputs")


def subject_of(content: Content) -> bytes:
    """32 bytes, equal for contents that may have one vector: the same media and texts, or texts that differ
    only in what a tokenizer may drop (case, white space, word order)."""
    if content.is_text:
        text = " ".join(part.text for part in content.parts if isinstance(part, TextPart))
        words = sorted(set(_WORD.findall(unicodedata.normalize("NFKC", text).casefold())))
        return hashlib.sha256("\0".join(["text", *words]).encode()).digest()
    parts = [part.modality.value.encode() + digest(part) for part in content.parts]
    return hashlib.sha256(b"\0".join(parts)).digest()


def _refuse(upstream: str, what: str) -> None:
    raise UpstreamInvalid(f"{upstream} answered with an embedding that cannot be used: {what}")
