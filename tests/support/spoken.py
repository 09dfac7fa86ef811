"""One content said in each dialect, and the vector read back from each one's answer."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from embedonce.core import vector
from embedonce.core.content import Modality
from support.gateway import MODEL, Answer, TestGateway

OPENAI_KINDS = {
    Modality.IMAGE: ("image_url", "url"),
    Modality.AUDIO: ("input_audio", "data"),
    Modality.VIDEO: ("input_video", "data"),
    Modality.PDF: ("input_file", "data"),
}
SEGMIND_FIELDS = {m: m.value for m in OPENAI_KINDS}
DIALECTS = ("openai", "segmind", "google")

Part = str | tuple[Modality, str]
"""A text, or media as a client writes them (base64, a data URL)."""


def standard(data: bytes) -> str:
    return base64.b64encode(data).decode()


def url_safe(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


def data_url(data: bytes, media_type: str = "application/octet-stream") -> str:
    return f"data:{media_type};base64,{standard(data)}"


def say(
    gate: TestGateway,
    dialect: str,
    parts: Sequence[Part],
    *,
    dimensions: int = 768,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One vector of `parts`, without a task in the dialects that have none by themselves."""
    path, body = request(dialect, parts, dimensions)
    return gate.request("POST", path, orjson.dumps(body), headers)


def request(dialect: str, parts: Sequence[Part], dimensions: int) -> tuple[str, dict[str, Any]]:
    if dialect == "openai":
        said = [_openai_part(part) for part in parts]
        return "/v1/embeddings", {"model": MODEL, "input": [{"content": said}], "dimensions": dimensions}
    if dialect == "google":
        said = [{"text": p} if isinstance(p, str) else {"inlineData": {"data": p[1]}} for p in parts]
        body = {"content": {"parts": said}, "outputDimensionality": dimensions}
        return f"/v1beta/models/{MODEL}:embedContent", body
    fields = {
        "input" if isinstance(p, str) else SEGMIND_FIELDS[p[0]]: p if isinstance(p, str) else p[1]
        for p in parts
    }
    return f"/v1/{MODEL}", {**fields, "output_dimensionality": dimensions}


def _openai_part(part: Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind, name = OPENAI_KINDS[part[0]]
    return {"type": kind, kind: {name: part[1]}}


def heard(answer: Answer) -> list[bytes]:
    """float32, whatever the dialect of the answer."""
    assert answer.status == 200, answer.response.body[:500]
    body = answer.body
    if "data" in body:
        return answer.vectors
    if "embeddings" in body:
        return [vector.pack(one["values"]) for one in body["embeddings"]]
    embedding = body["embedding"]
    return [vector.pack(embedding["values"] if isinstance(embedding, dict) else embedding)]


def complaint(answer: Answer) -> str:
    error = answer.error
    message: str = error if isinstance(error, str) else error["message"]
    return message
