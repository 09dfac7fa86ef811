"""Segmind's v2: what its client may send, what it gets back, and what nobody may learn (WIRE 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from embedonce.core import vector
from embedonce.core.catalog import BUILT_IN
from embedonce.core.errors import InvalidRequest, WouldBlock
from embedonce.core.patience import Patience
from embedonce.core.ticket import RETENTION_SECONDS, TicketRef
from embedonce.dialects.segmind.jobs import https_only
from embedonce.ports import JobFailed
from support.gateway import Answer
from support.jobgate import BASE, SLUG, JobGate, jobgate
from support.pipeline import Provider, expected

SIZE = 768


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def gate(tmp_path: Path, provider: Provider) -> Iterator[JobGate]:
    with jobgate(tmp_path, provider) as running:
        yield running


def numbers(answer: Answer) -> bytes:
    return vector.pack(answer.body["output"]["embedding"])


def metrics(answer: Answer) -> dict[str, float]:
    found: dict[str, float] = answer.body["metrics"]
    assert all(isinstance(value, float) for value in found.values())
    return found


def test_from_submission_to_result(gate: JobGate, provider: Provider) -> None:
    accepted = gate.submit(input="a cat", timeout=5, interval=0.5)
    request_id = accepted.body["request_id"]
    url = f"{BASE}/v2/requests/{request_id}"
    assert accepted.status == 200
    assert accepted.body == {
        "request_id": request_id,
        "status": "QUEUED",
        "status_url": f"{url}/status",
        "response_url": url,
        "poll_url": f"{url}/status",
    }
    queued = {"request_id": request_id, "status": "QUEUED", "metrics": {}}
    assert gate.status(request_id).body == gate.result(request_id).body == queued

    gate.clock.advance(2.0)
    gate.pipeline.step(next(iter(gate.pipeline.stores.queues)))
    for answer in (gate.status(request_id), gate.result(request_id)):
        assert answer.status == 200
        assert answer.body == {
            "request_id": request_id,
            "status": "PROCESSING",
            "metrics": {"queue_time": 2.0},
        }

    gate.pipeline.run()
    status = gate.status(request_id)
    assert (status.status, status.body["status"]) == (200, "COMPLETED")
    assert set(status.body) == {"request_id", "status", "metrics"}
    took = metrics(status)
    assert took["queue_time"] == 2.0
    assert took["inference_time"] > 0
    assert took["total_time"] == pytest.approx(took["queue_time"] + took["inference_time"])

    result = gate.result(request_id)
    assert (result.status, result.body["status"]) == (200, "COMPLETED")
    assert result.body["metrics"] == took
    assert numbers(result) == expected("a cat", SIZE)
    output = result.body["output"]
    assert (output["dimensions"], output["model"]) == (SIZE, "google/gemini-embedding-2")
    assert result.body["usage"] == output["usage"]
    assert output["usage"]["cost"] > 0
    assert result.headers["X-Cache"] == "MISS"
    assert result.headers["X-Cost"] == result.headers["X-Cost-USD"] != "0"
    assert result.headers["X-Cost-Saved-USD"] == "0"
    assert result.headers["Cache-Status"].startswith("embedonce; fwd=miss; stored; ")
    assert result.headers["Cache-Control"] == "private, no-store"
    assert sum(provider.submissions.values()) == 1


def test_what_is_in_the_cache_is_there_at_the_first_poll(gate: JobGate, provider: Provider) -> None:
    first = gate.submitted(input="a cat")
    gate.pipeline.run()
    paid = gate.result(first)
    again = gate.submit(input="a cat")
    assert again.body["status"] == "QUEUED"
    result = gate.result(again.body["request_id"])
    assert gate.status(again.body["request_id"]).body["metrics"] == {
        "queue_time": 0.0,
        "inference_time": 0.0,
        "total_time": 0.0,
    }
    assert numbers(result) == numbers(paid)
    assert result.headers["X-Cache"] == "HIT"
    assert result.headers["X-Cost"] == result.headers["X-Cost-USD"] == "0"
    assert result.headers["X-Cost-Saved-USD"] == paid.headers["X-Cost-USD"]
    assert result.headers["Cache-Status"].startswith("embedonce; hit; ")
    assert result.body["usage"]["cost"] == 0
    assert sum(provider.submissions.values()) == 1


def test_two_who_wait_for_one_purchase(gate: JobGate, provider: Provider) -> None:
    both = [gate.submitted(input="a cat") for _ in range(2)]
    gate.pipeline.run()
    results = [gate.result(request_id) for request_id in both]
    assert sorted(result.headers["X-Cache"] for result in results) == ["HIT", "MISS"]
    assert numbers(results[0]) == numbers(results[1])
    assert sum(provider.submissions.values()) == 1


def test_failed_is_422_on_both_routes(gate: JobGate, provider: Provider) -> None:
    provider.on_poll = lambda handle: JobFailed()
    request_id = gate.submitted(input="a blocked cat")
    gate.pipeline.run()
    for answer in (gate.status(request_id), gate.result(request_id)):
        assert answer.status == 422
        assert set(answer.body) == {"status", "request_id", "error", "metrics"}
        assert (answer.body["status"], answer.body["request_id"]) == ("FAILED", request_id)
        assert answer.error
        assert set(metrics(answer)) == {"queue_time", "inference_time", "total_time"}


def test_cache_controls_are_honoured(gate: JobGate, provider: Provider) -> None:
    asked: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({"cache": {"no-store": True}}, {}),
        ({}, {"cache-control": "no-store"}),
        ({"cache": {"no-cache": True}}, {}),
    ]
    for fields, headers in asked:
        request_id = gate.submit(headers=headers, input="a cat", **fields).body["request_id"]
        gate.pipeline.run()
        assert gate.result(request_id).headers["X-Cache"] == "MISS"
    assert sum(provider.submissions.values()) == 3
    absent = gate.submit(headers={"cache-control": "only-if-cached"}, input="another cat")
    assert absent.status == 504
    inside = gate.submitted(input="a cat", cache={"namespace": "mine"})
    assert gate.status(inside).body["status"] == "QUEUED"


# ---- ids


def calls_of(gate: JobGate, ask: Callable[[], Answer]) -> tuple[Answer, list[str]]:
    before = len(gate.pipeline.fate.seen)
    answer = ask()
    return answer, gate.pipeline.fate.seen[before:]


@pytest.mark.parametrize("route", ["status", "result"])
def test_foreign_unknown_and_expired_ids_are_alike(gate: JobGate, route: str) -> None:
    key, _ = gate.new_key()
    stranger, _ = gate.new_key()
    mine = gate.request("POST", SLUG, {"input": "a cat"}, key=key).body["request_id"]
    gate.pipeline.run()
    ask: Callable[..., Answer] = getattr(gate, route)
    assert ask(mine, key=key).status == 200
    ask("0" * 32, key=stranger)  # its key is known from now on
    foreign, foreign_calls = calls_of(gate, lambda: ask(mine, key=stranger))
    unknown, unknown_calls = calls_of(gate, lambda: ask("0" * 32, key=stranger))
    gate.clock.advance(RETENTION_SECONDS + 1)
    ask("0" * 32, key=key)
    expired, expired_calls = calls_of(gate, lambda: ask(mine, key=key))
    assert foreign_calls == unknown_calls == expired_calls == ["tickets.get"]
    assert foreign.status == unknown.status == expired.status == 404
    assert foreign.body == expired.body == {"error": f"Request {mine} not found"}
    assert unknown.body == {"error": f"Request {'0' * 32} not found"}
    sizes = {len(answer.response.body) for answer in (foreign, unknown, expired)}
    headers = [set(answer.headers) for answer in (foreign, unknown, expired)]
    assert len(sizes) == 1
    assert headers[0] == headers[1] == headers[2]


@pytest.mark.parametrize(
    ("request_id", "shown"),
    [
        ("req_123", "req_123"),
        ("A" * 32, "A" * 32),
        ("0" * 31, "0" * 31),
        ("0" * 33, "0" * 33),
        ("0" * 64, "0" * 64),
        ("0" * 65, "unknown"),
        ("a/b", "unknown"),
        ("../../x", "unknown"),
        ("<script>", "unknown"),
        ("a:b", "unknown"),
        ("ä", "unknown"),
        ("a b", "unknown"),
        ("development/" + "0" * 32, "unknown"),
    ],
)
def test_malformed_ids_cost_no_read_and_are_not_echoed(gate: JobGate, request_id: str, shown: str) -> None:
    for ask in (gate.status, gate.result):
        answer, calls = calls_of(gate, lambda ask=ask: ask(request_id))  # type: ignore[misc]
        assert (answer.status, answer.body) == (404, {"error": f"Request {shown} not found"})
        assert calls == []


def test_a_result_is_kept_for_an_hour_from_its_completion(gate: JobGate) -> None:
    request_id = gate.submitted(input="a cat")
    gate.clock.advance(600)
    gate.pipeline.run(until=lambda: gate.status(request_id).body["status"] == "COMPLETED")
    gate.clock.advance(RETENTION_SECONDS - 5)
    assert gate.result(request_id).status == 200
    gate.clock.advance(10)
    assert gate.result(request_id).status == gate.status(request_id).status == 404
    assert gate.result(gate.submitted(input="a cat")).headers["X-Cache"] == "HIT"


# ---- routes


@pytest.mark.parametrize("slug", [name for m in BUILT_IN for name in (m.id, *m.aliases)])
def test_the_models_name_is_the_path(gate: JobGate, slug: str) -> None:
    assert gate.submit(f"/v2/{slug}", input="x").status == 200
    assert gate.request("GET", f"/v2/{slug}").status == 405


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/nope", 404),
        ("POST", "/v2/requests", 404),
        ("POST", "/v2/requests/x/status", 405),
        ("POST", "/v2/requests/x", 405),
        ("GET", "/v2/uploads", 405),
        ("POST", "/v2/webhooks/secret", 405),
        ("DELETE", "/v2/requests/x", 405),
        ("GET", "/v2/requests/", 404),
        ("GET", "/v2/nope", 404),
    ],
)
def test_other_routes(gate: JobGate, method: str, path: str, status: int) -> None:
    answer = gate.request(method, path, {"input": "x"} if method == "POST" else None)
    assert answer.status == status
    assert isinstance(answer.error, str)


def test_every_route_needs_a_key_that_may_embed(gate: JobGate) -> None:
    admin, _ = gate.new_key(frozenset({"admin"}))
    for route in gate.gateway.routes:
        path = route.pattern.replace("{id+}", "0" * 32).replace("{model+}", "x")
        assert gate.request(route.method, path, {}, key="").status == 401
        assert gate.request(route.method, path, {}, key=admin).status == 403


def test_stores_are_not_asked_on_the_event_loop(gate: JobGate) -> None:
    request_id = gate.submitted(input="a cat")
    before = list(gate.pipeline.fate.seen)
    for method, path, patience in (
        ("GET", f"/v2/requests/{request_id}", Patience.MEMORY),
        ("GET", f"/v2/requests/{request_id}/status", Patience.MEMORY),
        ("GET", "/v2/webhooks/secret", Patience.MEMORY),
        ("POST", "/v2/uploads", Patience.MEMORY),
        ("POST", SLUG, Patience.STORES),
    ):
        with pytest.raises(WouldBlock):
            gate.request(method, path, {"input": "x"}, patience=patience)
    assert gate.pipeline.fate.seen == before
    assert gate.request("GET", f"/v2/requests/{request_id}", patience=Patience.STORES).status == 200


# ---- bodies


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "input: required"),
        ({"input": 5}, "input: must be a string"),
        ({"input": "x", "output_dimensionality": 5}, "output_dimensionality: limit is"),
        ({"input": "x", "webhook_url": 5}, "webhook_url: must be a string"),
        ({"input": "x", "webhook_url": "http://a.example/"}, "webhook_url: must be an https URL"),
        ({"input": "x", "webhook_url": "https://u:p@a.example/"}, "webhook_url: must be an https URL"),
        ({"input": "x", "webhook_url": "https://a.example/" + "x" * 2031}, "webhook_url: limit is 2048"),
        ({"input": "x", "cache": {"no-store": "yes"}}, "cache.no-store: must be true or false"),
    ],
)
def test_what_cannot_be_embedded_is_not_accepted(gate: JobGate, fields: dict[str, Any], said: str) -> None:
    answer, calls = calls_of(gate, lambda: gate.submit(**fields))
    assert answer.status == 400
    assert answer.error.startswith(said)
    assert calls == []


@pytest.mark.parametrize(
    "url", ["https://a.example", "https://a.example:8443/x?y=z", "https://[2001:db8::1]/x"]
)
def test_webhook_urls_that_may_be(url: str) -> None:
    https_only(url, "webhook_url")


@pytest.mark.parametrize(
    "url",
    [
        *("", "https://", "https:///x", "HTTPS://a.example/", "ftp://a.example", "//a.example", "a.example"),
        *("https://a@b.example", "https://a.example/ x", "https://a.example/\n", "https://a\\b.example"),
        "https://[::1",
    ],
)
def test_webhook_urls_that_may_not_be(url: str) -> None:
    with pytest.raises(InvalidRequest):
        https_only(url, "webhook_url")


def test_a_webhook_goes_with_the_ticket(gate: JobGate) -> None:
    for given in ("https://hooks.example/x", "", None):
        request_id = gate.submitted(input="a cat", webhook_url=given)
        ticket = gate.pipeline.stores.tickets.get(TicketRef("development", request_id))
        assert ticket is not None
        assert (ticket.webhook.url if ticket.webhook else None) == (given or None)


def test_the_webhook_secret_is_the_callers_own(gate: JobGate) -> None:
    key, key_id = gate.new_key()
    assert gate.request("GET", "/v2/webhooks/secret", key=key).body == {"secret": f"whsec_{key_id}"}
    assert gate.request("GET", "/v2/webhooks/secret").body == {"secret": "whsec_development"}


def test_urls_are_as_absolute_as_the_base(gate: JobGate) -> None:
    answer = gate.request("POST", SLUG, {"input": "x"}, base_url="http://127.0.0.1:8787/prefix")
    for name in ("status_url", "response_url", "poll_url"):
        parts = urlsplit(answer.body[name])
        assert (parts.scheme, parts.netloc) == ("http", "127.0.0.1:8787")
        assert parts.path.startswith("/prefix/v2/requests/")
