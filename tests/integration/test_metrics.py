"""Every metric of ours that an alarm or the dashboard names comes out of a run of the functions, under that
name and with those dimensions; and how one request is found again in the logs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from test_lambda import powertools
from test_lambda_jobs import EVENTS, Stack, fake_segmind, record, stack
from test_template import RESOURCES, ROOT, of_type

from embedonce.core.errors import StoreUnavailable
from embedonce.stores.messages import ref_of
from fakes.behaviour import status
from fakes.openrouter import FakeOpenRouter
from fakes.segmind import FakeSegmind
from support import aws

__all__ = ["fake_segmind", "powertools", "stack"]

Metric = tuple[str, frozenset[str]]
"""Name, and the names of its dimensions."""
OURS = frozenset({"service"})
BY_UPSTREAM = OURS | {"Upstream"}
UNITS = {
    "RequestLatency": "Milliseconds",
    "UpstreamLatency": "Milliseconds",
    "SpentMicroUSD": "None",
    "SavedMicroUSD": "None",
}


def alarmed() -> set[Metric]:
    found = set()
    for alarm in of_type("AWS::CloudWatch::Alarm").values():
        stats = [each["MetricStat"]["Metric"] for each in alarm.get("Metrics", []) if "MetricStat" in each]
        for metric in stats or [alarm]:
            if metric["Namespace"] == "embedonce":
                assert metric["Dimensions"] == [{"Name": "service", "Value": "embedonce"}]
                found.add((metric["MetricName"], OURS))
    return found


def dashboard() -> dict[str, Any]:
    (properties,) = of_type("AWS::CloudWatch::Dashboard").values()
    body = re.sub(r"\$\{([\w.:]+)\}", r"<\1>", properties["DashboardBody"]["Fn::Sub"])
    read: dict[str, Any] = json.loads(body)
    return read


def shown() -> set[Metric]:
    found = set()
    for widget in dashboard()["widgets"]:
        for metric in widget["properties"]["metrics"]:
            match metric:
                case ["embedonce", str(name), *dimensions]:
                    pairs = [each for each in dimensions if isinstance(each, str)]
                    assert pairs == ["service", "embedonce"]
                    found.add((name, OURS))
                case [{"expression": str(text)}]:
                    for names, name in re.findall(
                        r"SEARCH\('\{embedonce,([\w,]+)\} MetricName=\"(\w+)\"", text
                    ):
                        found.add((name, frozenset(names.split(","))))
    return found


class Emitted:
    """What CloudWatch makes of the lines that were printed."""

    def __init__(self) -> None:
        self.metrics: set[Metric] = set()
        self.sums: dict[Metric, float] = {}
        self.lines: list[dict[str, Any]] = []

    def read(self, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
        """The lines since the last time; those of metrics are taken in."""
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        self.lines += lines
        for line in lines:
            if "_aws" in line:
                self._take(line)
        return lines

    def _take(self, line: dict[str, Any]) -> None:
        (directive,) = line["_aws"]["CloudWatchMetrics"]
        assert directive["Namespace"] == "embedonce"
        assert line["service"] == "embedonce"
        assert line["function_request_id"]
        for dimensions in map(frozenset, directive["Dimensions"]):
            assert dimensions in (OURS, BY_UPSTREAM), "few, and of few values"
            if dimensions == BY_UPSTREAM:
                assert line["Upstream"] in ("openrouter", "segmind")
            for metric in directive["Metrics"]:
                name, values = metric["Name"], line[metric["Name"]]
                assert metric["Unit"] == UNITS.get(name, "Count"), name
                assert 1 <= len(values) <= 100
                self.metrics.add((name, dimensions))
                self.sums[name, dimensions] = self.sums.get((name, dimensions), 0) + sum(values)


@pytest.fixture
def openrouter(fake_segmind: FakeSegmind) -> Iterator[FakeOpenRouter]:
    """With the other fake's key, so that one secret does for both."""
    with FakeOpenRouter(key=fake_segmind.key) as server:
        yield server


