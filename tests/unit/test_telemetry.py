"""Counts, measured values and log lines: on Lambda, and on one machine."""

from __future__ import annotations

import io
import json
import logging
import threading
from typing import Any

import pytest
from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics

from embedonce.access.keys import new_key
from embedonce.http.message import correlation_of
from embedonce.local.logs import JsonLines
from embedonce.ports import Telemetry
from embedonce.telemetry import KEPT_SAMPLES, LogTelemetry, PowertoolsTelemetry

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def on_lambda() -> PowertoolsTelemetry:
    return PowertoolsTelemetry(
        Logger(service="embedonce", stream=io.StringIO()),
        lambda: EphemeralMetrics(namespace="embedonce", service="embedonce"),
    )


def flushed(telemetry: PowertoolsTelemetry, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    telemetry.flush()
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def answer(telemetry: Telemetry, **fields: Any) -> None:
    given = {"request_id": "r1", "method": "GET", "route": "/v1/models", "status": 200, "seconds": 0.25}
    telemetry.answered(**given | fields)


def test_more_than_a_hundred_values_are_several_lines(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry = on_lambda()
    for value in range(250):
        telemetry.measure("UpstreamLatency", value, "Milliseconds", upstream="google")
    lines = flushed(telemetry, capsys)
    assert [len(line["UpstreamLatency"]) for line in lines] == [100, 100, 50]
    assert [value for line in lines for value in line["UpstreamLatency"]] == list(range(250))
    for line in lines:
        (directive,) = line["_aws"]["CloudWatchMetrics"]
        assert [set(each) for each in directive["Dimensions"]] == [{"service"}, {"service", "Upstream"}]
        assert (line["service"], line["Upstream"]) == ("embedonce", "google")
    assert flushed(telemetry, capsys) == []


def test_a_hundred_values_leave_no_empty_line(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry = on_lambda()
    for _ in range(100):
        telemetry.measure("UpstreamLatency", 1, "Milliseconds")
    assert len(flushed(telemetry, capsys)) == 1


def test_money_has_no_unit_and_may_be_a_fraction(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry = on_lambda()
    for _ in range(2):
        telemetry.count("SpentMicroUSD", 0.25)
    (line,) = flushed(telemetry, capsys)
    assert line["_aws"]["CloudWatchMetrics"][0]["Metrics"] == [{"Name": "SpentMicroUSD", "Unit": "None"}]
    assert line["SpentMicroUSD"] == [0.5]


@pytest.mark.parametrize("made", [on_lambda, LogTelemetry])
def test_no_count_of_any_thread_is_lost(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry = made()

    def run() -> None:
        for _ in range(300):
            telemetry.count("Hits", upstream="google")
            telemetry.measure("UpstreamLatency", 1, "Milliseconds", upstream="google")

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if isinstance(telemetry, LogTelemetry):
        assert telemetry.counts == telemetry.counts_by_upstream["google"] == {"Hits": 1200}
        return
    lines = flushed(telemetry, capsys)
    assert sum(sum(line.get("Hits", [])) for line in lines) == 1200
    assert sum(len(line.get("UpstreamLatency", [])) for line in lines) == 1200


def test_in_memory_the_latest_samples_are_kept() -> None:
    telemetry = LogTelemetry()
    for value in range(KEPT_SAMPLES + 5):
        telemetry.measure("UpstreamLatency", value, "Milliseconds", upstream="google")
    for kept in (telemetry.samples, telemetry.samples_by_upstream["google"]):
        assert list(kept["UpstreamLatency"]) == list(range(5, KEPT_SAMPLES + 5))
    assert telemetry.units == {"UpstreamLatency": "Milliseconds"}
    assert telemetry.counts["Never"] == 0
    assert "Never" not in telemetry.counts


@pytest.mark.parametrize(
    ("status", "name"), [(200, "Requests2xx"), (404, "Requests4xx"), (503, "Requests5xx")]
)
def test_requests_are_counted_by_class_and_timed(status: int, name: str) -> None:
    telemetry = LogTelemetry()
    answer(telemetry, status=status)
    assert telemetry.counts == {name: 1}
    assert list(telemetry.samples["RequestLatency"]) == [250]


def test_one_line_says_who_asked_for_what_and_how_it_went(caplog: pytest.LogCaptureFixture) -> None:
    telemetry = LogTelemetry()
    caplog.set_level(logging.INFO, logger="embedonce")
    answer(telemetry)
    assert caplog.records == [], "what did not fail, at DEBUG"
    answer(telemetry, status=404, key_id="key_1", correlation_id="c1")
    said = (
        "request method=GET route=/v1/models status=404 ms=250.0 key_id=key_1 correlation_id=c1 request_id=r1"
    )
    assert [record.getMessage() for record in caplog.records] == [said]
    caplog.set_level(logging.DEBUG, logger="embedonce")
    answer(telemetry)
    assert len(caplog.records) == 2


def test_as_json_a_line_is_one_object(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="embedonce")
    telemetry = LogTelemetry()
    answer(telemetry, status=404, key_id="key_1")
    telemetry.event("upstream_failure", upstream="google", kind="busy")
    first, second = (json.loads(JsonLines().format(record)) for record in caplog.records)
    assert first.pop("time").endswith("Z")
    asked = {"method": "GET", "route": "/v1/models", "key_id": "key_1", "request_id": "r1"}
    assert first == asked | {
        "level": "INFO",
        "logger": "embedonce",
        "message": "request",
        "status": 404,
        "ms": 250.0,
    }
    assert (second["message"], second["upstream"], second["kind"]) == ("upstream_failure", "google", "busy")


def test_as_json_an_exception_is_its_kind_and_place(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise ValueError("canary\nsecond line")

    try:
        fails()
    except ValueError:
        logging.getLogger("elsewhere").exception("it %s", "failed\nhere")
    text = JsonLines().format(caplog.records[0])
    line = json.loads(text)
    assert (line["message"], line["exception"]) == ("it failed\nhere", "ValueError")
    assert line["where"].startswith("fails:")
    assert "canary" not in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, None),
        ({"x-request-id": "3f1e-Ab.9_="}, "3f1e-Ab.9_="),
        ({"x-request-id": "a" * 64}, "a" * 64),
        ({"x-request-id": "a" * 65}, None),
        ({"x-request-id": ""}, None),
        ({"x-request-id": "two words"}, None),
        ({"x-request-id": 'a","level":"ERROR'}, None),
        ({"x-request-id": "a\nb"}, None),
        ({"x-request-id": "ä"}, None),
        ({"x-request-id": "a,b"}, None),
        ({"x-request-id": new_key()}, None),
        ({"x-request-id": f"key-{new_key()}"}, None),
        ({"x-request-id": "sk-or-v1-0123456789abcdef"}, None),
        ({"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}, TRACE),
        ({"x-request-id": "no good", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}, TRACE),
        ({"x-request-id": "mine", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}, "mine"),
        ({"traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01"}, None),
        ({"traceparent": f"ff-{TRACE}-00f067aa0ba902b7-01"}, None),
        ({"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01-more"}, None),
        ({"traceparent": f"00-{TRACE.upper()}-00f067aa0ba902b7-01"}, None),
    ],
)
def test_a_clients_own_id_is_taken_if_it_is_short_and_harmless(
    headers: dict[str, str], found: str | None
) -> None:
    assert correlation_of(headers) == found
