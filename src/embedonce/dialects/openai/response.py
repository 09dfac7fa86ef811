"""The embeddings answer, written from the stored float32: equal bit for bit at every hit."""

from __future__ import annotations

import orjson

from embedonce.core.answer import EmbedResult
from embedonce.dialects.embedding import AnswerForm, written
from embedonce.dialects.provenance import Totals, usage_of

FORMS = {
    base64: AnswerForm("input", "inputs", base64, setting=f"encoding_format={name} and ")
    for base64, name in ((False, "float"), (True, "base64"))
}
"""By whether base64 was asked for."""


def render(result: EmbedResult, totals: Totals, *, base64: bool, model: str, answer_id: str) -> bytes:
    embeddings = [written(answered, base64=base64) for answered in result.answers]
    return orjson.dumps(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": i, "embedding": embeddings[index]}
                for i, index in enumerate(result.order)
            ],
            "model": model,
            "id": answer_id,
            "usage": usage_of(totals),
        }
    )
