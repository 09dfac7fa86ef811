"""Google's Gemini API itself: all modalities, batches of 100, one vector a content.

The model ignores `taskType`, so a task travels as text prefix, the same recipe as through OpenRouter: the two
share a lineage. A `taskType` or `title` that a client of Google's own protocol sent is forwarded as Google
treats it, and is in the key.

Answers carry no index: position is the order, so a batch that came back in another order could not be told
from a right one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import orjson

from embedonce.core.catalog import Model
from embedonce.core.content import Modality, Part, TextPart
from embedonce.core.tasks import PREFIX_RECIPE
from embedonce.ports import Offer, UpstreamAnswer, UpstreamCall
from embedonce.upstreams.failure import Kind, UpstreamFailure, of_status
from embedonce.upstreams.reading import answer_limit, courtesy, invalid, packed, parsed_object, whole
from embedonce.upstreams.recipe import media_base64, prefixed, sends
from embedonce.upstreams.transport import (
    LONGEST_RETRY_AFTER,
    Reply,
    Transport,
    checked_base_url,
    key_bytes,
)

BASE_URL = "https://generativelanguage.googleapis.com"
VERSION = "v1beta"
VENDOR = "google/"
MAX_INPUTS = 100
"""A batch of more is refused ("at most 100 requests can be in one batch")."""
MAX_BYTES = 4_000_000
"""Of one batch before base64; a single larger content is sent alone."""
MAX_BODY_BYTES = 20_000_000
"""Google's documented limit for a request with inline data; larger files need its Files API."""

_PARAMETERS = frozenset({"taskType", "title"})
_NOT_THE_INPUT = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "FAILED_PRECONDITION", "NOT_FOUND"})
"""Statuses that speak of our key, project, region or model id, under whatever HTTP status."""
_SECONDS = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
_MODALITIES = {
    "TEXT": Modality.TEXT,
    "IMAGE": Modality.IMAGE,
    "AUDIO": Modality.AUDIO,
    "VIDEO": Modality.VIDEO,
    "DOCUMENT": Modality.PDF,
}


class Google:
    """`key` is asked for at every call, to take up a rotated secret; it may raise `EmbedonceError`."""

    name = "google"

    def __init__(self, transport: Transport, key: Callable[[], str], *, base_url: str = BASE_URL) -> None:
        self._transport = transport
        self._key = key
        self._base_url = checked_base_url(base_url)

    def offer(self, model: Model) -> Offer | None:
        """Google's models, in the lineage that OpenRouter offers them in."""
        if not model.id.startswith(VENDOR):
            return None
        return Offer(
            lineage=f"gemini:{model.id}:{PREFIX_RECIPE}",
            model=model.id,
            modalities=model.modalities,
            max_inputs=MAX_INPUTS,
            max_bytes=MAX_BYTES,
            recipe=prefixed,
            sends=sends(_PARAMETERS),
            prices={modality: model.price(modality) for modality in model.modalities},
        )

    def close(self) -> None:
        self._transport.close()

    def embed(self, call: UpstreamCall, *, timeout: float) -> UpstreamAnswer:
        """:raises UpstreamFailure:"""
        name = call.model.id.removeprefix(VENDOR)
        count = len(call.contents)
        reply = self._transport.post_json(
            f"{self._base_url}/{VERSION}/models/{quote(name, safe='')}:batchEmbedContents",
            request_body(call, name, self.name),
            {"x-goog-api-key": key_bytes(self._key(), self.name)},
            timeout,
            answer_limit(count, call.dimensions or call.model.dimensions.largest),
            upstream=self.name,
        )
        return read_answer(reply, call, self.name)


def request_body(call: UpstreamCall, name: str, upstream: str) -> bytes:
    """:raises UpstreamFailure: REJECTED, parameters that JSON cannot say or more than Google takes inline"""
    common: dict[str, Any] = {"model": f"models/{name}"}
    common |= {name: value for name, value in call.parameters.items() if name in _PARAMETERS}
    if call.dimensions is not None:
        common["outputDimensionality"] = call.dimensions
    requests = [
        {**common, "content": {"parts": [_part(part) for part in content.parts]}} for content in call.contents
    ]
    try:
        body = orjson.dumps({"requests": requests})
    except TypeError:
        raise UpstreamFailure(Kind.REJECTED, f"the parameters for {upstream} are not plain JSON") from None
    if len(body) > MAX_BODY_BYTES:
        limit = f"{upstream} takes at most {MAX_BODY_BYTES} bytes in one request, media as base64"
        raise UpstreamFailure(Kind.REJECTED, f"{limit}; this one has {len(body)}", unsaid=True)
    return body


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"text": part.text}
    return {"inlineData": {"mimeType": part.media_type, "data": media_base64(part)}}


