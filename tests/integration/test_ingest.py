"""From a file in the inbox to its result, over the embedded stores, with a provider that counts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from embedonce.core import vector
from embedonce.core.catalog import Model
from embedonce.core.content import Modality
from embedonce.core.errors import StoreUnavailable, UpstreamRejected
from embedonce.core.manifest import Embedding, Outcome
from embedonce.core.rule import Sink
from embedonce.core.task import IngestQueue, Step, Task
from embedonce.ports import JobFailed, Offer, SinkEntry, UpstreamCall
from embedonce.upstreams.failure import Kind, UpstreamFailure
from embedonce.usecases.ingest import cut
from support import media
from support.clock import FakeClock
from support.ingestlab import IngestLab, Lines, vector_of
from support.pipeline import Fate, Killed, Provider, expected

RULE = {"dimensions": 128}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def provider() -> Provider:
    return Provider(submits=False, max_inputs=32)


def lab_with(
    folder: Path, provider: Provider, clock: FakeClock, *rules: dict[str, Any], **kw: Any
) -> IngestLab:
    return IngestLab(folder, provider, clock, ingest_rules=json.dumps(list(rules) or [RULE]), **kw)


@pytest.fixture
def lab(tmp_path: Path, provider: Provider, clock: FakeClock) -> Iterator[IngestLab]:
    lab = lab_with(tmp_path, provider, clock, segmenter=Lines())
    yield lab
    lab.pool.shutdown()
    lab.parts.close()


def rows(count: int, start: int = 0) -> str:
    return "".join(f"row {n}\n" for n in range(start, start + count))


def segments_of(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["type"] == "segment"]


def test_a_file_becomes_a_result_in_order_and_complete(lab: IngestLab, provider: Provider) -> None:
    lab.drop("folder/a.txt", rows(250))
    lab.look()
    lab.work()
    source, *segments, summary = lab.result("folder/a.txt")
    assert source["key"] == "folder/a.txt"
    assert (source["model"], source["dimensions"]) == ("google/gemini-embedding-2", 128)
    assert [s["index"] for s in segments] == list(range(250))
    assert [s["range"] for s in segments] == [{"rows": [n, n]} for n in range(1, 251)]
    assert [vector_of(s) for s in segments] == [expected(f"row {n}", 128) for n in range(250)]
    assert {s["cache"] for s in segments} == {"miss"}
    assert (summary["segments"], summary["misses"], summary["hits"]) == (250, 250, 0)
    assert summary["cost_usd"] != "0"
    assert sum(provider.submissions.values()) == 250
    assert lab.published() == ["folder/a.txt.embedding.jsonl"]


def test_one_segment_is_one_document(lab: IngestLab) -> None:
    lab.drop("a.txt", "only this\n")
    lab.look()
    lab.work()
    assert lab.published() == ["a.txt.embedding.json"]
    assert len(lab.result("a.txt")) == 3


def test_the_same_again_costs_nothing_and_one_more_row_is_one_miss(
    lab: IngestLab, provider: Provider
) -> None:
    lab.drop("a.txt", rows(150))
    lab.look()
    lab.work()
    bought = sum(provider.submissions.values())
    lab.clock.advance(10)
    lab.drop("a.txt", rows(150))
    lab.look()
    lab.work()
    assert sum(provider.submissions.values()) == bought
    summary = lab.result("a.txt")[-1]
    assert (summary["hits"], summary["misses"], summary["cost_usd"]) == (150, 0, "0")
    assert summary["saved_usd"] != "0"
    lab.drop("a.txt", rows(151))
    lab.look()
    lab.work()
    assert sum(provider.submissions.values()) == bought + 1
    assert (lab.result("a.txt")[-1]["hits"], lab.result("a.txt")[-1]["misses"]) == (150, 1)


def test_repeated_rows_are_bought_once_and_all_there(lab: IngestLab, provider: Provider) -> None:
    lab.drop("a.txt", "same\n" * 130)
    lab.look()
    lab.work()
    assert sum(provider.submissions.values()) == 1
    summary = lab.result("a.txt")[-1]
    assert (summary["segments"], summary["misses"], summary["hits"]) == (130, 1, 129)


def test_a_failed_segment_does_not_sink_the_rest(lab: IngestLab, provider: Provider) -> None:
    def refuse(call: UpstreamCall) -> None:
        if any("poison" in str(content.parts[0]) for content in call.contents):
            raise UpstreamFailure(Kind.REJECTED, "fake answered with HTTP 400")

    provider.on_submit = refuse
    lab.drop("a.txt", rows(40) + "poison\n?\n" + rows(20, 40))
    lab.look()
    lab.work()
    lines = segments_of(lab.result("a.txt"))
    bad = [line for line in lines if "error" in line]
    assert [line["index"] for line in bad] == [40, 41]
    assert bad[0]["error"]["code"] == UpstreamRejected.code
    assert bad[1]["error"] == {"code": "invalid_request", "message": "row 42: is wrong"}
    good = [line for line in lines if "error" not in line]
    assert [vector_of(line) for line in good] == [expected(f"row {n}", 128) for n in range(60)]
    assert lab.result("a.txt")[-1]["failed"] == 2


def test_slow_media_ride_on_tickets(tmp_path: Path, clock: FakeClock) -> None:
    provider = Provider(submits=True)
    lab = lab_with(tmp_path, provider, clock, segmenter=Lines())
    lab.drop("a.txt", "".join(f"!sound {n}\n" for n in range(23)))
    lab.look()
    lab.work()
    _, *segments, summary = lab.result("a.txt")
    full = [expected(f"!sound {n}", 3072) for n in range(23)]
    assert [vector_of(s) for s in segments] == [vector.cut(data, 128) for data in full]
    assert set(provider.submissions.values()) == {1}
    assert (summary["misses"], summary["failed"]) == (23, 0)
    lab.clock.advance(10)
    lab.drop("a.txt", "".join(f"!sound {n}\n" for n in range(23)))
    lab.look()
    lab.work()
    assert lab.result("a.txt")[-1]["hits"] == 23
    assert set(provider.submissions.values()) == {1}
    provider.on_poll = lambda handle: JobFailed()
    lab.drop("a.txt", "!another\n!sound 1\n")
    lab.look()
    lab.work()
    first, second = segments_of(lab.result("a.txt"))
    assert first["error"]["code"] == "upstream_job_failed"
    assert second["cache"] == "hit"


def test_only_the_newest_version_is_published(lab: IngestLab, provider: Provider) -> None:
    lab.drop("a.txt", rows(300))
    [old] = lab.look()
    lab.ingest_step(IngestQueue.SOURCES)
    lab.ingest_step(IngestQueue.CHUNKS)
    lab.drop("a.txt", "new 1\nnew 2\n")
    [new] = lab.look()
    lab.work()
    assert lab.outcome(old) is Outcome.SUPERSEDED
    assert lab.outcome(new) is Outcome.PUBLISHED
    assert len(segments_of(lab.result("a.txt"))) == 2
    assert sum(provider.submissions.values()) == 102, "what is superseded is not bought any more"


def test_an_older_version_that_comes_late_changes_nothing(lab: IngestLab) -> None:
    lab.drop("a.txt", rows(3))
    [first] = lab.look()
    lab.drop("a.txt", rows(2))
    lab.look()
    lab.work()
    assert lab.ingest.arrivals.arrived(first.source) is None
    lab.work()
    assert len(segments_of(lab.result("a.txt"))) == 2


def test_an_error_replaces_a_result_and_a_result_an_error(lab: IngestLab) -> None:
    for content, name in (
        ("x\ny\n", "a.txt.embedding.jsonl"),
        ("", "a.txt.error.json"),
        ("x\n", "a.txt.embedding.json"),
    ):
        lab.drop("a.txt", content)
        lab.look()
        lab.work()
        assert lab.published() == [name]


def test_messages_doubled_reordered_and_lost_do_no_harm(lab: IngestLab, provider: Provider) -> None:
    for n in range(4):
        lab.drop(f"{n}.txt", rows(220, n * 1000))
    manifests = lab.look()
    queues = lab.ingest_stores.queues
    while lab.ingest_step(IngestQueue.SOURCES):
        pass
    tasks = [Task(m.id, Step.CHUNK, chunk) for m in manifests for chunk in (2, 0, 2, 1, 0)]
    queues[IngestQueue.CHUNKS].send_many([*tasks, *(Task(m.id, Step.ASSEMBLE) for m in manifests)])
    lost = queues[IngestQueue.CHUNKS].receive(5)
    for delivery in lost:
        queues[IngestQueue.CHUNKS].acknowledge(delivery)
    lab.work()
    for n in range(4):
        assert [s["index"] for s in segments_of(lab.result(f"{n}.txt"))] == list(range(220))
        assert lab.result(f"{n}.txt")[-1]["segments"] == 220
    assert set(provider.submissions.values()) == {1}


def test_all_messages_lost_is_what_the_janitor_is_for(lab: IngestLab) -> None:
    lab.drop("a.txt", rows(120))
    lab.look()
    for name in IngestQueue:
        for _ in range(3):
            for delivery in lab.ingest_stores.queues[name].receive(10):
                lab.ingest_stores.queues[name].acknowledge(delivery)
    lab.work()
    assert lab.published() == ["a.txt.embedding.jsonl"]


def test_over_a_rules_ceiling_it_pauses_until_the_next_day(
    tmp_path: Path, provider: Provider, clock: FakeClock
) -> None:
    # 100 rows of at most 7 bytes at 0.2 microdollars: the first chunk fits, the second does not.
    lab = lab_with(tmp_path, provider, clock, {**RULE, "daily_usd": "0.0002"}, segmenter=Lines())
    lab.drop("a.txt", rows(200))
    [manifest] = lab.look()
    lab.work(until=lambda: bool(_paused(lab, manifest.id)))
    assert sum(provider.submissions.values()) == 100
    assert "ceiling" in str(_paused(lab, manifest.id))
    began = clock.now()
    lab.work()
    assert lab.published() == ["a.txt.embedding.jsonl"]
    assert clock.now() - began > 0
    assert sum(provider.submissions.values()) == 200
    assert set(provider.submissions.values()) == {1}


def test_a_ceiling_counts_each_chunk_once_however_often_it_is_looked_at(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Ten sounds of a second, at 25 tokens of 6.50 USD a million: 0.0016 USD, asked for many times."""
    provider = Provider(submits=True, pending=10)
    lab = lab_with(tmp_path, provider, clock, {**RULE, "daily_usd": "0.002"}, segmenter=Lines())
    lab.drop("a.txt", "".join(f"!sound {n}\n" for n in range(10)))
    [manifest] = lab.look()
    began = clock.now()
    lab.work()
    assert lab.outcome(manifest) is Outcome.PUBLISHED
    assert lab.result("a.txt")[-1]["misses"] == 10
    assert clock.now() - began < 3600, "it never paused"


