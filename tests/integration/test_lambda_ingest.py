"""Files in S3 as Lambda works on them: ingest, chunks and, for what is slow, worker and poller, each with the
environment that the template gives it and allowed no more than its role, over moto and a fake Segmind.

moto can tell a queue of new objects, but without versions and sequencers: so events are made here, as S3
makes them.
"""

from __future__ import annotations

import base64
import itertools
import json
import random
import re
import time
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import quote_plus

import botocore.client
import pytest
from test_lambda_jobs import (
    EVENTS,
    FUNCTION_OF,
    Stack,
    fake_segmind,
    powertools,
    record,
    stack,
)

from embedonce.core.manifest import DEADLINE_SECONDS, STALL_SECONDS
from embedonce.core.task import Step
from embedonce.stores.aws import results
from embedonce.stores.messages import task_body, task_of
from embedonce.usecases.ingest.publish import SINK_BATCH
from support import aws
from support.media import png, wav

__all__ = ["fake_segmind", "powertools", "stack"]

BUCKET = aws.VERSIONED
SINK = {"bucket": "team-vectors", "index": "docs"}
INDEX_ARN = f"arn:aws:s3vectors:us-east-1:123456789012:bucket/{SINK['bucket']}/index/{SINK['index']}"
DIMENSIONS = 128
HANDLED: dict[str, Any] = {"batchItemFailures": []}

Record = dict[str, Any]