def read_answer(reply: Reply, call: UpstreamCall, upstream: str) -> UpstreamAnswer:
    """The vectors in the order of the contents.

    :raises UpstreamFailure: an HTTP status or an `error` body, blocked content (REJECTED), or INVALID
    """
    if reply.status != 200:
        raise of_error(courtesy(reply.body), reply.status, reply.retry_after, upstream)
    body = parsed_object(reply.body, upstream)
    if body.get("error"):
        error = body["error"]
        code = error.get("code") if isinstance(error, dict) else None
        status = code if type(code) is int and 400 <= code < 600 else 500
        raise of_error(body, status, reply.retry_after, upstream)
    feedback = body.get("promptFeedback")
    if isinstance(feedback, dict) and feedback.get("blockReason"):
        raise UpstreamFailure(Kind.REJECTED, f"{upstream} blocked this input")
    count = len(call.contents)
    given = body.get("embeddings")
    if given is None and count == 1 and "embedding" in body:
        given = [body["embedding"]]
    if not isinstance(given, list):
        invalid(upstream, "it has no list of embeddings")
    if len(given) != count:
        invalid(upstream, f"it has {len(given)} vectors for {count} inputs")
    values = [item.get("values") if isinstance(item, dict) else None for item in given]
    tokens, cost = _usage(body.get("usageMetadata"), call.model)
    return UpstreamAnswer(
        vectors=tuple(packed(value, i, upstream) for i, value in enumerate(values)), tokens=tokens, cost=cost
    )


def _usage(usage: Any, model: Model) -> tuple[int | None, int | None]:
    """Tokens of the whole batch and, where they are told apart completely, what they cost by our prices.

    None for what was not said: the caller estimates.
    """
    if not isinstance(usage, dict):
        return None, None
    tokens = whole(usage.get("promptTokenCount"))
    details = usage.get("promptTokenDetails") or usage.get("promptTokensDetails")
    if tokens is None or not isinstance(details, list):
        return tokens, None
    counted = cost = 0
    for detail in details:
        count = whole(detail.get("tokenCount")) if isinstance(detail, dict) else None
        modality = _MODALITIES.get(str(detail.get("modality"))) if isinstance(detail, dict) else None
        if count is None or modality is None:
            return tokens, None
        counted += count
        cost += model.price(modality).of(count)
    return tokens, cost if counted == tokens else None


def of_error(body: Any, status: int, retry_after: float | None, upstream: str) -> UpstreamFailure:
    """By HTTP status, Google's own `status` and the `reason` in its details; its text is never shown."""
    error = body.get("error") if isinstance(body, dict) else None
    error = error if isinstance(error, dict) else {}
    details = error.get("details")
    details = [one for one in details if isinstance(one, dict)] if isinstance(details, list) else []
    waits = [wait for one in details if (wait := _delay(one.get("retryDelay"))) is not None]
    failure = of_status(upstream, status, max(waits, default=retry_after))
    if failure.kind is Kind.REJECTED and _is_ours(error, details):
        what = "key, project or model of this gateway at the provider"
        return UpstreamFailure(Kind.MISCONFIGURED, f"{upstream} answered with HTTP {status}: {what}")
    return failure


def _is_ours(error: dict[str, Any], details: list[dict[str, Any]]) -> bool:
    """A 400 that is about our key and not about the input (a bad key is INVALID_ARGUMENT at Google)."""
    reasons = [one.get("reason") for one in details]
    message, status = error.get("message"), error.get("status")
    return (
        (isinstance(status, str) and status in _NOT_THE_INPUT)
        or any(isinstance(reason, str) and reason.startswith("API_KEY_") for reason in reasons)
        or (isinstance(message, str) and message.casefold().startswith("api key "))
    )


def _delay(value: Any) -> float | None:
    """Seconds of a protobuf Duration in JSON ("17s", "0.5s"), at most an hour."""
    found = _SECONDS.fullmatch(value) if isinstance(value, str) else None
    seconds = float(found[1]) if found else math.inf
    return min(seconds, LONGEST_RETRY_AFTER) if found else None