def test_a_ceiling_that_no_part_fits_below_is_an_error(
    tmp_path: Path, provider: Provider, clock: FakeClock
) -> None:
    lab = lab_with(tmp_path, provider, clock, {**RULE, "daily_usd": "0.00001"}, segmenter=Lines())
    lab.drop("a.txt", rows(200))
    lab.look()
    lab.work()
    assert "limit is 0.00001 USD a day for the rule" in lab.error("a.txt")
    assert not provider.submissions


def test_tickets_that_ran_out_of_time_are_opened_again(tmp_path: Path, clock: FakeClock) -> None:
    """A source has more patience than a ticket; what the provider has accepted is not sent again."""
    provider = Provider(submits=True, pending=10**9)
    lab = lab_with(tmp_path, provider, clock, segmenter=Lines(), job_timeout="60")
    lab.drop("a.txt", "!slow 1\n!slow 2\n")
    lab.look()
    lab.work(seconds=400)
    assert not lab.published()
    provider.pending = 0
    lab.work()
    assert lab.result("a.txt")[-1]["failed"] == 0
    assert set(provider.submissions.values()) == {1}


def test_other_choices_of_metadata_are_other_terms(lab: IngestLab) -> None:
    lab.drop("a.txt", rows(5))
    [manifest] = lab.look()
    lab.work()
    head = lab.stores.ingest.manifests.head(manifest.source.place)  # type: ignore[union-attr]
    assert head is not None
    assert head.published is not None
    assert head.published.terms == lab.manifest(manifest.id).terms.hash


