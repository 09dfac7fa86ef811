"""Segmind's v1: one content a call, all modalities, the task as a parameter.

Its vectors are taken for a space of its own until the operator says that it is Google's. Three things are not
settled by its documentation, so they are chosen here and named in docs/configuration.md: how media are
written (`MEDIA_FORM`), what stands in the required `input` where there is no text (`MediaInput`), and the
shape of the answer (`segmind_answer`).

A POST is never idempotent there, each makes a new paid job: what may have been accepted is not posted again
(`Offer.retry_doubtful`), and every 5xx may have been.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from embedonce.core.catalog import GEMINI_EMBEDDING_2, Model
from embedonce.core.content import Content, MediaPart, Modality, TextPart
from embedonce.core.options import EmbedOptions
from embedonce.core.tasks import PREFIX_RECIPE, TaskType
from embedonce.ports import Clock, Offer, UpstreamAnswer, UpstreamCall
from embedonce.upstreams.failure import Kind, UpstreamFailure, of_status
from embedonce.upstreams.reading import amount, answer_limit
from embedonce.upstreams.recipe import data_url, media_base64, prefixed, sends
from embedonce.upstreams.segmind_answer import vector_of
from embedonce.upstreams.transport import (
    LONGEST_RETRY_AFTER,
    Reply,
    Transport,
    checked_base_url,
    key_bytes,
)

BASE_URL = "https://api.segmind.com"
MODELS = {GEMINI_EMBEDDING_2.id: "gemini-embedding-2"}
"""By the catalogue's id: its path there."""
MAX_BYTES = 15_000_000
PARAMETER_RECIPE = "parameter-1"
MEDIA_FORM: Literal["base64", "data_url"] = "base64"
"""The documentation says "URL or base64" of a field of type "string (uri)"; bare base64 is what it names."""

MediaInput = Literal["omit", "empty", "space"]
"""What is sent as `input` with media and no text."""

_INPUTS: Mapping[MediaInput, Mapping[str, str]] = {
    "omit": {},
    "empty": {"input": ""},
    "space": {"input": " "},
}
_FIELDS = {Modality.AUDIO: "audio", Modality.VIDEO: "video", Modality.PDF: "pdf"}
_RESET_HEADER = "x-rate-limit-reset-at-utc"
_MILLISECONDS_FROM = 1e11
"""An epoch time beyond this is in milliseconds (in seconds it would be the year 5138)."""

_ORDER = tuple(Modality)


