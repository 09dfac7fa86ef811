"""What the tests of upstream adapters share."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from embedonce.core.catalog import GEMINI_EMBEDDING_2, Model
from embedonce.core.content import Content, TextPart
from embedonce.core.errors import UpstreamInvalid
from embedonce.core.validation import checked_vectors
from embedonce.ports import Upstream, UpstreamAnswer, UpstreamCall
from embedonce.upstreams.failure import Kind, UpstreamFailure


class RealClock:
    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)


def call_of(
    *texts: str | tuple[str, ...],
    dimensions: int | None = 256,
    model: Model = GEMINI_EMBEDDING_2,
    parameters: dict[str, Any] | None = None,
    passthrough: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> UpstreamCall:
    """A tuple is one content of several parts."""
    parts = [(text,) if isinstance(text, str) else text for text in texts]
    contents = tuple(Content(tuple(TextPart(text) for text in one)) for one in parts)
    return UpstreamCall(model, contents, dimensions, parameters or {}, passthrough or {}, headers or {})


def bought(upstream: Upstream, call: UpstreamCall, *, timeout: float = 5.0) -> UpstreamAnswer:
    """The answer as the router believes it: the adapter's checks and then those of `core.validation`."""
    answer = upstream.embed(call, timeout=timeout)
    offer = upstream.offer(call.model)
    assert offer is not None
    try:
        checked_vectors(
            answer.vectors, call.contents, call.dimensions, upstream=upstream.name, distinct=offer.distinct
        )
    except UpstreamInvalid as invalid:
        raise UpstreamFailure(Kind.INVALID, invalid.message) from None
    return answer


def failure_of(act: Callable[[], object]) -> UpstreamFailure:
    with pytest.raises(UpstreamFailure) as raised:
        act()
    return raised.value


def shown(failure: BaseException) -> str:
    """All that a log or an error page would say of it and of what is chained to it (but no source lines)."""
    text = repr(failure) + "".join(traceback.format_exception_only(failure))
    behind = failure.__cause__ or (None if failure.__suppress_context__ else failure.__context__)
    return text if behind is None else text + shown(behind)
