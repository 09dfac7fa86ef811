"""The cache key: SHA-256 over a versioned, length-prefixed encoding (docs/storage-format.md).

In the key: namespace and its generation, lineage and the model's generation, model, dimensions, every
vector-affecting parameter that is sent, and per part, in order, its modality and the SHA-256 of the bytes as
sent (a task prefix is part of the text). Nothing else. Golden-tested: one byte changed re-buys everything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from embedonce.core.content import Content, Modality, digest

VERSION = b"embedonce/fingerprint/1"

_MODALITY_CODES = {modality: modality.value.encode() for modality in Modality}


@dataclass(frozen=True, slots=True)
class Namespace:
    """Who shares with whom: the key's own namespace and, inside it, the one a request may ask for.

    The pair is encoded as two fields, so no spelling of `inner` reaches another `owner`. A purge bumps
    `generation`, which leaves every older entry behind.
    """

    owner: str
    inner: str = ""
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Space:
    """Which vectors are interchangeable: one lineage of one model at one upstream recipe."""

    lineage: str
    model: str
    generation: int = 0


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """One text for equal values whatever their key order; ASCII, no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _field(value: bytes) -> bytes:
    return len(value).to_bytes(8, "big") + value


def _text(value: str) -> bytes:
    return _field(value.encode())


class Fingerprinter:
    """Makes the keys of one request: what its contents have in common is hashed once.

    `parameters` as canonical JSON.
    """

    __slots__ = ("_base",)

    def __init__(self, namespace: Namespace, space: Space, parameters: bytes) -> None:
        self._base = hashlib.sha256(
            b"".join(
                (
                    _field(VERSION),
                    _text(namespace.owner),
                    _text(namespace.inner),
                    _field(namespace.generation.to_bytes(8, "big")),
                    _text(space.lineage),
                    _text(space.model),
                    _field(space.generation.to_bytes(8, "big")),
                    _field(parameters),
                )
            )
        )

    def of(self, content: Content, dimensions: int | None) -> bytes:
        """32 bytes. `content` as it will be sent; `dimensions` None: the model's own, unknown here."""
        state = self._base.copy()
        parts = [(dimensions or 0).to_bytes(8, "big")]
        for part in content.parts:
            parts.append(_field(_MODALITY_CODES[part.modality]))
            parts.append(_field(digest(part)))
        state.update(b"".join(parts))
        return state.digest()


def fingerprinter(namespace: Namespace, space: Space, parameters: Mapping[str, Any]) -> Fingerprinter:
    """Requests of one caller mostly share all that is not content, so it is hashed once for many."""
    return _fingerprinter(namespace, space, canonical_json(parameters) if parameters else b"{}")


_fingerprinter = lru_cache(maxsize=1024)(Fingerprinter)