def test_what_is_paused_goes_on_when_it_is_asked_for_again(
    tmp_path: Path, provider: Provider, clock: FakeClock
) -> None:
    lab = lab_with(tmp_path, provider, clock, {**RULE, "daily_usd": "0.0002"}, segmenter=Lines())
    lab.drop("a.txt", rows(200))
    [manifest] = lab.look()
    lab.work(until=lambda: bool(_paused(lab, manifest.id)))
    lab.ingest.arrivals.arrived(manifest.source)
    assert _paused(lab, manifest.id), "being told of it again is not asking"
    lab.ingest.arrivals.arrived(manifest.source, afresh=True)
    assert not _paused(lab, manifest.id)


def test_segments_that_are_gone_are_cut_anew(lab: IngestLab, provider: Provider) -> None:
    lab.drop("a.txt", rows(220))
    lab.look()
    lab.ingest_step(IngestQueue.SOURCES)
    lab.ingest_step(IngestQueue.CHUNKS)
    lab.stores.ingest.blobs.sweep(1e12)  # type: ignore[union-attr]
    lab.work()
    assert [s["index"] for s in segments_of(lab.result("a.txt"))] == list(range(220))
    assert set(provider.submissions.values()) == {1}


def _paused(lab: IngestLab, manifest_id: str) -> str | None:
    state = lab.manifest(manifest_id).state
    return state.paused if isinstance(state, Embedding) else None


