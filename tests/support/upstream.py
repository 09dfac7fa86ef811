"""What the tests of upstream adapters share."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from embedonce.core.catalog import GEMINI_EMBEDDING_2, Model
from embedonce.core.content import Content, MediaPart, Modality, TextPart
from embedonce.core.errors import UpstreamInvalid
from embedonce.core.validation import checked_vectors
from embedonce.ports import Upstream, UpstreamAnswer, UpstreamCall
from embedonce.upstreams.failure import Kind, UpstreamFailure
from support import media

IMAGE = MediaPart.of(Modality.IMAGE, "image/png", media.png(shade=1))
OTHER_IMAGE = MediaPart.of(Modality.IMAGE, "image/jpeg", media.jpeg(shade=2))
AUDIO = MediaPart.of(Modality.AUDIO, "audio/wav", media.wav(0.5), seconds=0.5)
VIDEO = MediaPart.of(Modality.VIDEO, "video/mp4", media.mp4(1), seconds=1)
PDF = MediaPart.of(Modality.PDF, "application/pdf", media.pdf(["The cat sat on the mat."]), pages=1)
MEDIA = (IMAGE, AUDIO, VIDEO, PDF)


def sent(*parts: str | MediaPart) -> list[str | bytes]:
    """As the fakes count a content."""
    return [part if isinstance(part, str) else part.sent_bytes for part in parts]


class RealClock:
    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)


def call_of(
    *texts: str | MediaPart | tuple[str | MediaPart, ...],
    dimensions: int | None = 256,
    model: Model = GEMINI_EMBEDDING_2,
    parameters: dict[str, Any] | None = None,
    passthrough: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> UpstreamCall:
    """A tuple is one content of several parts."""
    given = [one if isinstance(one, tuple) else (one,) for one in texts]
    contents = tuple(
        Content(tuple(TextPart(part) if isinstance(part, str) else part for part in one)) for one in given
    )
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
