"""The right answers of the fake providers: vectors, usage and bodies that are a function of the request."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from fakes.behaviour import BODIES, EDITS, WIRE, Behaviour

FULL = 3072
USD_PER_TOKEN = 0.2e-6


@dataclass(frozen=True)
class Planned:
    """What is to be sent: `body` under `status`, unless `behaviour` is one of the wire's."""

    behaviour: Behaviour
    status: int
    body: bytes


def vector_for(
    text: str | Sequence[str],
    dimensions: int | None = None,
    *,
    model: str = "google/gemini-embedding-2",
    input_type: str | None = None,
) -> bytes:
    """Little-endian float32 as the fake answers for that text, or those parts, exactly as they were sent.

    A smaller size is the first numbers of the 3072, renormalised in float64.
    """
    texts = [text] if isinstance(text, str) else list(text)
    seed = json.dumps([model, input_type, texts]).encode()
    noise = np.frombuffer(hashlib.shake_256(seed).digest(FULL * 4), dtype="<i4").astype(np.float64)
    full = (noise / np.sqrt(noise @ noise)).astype("<f4")
    if dimensions in (None, FULL):
        return full.tobytes()
    head = full[:dimensions].astype(np.float64)
    return (head / np.sqrt(head @ head)).astype("<f4").tobytes()


def tokens_for(text: str | Sequence[str]) -> int:
    """One token to four bytes, rounded up."""
    texts = [text] if isinstance(text, str) else text
    return sum(-(-len(part.encode()) // 4) for part in texts)


def planned(behaviour: Behaviour, body: Any) -> Planned:
    if behaviour.kind in BODIES:
        return Planned(behaviour, 200, BODIES[behaviour.kind])
    if behaviour.kind == "status":
        error = refused(behaviour.code, behaviour.text or "Provider returned error")
        return Planned(behaviour, error.status, error.body)
    if behaviour.kind == "error_under_200":
        code: int | str = behaviour.code or behaviour.text
        said = {"code": code, "message": behaviour.text or "Provider returned error"}
        return Planned(behaviour, 200, json.dumps({"error": said}).encode())
    kind = "ok" if behaviour.kind in WIRE else behaviour.kind
    return Planned(behaviour, 200, answer(body, kind, behaviour.text))


def refused(code: int, message: str) -> Planned:
    body = {"error": {"code": code, "message": message, "metadata": {"provider_name": "Google"}}}
    return Planned(Behaviour("status", code=code), code, json.dumps(body).encode())


def answer(body: Any, kind: str, text: str) -> bytes:
    """The JSON for an embeddings request, edited as behaviour `kind` says."""
    inputs = [parts(entry) for entry in entries(body)]
    named = {"model": body["model"], "input_type": body.get("input_type")}
    vectors = [vector_for(texts, body.get("dimensions"), **named) for texts in inputs]
    if kind == "base64" or (body.get("encoding_format") == "base64" and kind == "ok"):
        shown: list[Any] = [base64.b64encode(data).decode() for data in vectors]
    else:
        shown = [np.frombuffer(data, dtype="<f4").tolist() for data in vectors]
    items = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(shown)]
    tokens = sum(tokens_for(texts) for texts in inputs)
    said: dict[str, Any] = {
        "object": "list",
        "data": EDITS[kind](items),
        "model": text if kind == "other_model" else body["model"],
        "id": "gen-emb-fake",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "cost": tokens * USD_PER_TOKEN},
    }
    if kind == "no_usage":
        del said["usage"]
    elif kind == "null_usage":
        said["usage"] = None
    elif kind == "garbage_usage":
        said["usage"] = {"prompt_tokens": -1, "total_tokens": "many", "cost": "free"}
    elif kind == "float_usage":
        said["usage"] = {"prompt_tokens": float(tokens), "cost": "0.0000008"}
    # orjson has no NaN literal; json is ten times slower.
    return json.dumps(said).encode() if kind == "nan_literal" else orjson.dumps(said)


def refusal(body: Any, max_inputs: int) -> str | None:
    """Why the request is a 400, or None."""
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        return "model is required"
    inputs = entries(body)
    if not inputs or not all(parts(entry) for entry in inputs):
        return "input is required"
    if len(inputs) > max_inputs:
        return f"at most {max_inputs} requests can be in one batch"
    size = body.get("dimensions", FULL)
    if type(size) is not int or not 1 <= size <= FULL:
        return "dimensions out of range"
    return None


def entries(body: Any) -> list[Any]:
    given = body.get("input") if isinstance(body, dict) else None
    return given if isinstance(given, list) else [given]


def parts(entry: Any) -> list[str]:
    """The texts of one input; empty if it is not one."""
    if isinstance(entry, str):
        return [entry] if entry else []
    given = entry.get("content") if isinstance(entry, dict) else None
    if not isinstance(given, list) or not all(p.get("type") == "text" and p.get("text") for p in given):
        return []
    return [part["text"] for part in given]