def test_a_source_that_may_cost_too_much_is_refused_before_anything_is_bought(
    tmp_path: Path, provider: Provider, clock: FakeClock
) -> None:
    lab = lab_with(tmp_path, provider, clock, {**RULE, "max_usd": "0.0001"}, segmenter=Lines())
    lab.drop("a.txt", rows(200))
    lab.look()
    lab.work()
    assert "limit is 0.0001 USD for one source" in lab.error("a.txt")
    assert not provider.submissions


def test_a_failing_provider_is_waited_for(lab: IngestLab, provider: Provider) -> None:
    down = {"left": 6}

    def busy(call: UpstreamCall) -> None:
        if down["left"]:
            down["left"] -= 1
            raise UpstreamFailure(Kind.BUSY, "fake answered with HTTP 503")

    provider.on_submit = busy
    lab.drop("a.txt", rows(10))
    lab.look()
    lab.work()
    assert lab.result("a.txt")[-1]["misses"] == 10


def test_no_rule_no_money(tmp_path: Path, provider: Provider, clock: FakeClock) -> None:
    lab = lab_with(tmp_path, provider, clock, {**RULE, "prefix": "docs/"}, segmenter=Lines())
    lab.drop("other/a.txt", rows(10))
    lab.drop("docs/a.txt", rows(1))
    lab.look()
    lab.work()
    assert "no rule for this prefix" in lab.error("other/a.txt")
    assert lab.published() == ["docs/a.txt.embedding.json", "other/a.txt.error.json"]


class SlowSink:
    """An index whose every call takes as long as half of what a function has."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.there: dict[str, bytes] = {}
        self.puts = 0

    def put_many(self, sink: Sink, entries: Sequence[SinkEntry]) -> None:
        self.clock.advance(140)
        self.puts += 1
        self.there |= {entry.key: entry.data for entry in entries}

    def delete_many(self, sink: Sink, keys: Sequence[str]) -> None:
        for key in keys:
            self.there.pop(key, None)


def test_an_index_is_filled_over_several_runs_and_follows_the_newest_version(
    tmp_path: Path, provider: Provider, clock: FakeClock
) -> None:
    sink = SlowSink(clock)
    lab = lab_with(tmp_path, provider, clock, segmenter=Lines(), sink=sink)

    def publish(count: int) -> None:
        lab.drop("a.txt", rows(count))
        [manifest] = lab.look()
        lab.ingest_step(IngestQueue.SOURCES)
        stores = lab.stores.ingest
        assert stores is not None
        standing = stores.manifests.get(manifest.id)
        assert standing is not None
        terms = replace(standing.terms, sink=Sink("bucket", "index"))
        changed = replace(standing, version=standing.version + 1, terms=terms)
        assert stores.manifests.swap(changed, standing.version) is None
        lab.work()
        assert lab.outcome(manifest) is Outcome.PUBLISHED

    publish(1000)
    assert len(sink.there) == 1000
    assert sink.puts <= 15, "ten chunks, of which none is put again and again"
    publish(150)
    assert len(sink.there) == 150
    assert sorted(sink.there.values()) == sorted(expected(f"row {n}", 128) for n in range(150))
    lab.drop("a.txt", "")
    lab.look()
    lab.work()
    assert not sink.there


def test_what_no_upstream_takes_is_an_error_of_its_segment(tmp_path: Path, clock: FakeClock) -> None:
    class TextsOnly(Provider):
        def offer(self, model: Model) -> Offer | None:
            offer = super().offer(model)
            assert offer is not None
            return replace(offer, modalities=frozenset({Modality.TEXT}))

    for rule in (RULE, {**RULE, "daily_usd": "1"}):
        provider = TextsOnly(submits=False)
        lab = lab_with(tmp_path / str(len(rule)), provider, clock, rule, segmenter=Lines())
        lab.drop("a.txt", "a text\n!a sound\n")
        lab.look()
        lab.work()
        text, sound = segments_of(lab.result("a.txt"))
        assert text["cache"] == "miss"
        assert sound["error"]["code"] == "invalid_request"


def test_a_ceiling_counts_the_prefix_too(tmp_path: Path, provider: Provider, clock: FakeClock) -> None:
    """A task's prefix and a title are sent, and paid for, with every row."""
    rule = {**RULE, "task_type": "RETRIEVAL_DOCUMENT", "title": "ü" * 500, "max_usd": "0.01"}
    lab = lab_with(tmp_path, provider, clock, rule, segmenter=Lines())
    lab.drop("a.txt", rows(200))
    lab.look()
    lab.work()
    assert "limit is 0.01 USD" in lab.error("a.txt")


