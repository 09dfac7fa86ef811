"""Any server that speaks OpenAI's embeddings: TEI, Infinity, Ollama, vLLM, a company's own gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from embedonce.core.catalog import Model
from embedonce.core.content import Modality
from embedonce.core.tasks import PREFIX_RECIPE
from embedonce.ports import Offer, UpstreamAnswer, UpstreamCall
from embedonce.upstreams import openai_wire
from embedonce.upstreams.reading import answer_limit
from embedonce.upstreams.recipe import prefixed, sends
from embedonce.upstreams.transport import Transport, bearer, checked_base_url

MAX_INPUTS = 32
"""TEI's default for `--max-client-batch-size`, the smallest of the four."""
MAX_BYTES = 1_000_000
"""Half of TEI's default `--payload-limit`, because JSON can double a text."""

_MODALITIES = frozenset({Modality.TEXT})
_PARAMETERS = frozenset({"input_type"})
_PASSTHROUGH = frozenset({"user"})


class OpenAICompatible:
    """`models`: catalogue id → the name under which the server has the model; no others are offered.

    `key` (asked for at every call) is None where the server wants none. `distinct` False: the server may give
    equal vectors for different texts (a bag-of-words model, a model that truncates early).
    """

    def __init__(
        self,
        transport: Transport,
        base_url: str,
        models: Mapping[str, str],
        *,
        catalog: Iterable[Model],
        key: Callable[[], str] | None = None,
        distinct: bool = True,
        max_inputs: int = MAX_INPUTS,
        max_bytes: int = MAX_BYTES,
        name: str = "openai_compatible",
    ) -> None:
        self.name = name
        self._transport = transport
        self._base_url = checked_base_url(base_url)
        self._models = dict(models)
        self._names = openai_wire.model_names(catalog)
        self._key = key
        self._distinct = distinct
        self._max_inputs = max_inputs
        self._max_bytes = max_bytes

    def offer(self, model: Model) -> Offer | None:
        """The lineage names the server by its base URL: two servers are taken for two vector spaces."""
        served = self._models.get(model.id)
        if served is None:
            return None
        return Offer(
            lineage=f"openai_compatible:{self._base_url}:{served}:{PREFIX_RECIPE}",
            model=served,
            modalities=_MODALITIES,
            max_inputs=self._max_inputs,
            max_bytes=self._max_bytes,
            recipe=prefixed,
            sends=sends(_PARAMETERS),
            prices={modality: model.price(modality) for modality in _MODALITIES},
            distinct=self._distinct,
        )

    def close(self) -> None:
        self._transport.close()

    def embed(self, call: UpstreamCall, *, timeout: float) -> UpstreamAnswer:
        """:raises UpstreamFailure:"""
        served = self._models[call.model.id]
        count = len(call.contents)
        # Many servers refuse the parameter for a model without MRL, also at its only size.
        default = call.model.dimensions.default
        dimensions = call.dimensions if call.dimensions != default else None
        extras = {name: value for name, value in call.passthrough.items() if name in _PASSTHROUGH}
        extras |= {name: value for name, value in call.parameters.items() if name in _PARAMETERS}
        inputs = openai_wire.plain_inputs(call.contents, self.name)
        reply = self._transport.post_json(
            f"{self._base_url}/embeddings",
            openai_wire.request_body(served, inputs, dimensions, extras, self.name),
            {} if self._key is None else {"authorization": bearer(self._key(), self.name)},
            timeout,
            answer_limit(count, call.dimensions or call.model.dimensions.largest),
            upstream=self.name,
        )
        return openai_wire.read_answer(
            reply, count=count, asked=served, names=self._names, upstream=self.name
        )
