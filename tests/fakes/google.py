"""A fake Gemini API: `:embedContent` and `:batchEmbedContents` (how to use it: `fakes.provider`).

Its vectors are those of the fake OpenRouter for equal contents: one vector space.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fakes.answers import FULL, Planned, Sent, decoded, edited, tokens_for, vector_for, written
from fakes.behaviour import OF_INDEXES, Behaviour
from fakes.provider import FakeProvider, serve

KEY = "AIzaFake-0123456789abcdefghijklmnopqrstu"
MAX_REQUESTS = 100
_ROUTE = re.compile(r"/(?:v1|v1beta)/models/([\w.\-]+):(embedContent|batchEmbedContents)")
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_DETAIL = "type.googleapis.com/google.rpc."
_MODALITIES = {"image": "IMAGE", "audio": "AUDIO", "video": "VIDEO", "application": "DOCUMENT"}


class FakeGoogle(FakeProvider):
    """There are no indexes on this wire, so an answer in another order cannot be told from a right one."""

    not_on_this_wire = OF_INDEXES | {"other_model"}

    def __init__(self, *, key: str | None = KEY, port: int = 0) -> None:
        super().__init__(key=key, port=port)

    @property
    def base_url(self) -> str:
        return self.origin

    def vector_for(
        self,
        content: Sent | Sequence[Sent],
        dimensions: int | None = None,
        *,
        task_type: str | None = None,
        title: str | None = None,
    ) -> bytes:
        """A task type changes the vector here, though not at Google: one left out of a key would show."""
        return vector_for(content, dimensions, taskType=task_type, title=title)

    def serves(self, path: str) -> bool:
        return _ROUTE.fullmatch(path) is not None

    def contents(self, path: str, body: Any) -> list[list[Sent]]:
        return [_parts(request.get("content")) for request in _requests(path, body)]

    def refusal(self, path: str, headers: Mapping[str, str], body: Any) -> Planned | None:
        route, _, query = path.partition("?")
        if self._authenticated and (headers.get("x-goog-api-key") != self.key or "key=" in query):
            reason = {"@type": f"{_DETAIL}ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
            return self._error(400, "API key not valid. Please pass a valid API key.", [reason])
        message = self._wrong(route, body)
        return None if message is None else self.error(400, message)

    def _wrong(self, path: str, body: Any) -> str | None:
        requests, contents = _requests(path, body), self.contents(path, body)
        if not requests or not all(contents):
            return "content is required"
        if len(requests) > MAX_REQUESTS:
            return "at most 100 requests can be in one batch"
        found = _ROUTE.fullmatch(path)
        assert found is not None
        for request in requests:
            if found[2] == "batchEmbedContents" and request.get("model") != f"models/{found[1]}":
                return "the model of a request must be the model of the batch"
            size = request.get("outputDimensionality", FULL)
            if type(size) is not int or not 128 <= size <= FULL:
                return "outputDimensionality out of range"
        return None

    def error(self, code: int, message: str, behaviour: Behaviour | None = None) -> Planned:
        wait = behaviour.retry_after if behaviour else None
        details = [{"@type": f"{_DETAIL}RetryInfo", "retryDelay": f"{wait}s"}] if wait else []
        return self._error(code, message, details, behaviour)

    @staticmethod
    def _error(code: int, message: str, details: list[Any], behaviour: Behaviour | None = None) -> Planned:
        said = {
            "code": code,
            "message": message,
            "status": _STATUSES.get(code, "INTERNAL"),
            "details": details,
        }
        body = json.dumps({"error": said}).encode()
        return Planned(behaviour or Behaviour("status", code=code), code, body)

    def answer(self, behaviour: Behaviour, path: str, body: Any) -> Planned:
        if behaviour.kind == "error_under_200":
            error = {"code": behaviour.code, "message": behaviour.text or "Provider returned error"}
            return Planned(behaviour, 200, json.dumps({"error": error}).encode())
        found = _ROUTE.fullmatch(path)
        assert found is not None
        requests, contents = _requests(path, body), self.contents(path, body)
        vectors = [
            vector_for(
                parts,
                request.get("outputDimensionality"),
                model=f"google/{found[1]}",
                taskType=request.get("taskType"),
                title=request.get("title"),
            )
            for request, parts in zip(requests, contents, strict=True)
        ]
        values = [{"values": item["embedding"]} for item in edited(behaviour, vectors)]
        said: dict[str, Any] = {"embeddings": values}
        if found[2] == "embedContent":
            said = {"embedding": values[0]} if values else {}
        tokens: dict[str, int] = {}
        for request, parts in zip(requests, contents, strict=True):
            for part, sent in zip(request["content"]["parts"], parts, strict=True):
                kind = _modality(part)
                tokens[kind] = tokens.get(kind, 0) + tokens_for(sent)
        details = [{"modality": kind, "tokenCount": count} for kind, count in tokens.items()]
        said["usageMetadata"] = {"promptTokenCount": sum(tokens.values()), "promptTokenDetails": details}
        match behaviour.kind:
            case "no_usage":
                del said["usageMetadata"]
            case "null_usage":
                said["usageMetadata"] = None
            case "garbage_usage":
                said["usageMetadata"] = {"promptTokenCount": -1, "promptTokenDetails": "many"}
            case "float_usage":
                said["usageMetadata"] = {"promptTokenCount": float(sum(tokens.values()))}
        return Planned(behaviour, 200, written(behaviour, said))


def _requests(path: str, body: Any) -> list[Any]:
    if not isinstance(body, dict):
        return []
    if path.endswith(":embedContent"):
        return [body]
    given = body.get("requests")
    return given if isinstance(given, list) and all(isinstance(one, dict) for one in given) else []


def _parts(content: Any) -> list[Sent]:
    given = content.get("parts") if isinstance(content, dict) else None
    found = [_part(part) for part in given] if isinstance(given, list) else []
    return [] if None in found else [part for part in found if part is not None]


def _part(part: Any) -> Sent | None:
    if not isinstance(part, dict) or len(part) != 1:
        return None
    if "text" in part:
        return part["text"] or None
    inline = part.get("inlineData")
    return decoded(inline.get("data")) if isinstance(inline, dict) and inline.get("mimeType") else None


def _modality(part: Any) -> str:
    return "TEXT" if "text" in part else _MODALITIES[part["inlineData"]["mimeType"].partition("/")[0]]


if __name__ == "__main__":
    serve(FakeGoogle, "google", KEY)