def test_what_failed_attempts_bought_is_in_the_sum(lab: IngestLab, provider: Provider) -> None:
    """One refused row, and a provider that is down for a moment: all that was paid for is told of."""
    down = [True]

    def moody(call: UpstreamCall) -> None:
        if any("poison" in str(content.parts[0]) for content in call.contents):
            raise UpstreamFailure(Kind.REJECTED, "fake answered with HTTP 400")
        if sum(provider.submissions.values()) > 40 and down:
            down.clear()
            raise UpstreamFailure(Kind.BUSY, "fake answered with HTTP 503")

    provider.on_submit = moody
    lab.drop("a.txt", rows(98) + "poison\n")
    lab.look()
    lab.work()
    summary = lab.result("a.txt")[-1]
    assert (summary["misses"], summary["hits"], summary["failed"]) == (98, 0, 1)
    spent = sum(Decimal(line["cost_usd"]) for line in segments_of(lab.result("a.txt")) if "error" not in line)
    assert Decimal(summary["cost_usd"]) == spent > 0
    assert summary["saved_usd"] == "0"


def test_lines_and_summary_agree_when_a_chunk_is_done_twice(lab: IngestLab) -> None:
    lab.drop("a.txt", rows(150))
    [manifest] = lab.look()
    lab.ingest_step(IngestQueue.SOURCES)
    task = Task(manifest.id, Step.CHUNK, 0)
    late = lab.manifest(manifest.id)
    lab.chunks(task, lab.deadline())
    stores = lab.stores.ingest
    assert stores is not None
    standing = stores.manifests.get(manifest.id)
    assert standing is not None
    # Somebody who had the same message in hand comes later: the row it read had no bit yet.
    assert stores.manifests.swap(replace(late, version=standing.version + 1), standing.version) is None
    lab.chunks(task, lab.deadline())
    lab.work()
    lines = segments_of(lab.result("a.txt"))
    summary = lab.result("a.txt")[-1]
    for name, cache in (("misses", "miss"), ("hits", "hit")):
        assert summary[name] == sum(line["cache"] == cache for line in lines)