class Segmind:
    """`key` is asked for at every call, so that a rotated secret is taken up; it may raise `EmbedonceError`.

    `googles_space`: the operator asserts that its vectors are Google's. Then tasks travel as prefix, no
    `task_type` is sent, and the lineage is Google's.
    """

    name = "segmind"

    def __init__(
        self,
        transport: Transport,
        key: Callable[[], str],
        clock: Clock,
        *,
        base_url: str = BASE_URL,
        googles_space: bool = False,
        media_input: MediaInput = "omit",
    ) -> None:
        self._transport = transport
        self._key = key
        self._clock = clock
        self._base_url = checked_base_url(base_url)
        self._googles_space = googles_space
        self._media_input = media_input

    def offer(self, model: Model) -> Offer | None:
        """The one model that it documents; the preview is another."""
        if model.id not in MODELS:
            return None
        lineage = f"gemini:{model.id}:{PREFIX_RECIPE}"
        if not self._googles_space:
            lineage = f"segmind:{model.id}:{PARAMETER_RECIPE}"
            # Another text with the media may make another vector.
            lineage += "" if self._media_input == "omit" else f":{self._media_input}-input"
        return Offer(
            lineage=lineage,
            model=model.id,
            modalities=model.modalities,
            max_inputs=1,
            max_bytes=MAX_BYTES,
            recipe=prefixed if self._googles_space else _as_it_is,
            sends=sends(frozenset()) if self._googles_space else _sent_task,
            prices={modality: model.price(modality) for modality in model.modalities},
            retry_doubtful=False,
        )

    def close(self) -> None:
        self._transport.close()

    def embed(self, call: UpstreamCall, *, timeout: float) -> UpstreamAnswer:
        """:raises UpstreamFailure: REJECTED also for what its fields cannot express"""
        (content,) = call.contents
        fields = content_fields(content, _INPUTS[self._media_input], self.name)
        if self._googles_space and not _in_order(content):
            # The order is part of the key that is shared with Google, and these fields cannot say it.
            message = f"{self.name} cannot express this order of parts"
            raise UpstreamFailure(Kind.REJECTED, message, unsaid=True)
        if "task_type" in call.parameters:
            fields["task_type"] = call.parameters["task_type"]
        if call.dimensions is not None:
            fields["output_dimensionality"] = call.dimensions
        reply = self._transport.post_json(
            f"{self._base_url}/v1/{MODELS[call.model.id]}",
            orjson.dumps(fields),
            {"x-api-key": key_bytes(self._key(), self.name)},
            timeout,
            answer_limit(2, call.dimensions or call.model.dimensions.largest),
            upstream=self.name,
        )
        if reply.status != 200:
            raise self._failure(reply)
        vector = vector_of(reply.body, self.name)
        return UpstreamAnswer(vectors=(vector,), cost=amount(reply.headers.get("x-cost")))

    def _failure(self, reply: Reply) -> UpstreamFailure:
        wait = reply.retry_after
        if reply.status == 429 and (reset := reply.headers.get(_RESET_HEADER)):
            wait = seconds_until(reset, self._clock.now()) or wait
        failure = of_status(self.name, reply.status, wait)
        if failure.kind is Kind.REFUSED:
            return UpstreamFailure(Kind.BROKEN, failure.message, retry_after=wait)
        return failure


def _as_it_is(content: Content, _: EmbedOptions) -> Content:
    return content


def _sent_task(options: EmbedOptions) -> Mapping[str, Any]:
    """Always one, as there an absent task is RETRIEVAL_DOCUMENT: both are one key."""
    return {"task_type": (options.task_type or TaskType.RETRIEVAL_DOCUMENT).value}


def _in_order(content: Content) -> bool:
    """Text, images, audio, video, PDF: as the fields are taken to be read."""
    ranks = [_ORDER.index(part.modality) for part in content.parts]
    return ranks == sorted(ranks)


def content_fields(content: Content, without_text: Mapping[str, str], upstream: str) -> dict[str, Any]:
    """One text at most, images, and at most one each of audio, video and PDF; their order cannot be said.

    :raises UpstreamFailure: REJECTED
    """
    counts = Counter(part.modality for part in content.parts)
    for modality, count in counts.items():
        if count > 1 and modality is not Modality.IMAGE:
            what = f"{count} parts of {modality} in one input cannot be expressed"
            raise UpstreamFailure(Kind.REJECTED, f"{upstream} takes one: {what}", unsaid=True)
    texts = [part.text for part in content.parts if isinstance(part, TextPart)]
    fields: dict[str, Any] = {"input": texts[0]} if texts else dict(without_text)
    images = []
    for part in content.parts:
        if not isinstance(part, MediaPart):
            continue
        if part.modality is Modality.IMAGE:
            images.append(_written(part))
        else:
            fields[_FIELDS[part.modality]] = _written(part)
    if images:
        fields |= {"image": images[0]} if len(images) == 1 else {"images": images}
    return fields


def _written(part: MediaPart) -> str:
    return media_base64(part) if MEDIA_FORM == "base64" else data_url(part)


def seconds_until(text: str, now: float) -> float | None:
    """From `now` (seconds since 1970) to an ISO 8601 time (UTC unless it says otherwise) or an epoch time.

    0 to 3600; None for what cannot be read.
    """
    text = text.strip()
    try:
        when = float(text)
        when = when / 1000 if when > _MILLISECONDS_FROM else when
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        when = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    wait = when - now
    return None if math.isnan(wait) else min(max(wait, 0.0), LONGEST_RETRY_AFTER)
