"""The model lists: OpenAI's short one and OpenRouter's, whose clients need every field to be there."""

from __future__ import annotations

from typing import Any

from embedonce.core.catalog import Catalog, Model
from embedonce.core.content import Modality
from embedonce.core.errors import InvalidRequest
from embedonce.dialects.provenance import OPENROUTER_NAMES

MAX_PAGE = 500


def openai_list(catalog: Catalog) -> dict[str, Any]:
    return {"object": "list", "data": [openai_model(model) for model in catalog]}


def openai_model(model: Model) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owner}


def openrouter_list(catalog: Catalog, offset: str | None, limit: str | None) -> dict[str, Any]:
    """:raises InvalidRequest: an offset or limit that is no whole number"""
    models = [_openrouter_model(model) for model in catalog]
    start = _whole(offset, "offset", 0)
    count = min(_whole(limit, "limit", MAX_PAGE), MAX_PAGE)
    following = start + count if count and start + count < len(models) else None
    return {
        "data": models[start : start + count],
        "total_count": len(models),
        "links": {
            "next": None
            if following is None
            else f"/api/v1/embeddings/models?offset={following}&limit={count}"
        },
    }


def _whole(value: str | None, param: str, default: int) -> int:
    if value is None or value == "":
        return default
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise InvalidRequest(f"{param}: must be a whole number", param=param)
    return int(value)


def _openrouter_model(model: Model) -> dict[str, Any]:
    modalities = [OPENROUTER_NAMES[m] for m in Modality if m in model.modalities]
    price = model.price
    return {
        "id": model.id,
        "canonical_slug": model.id,
        "hugging_face_id": "",
        "name": model.name,
        "created": model.created,
        "description": model.description,
        "context_length": model.limits.tokens,
        "architecture": {
            "modality": f"{'+'.join(modalities)}->embeddings",
            "input_modalities": modalities,
            "output_modalities": ["embeddings"],
            "tokenizer": "Gemini" if model.owner == "google" else "Other",
            "instruct_type": None,
        },
        "pricing": {
            "prompt": price(Modality.TEXT).usd_per_token,
            "completion": "0",
            "image": price(Modality.IMAGE).usd_per_token,
            "audio": price(Modality.AUDIO).usd_per_token,
            "request": "0",
        },
        "top_provider": {
            "context_length": model.limits.tokens,
            "max_completion_tokens": None,
            "is_moderated": False,
        },
        "per_request_limits": None,
        "supported_parameters": ["dimensions", "encoding_format", "input_type", "task_type", "title"],
        "default_parameters": {},
        "links": {"details": "/v1/models"},
        "supported_voices": None,
    }
