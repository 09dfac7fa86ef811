"""What Segmind's v2 says of a job: when it is submitted, asked how it stands, and asked what came of it.

Of a submission's answer only the `request_id` is taken; the URLs in it are never looked at, as our key goes
to the configured origin only. Nothing that another than the asked job's answer says is believed, and
whatever is no answer at all (a page of a proxy, an error) is a question that failed: it says nothing about
the job, so it is never INVALID.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from embedonce.ports import JobFailed, JobUnknown, Pending, UpstreamAnswer
from embedonce.upstreams.failure import CERTAINLY_NOT_ACCEPTED, Kind, UpstreamFailure, of_status
from embedonce.upstreams.reading import amount, courtesy, invalid, parsed_object
from embedonce.upstreams.segmind_answer import vector_of
from embedonce.upstreams.transport import Reply
from embedonce.upstreams.waits import seconds_until

REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""It becomes part of a path. Theirs are UUIDs."""
_RESET_HEADER = "x-rate-limit-reset-at-utc"


def status_path(handle: str) -> str:
    return f"/v2/requests/{handle}/status"


def result_path(handle: str) -> str:
    return f"/v2/requests/{handle}"


def failure_of(reply: Reply, upstream: str, now: float) -> UpstreamFailure:
    """Of a POST that was not answered with success. Every 5xx may have been accepted."""
    wait = reply.retry_after
    if reply.status == 429 and (reset := reply.headers.get(_RESET_HEADER)):
        wait = seconds_until(reset, now) or wait
    failure = of_status(upstream, reply.status, wait)
    if reply.status >= 500 and failure.kind in CERTAINLY_NOT_ACCEPTED:
        return UpstreamFailure(Kind.BROKEN, failure.message, retry_after=wait)
    return failure


def handle_of(reply: Reply, upstream: str, now: float) -> str:
    """:raises UpstreamFailure: INVALID: it may have been accepted, and can never be asked for"""
    if not _success(reply):
        raise failure_of(reply, upstream, now)
    handle = parsed_object(reply.body, upstream).get("request_id")
    if not isinstance(handle, str) or not REQUEST_ID.fullmatch(handle):
        invalid(upstream, "it holds no request_id of a known form")
    return handle


def standing(reply: Reply, handle: str, upstream: str, now: float) -> Pending | JobFailed | JobUnknown | None:
    """By the answer of the status URL. None: it is completed.

    :raises UpstreamFailure: never INVALID
    """
    said = _of_this_job(reply, handle, upstream)
    state = _state(said)
    if state == "FAILED":
        return JobFailed()
    if reply.status == 404:
        return JobUnknown()
    if not _success(reply):
        raise _in_vain(reply, upstream, now)
    if state is None:
        raise UpstreamFailure(Kind.BROKEN, f"{upstream} did not say how a job stands")
    return None if state == "COMPLETED" else _pending(reply, now)


def outcome(
    reply: Reply, handle: str, upstream: str, now: float
) -> UpstreamAnswer | Pending | JobFailed | JobUnknown:
    """By the answer of the result URL, after a status of COMPLETED; it may take that back.

    :raises UpstreamFailure: INVALID: this is the result, and no embedding
    """
    said = _of_this_job(reply, handle, upstream)
    state = _state(said)
    if state == "FAILED":
        return JobFailed()
    if reply.status == 404:
        return JobUnknown()
    if reply.status != 200:
        raise _in_vain(reply, upstream, now)
    if state not in (None, "COMPLETED"):
        return _pending(reply, now)
    if reply.body.lstrip()[:1] not in (b"{", b"[") or (state is None and "error" in said):
        raise UpstreamFailure(Kind.BROKEN, f"{upstream} did not answer with a job's result")
    try:
        vector = vector_of(reply.body, upstream)
    except (ArithmeticError, RecursionError, TypeError, ValueError):
        invalid(upstream, "its numbers cannot be read")
    return UpstreamAnswer(vectors=(vector,), cost=_cost(reply, said))


def question_failed(failure: UpstreamFailure) -> UpstreamFailure:
    """The same of another kind than INVALID, as it says nothing about the job."""
    if failure.kind is not Kind.INVALID:
        return failure
    return UpstreamFailure(Kind.BROKEN, failure.message, retry_after=failure.retry_after)


def _success(reply: Reply) -> bool:
    return 200 <= reply.status < 300


def _of_this_job(reply: Reply, handle: str, upstream: str) -> Mapping[str, Any]:
    """The answer's JSON object; empty if it is none.

    :raises UpstreamFailure: BROKEN, it is another job's
    """
    said = courtesy(reply.body)
    if not isinstance(said, dict):
        return {}
    if said.get("request_id") not in (None, handle):
        raise UpstreamFailure(Kind.BROKEN, f"{upstream} answered for another job than was asked for")
    return said


def _state(said: Mapping[str, Any]) -> str | None:
    """QUEUED, PROCESSING, COMPLETED, FAILED or another that means "not yet"; None: it has none."""
    state = said.get("status")
    return state.strip().upper() or None if isinstance(state, str) else None


def _pending(reply: Reply, now: float) -> Pending:
    if reply.retry_after is not None:
        return Pending(reply.retry_after)
    reset = reply.headers.get(_RESET_HEADER)
    return Pending(seconds_until(reset, now) if reset else None)


def _in_vain(reply: Reply, upstream: str, now: float) -> UpstreamFailure:
    failure = failure_of(reply, upstream, now)
    if failure.kind in (Kind.INVALID, Kind.REJECTED):
        message = f"{upstream} answered with HTTP {reply.status} when asked for a job"
        return UpstreamFailure(Kind.BROKEN, message, retry_after=reply.retry_after)
    wait = reply.retry_after if failure.retry_after is None else failure.retry_after
    return UpstreamFailure(failure.kind, failure.message, retry_after=wait)


def _cost(reply: Reply, said: Mapping[str, Any]) -> int | None:
    """Pico-dollars by the header or the body, if either names a sum; 0 may be what the question cost."""
    metrics = said.get("metrics")
    inside = metrics.get("cost") if isinstance(metrics, dict) else None
    named = (amount(value) for value in (reply.headers.get("x-cost"), said.get("cost"), inside))
    return next((cost for cost in named if cost), None)