@pytest.fixture
def start(stack: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A cold start of the API with OpenRouter, which is not waited for between attempts."""

    def started(**parameters: str) -> None:
        if "api" in stack.modules:
            stack.modules.pop("api").app.close()
        given = {"OpenRouterSecretArn": stack._secrets["SegmindSecretArn"], "Upstreams": "openrouter"}
        stack.start("api", OpenRouterBaseUrl=openrouter.base_url, **given, **parameters)
        monkeypatch.setattr(stack.modules["api"].app.clock, "sleep", lambda seconds: None, raising=False)

    return started


@pytest.fixture
def bought_at_once(stack: Stack, start: Callable[..., None]) -> Stack:
    start()
    return stack


def embed(stack: Stack, text: str, **fields: Any) -> int:
    body = {"model": "google/gemini-embedding-2", "input": text, "dimensions": 768, **fields}
    return stack.api("POST", "/v1/embeddings", body)[0]


def run_the_api(stack: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [embed(stack, "a"), embed(stack, "a"), embed(stack, "a", dimensions=256)] == [200] * 3
    assert [embed(stack, "whole", dimensions=3072), embed(stack, "whole", dimensions=512)] == [200] * 2
    stack.modules["api"].app.parts.accounts.settle_up()  # what was saved is told when it is written
    assert stack.api("GET", "/v1/nothing")[0] == 404
    openrouter.always(status(429))
    assert embed(stack, "refused") == 429
    openrouter.always(status(500))
    assert embed(stack, "failed") in (502, 503)
    openrouter.reset()
    with monkeypatch.context() as broken:
        broken.setattr("embedonce.dialects.openai.routes.parse", lambda *_: 1 // 0)
        assert embed(stack, "crash") == 500


def run_the_queues(stack: Stack, fake: FakeSegmind, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.invoke("worker", {"Records": [record("{}", "bad", "work")]})
    fake.always_job("lost")
    stack.submit(input="lost")
    stack.deliver("work")
    stack.deliver("poll")
    stack.submit(input="not written down")
    flights = stack.modules["worker"].function.handle.__self__._shopper._flights
    swap, clock = flights.swap, stack.modules["worker"].function.clock
    monkeypatch.setattr(clock, "sleep", lambda seconds: None, raising=False)

    def full(changed: Any, over: Any) -> bool:
        if type(changed.state).__name__ == "Submitted":
            raise StoreUnavailable
        return bool(swap(changed, over))

    with monkeypatch.context() as broken:
        broken.setattr(flights, "swap", full)
        (message,) = stack.messages("work")
        stack.invoke("worker", {"Records": [message]})


def spend_the_day(stack: Stack, start: Callable[..., None]) -> None:
    start(DailyUsd="0.0004")
    spent = [embed(stack, f"{i} " + "word " * 100) for i in range(20)]
    assert (spent[0], spent[-1]) == (200, 402)


def without_stores(stack: Stack) -> None:
    for table in (aws.VECTORS, aws.FLIGHTS):
        stack.clients.dynamodb().delete_table(TableName=table)
    assert embed(stack, "live") == 200
    stack.clients.dynamodb().delete_table(TableName=aws.ACCESS)
    stack.later(120)
    clock = stack.modules["api"].app.clock
    clock.monotonic = lambda real=clock.monotonic: real() + 120
    assert embed(stack, "live") == 200


def test_what_alarms_and_dashboard_name_is_emitted(
    stack: Stack,
    fake_segmind: FakeSegmind,
    openrouter: FakeOpenRouter,
    start: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    emitted = Emitted()
    run_the_queues(stack, fake_segmind, monkeypatch)
    start()
    run_the_api(stack, openrouter, monkeypatch)
    spend_the_day(stack, start)
    start()
    without_stores(stack)
    emitted.read(capsys)
    assert len(alarmed()) >= 5
    assert {name for name, dimensions in shown() if dimensions == BY_UPSTREAM} == {
        *("UpstreamLatency", "UpstreamFailures", "UpstreamRateLimited")
    }
    assert not (alarmed() | shown()) - emitted.metrics


def test_what_belongs_to_an_upstream_counts_for_all_of_them_too(
    bought_at_once: Stack, openrouter: FakeOpenRouter, capsys: pytest.CaptureFixture[str]
) -> None:
    emitted = Emitted()
    openrouter.next(status(429), status(429))
    assert embed(bought_at_once, "a") == 200
    emitted.read(capsys)
    for dimensions in (OURS, BY_UPSTREAM):
        assert emitted.sums["UpstreamCalls", dimensions] == 3
        assert emitted.sums["UpstreamFailures", dimensions] == 2
        assert emitted.sums["UpstreamRateLimited", dimensions] == 2
        (line,) = [each for each in emitted.lines if "UpstreamLatency" in each]
        assert len(line["UpstreamLatency"]) == 3
    assert emitted.sums["Requests2xx", OURS] == 1
    assert (emitted.sums["Hits", OURS], emitted.sums["Misses", OURS]) == (0, 1), "0 is a number"
    assert embed(bought_at_once, "a") == 200
    (line,) = [each for each in emitted.read(capsys) if "_aws" in each]
    assert (line["Hits"], line["Requests2xx"]) == ([1], [1])
    assert len(line["RequestLatency"]) == 1


def test_the_dashboard_shows_what_there_is() -> None:
    read = dashboard()
    named = set(re.findall(r"<(\w+)(?:\.\w+)?>", json.dumps(read)))
    assert named <= set(RESOURCES)
    for kind in ("AWS::Serverless::Function", "AWS::SQS::Queue", "AWS::DynamoDB::Table"):
        assert {name for name, each in RESOURCES.items() if each["Type"] == kind} <= named, kind
    places = [(each["x"], each["y"]) for each in read["widgets"]]
    assert len(set(places)) == len(places)
    for widget in read["widgets"]:
        assert (widget["width"], widget["x"] % 8, widget["y"] % 6) == (8, 0, 0), "side by side"
        assert widget["x"] + widget["width"] <= 24
        properties = widget["properties"]
        ids = [last["id"] for *_, last in properties["metrics"] if isinstance(last, dict) and "id" in last]
        assert len(set(ids)) == len(ids)
        used = [last["expression"] for *_, last in properties["metrics"] if "expression" in last]
        for expression in used:
            for each in re.findall(r"\b[a-z]\w*\b", re.sub(r"SEARCH\(.*\)", "", expression)):
                assert each in ids, expression


def ratio(expression: str, hits: float, misses: float) -> float:
    condition, value, otherwise = expression.removeprefix("IF(").removesuffix(")").split(", ")
    names = {"hits": hits, "misses": misses, "__builtins__": {}}
    return float(eval(value if eval(condition, names) else otherwise, names))


def test_silence_is_no_collapse_of_the_hit_ratio() -> None:
    alarm = of_type("AWS::CloudWatch::Alarm")["HitRatioAlarm"]
    assert alarm["ComparisonOperator"] == "LessThanThreshold"
    assert alarm["Threshold"] == {"Ref": "HitRatioFloor"}
    expression = alarm["Metrics"][0]["Expression"]
    assert [ratio(expression, *each) for each in ((0, 0), (0, 199), (150, 49))] == [100, 100, 100]
    assert [ratio(expression, *each) for each in ((0, 200), (50, 150), (1000, 0))] == [0, 25, 100]


# ---- logs


def sent(stack: Stack, **headers: str) -> dict[str, Any]:
    event = json.loads(json.dumps(EVENTS["embeddings"]))
    event["headers"] |= {"authorization": f"Bearer {stack.key}", **headers}
    answer: dict[str, Any] = stack.invoke("api", event)
    return answer


def test_one_request_is_followed_through_the_api(
    bought_at_once: Stack, openrouter: FakeOpenRouter, capsys: pytest.CaptureFixture[str]
) -> None:
    openrouter.next(status(429))
    emitted = Emitted()
    answer = sent(bought_at_once, **{"x-request-id": "req-7f3a.2026"})
    assert answer["headers"]["X-Request-Id"] == EVENTS["embeddings"]["requestContext"]["requestId"]
    assert "req-7f3a" not in json.dumps(answer)
    lines = emitted.read(capsys)
    said = [line for line in lines if "_aws" not in line]
    assert [line["message"] for line in said] == ["upstream_failure", "request"]
    for line in said:
        assert line["request_id"] == answer["headers"]["X-Request-Id"]
        assert line["correlation_id"] == "req-7f3a.2026"
    (request,) = said[1:]
    assert (request["method"], request["route"], request["status"]) == ("POST", "/v1/embeddings", 200)
    assert request["key_id"] == bought_at_once.key_record.id
    assert request["ms"] > 0
    assert {line["function_request_id"] for line in lines} == {"8f5a1f5e-0b1c-4a51-9a3e-5f0a8a8f2b10"}
    sent(bought_at_once)
    (line,) = [line for line in emitted.read(capsys) if "_aws" not in line]
    assert "correlation_id" not in line, "of the request before"


def test_one_ticket_is_followed_through_worker_and_poller(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    ref = stack.submit(input="followed")
    capsys.readouterr()
    for queue in ("work", "poll"):
        (message,) = stack.deliver(queue)
        assert ref_of(message["body"]) == ref
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        (line,) = [line for line in lines if line.get("message") == "message"]
        assert (line["correlation_id"], line["message_id"]) == (ref.id, message["messageId"])
        assert (line["function_request_id"], line["receives"]) == ("8f5a1f5e-0b1c-4a51-9a3e-5f0a8a8f2b10", 1)
        assert line["ms"] > 0
    bad, good = record("canary {", "bad", "work"), record(message["body"], "good", "work")
    stack.invoke("worker", {"Records": [good, bad]})
    out = capsys.readouterr().out
    failed = next(json.loads(line) for line in out.splitlines() if "message_failed" in line)
    assert (failed["message_id"], failed["kind"]) == ("bad", "JSONDecodeError")
    assert "correlation_id" not in failed, "of the message before"
    assert "canary" not in out


def test_the_janitor_says_what_it_did(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    stack.invoke("janitor", EVENTS["janitor_schedule"])
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (line["message"], line["nudged"], line["settled"]) == ("round", 0, 0)
    assert line["function_request_id"]


def test_the_documentation_names_every_metric() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    told = set(re.findall(r"`([A-Z]\w+)`", page))
    code = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    counted = set(re.findall(r"(?:\.count|\.measure)\(\s*\"([A-Z]\w+)\"", code))
    assert len(counted) > 40
    assert counted - {"LoopErrors"} <= told, "LoopErrors is of one machine only"
    assert {name for name, _ in alarmed()} <= told
