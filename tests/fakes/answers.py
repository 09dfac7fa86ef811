"""The right answers of the fake providers: vectors and usage that are a function of the request."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from fakes.behaviour import BODIES, EDITS, WIRE, Behaviour, Item

FULL = 3072
USD_PER_TOKEN = 0.2e-6
TOKENS_PER_MEDIUM = 258

Sent = str | bytes
"""One part as a provider received it: a text, or the decoded bytes of a medium."""


@dataclass(frozen=True)
class Planned:
    """What is to be sent: `body` under `status`, unless `behaviour` is one of the wire's."""

    behaviour: Behaviour
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def vector_for(
    content: Sent | Sequence[Sent],
    dimensions: int | None = None,
    *,
    model: str = "google/gemini-embedding-2",
    input_type: str | None = None,
    **parameters: str | None,
) -> bytes:
    """Little-endian float32 as a fake answers for that content, its parts exactly as they were sent.

    Media count by the SHA-256 of their bytes. A smaller size is the first numbers of the 3072, renormalised
    in float64.
    """
    parts = [part if isinstance(part, str) else _sha256(part) for part in listed(content)]
    named: list[Any] = [model, input_type, parts]
    if given := {name: value for name, value in parameters.items() if value is not None}:
        named.append(dict(sorted(given.items())))
    seed = json.dumps(named).encode()
    noise = np.frombuffer(hashlib.shake_256(seed).digest(FULL * 4), dtype="<i4").astype(np.float64)
    full = (noise / np.sqrt(noise @ noise)).astype("<f4")
    if dimensions in (None, FULL):
        return full.tobytes()
    head = full[:dimensions].astype(np.float64)
    return (head / np.sqrt(head @ head)).astype("<f4").tobytes()


def listed(content: Sent | Sequence[Sent]) -> list[Sent]:
    return [content] if isinstance(content, str | bytes) else list(content)


def _sha256(data: bytes) -> dict[str, str]:
    return {"sha256": hashlib.sha256(data).hexdigest()}


def label(parts: Sequence[Sent]) -> str:
    """What a content is billed under: its texts, and `sha256:` with the digest of media."""
    return "\n".join(p if isinstance(p, str) else f"sha256:{hashlib.sha256(p).hexdigest()}" for p in parts)


def tokens_for(content: Sent | Sequence[Sent]) -> int:
    """One token to four bytes of text, rounded up; 258 to a medium."""
    texts = [part for part in listed(content) if isinstance(part, str)]
    media = len(listed(content)) - len(texts)
    return sum(-(-len(text.encode()) // 4) for text in texts) + TOKENS_PER_MEDIUM * media


def decoded(text: Any) -> bytes | None:
    """Standard base64, bare or in a data URL; None for anything else, URLs above all."""
    if not isinstance(text, str):
        return None
    head, comma, rest = text.partition(",")
    if comma and not (head.startswith("data:") and head.endswith(";base64")):
        return None
    try:
        return base64.b64decode(rest if comma else head, validate=True) or None
    except (binascii.Error, ValueError):
        return None


def edited(behaviour: Behaviour, vectors: Sequence[bytes]) -> list[Item]:
    """The vectors as items with `index` and `embedding`, edited as the behaviour says."""
    shown: list[Any] = [np.frombuffer(data, dtype="<f4").tolist() for data in vectors]
    if behaviour.kind == "base64":
        shown = [base64.b64encode(data).decode() for data in vectors]
    items = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(shown)]
    return items if behaviour.kind in WIRE else EDITS[behaviour.kind](items)


def written(behaviour: Behaviour, body: Any) -> bytes:
    """orjson has no NaN literal; json is ten times slower."""
    return json.dumps(body).encode() if behaviour.kind == "nan_literal" else orjson.dumps(body)


def whole_body(behaviour: Behaviour) -> Planned | None:
    """Of a behaviour that answers the same whatever was asked."""
    if behaviour.kind in BODIES:
        return Planned(behaviour, 200, BODIES[behaviour.kind])
    return None
