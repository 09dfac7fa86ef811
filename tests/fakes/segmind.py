"""A fake Segmind: one content a call, in fields of their own (how to use it: `fakes.provider`). v1 answers at
once, v2 takes jobs (`fakes.segmind_jobs`).

Its vectors are of a space of its own, and `task_type` changes them. The shape of its answer is `shape`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from fakes.answers import (
    FULL,
    USD_PER_TOKEN,
    Planned,
    Sent,
    decoded,
    edited,
    listed,
    tokens_for,
    vector_for,
    written,
)
from fakes.behaviour import OF_INDEXES, Behaviour, Item
from fakes.provider import serve
from fakes.segmind_jobs import Job
from fakes.segmind_polling import JobsProvider

KEY = "SG_fake0123456789abcdef"
ROUTE = "/v1/gemini-embedding-2"
SUBMIT = "/v2/gemini-embedding-2"
MODEL = "segmind/gemini-embedding-2"
FIELDS = ("image", "images", "audio", "video", "pdf")
TASKS = (
    *("SEMANTIC_SIMILARITY", "RETRIEVAL_DOCUMENT", "RETRIEVAL_QUERY", "CLASSIFICATION"),
    *("CLUSTERING", "QUESTION_ANSWERING", "FACT_VERIFICATION", "CODE_RETRIEVAL_QUERY"),
)

SHAPES: dict[str, Callable[[list[Any]], Any]] = {
    "embedding": lambda v: {"embedding": v[0]} if len(v) == 1 else {"embedding": v},
    "list": lambda v: v[0] if len(v) == 1 else v,
    "embeddings": lambda v: {"embeddings": v},
    "output": lambda v: {"output": v[0] if len(v) == 1 else v, "metrics": {"inference_time": 0.1}},
    "output_text": lambda v: {"output": orjson.dumps(v[0] if len(v) == 1 else v).decode()},
    "nested": lambda v: {"status": "COMPLETED", "output": {"data": [{"embedding": one} for one in v]}},
    "data": lambda v: {"object": "list", "data": [{"index": i, "embedding": one} for i, one in enumerate(v)]},
    "values": lambda v: {"embedding": {"values": v[0]}} if len(v) == 1 else {"values": v},
    "google": lambda v: {"embeddings": [{"values": one} for one in v]},
}
"""Ways in which one vector may be answered; of several or none only misbehaviour makes an answer."""


class FakeSegmind(JobsProvider):
    """`input_required`: a body without `input` is a 400, as the documentation may be read."""

    not_on_this_wire = OF_INDEXES | {"other_model"}
    submits_at = SUBMIT
    media_fields = FIELDS

    def __init__(self, *, key: str | None = KEY, port: int = 0) -> None:
        self.shape = "embedding"
        self.input_required = False
        self.previous: Any = None
        super().__init__(key=key, port=port)

    @property
    def base_url(self) -> str:
        return self.origin

    def vector_for(
        self,
        content: Sent | Sequence[Sent],
        dimensions: int | None = 768,
        *,
        task_type: str = "RETRIEVAL_DOCUMENT",
    ) -> bytes:
        """Of parts in whatever order: on the wire there is none but text, images, audio, video, PDF."""
        parts = sorted(listed(content), key=lambda part: isinstance(part, bytes))
        return vector_for(parts, dimensions, model=MODEL, task_type=task_type)

    def serves(self, path: str) -> bool:
        return path in (ROUTE, SUBMIT)

    def output(self, behaviour: Behaviour, job: Job, read: int) -> tuple[Any, dict[str, str]]:
        if job.script.kind == "garbage":
            return job.script.text or {"vector_b64": "AAAA"}, {}
        if job.script.kind == "fickle" and read > 1:
            numbers = np.frombuffer(self._right(job.parts, job.body), dtype="<f4")
            return np.roll(numbers, read).tolist(), {}
        planned = self.answer(behaviour, ROUTE, job.body)
        return json.loads(planned.body), dict(planned.headers)

    def contents(self, path: str, body: Any) -> list[list[Sent]]:
        return [_parts(body)]

    def refusal(self, path: str, headers: Mapping[str, str], body: Any) -> Planned | None:
        if headers.get("content-type") != "application/json":
            return self.error(406, "Content-Type must be application/json")
        if self._authenticated and headers.get("x-api-key") != self.key:
            return self.error(401, "Unauthorized")
        message = self._wrong(body)
        return None if message is None else self.error(400, message)

    def _wrong(self, body: Any) -> str | None:
        if not isinstance(body, dict) or not _parts(body):
            return "Invalid parameters"
        if self.input_required and "input" not in body:
            return "input is required"
        if body.get("task_type", TASKS[1]) not in TASKS:
            return "task_type: no such task"
        size = body.get("output_dimensionality", 768)
        return None if type(size) is int and 1 <= size <= FULL else "output_dimensionality out of range"

    def error(self, code: int, message: str, behaviour: Behaviour | None = None) -> Planned:
        headers: dict[str, str] = {}
        body = json.dumps({"error": message}).encode()
        if code == 405:
            headers["Content-Type"] = "text/html"
            body = b"<!doctype html><title>405 Not Allowed</title>"
        if behaviour and behaviour.retry_after:
            headers["x-rate-limit-reset-at-utc"] = behaviour.retry_after
        return Planned(behaviour or Behaviour("status", code=code), code, body, headers)

    def answer(self, behaviour: Behaviour, path: str, body: Any) -> Planned:
        if behaviour.kind == "error_under_200":
            return Planned(behaviour, 200, json.dumps({"error": behaviour.text or "failed"}).encode())
        if path == SUBMIT:  # what it says, `plan` fills in
            return Planned(behaviour, 200, b"")
        parts = _parts(body)
        right = self._right(parts, body)
        said = [item["embedding"] for item in self._items(behaviour, right)]
        headers = {"x-request-id": "fake", "x-generation-time": "0.1", "x-remaining-credits": "9.5"}
        match behaviour.kind:
            case "garbage_usage":
                headers["x-cost"] = "free"
            case "no_usage" | "null_usage":
                pass
            case _:
                headers["x-cost"] = f"{tokens_for(parts) * USD_PER_TOKEN:.9f}"
        return Planned(behaviour, 200, written(behaviour, SHAPES[self.shape](said)), headers)

    @staticmethod
    def _right(parts: Sequence[Sent], body: Mapping[str, Any]) -> bytes:
        task = body.get("task_type", "RETRIEVAL_DOCUMENT")
        return vector_for(parts, body.get("output_dimensionality", 768), model=MODEL, task_type=task)

    def _items(self, behaviour: Behaviour, right: bytes) -> list[Item]:
        """`repeat` gives the vector of the call before, as one answer holds one vector only."""
        with self._lock:
            if behaviour.kind == "repeat" and self.previous is not None:
                return [{"embedding": self.previous}]
            items = edited(behaviour, [right])
            if behaviour.kind == "ok" or behaviour.kind == "repeat":
                self.previous = items[0]["embedding"]
            return items


def _parts(body: Any) -> list[Sent]:
    """Text, then media, decoded; empty if any of them is wrong."""
    if not isinstance(body, dict):
        return []
    text = body.get("input")
    found: list[Sent | None] = [text] if isinstance(text, str) and text.strip() else []
    for name in FIELDS:
        if name in body:
            given = body[name] if name == "images" else [body[name]]
            found += [decoded(one) for one in given]
    return [] if None in found else [part for part in found if part is not None]


if __name__ == "__main__":
    serve(FakeSegmind, "segmind", KEY)
