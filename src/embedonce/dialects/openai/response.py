"""The embeddings answer, written from the stored float32: equal bit for bit at every hit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from embedonce.core import vector
from embedonce.core.errors import PayloadTooLarge
from embedonce.core.pricing import PICO
from embedonce.dialects.provenance import Totals
from embedonce.usecases.embed import EmbedResult

JSON_BYTES_PER_VALUE = 16
"""The most that one float32 takes in shortest JSON text with its comma (-0.000012345678,)."""
ENVELOPE_BYTES = 64
"""Around each vector: its index, its field names, and the escaping of quotes in a Lambda answer."""
FIXED_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Size:
    """How large an answer may get, known before anything is paid."""

    base64: bool
    dimensions: int

    @property
    def of_one(self) -> int:
        if self.base64:
            return -(-self.dimensions * vector.BYTES_PER_DIMENSION // 3) * 4 + ENVELOPE_BYTES
        return self.dimensions * JSON_BYTES_PER_VALUE + ENVELOPE_BYTES

    def check(self, inputs: int, limit: int) -> None:
        """:raises PayloadTooLarge: naming encoding, dimensions and the number of inputs that would fit"""
        if FIXED_BYTES + inputs * self.of_one <= limit:
            return
        fits = (limit - FIXED_BYTES) // self.of_one
        encoding = "base64" if self.base64 else "float"
        raise PayloadTooLarge(
            f"input: the answer to {inputs} inputs would be over {limit} bytes: with "
            f"encoding_format={encoding} and {self.dimensions} dimensions at most {fits} inputs fit. "
            "Send fewer at once, or ask for base64 or fewer dimensions",
            param="input",
        )


def render(result: EmbedResult, totals: Totals, *, base64: bool, model: str, answer_id: str) -> bytes:
    written = [_embedding(a.record.data, base64) for a in result.answers]
    return orjson.dumps(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": i, "embedding": written[index]}
                for i, index in enumerate(result.order)
            ],
            "model": model,
            "id": answer_id,
            "usage": _usage(totals),
        }
    )


def _embedding(data: bytes, base64: bool) -> orjson.Fragment:
    return orjson.Fragment(b'"' + vector.to_base64(data) + b'"' if base64 else vector.to_json(data))


def _usage(totals: Totals) -> dict[str, Any]:
    details: dict[str, int] = {
        f"{modality.value}_tokens": count for modality, count in totals.tokens_by_modality.items()
    }
    details["cached_tokens"] = totals.cached_tokens
    return {
        "prompt_tokens": totals.tokens,
        "total_tokens": totals.tokens,
        "cost": totals.cost / PICO,
        "prompt_tokens_details": details,
    }
