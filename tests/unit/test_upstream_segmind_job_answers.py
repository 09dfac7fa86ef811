"""How single answers of Segmind's v2 are read, without a connection."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedonce.ports import JobFailed, Pending, UpstreamAnswer
from embedonce.upstreams import segmind_jobs
from embedonce.upstreams.failure import Kind, UpstreamFailure
from embedonce.upstreams.transport import Reply

CANARY = "canary-7f3a"
RESET = "x-rate-limit-reset-at-utc"
NOW = datetime(2026, 11, 20, tzinfo=UTC).timestamp()


def reply_of(
    body: Any, code: int = 200, headers: dict[str, str] | None = None, wait: float | None = None
) -> Reply:
    return Reply(code, headers or {}, orjson.dumps(body), wait)


@pytest.mark.parametrize(
    ("reply", "wait"),
    [
        (reply_of({"status": "QUEUED"}), None),
        (reply_of({"status": " processing "}, 202), None),
        (reply_of({"status": "QUEUED"}, 200, {RESET: "2026-11-20T00:00:30Z"}, 0.0), 0.0),
        (reply_of({"status": "QUEUED"}, 200, {RESET: "2026-11-20T00:00:30Z"}), 30.0),
        (reply_of({"status": "QUEUED"}, 200, {RESET: "soon"}), None),
    ],
)
def test_how_long_to_wait(reply: Reply, wait: float | None) -> None:
    assert segmind_jobs.standing(reply, "a", "segmind", NOW) == Pending(wait)


@pytest.mark.parametrize(
    ("body", "headers", "cost"),
    [
        ({}, {}, None),
        ({}, {"x-cost": "0.000001"}, 1_000_000),
        ({"cost": 0.000002, "metrics": {"cost": 1}}, {"x-cost": "0"}, 2_000_000),
        ({"metrics": {"cost": "0.000003"}}, {"x-cost": "free"}, 3_000_000),
        ({"metrics": [], "cost": True}, {}, None),
        ({"metrics": {"cost": -1}, "cost": "nan"}, {"x-cost": "1e9"}, None),
    ],
)
def test_cost(body: dict[str, Any], headers: dict[str, str], cost: int | None) -> None:
    reply = reply_of({**body, "output": [1.0, 2.0]}, 200, headers)
    answer = segmind_jobs.outcome(reply, "a", "segmind", NOW)
    assert isinstance(answer, UpstreamAnswer)
    assert answer.cost == cost


@pytest.mark.parametrize("code", [200, 401, 404, 422, 500])
def test_failed_is_failed_under_any_status(code: int) -> None:
    for state in ("FAILED", "failed"):
        reply = reply_of({"status": state, "request_id": "a", "error": CANARY}, code)
        assert segmind_jobs.standing(reply, "a", "segmind", NOW) == JobFailed()
        assert segmind_jobs.outcome(reply, "a", "segmind", NOW) == JobFailed()
        for read in (segmind_jobs.standing, segmind_jobs.outcome):
            with pytest.raises(UpstreamFailure, match="another job"):
                read(reply, "b", "segmind", NOW)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["status", "request_id", "output", "embedding", "error"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(JSON, st.sampled_from([200, 202, 204, 400, 404, 422, 500]))
def test_any_answer_is_read_or_a_failure(body: Any, code: int) -> None:
    reply = reply_of(body, code)
    assert _kind(segmind_jobs.standing, reply) is not Kind.INVALID
    assert _kind(segmind_jobs.outcome, reply) is not Kind.INVALID or code == 200


def _kind(read: Callable[[Reply, str, str, float], object], reply: Reply) -> Kind | None:
    try:
        read(reply, "a", "segmind", NOW)
    except UpstreamFailure as failure:
        return failure.kind
    return None