class Files:
    """The deployed stack, seen from its files bucket."""

    def __init__(self, running: Stack) -> None:
        self.stack = running
        self.s3: Any = running.clients.s3()
        self._sequencers = itertools.count(0x5F00)
        self._events = itertools.count()
        running._resource_of[f"bucket/{SINK['bucket']}/index/{SINK['index']}"] = "SinkIndexArn"
        self.start()

    def start(self, *rules: dict[str, Any], **parameters: str) -> None:
        """Cold starts with these rules; without any, one for everything."""
        key = self.stack.key_record.id
        given = rules or ({"daily_usd": 5},)
        said = json.dumps([{"key": key, "dimensions": DIMENSIONS, **rule} for rule in given])
        self.stack.parameters = {"IngestRules": said, "SinkIndexArn": INDEX_ARN, **parameters}
        self.stack.stop()

    def put(self, key: str, data: bytes, *, prefix: str = "incoming/") -> Record:
        """What S3 tells of it."""
        said = self.s3.put_object(Bucket=BUCKET, Key=prefix + key, Body=data)
        return self.told(prefix + key, version=said["VersionId"], etag=said["ETag"], size=len(data))

    def told(
        self,
        key: str,
        *,
        bucket: str = BUCKET,
        version: str = "v",
        etag: str = "e",
        size: int = 1,
        sequencer: str = "",
    ) -> Record:
        (sample, _) = json.loads(EVENTS["ingest_s3"]["Records"][0]["body"])["Records"]
        sample["s3"]["bucket"] = {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"}
        sample["s3"]["object"] = {
            "key": quote_plus(key, safe="/"),
            "size": size,
            "eTag": etag.strip('"'),
            "versionId": version,
            "sequencer": sequencer or f"{next(self._sequencers):018X}",
        }
        return cast("Record", sample)

    def tell(self, *records: Record) -> None:
        """One event, in one message."""
        body = json.dumps({"Records": records})
        message = record(body, f"s3-{next(self._events)}", "ingest")
        assert self.stack.invoke("ingest", {"Records": [message]}) == HANDLED

    def settle(self, seconds: float = 20.0) -> None:
        """Until no message is on its way; each is handled by itself, and all that is done is allowed."""
        until = time.monotonic() + seconds
        while True:
            # Looked at first: what becomes ready after that is delayed here, and what was before is received.
            delayed = any(map(self._delayed, self.stack.urls.values()))
            moved = False
            for queue, function in FUNCTION_OF.items():
                for message in self.stack.messages(queue):
                    assert self.stack.invoke(function, {"Records": [message]}) == HANDLED, queue
                    assert self.stack.refused == []
                    moved = True
            if moved:
                continue
            if not delayed:
                return
            assert time.monotonic() < until, "it does not come to rest"
            time.sleep(0.05)

    def _delayed(self, url: str) -> bool:
        name = "ApproximateNumberOfMessagesDelayed"
        said = self.stack.clients.sqs().get_queue_attributes(QueueUrl=url, AttributeNames=[name])
        return int(said["Attributes"][name]) > 0

    def listed(self, prefix: str = "results/") -> list[str]:
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [each["Key"].removeprefix(prefix) for each in found.get("Contents", [])]

    def versions(self, prefix: str = "results/") -> list[str]:
        found = self.s3.list_object_versions(Bucket=BUCKET, Prefix=prefix)
        return [each["Key"].removeprefix(prefix) for each in found.get("Versions", [])]

    def read(self, name: str) -> Any:
        data: bytes = self.s3.get_object(Bucket=BUCKET, Key=f"results/{name}")["Body"].read()
        return [json.loads(line) for line in data.splitlines()] if name.endswith("l") else json.loads(data)

    def index(self) -> dict[str, Any]:
        said = self.stack.clients.s3vectors().list_vectors(
            vectorBucketName=SINK["bucket"], indexName=SINK["index"], returnData=True, returnMetadata=True
        )
        return {each["metadata"]["index"]: each for each in said["vectors"]}


@pytest.fixture
def files(stack: Stack) -> Iterator[Files]:
    yield Files(stack)
    assert stack.refused == []


def vectors(lines: list[Any]) -> list[bytes]:
    return [base64.b64decode(line["embedding"]) for line in lines if line["type"] == "segment"]


# ---- the sample events


@pytest.mark.parametrize(("name", "count"), [("ingest_s3", 2), ("ingest_sns", 1), ("ingest_eventbridge", 1)])
def test_a_sample_of_our_bucket_is_heard_without_reading_it(name: str, count: int, files: Files) -> None:
    body = EVENTS[name]["Records"][0]["body"]
    bucket = "embedonce-files-0a1b2c3d-4e5f-11f0-8a9b-0123456789ab"
    assert bucket in body
    files.start(ExistingBucket=bucket)
    assert files.stack.invoke("ingest", EVENTS[name]) == HANDLED
    assert set(files.stack.operations) == {"dynamodb:GetItem", "dynamodb:PutItem", "sqs:SendMessage"}
    tasks = [task_of(message["body"]) for message in files.stack.messages("ingest")]
    assert [task.step for task in tasks] == [Step.CUT] * count


@pytest.mark.parametrize("name", ["ingest_s3", "ingest_sns", "ingest_eventbridge", "ingest_test_event"])
def test_a_sample_of_another_bucket_and_a_test_event_take_no_call_at_all(name: str, files: Files) -> None:
    assert files.stack.invoke("ingest", EVENTS[name]) == HANDLED
    assert files.stack.operations == []


@pytest.mark.parametrize(("function", "name"), [("ingest", "ingest_task"), ("chunks", "chunks_sqs")])
def test_a_task_about_nothing_is_handled_with_one_read(function: str, name: str, files: Files) -> None:
    assert files.stack.invoke(function, EVENTS[name]) == HANDLED
    assert files.stack.operations == ["dynamodb:GetItem"] * len(EVENTS[name]["Records"])


def test_what_is_no_message_of_ours_comes_again_by_itself(files: Files) -> None:
    body = task_body(task_of(EVENTS["ingest_task"]["Records"][0]["body"]))
    records = [
        record(text, f"m{n}", "ingest") for n, text in enumerate((body, "{}", '{"Records":[{}]}', "no"))
    ]
    answer = files.stack.invoke("ingest", {"Records": records})
    assert answer == {"batchItemFailures": [{"itemIdentifier": f"m{n}"} for n in (1, 2, 3)]}


# ---- the way of a file


def test_from_files_to_results(files: Files) -> None:
    """A text, rows, an image and a file that is damaged, told of in one event; names that need escaping."""
    rows = [
        {"n": 7, "text": "The cat sat."},
        {"n": 8, "text": "The dog ran."},
        {"n": 9, "text": "The cat sat."},
    ]
    files.start({"id_field": "n", "daily_usd": 5})
    text = "docs/Größen + Preise (1) 100% ✓.md"
    files.tell(
        files.put(text, b"# Prices\n\nAll of them.\n"),
        files.put("rows/faq.jsonl", "\n".join(map(json.dumps, rows)).encode()),
        files.put("a b/photo+1.png", png()),
        files.put("broken.pdf", b"%PDF-1.7\nnothing of it\n"),
    )
    files.settle()
    assert sorted(files.listed()) == [
        "a b/photo+1.png.embedding.json",
        "broken.pdf.error.json",
        f"{text}.embedding.json",
        "rows/faq.jsonl.embedding.jsonl",
    ]
    source, *lines, summary = files.read("rows/faq.jsonl.embedding.jsonl")
    assert (source["bucket"], source["key"]) == (BUCKET, "incoming/rows/faq.jsonl")
    assert [line["id"] for line in lines] == ["7", "8", "9"]
    first, second, third = vectors(lines)
    assert len(first) == 4 * DIMENSIONS
    assert first == third != second
    assert (summary["segments"], summary["failed"], summary["misses"]) == (3, 0, 2)
    assert files.read(f"{text}.embedding.json")["source"]["key"] == f"incoming/{text}"
    assert files.read("a b/photo+1.png.embedding.json")["segments"][0]["modality"] == "image"
    error = files.read("broken.pdf.error.json")
    assert error["error"]["code"] == "invalid_request"
    assert error["source"]["key"] == "incoming/broken.pdf"
    assert files.stack.fake.calls == 4, "two rows, a text and an image"
    assert files.stack.blobs() == [], "segments are removed when their file is done"
    assert files.stack.invoke("janitor", EVENTS["janitor_schedule"]) == {"nudged": 0, "settled": 0}
    assert "dynamodb:UpdateItem" not in files.stack.operations


def test_audio_is_a_ticket_that_worker_and_poller_take_to_its_vector(files: Files) -> None:
    files.tell(files.put("call.wav", wav(seconds=1, tone=3)))
    files.settle()
    (name,) = files.listed()
    (segment,) = files.read(name)["segments"]
    assert (name, segment["modality"], segment["cache"]) == ("call.wav.embedding.json", "audio", "miss")
    assert files.stack.fake.submissions.total() == 1
    assert files.stack.blobs() == [], "neither payloads nor segments"
    # The same bytes under another name are in the cache: no ticket is needed.
    files.tell(files.put("again.wav", wav(seconds=1, tone=3)))
    files.settle()
    again = files.read("again.wav.embedding.json")
    assert vectors(again["segments"]) == vectors([segment])
    assert again["summary"]["hits"] == 1
    assert files.stack.fake.submissions.total() == 1


def test_without_a_rule_every_file_has_an_error(files: Files) -> None:
    """As after the first deployment: everything runs, and nothing is bought."""
    files.start(IngestRules="", SinkIndexArn="")
    files.tell(files.put("note.txt", b"hello"))
    files.settle()
    assert files.listed() == ["note.txt.error.json"]
    assert "rule" in files.read("note.txt.error.json")["error"]["message"]
    assert files.stack.fake.calls == 0


def test_a_result_of_several_parts_is_complete_or_not_there(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """moto, like S3, takes parts of 5 MB and more only: here it is told otherwise."""
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1)
    monkeypatch.setattr(results, "PART_BYTES", 256)
    used: list[str] = []
    base: Any = botocore.client.BaseClient
    real = base._make_api_call

    def noted(self: Any, operation: str, given: Any) -> Any:
        used.append(operation)
        if operation == "CompleteMultipartUpload" and used.count(operation) == 1:
            assert files.listed() == []
            raise ConnectionError
        return real(self, operation, given)

    monkeypatch.setattr(base, "_make_api_call", noted)
    files.tell(files.put("rows.csv", b"text\none\ntwo\nthree\n"))
    (cut,) = files.stack.messages("ingest")
    assert files.stack.invoke("ingest", {"Records": [cut]}) == HANDLED
    (chunk,) = files.stack.messages("chunks")
    assert files.stack.invoke("chunks", {"Records": [chunk]}) == HANDLED
    (assemble,) = files.stack.messages("chunks")
    answer = files.stack.invoke("chunks", {"Records": [assemble]})
    assert answer == {"batchItemFailures": [{"itemIdentifier": assemble["messageId"]}]}
    assert "AbortMultipartUpload" in used
    assert files.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []
    files.stack.later(60)
    assert files.stack.invoke("chunks", {"Records": [assemble]}) == HANDLED
    assert files.read("rows.csv.embedding.jsonl")[-1]["segments"] == 3
    assert used.count("UploadPart") > 3


# ---- events that are doubled, late, forged


def test_ten_files_told_of_twice_and_in_any_order_have_one_result_each(files: Files) -> None:
    records = [files.put(f"{n}.png", png(shade=n)) for n in range(10)]
    shuffled = records * 2
    random.Random(7).shuffle(shuffled)
    files.tell(*shuffled)
    files.settle()
    files.tell(*reversed(records))
    files.settle()
    assert sorted(files.versions()) == [f"{n}.png.embedding.json" for n in range(10)]
    assert files.stack.fake.calls == 10


def test_what_is_of_another_bucket_or_prefix_is_refused_without_a_call(files: Files) -> None:
    key = "private/salaries.md"
    files.s3.put_object(Bucket=aws.SOURCES, Key=f"incoming/{key}", Body=b"secret")
    files.tell(
        files.told(f"incoming/{key}", bucket=aws.SOURCES),
        files.told(f"incoming/{key}", bucket=aws.BLOBS),
        files.put(key, b"secret", prefix=""),
        files.put("a.embedding.json", b"{}", prefix="results/"),
        files.told("incoming"),
        files.told("Incoming/a.md"),
        files.told("../incoming/a.md"),
        files.told("incoming/folder/"),
    )
    assert files.stack.operations == []
    files.settle()
    assert files.listed() == ["a.embedding.json"]


def test_a_forged_version_of_our_own_bucket_is_nobodys(files: Files) -> None:
    files.put("a.md", b"real")
    files.tell(files.told("incoming/a.md", version="forged"), files.told("incoming/never.md"))
    files.settle()
    assert files.listed() == []
    assert files.stack.fake.calls == 0


def test_an_older_version_that_is_told_of_later_is_not_even_read(files: Files) -> None:
    older, newer = files.put("a.txt", b"older"), files.put("a.txt", b"newer")
    files.tell(newer)
    files.settle()
    files.tell(older)
    assert set(files.stack.operations) == {"dynamodb:GetItem"}
    files.settle()
    (name,) = files.versions()
    assert files.read(name)["source"]["version"] == newer["s3"]["object"]["versionId"]
    assert files.stack.fake.calls == 1


def test_of_two_versions_on_their_way_the_newer_one_is_published(files: Files) -> None:
    older, newer = files.put("a.txt", b"older"), files.put("a.txt", b"newer")
    files.tell(older)
    files.tell(newer)
    files.settle()
    (name,) = files.versions()
    assert files.read(name)["source"]["version"] == newer["s3"]["object"]["versionId"]
    assert files.stack.fake.calls == 1


def test_a_file_that_is_deleted_before_it_is_cut_has_no_result(files: Files) -> None:
    told = files.put("a.txt", b"gone")
    files.s3.delete_object(Bucket=BUCKET, Key="incoming/a.txt", VersionId=told["s3"]["object"]["versionId"])
    hidden = files.put("b.txt", b"behind a delete marker")
    files.s3.delete_object(Bucket=BUCKET, Key="incoming/b.txt")
    files.tell(told, hidden)
    files.settle()
    assert files.listed() == ["b.txt.embedding.json"], "its version is still there"
    assert files.stack.blobs() == []


# ---- a vector index


@pytest.fixture
def index(files: Files) -> None:
    client = files.stack.clients.s3vectors()
    client.create_vector_bucket(vectorBucketName=SINK["bucket"])
    client.create_index(
        vectorBucketName=SINK["bucket"],
        indexName=SINK["index"],
        dataType="float32",
        dimension=DIMENSIONS,
        distanceMetric="cosine",
    )


def rows(*texts: str) -> bytes:
    return "\n".join(json.dumps({"text": text}) for text in texts).encode()


@pytest.mark.usefixtures("index")
def test_an_index_is_filled_and_follows_what_is_put_again(files: Files) -> None:
    assert SINK_BATCH > 3
    files.start({"sink": SINK})
    files.tell(files.put("a.jsonl", rows("one", "two", "three")))
    files.settle()
    before = files.index()
    assert set(before) == {0, 1, 2}
    _, *lines, _ = files.read("a.jsonl.embedding.jsonl")
    assert before[0]["metadata"]["source"] == f"{BUCKET}/incoming/a.jsonl"
    files.tell(files.put("a.jsonl", rows("one", "TWO")))
    files.settle()
    after = files.index()
    assert set(after) == {0, 1}
    assert after[0]["data"] == before[0]["data"]
    assert after[1]["data"] != before[1]["data"]
    assert {each["key"] for each in after.values()} == {before[n]["key"] for n in (0, 1)}
    _, *lines, summary = files.read("a.jsonl.embedding.jsonl")
    assert (summary["hits"], summary["misses"]) == (1, 1)
    assert len(lines) == 2
    # Without its sink the key's vectors are removed from it.
    files.start({})
    files.tell(files.put("a.jsonl", rows("one", "TWO", "four")))
    files.settle()
    assert files.index() == {}


@pytest.mark.usefixtures("index")
def test_a_file_with_fewer_segments_leaves_no_result_of_the_other_kind(files: Files) -> None:
    files.start({"sink": SINK})
    for texts, suffix in (
        (("one", "two"), "embedding.jsonl"),
        (("one",), "embedding.json"),
        ((), "error.json"),
    ):
        files.tell(files.put("a.jsonl", rows(*texts)))
        files.settle()
        assert files.listed() == [f"a.jsonl.{suffix}"]
        assert set(files.index()) == set(range(len(texts)))
    assert files.stack.fake.calls == 2


def test_an_index_that_is_not_there_is_an_error_of_the_file(files: Files) -> None:
    files.start({"sink": SINK})
    files.tell(files.put("a.txt", b"hello"))
    files.settle()
    assert files.listed() == ["a.txt.error.json"]


# ---- money, and what is lost


def test_over_a_rules_ceiling_nothing_is_bought_before_the_next_day(files: Files) -> None:
    files.start({"daily_usd": "0.000000001"})
    files.tell(files.put("dear.txt", b"dear"))
    files.settle()
    assert files.stack.fake.calls == 0
    said = files.read("dear.txt.error.json")["error"]["message"]
    (most,) = re.findall(r"up to ([0-9.]+) USD", said)
    files.start({"daily_usd": f"{1.5 * float(most):.9f}"})
    files.tell(files.put("a.txt", b"that"), files.put("b.txt", b"this"))
    files.settle()
    assert files.stack.fake.calls == 1
    files.stack.later(86_400)
    assert files.stack.invoke("janitor", EVENTS["janitor_schedule"]) == {"nudged": 1, "settled": 0}
    files.settle()
    assert files.listed() == ["a.txt.embedding.json", "b.txt.embedding.json", "dear.txt.error.json"]
    assert files.stack.fake.calls == 2


def test_a_key_that_is_revoked_pays_for_nothing(files: Files) -> None:
    assert files.stack.access.revoke(files.stack.key_record.id, int(time.time()))
    files.tell(files.put("a.txt", b"too late"))
    files.settle()
    assert files.listed() == ["a.txt.error.json"]
    assert files.stack.fake.calls == 0


def test_the_janitor_sends_lost_messages_anew(files: Files) -> None:
    janitor = EVENTS["janitor_schedule"]
    files.tell(files.put("a.txt", b"hello"))
    files.stack.clients.sqs().purge_queue(QueueUrl=files.stack.urls["ingest"])
    assert files.stack.invoke("janitor", janitor) == {"nudged": 0, "settled": 0}, "it is not overdue yet"
    files.stack.later(STALL_SECONDS + 1)
    assert files.stack.invoke("janitor", janitor) == {"nudged": 1, "settled": 0}
    (cut,) = files.stack.messages("ingest")
    files.stack.invoke("ingest", {"Records": [cut]})
    files.stack.clients.sqs().purge_queue(QueueUrl=files.stack.urls["chunks"])
    files.stack.later(1000)
    assert files.stack.invoke("janitor", janitor) == {"nudged": 1, "settled": 0}
    files.settle()
    assert files.listed() == ["a.txt.embedding.json"]


def test_what_is_not_done_within_a_week_has_an_error_and_leaves_nothing(files: Files) -> None:
    files.tell(files.put("a.txt", b"hello"))
    (cut,) = files.stack.messages("ingest")
    files.stack.invoke("ingest", {"Records": [cut]})
    assert files.stack.blobs() != []
    files.stack.clients.sqs().purge_queue(QueueUrl=files.stack.urls["chunks"])
    files.stack.later(DEADLINE_SECONDS + 1)
    assert files.stack.invoke("janitor", EVENTS["janitor_schedule"]) == {"nudged": 1, "settled": 0}
    files.settle()
    assert files.listed() == ["a.txt.error.json"]
    assert files.stack.blobs() == []
    assert files.stack.fake.calls == 0
