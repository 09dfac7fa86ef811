"""What a request needs: each different content once, what to look up, how to batch what is missing. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from embedonce.core.content import Content, Modality
from embedonce.core.fingerprint import Fingerprinter
from embedonce.core.options import EmbedOptions
from embedonce.core.record import StoredVector

_Kind = tuple[frozenset[Modality], int | None, bool]


@dataclass(frozen=True, slots=True)
class VectorKey:
    """Where a vector is kept. `dimensions` (as asked for; None: the model's own, unknown) picks the tier."""

    fingerprint: bytes
    dimensions: int | None


@dataclass(frozen=True, slots=True)
class Item:
    """One different content of a request.

    `fetch` is looked up first and is what an upstream is asked for and what is stored: the exact size for
    text, the full size for media (every smaller one is cut from it). `source` is looked up where `fetch`
    missed and the answer can be cut from it. `param` names where a client sent it first.
    """

    content: Content
    modality: Modality
    modalities: frozenset[Modality]
    fetch: VectorKey
    source: VectorKey | None
    dimensions: int | None
    positions: tuple[int, ...]
    param: str

    def answer(self, record: StoredVector) -> StoredVector:
        """The record at the size that was asked for."""
        if self.dimensions is None or record.dimensions == self.dimensions:
            return record
        return record.cut_to(self.dimensions)


def items_of(
    contents: Sequence[Content],
    fingerprinters: Sequence[Fingerprinter],
    options: EmbedOptions,
    params: Sequence[str],
) -> tuple[Item, ...]:
    """Dedupe `contents` (as they will be sent), in order of first appearance.

    `fingerprinters[i]` is of the lineage that content i is routed to, `params[i]` where a client sent it.
    """
    full = options.derives_from
    positions: dict[bytes, list[int]] = {}
    firsts: dict[bytes, tuple[Content, VectorKey, VectorKey | None]] = {}
    for i, (content, fingerprinter) in enumerate(zip(contents, fingerprinters, strict=True)):
        kept = full if full is not None and not content.is_text else options.dimensions
        fingerprint = fingerprinter.of(content, kept)
        if fingerprint in positions:
            positions[fingerprint].append(i)
            continue
        positions[fingerprint] = [i]
        source = None
        if full is not None and kept != full:
            source = VectorKey(fingerprinter.of(content, full), full)
        firsts[fingerprint] = (content, VectorKey(fingerprint, kept), source)
    return tuple(
        Item(
            content=content,
            modality=content.modality,
            modalities=content.modalities,
            fetch=fetch,
            source=source,
            dimensions=options.dimensions,
            positions=tuple(where := positions[fetch.fingerprint]),
            param=params[where[0]],
        )
        for content, fetch, source in firsts.values()
    )


def batches(items: Iterable[Item], max_inputs: int, max_bytes: int) -> Iterator[tuple[Item, ...]]:
    """Upstream calls of at most `max_inputs` and about `max_bytes` each, in order.

    One call holds equal modalities, one size and one form: a content of several parts is not said like a
    plain one, and must not change how its neighbours are said.
    """
    open_batches: dict[_Kind, list[Item]] = {}
    sizes: dict[_Kind, int] = {}
    for item in items:
        kind = (item.modalities, item.fetch.dimensions, len(item.content.parts) > 1)
        batch = open_batches.setdefault(kind, [])
        size = item.content.size
        if batch and (len(batch) >= max_inputs or sizes[kind] + size > max_bytes):
            yield tuple(batch)
            batch = open_batches[kind] = []
            sizes[kind] = 0
        batch.append(item)
        sizes[kind] = sizes.get(kind, 0) + size
    for batch in open_batches.values():
        yield tuple(batch)
