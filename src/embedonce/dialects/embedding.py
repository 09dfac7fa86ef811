"""What every dialect does between its parsed body and its rendered answer.

The size of the answer is checked before anything is paid; contents with equal options travel together and
come back in the order in which they were sent; headers say what happened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from embedonce.access.authenticate import Caller
from embedonce.core import vector
from embedonce.core.answer import Answered, EmbedResult
from embedonce.core.content import Draft
from embedonce.core.errors import PayloadTooLarge
from embedonce.core.options import EmbedOptions
from embedonce.dialects.cacheheaders import controls_of, namespace_of
from embedonce.dialects.provenance import Totals, headers_of, totals_of
from embedonce.http.message import Request
from embedonce.ports import Clock
from embedonce.usecases.embed import EmbedContents
from embedonce.usecases.request import EmbedRequest

JSON_BYTES_PER_VALUE = 16
"""The most that one float32 takes in shortest JSON text with its comma (-0.000012345678,)."""
ENVELOPE_BYTES = 64
"""Around each vector: its index, its field names, and the escaping of quotes in a Lambda answer."""
FIXED_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Group:
    """Inputs with equal options, and where in the answer each of them belongs."""

    drafts: tuple[Draft, ...]
    options: EmbedOptions
    positions: tuple[int, ...]

    @classmethod
    def of_all(cls, drafts: tuple[Draft, ...], options: EmbedOptions) -> Group:
        return cls(drafts, options, tuple(range(len(drafts))))


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How vectors are written, for telling how large an answer may get. `param` is the field that holds the
    inputs; `unit` what one of them is called; `setting` how the caller chose the encoding, if it could."""

    param: str
    unit: str
    base64: bool = False
    setting: str = ""

    def bytes_of_one(self, dimensions: int) -> int:
        if self.base64:
            return -(-dimensions * vector.BYTES_PER_DIMENSION // 3) * 4 + ENVELOPE_BYTES
        return dimensions * JSON_BYTES_PER_VALUE + ENVELOPE_BYTES

    def check(self, sizes: Sequence[tuple[int, int]], limit: int) -> None:
        """`sizes`: of dimensions and how many vectors have them.

        :raises PayloadTooLarge: naming encoding, dimensions and the number of inputs that would fit
        """
        if FIXED_BYTES + sum(count * self.bytes_of_one(size) for size, count in sizes) <= limit:
            return
        largest = max(size for size, _ in sizes)
        inputs = sum(count for _, count in sizes)
        fits = (limit - FIXED_BYTES) // self.bytes_of_one(largest)
        raise PayloadTooLarge(
            f"{self.param}: the answer to {inputs} {self.unit} would be over {limit} bytes: with "
            f"{self.setting}{largest} dimensions at most {fits} {self.unit} fit. Send fewer at once, or ask "
            f"for {'base64 or ' if self.setting else ''}fewer dimensions",
            param=self.param,
        )


@dataclass(frozen=True, slots=True)
class Embedded:
    result: EmbedResult
    totals: Totals
    headers: Mapping[str, str]
    seconds: float
    """How long it took."""


class Embedder:
    """`max_answer_bytes`: what one answer may weigh (Lambda's limit, or the local server's)."""

    def __init__(self, embed: EmbedContents, clock: Clock, *, max_answer_bytes: int) -> None:
        self._embed = embed
        self._clock = clock
        self._max_answer_bytes = max_answer_bytes

    def __call__(
        self,
        request: Request,
        caller: Caller,
        groups: Sequence[Group],
        *,
        cache: Mapping[str, Any],
        form: AnswerForm,
    ) -> Embedded:
        """`groups` hold every position of the answer once; `cache` is the body's field of that name.

        :raises EmbedonceError: the request as a whole fails; what was bought meanwhile is kept
        :raises WouldBlock: the request has not the patience
        """
        began = self._clock.monotonic()
        sizes = [(size, len(g.drafts)) for g in groups if (size := g.options.dimensions) is not None]
        form.check(sizes, self._max_answer_bytes)
        asked = EmbedRequest(
            drafts=groups[0].drafts,
            options=groups[0].options,
            controls=controls_of(request.headers, cache, caller),
            caller=caller,
            namespace=namespace_of(cache),
            deadline=request.deadline,
            patience=request.patience,
        )
        if len(groups) == 1:
            result = self._embed(asked)
        else:
            apart = [replace(asked, drafts=g.drafts, options=g.options) for g in groups]
            result = _together(groups, self._embed.together(apart))
        if len(sizes) < len(groups):  # the model's own size was not known before the first answer
            sizes = [(result.answers[index].record.dimensions, 1) for index in result.order]
            form.check(sizes, self._max_answer_bytes)
        totals = totals_of(result)
        headers = headers_of(result, totals, self._clock.now())
        return Embedded(result, totals, headers, max(0.0, self._clock.monotonic() - began))


def _together(groups: Sequence[Group], results: Sequence[EmbedResult]) -> EmbedResult:
    order = [0] * sum(len(group.positions) for group in groups)
    answers: list[Answered] = []
    for group, result in zip(groups, results, strict=True):
        for position, index in zip(group.positions, result.order, strict=True):
            order[position] = len(answers) + index
        answers.extend(result.answers)
    made_up = frozenset().union(*(result.made_up for result in results))
    return EmbedResult(tuple(answers), tuple(order), made_up)


def written(answered: Answered, *, base64: bool = False) -> orjson.Fragment:
    """The vector as JSON, from the stored float32: equal bit for bit at every hit."""
    data = answered.record.data
    return orjson.Fragment(b'"' + vector.to_base64(data) + b'"' if base64 else vector.to_json(data))
