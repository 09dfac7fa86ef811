"""What a message of the ingest queue says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from embedonce.core.task import Step, Task
from embedonce.stores.aws.s3events import Told, news_of
from embedonce.stores.messages import task_body


def record(key: str = "incoming/a+b%20c.txt", **changes: Any) -> dict[str, Any]:
    found = {"key": key, "size": 3, "eTag": "e", "versionId": "v", "sequencer": "0A1B"} | changes
    found = {name: value for name, value in found.items() if value is not None}
    return {
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "b"}, "object": found},
    }


def told(said: Any) -> Told:
    news = news_of(json.dumps(said))
    assert isinstance(news, Told)
    return news


def test_a_task_is_a_task() -> None:
    task = Task("a" * 32, Step.CUT, hops=3)
    assert news_of(task_body(task)) == task


def test_every_record_counts_and_keys_are_decoded() -> None:
    news = told({"Records": [record(), record("incoming/%C3%A4.txt")]})
    assert [source.key for source in news.sources] == ["incoming/a b c.txt", "incoming/ä.txt"]
    assert news.odd == 0


@pytest.mark.parametrize(
    "odd",
    [
        record("incoming/%FF"),
        record(sequencer=None),
        record(sequencer="xyz"),
        record(size="3"),
        {"eventSource": "aws:other"},
        "text",
    ],
    ids=["no UTF-8", "no sequencer", "no number", "size", "another service", "no object"],
)
def test_an_odd_record_does_not_take_the_others_with_it(odd: Any) -> None:
    news = told({"Records": [record(), odd, record("incoming/z.txt")]})
    assert [source.key for source in news.sources] == ["incoming/a b c.txt", "incoming/z.txt"]
    assert news.odd == 1


def test_deletions_and_test_events_are_of_no_concern() -> None:
    removed = record() | {"eventName": "ObjectRemoved:Delete"}
    assert told({"Records": [removed]}) == Told(())
    assert told({"Event": "s3:TestEvent", "Bucket": "b"}) == Told(())


@pytest.mark.parametrize("wraps", [1, 2])
def test_through_sns(wraps: int) -> None:
    said: Any = {"Records": [record()]}
    for _ in range(wraps):
        said = {"Type": "Notification", "Message": json.dumps(said)}
    assert len(told(said).sources) == 1


def test_without_versions_the_etag_says_which() -> None:
    [source] = told({"Records": [record(versionId=None)]}).sources
    assert (source.version, source.etag) == ("", "e")
    [suspended] = told({"Records": [record(versionId="null")]}).sources
    assert suspended.version == ""


@pytest.mark.parametrize("said", ["[]", "{}", "1", '"x"', "not json", '{"v":1,"task":{}}'])
def test_anything_else_is_refused(said: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # JSON's own error is one too
        news_of(said)
