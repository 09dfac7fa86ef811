"""A fake OpenRouter: OpenAI's embeddings with OpenRouter's content parts (see `fakes.provider`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fakes.answers import (
    FULL,
    USD_PER_TOKEN,
    Planned,
    Sent,
    decoded,
    edited,
    tokens_for,
    vector_for,
    written,
)
from fakes.behaviour import Behaviour
from fakes.provider import FakeProvider, closed_port, serve

KEY = "sk-or-v1-fake-0123456789abcdef"
ROUTES = ("/api/v1/embeddings", "/v1/embeddings")
MEDIA = {"image_url": "url", "input_audio": "data", "input_video": "data", "input_file": "data"}
"""By a part's type, which is also its field: where the medium is in it."""


class FakeOpenRouter(FakeProvider):
    """`max_inputs`: a larger batch is a 400, as at Google."""

    def __init__(self, *, key: str | None = KEY, port: int = 0, max_inputs: int = 100) -> None:
        self.max_inputs = max_inputs
        super().__init__(key=key, port=port)

    @property
    def base_url(self) -> str:
        return f"{self.origin}/api/v1"

    def vector_for(
        self, content: Sent | Sequence[Sent], dimensions: int | None = None, *, input_type: str | None = None
    ) -> bytes:
        return vector_for(content, dimensions, input_type=input_type)

    def serves(self, path: str) -> bool:
        return path in ROUTES

    def contents(self, path: str, body: Any) -> list[list[Sent]]:
        given = body.get("input") if isinstance(body, dict) else None
        return [_parts(entry) for entry in (given if isinstance(given, list) else [given])]

    def refusal(self, path: str, headers: Mapping[str, str], body: Any) -> Planned | None:
        if self._authenticated and headers.get("authorization") != f"Bearer {self.key}":
            return self.error(401, "No auth credentials found")
        message = self._wrong(path, body)
        return None if message is None else self.error(400, message)

    def _wrong(self, path: str, body: Any) -> str | None:
        if not isinstance(body, dict) or not isinstance(body.get("model"), str):
            return "model is required"
        inputs = self.contents(path, body)
        if not inputs or not all(inputs):
            return "input is required"
        if len(inputs) > self.max_inputs:
            return f"at most {self.max_inputs} requests can be in one batch"
        size = body.get("dimensions", FULL)
        if type(size) is not int or not 1 <= size <= FULL:
            return "dimensions out of range"
        return None

    def error(self, code: int, message: str, behaviour: Behaviour | None = None) -> Planned:
        said = {"error": {"code": code, "message": message, "metadata": {"provider_name": "Google"}}}
        wait = behaviour.retry_after if behaviour else None
        headers = {"Retry-After": wait} if wait else {}
        return Planned(behaviour or Behaviour("status", code=code), code, json.dumps(said).encode(), headers)

    def answer(self, behaviour: Behaviour, path: str, body: Any) -> Planned:
        if behaviour.kind == "error_under_200":
            code: int | str = behaviour.code or behaviour.text
            error = {"code": code, "message": behaviour.text or "Provider returned error"}
            return Planned(behaviour, 200, json.dumps({"error": error}).encode())
        inputs = self.contents(path, body)
        named = {"model": body["model"], "input_type": body.get("input_type")}
        vectors = [vector_for(parts, body.get("dimensions"), **named) for parts in inputs]
        form = behaviour
        if behaviour.kind == "ok" and body.get("encoding_format") == "base64":
            form = Behaviour("base64")
        tokens = sum(tokens_for(parts) for parts in inputs)
        said: dict[str, Any] = {
            "object": "list",
            "data": edited(form, vectors),
            "model": behaviour.text if behaviour.kind == "other_model" else body["model"],
            "id": "gen-emb-fake",
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "cost": tokens * USD_PER_TOKEN},
        }
        match behaviour.kind:
            case "no_usage":
                del said["usage"]
            case "null_usage":
                said["usage"] = None
            case "garbage_usage":
                said["usage"] = {"prompt_tokens": -1, "total_tokens": "many", "cost": "free"}
            case "float_usage":
                said["usage"] = {"prompt_tokens": float(tokens), "cost": "0.0000008"}
        return Planned(behaviour, 200, written(behaviour, said))


def _parts(entry: Any) -> list[Sent]:
    """The parts of one input; empty if it is not one."""
    if isinstance(entry, str):
        return [entry] if entry else []
    given = entry.get("content") if isinstance(entry, dict) else None
    found = [_part(part) for part in given] if isinstance(given, list) else []
    return [] if None in found else [part for part in found if part is not None]


def _part(part: Any) -> Sent | None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        return part.get("text") or None
    holder = part.get(kind) if kind in MEDIA else None
    # Media come as data URLs that say what they are; the gateway must never send an address.
    url = holder.get(MEDIA[kind]) if isinstance(holder, dict) else None
    return decoded(url) if isinstance(url, str) and url.startswith("data:") else None


__all__ = ["KEY", "FakeOpenRouter", "closed_port"]

if __name__ == "__main__":
    serve(FakeOpenRouter, "openrouter", KEY)