def test_stores_that_fail_for_a_while_do_not_fail_a_file(
    lab: IngestLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = lab.stores.ingest.blobs  # type: ignore[union-attr]
    put = blobs.put

    def down(key: str, data: bytes) -> None:
        if lab.clock.now() < FakeClock().now() + 1200:
            raise StoreUnavailable("down")
        put(key, data)

    monkeypatch.setattr(blobs, "put", down)
    lab.drop("a.txt", rows(5))
    lab.look()
    lab.work()
    assert lab.published() == ["a.txt.embedding.jsonl"]


def test_a_file_that_was_away_comes_back(lab: IngestLab) -> None:
    lab.drop("a.txt", rows(5))
    [manifest] = lab.look()
    away = lab.inbox.with_name("away")
    lab.inbox.rename(away)
    lab.inbox.mkdir()
    lab.work()
    assert lab.outcome(manifest) is Outcome.SUPERSEDED
    lab.inbox.rmdir()
    away.rename(lab.inbox)
    assert lab.look()
    lab.work()
    assert lab.published() == ["a.txt.embedding.jsonl"]
    assert not lab.look()


def test_a_rule_that_was_narrowed_takes_no_result_away(
    tmp_path: Path, provider: Provider, clock: FakeClock
) -> None:
    lab = lab_with(tmp_path, provider, clock, segmenter=Lines())
    lab.drop("a.txt", rows(5))
    lab.look()
    lab.work()
    other = {**RULE, "prefix": "docs/"}
    lab = lab_with(tmp_path, provider, clock, other, stores=lab.stores, segmenter=Lines())
    assert not lab.look()
    lab.work()
    assert lab.published() == ["a.txt.embedding.jsonl"]


def test_an_error_never_stands_for_later_versions(
    tmp_path: Path, provider: Provider, clock: FakeClock
) -> None:
    lab = lab_with(tmp_path, provider, clock, {**RULE, "key": "gone"}, segmenter=Lines())
    lab.drop("a.txt", rows(5))
    lab.look()
    lab.work()
    assert lab.published() == ["a.txt.error.json"]
    later = Lines()
    later.lineage = "lines/2"
    lab = lab_with(tmp_path, provider, clock, stores=lab.stores, segmenter=later)
    lab.drop("a.txt", rows(5))
    lab.look()
    lab.work()
    assert lab.published() == ["a.txt.embedding.jsonl"]


def test_another_rule_begins_anew_and_only_once(tmp_path: Path, provider: Provider, clock: FakeClock) -> None:
    lab = lab_with(tmp_path, provider, clock, segmenter=Lines())
    lab.drop("a.txt", rows(3))
    lab.look()
    lab.work()
    assert not lab.look()
    other = {**RULE, "dimensions": 256}
    for expected_news in (1, 0, 0):
        again = lab_with(tmp_path, provider, clock, other, stores=lab.stores, segmenter=Lines())
        assert len(again.look()) == expected_news
        again.work()
        assert again.result("a.txt")[0]["dimensions"] == 256


def test_a_payer_that_is_not_good_any_more_pays_nothing(
    tmp_path: Path, provider: Provider, clock: FakeClock
) -> None:
    lab = lab_with(tmp_path, provider, clock, {**RULE, "key": "revoked"}, segmenter=Lines())
    lab.drop("a.txt", rows(10))
    lab.look()
    lab.work()
    assert lab.error("a.txt") == "revoked, the key that its rule names, is unknown or revoked"
    assert not provider.submissions


def test_the_same_bytes_under_another_cutter_keep_their_result(lab: IngestLab, provider: Provider) -> None:
    lab.drop("a.txt", rows(5))
    lab.look()
    lab.work()
    before = lab.result("a.txt")
    later = Lines()
    later.lineage = "lines/2"
    again = lab_with(lab.parts.settings.data_dir, provider, lab.clock, stores=lab.stores, segmenter=later)
    again.drop("a.txt", rows(5))
    [manifest] = again.look()
    again.work()
    assert again.result("a.txt") == before
    assert "lines/1" in str(again.manifest(manifest.id).note)
    again.drop("a.txt", rows(6))
    again.look()
    again.work()
    assert again.result("a.txt")[0]["cutter"] == "lines/2"
    assert sum(provider.submissions.values()) == 6


def test_nothing_is_left_behind(lab: IngestLab) -> None:
    lab.drop("a.txt", rows(120) + "!sound\n")
    lab.drop("b.txt", "")
    lab.look()
    lab.work()
    assert not left_of(lab)


def test_nothing_is_left_of_what_was_refused_or_superseded(
    tmp_path: Path, provider: Provider, clock: FakeClock
) -> None:
    lab = lab_with(tmp_path, provider, clock, {**RULE, "max_usd": "0.00001"}, segmenter=Lines())
    lab.drop("dear.txt", rows(300) + "!sound\n")
    lab.look()
    lab.work()
    assert lab.published() == ["dear.txt.error.json"]
    other = Lines()
    other.lineage = "av/lines"
    lab = lab_with(tmp_path, provider, clock, stores=lab.stores, segmenter=other)
    lab.drop("old.txt", "".join(f"!sound {n}\n" for n in range(15)))
    lab.look()
    lab.ingest_step(IngestQueue.SOURCES)
    assert left_of(lab)
    lab.drop("old.txt", "new\n")
    lab.look()
    lab.work()
    assert not left_of(lab)


def left_of(lab: IngestLab) -> list[Path]:
    return [p for p in (lab.parts.settings.data_dir / "segments").rglob("*") if p.is_file()]


def test_real_formats_end_in_a_result_or_an_error(
    tmp_path: Path, provider: Provider, clock: FakeClock
) -> None:
    lab = lab_with(tmp_path, provider, clock)
    lab.drop("a.md", "# One\n\n" + "word " * 4000 + "\n\n# Two\n\ntext\n")
    lab.drop("a.html", "<html><body><h1>Hi</h1><p>there</p></body></html>")
    lab.drop("a.csv", "text,id\nhello,1\nworld,2\n")
    lab.drop("a.jsonl", b'{"text":"x"}\n{"txt":1}\n')
    lab.drop("a.png", media.png())
    lab.drop("a.pdf", b"%PDF-1.4 broken")
    lab.drop("a.xyz", b"\x00\x01")
    lab.drop("empty.txt", "")
    lab.look()
    lab.work()
    assert lab.published() == [
        "a.csv.embedding.jsonl",
        "a.html.embedding.json",
        "a.jsonl.embedding.jsonl",
        "a.md.embedding.jsonl",
        "a.pdf.error.json",
        "a.png.embedding.json",
        "a.xyz.error.json",
        "empty.txt.error.json",
    ]
    ranges = [s["range"]["characters"] for s in segments_of(lab.result("a.md"))]
    assert ranges[0][0] == 0
    assert all(one[1] == other[0] for one, other in itertools.pairwise(ranges))
    assert "error" in segments_of(lab.result("a.jsonl"))[1]
    assert "not supported" in lab.error("a.xyz")


@pytest.mark.parametrize("kind", ["texts", "sounds"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_call_it_ends_the_same(
    tmp_path: Path, when: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Die at the n-th call to anything outside, start anew, and finish: one result, nothing paid twice."""
    monkeypatch.setattr(cut, "CHUNK_TEXTS", 3)
    monkeypatch.setattr(cut, "CHUNK_MEDIA", 1)
    text = rows(5) if kind == "texts" else "".join(f"!sound {n}\n" for n in range(2))
    count = len(text.splitlines())
    # Dead after one call is dead before the next. Of all these moments each run takes some, and the other
    # direction others in between.
    step = 4 if kind == "texts" else 6
    first = {"before": 1, "after": 1 + step // 2}[when]
    for at in itertools.count(first, step):
        lab, provider, died = _killed_at(tmp_path / f"{at}", text, Fate(at, before=when == "before"), kind)
        lines = segments_of(lab.result("a.txt"))
        assert [line["index"] for line in lines] == list(range(count)), died
        assert lab.result("a.txt")[-1]["segments"] == count
        failed = [line for line in lines if "error" in line]
        if kind == "sounds":
            assert max(provider.submissions.values()) == 1, died
            assert all("not known" in line["error"]["message"] for line in failed), died
        else:
            # A text is bought again where nobody lived to keep what came back; what is stored never is.
            lost = {"before": ("vectors.put_many",), "after": ("provider.embed",)}[when]
            assert max(provider.submissions.values()) == (2 if died in lost else 1), died
            assert not failed, died
        lab.stores.close()
        if died is None:
            break
    assert at > 40, "so many calls there are at least"


def _killed_at(folder: Path, text: str, fate: Fate, kind: str) -> tuple[IngestLab, Provider, str | None]:
    """The lab that finished it, and what the first one died at."""
    clock = FakeClock()
    provider = Provider(submits=kind == "sounds", max_inputs=64)
    lab = lab_with(folder, provider, clock, fate=fate, segmenter=Lines())
    lab.drop("a.txt", text)
    try:
        lab.look()
        lab.work()
    except Killed:
        assert fate.dead
    lab.pool.shutdown()
    if not fate.dead:
        return lab, provider, None
    lab.release()
    lab = lab_with(folder, provider, clock, stores=lab.stores, segmenter=Lines())
    lab.look()
    lab.work()
    lab.pool.shutdown()
    return lab, provider, fate.seen[-1]
