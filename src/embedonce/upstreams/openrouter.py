"""OpenRouter: Google's embedding models behind an OpenAI-shaped API, for text and images.

The model ignores a task type there as it does at Google, so the task travels as text prefix; `input_type` is
passed through as the opaque parameter it is, and is in the key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from embedonce.core.catalog import Model
from embedonce.core.content import Modality
from embedonce.core.tasks import PREFIX_RECIPE
from embedonce.ports import Offer, UpstreamAnswer, UpstreamCall
from embedonce.upstreams import openai_wire
from embedonce.upstreams.reading import answer_limit
from embedonce.upstreams.recipe import prefixed, sends
from embedonce.upstreams.transport import Transport, bearer, checked_base_url

BASE_URL = "https://openrouter.ai/api/v1"
VENDOR = "google/"
MAX_INPUTS = 100
"""Google refuses a batch of more ("at most 100 requests can be in one batch")."""
MAX_BYTES = 2_000_000

MODALITIES = frozenset({Modality.TEXT, Modality.IMAGE})
"""What OpenRouter says that it takes; whether it passes audio, video and PDF on is not settled."""

_PARAMETERS = frozenset({"input_type", "provider"})
_PASSTHROUGH = frozenset({"user", "session_id", "trace", "provider"})
_HEADERS = frozenset({"http-referer", "x-title", "x-openrouter-title", "x-openrouter-categories"})
_LONGEST_HEADER = 1024


class OpenRouter:
    """`key` is asked for at every call, so that a rotated secret is taken up; it may raise `EmbedonceError`.
    `catalog` is what an answered model name is compared with."""

    name = "openrouter"

    def __init__(
        self,
        transport: Transport,
        key: Callable[[], str],
        *,
        catalog: Iterable[Model],
        base_url: str = BASE_URL,
        modalities: frozenset[Modality] = MODALITIES,
    ) -> None:
        self._transport = transport
        self._key = key
        self._modalities = modalities
        self._names = openai_wire.model_names(catalog)
        self._url = f"{checked_base_url(base_url)}/embeddings"

    def offer(self, model: Model) -> Offer | None:
        """Google's models. The lineage names the vector space by Google's id, not by OpenRouter."""
        if not model.id.startswith(VENDOR):
            return None
        return Offer(
            lineage=f"gemini:{model.id}:{PREFIX_RECIPE}",
            model=model.id,
            modalities=self._modalities & model.modalities,
            max_inputs=MAX_INPUTS,
            max_bytes=MAX_BYTES,
            recipe=prefixed,
            sends=sends(_PARAMETERS),
            prices={modality: model.price(modality) for modality in self._modalities},
        )

    def close(self) -> None:
        self._transport.close()

    def embed(self, call: UpstreamCall, *, timeout: float) -> UpstreamAnswer:
        """:raises UpstreamFailure:"""
        count, asked = len(call.contents), call.model.id
        inputs = openai_wire.part_inputs(call.contents)
        reply = self._transport.post_json(
            self._url,
            openai_wire.request_body(asked, inputs, call.dimensions, _extras(call), self.name),
            {**_attribution(call.headers), "authorization": bearer(self._key(), self.name)},
            timeout,
            answer_limit(count, call.dimensions or call.model.dimensions.largest),
            upstream=self.name,
        )
        return openai_wire.read_answer(reply, count=count, asked=asked, names=self._names, upstream=self.name)


def _extras(call: UpstreamCall) -> dict[str, Any]:
    """What is sent besides the inputs. Parameters (they are in the key) win over passthrough (it is not)."""
    extras = {name: value for name, value in call.passthrough.items() if name in _PASSTHROUGH}
    for name, value in call.parameters.items():
        if name not in _PARAMETERS:
            continue
        other = extras.get(name)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            extras[name] = {**other, **value}
        else:
            extras[name] = value
    return extras


def _attribution(headers: Mapping[str, str]) -> dict[str, bytes]:
    """The client's headers that name its application. What cannot stand in a header is left out."""
    sent = {}
    for name, value in headers.items():
        fits = 0 < len(value) <= _LONGEST_HEADER and value.isprintable()
        if name.lower() in _HEADERS and fits:
            sent[name.lower()] = _header_bytes(value.strip())
    return sent


def _header_bytes(value: str) -> bytes:
    """HTTP servers hand on header bytes as Latin-1 text: this gives the same bytes back."""
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode(errors="replace")
