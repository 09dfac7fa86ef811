"""Segmind: one content a call, all modalities, the task as a parameter. v1 answers at once; v2 takes a job
that is asked for later (`segmind_jobs`).

Its vectors are taken for a space of its own until the operator says that it is Google's. Its documentation
leaves open how media are written and what stands for a missing text (`segmind_fields`), and the shape of the
answer (`segmind_answer`).

A POST is never idempotent there, each makes a new paid job: what may have been accepted is not posted again
(`Offer.retry_doubtful`), and every 5xx may have been.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from embedonce.core.catalog import GEMINI_EMBEDDING_2, Model
from embedonce.core.content import Content
from embedonce.core.options import EmbedOptions
from embedonce.core.tasks import PREFIX_RECIPE, TaskType
from embedonce.ports import Clock, JobFailed, JobUnknown, Offer, Pending, UpstreamAnswer, UpstreamCall
from embedonce.upstreams import segmind_jobs
from embedonce.upstreams.body import Body, json_body
from embedonce.upstreams.failure import Kind, UpstreamFailure
from embedonce.upstreams.reading import amount, answer_limit
from embedonce.upstreams.recipe import prefixed, sends
from embedonce.upstreams.segmind_answer import vector_of
from embedonce.upstreams.segmind_fields import INPUTS, MAX_BYTES, MediaInput, content_fields, in_order
from embedonce.upstreams.transport import Reply, Transport, checked_base_url, key_bytes

BASE_URL = "https://api.segmind.com"
MODELS = {GEMINI_EMBEDDING_2.id: "gemini-embedding-2"}
"""By the catalogue's id: its path there."""
PARAMETER_RECIPE = "parameter-1"


class Segmind:
    """`key` is asked for at every call, so that a rotated secret is taken up; it may raise `EmbedonceError`.

    `googles_space`: the operator asserts that its vectors are Google's. Then tasks travel as prefix, no
    `task_type` is sent, and the lineage is Google's. `submits` False: only v1 is offered.
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
        submits: bool = True,
    ) -> None:
        self._transport = transport
        self._key = key
        self._clock = clock
        self._base_url = checked_base_url(base_url)
        self._googles_space = googles_space
        self._media_input = media_input
        self._submits = submits

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
            submits=self._submits,
        )

    def close(self) -> None:
        self._transport.close()

    def embed(self, call: UpstreamCall, *, timeout: float) -> UpstreamAnswer:
        """:raises UpstreamFailure: REJECTED also for what its fields cannot express"""
        reply = self._post("v1", call, timeout)
        if reply.status != 200:
            raise segmind_jobs.failure_of(reply, self.name, self._clock.now())
        vector = vector_of(reply.body, self.name)
        return UpstreamAnswer(vectors=(vector,), cost=amount(reply.headers.get("x-cost")))

    def submit(self, call: UpstreamCall, *, timeout: float) -> str:
        """The job's id; it may be over already, or have failed.

        :raises UpstreamFailure: REJECTED also for what its fields cannot express
        """
        return segmind_jobs.handle_of(self._post("v2", call, timeout), self.name, self._clock.now())

    def poll(
        self, handle: str, model: Model, dimensions: int | None, *, timeout: float
    ) -> UpstreamAnswer | Pending | JobFailed | JobUnknown:
        """One question, or two if the first says that it is done; `timeout` is for both."""
        if not segmind_jobs.REQUEST_ID.fullmatch(handle):
            return JobUnknown()
        end = self._clock.monotonic() + timeout
        limit = _limit(model, dimensions)
        try:
            reply = self._get(segmind_jobs.status_path(handle), timeout, limit)
        except UpstreamFailure as failure:
            raise segmind_jobs.question_failed(failure) from None
        now = self._clock.now()
        stands = segmind_jobs.standing(reply, handle, self.name, now)
        if stands is not None:
            return stands
        left = end - self._clock.monotonic()
        reply = self._get(segmind_jobs.result_path(handle), left, limit)
        return segmind_jobs.outcome(reply, handle, self.name, now)

    def _post(self, version: str, call: UpstreamCall, timeout: float) -> Reply:
        return self._transport.post_json(
            f"{self._base_url}/{version}/{MODELS[call.model.id]}",
            self._body(call),
            self._authentication(),
            timeout,
            _limit(call.model, call.dimensions),
            upstream=self.name,
        )

    def _get(self, path: str, timeout: float, limit: int) -> Reply:
        url = f"{self._base_url}{path}"
        return self._transport.get_json(url, self._authentication(), timeout, limit, upstream=self.name)

    def _authentication(self) -> Mapping[str, bytes]:
        return {"x-api-key": key_bytes(self._key(), self.name)}

    def _body(self, call: UpstreamCall) -> Body:
        (content,) = call.contents
        fields = content_fields(content, INPUTS[self._media_input], self.name)
        if self._googles_space and not in_order(content):
            # The order is part of the key that is shared with Google, and these fields cannot say it.
            message = f"{self.name} cannot express this order of parts"
            raise UpstreamFailure(Kind.REJECTED, message, unsaid=True)
        if "task_type" in call.parameters:
            fields["task_type"] = call.parameters["task_type"]
        if call.dimensions is not None:
            fields["output_dimensionality"] = call.dimensions
        return json_body(fields)


def _limit(model: Model, dimensions: int | None) -> int:
    """Bytes of an answer; twice the vector, as it may stand there under two names."""
    return answer_limit(2, dimensions or model.dimensions.largest)


def _as_it_is(content: Content, _: EmbedOptions) -> Content:
    return content


def _sent_task(options: EmbedOptions) -> Mapping[str, Any]:
    """Always one, as there an absent task is RETRIEVAL_DOCUMENT: both are one key."""
    return {"task_type": (options.task_type or TaskType.RETRIEVAL_DOCUMENT).value}
