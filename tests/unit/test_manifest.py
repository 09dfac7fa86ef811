"""Sources, rules and manifests: the pure part of ingest."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedonce.core import manifest as machine
from embedonce.core import manifestrow
from embedonce.core.errors import InvalidRequest
from embedonce.core.manifest import Assembling, Embedding, Ended, Manifest, Outcome, Totals
from embedonce.core.rule import Choosable, Output, Rule, Sink, Terms, matching
from embedonce.core.segment import CutOptions, Format
from embedonce.core.source import Source, newer
from embedonce.core.tasks import TaskType

NOW = 1_800_000_000.0
SOURCE = Source("bucket", "folder/a b.pdf", "v1", "etag", 10, "0055AED6DCD90281E5")
TERMS = Terms(payer="key", model="google/gemini-embedding-2")


def manifest() -> Manifest:
    return machine.announced(SOURCE.manifest_id("rule"), SOURCE, "rule", TERMS, now=NOW)


def cut(chunks: int) -> Manifest:
    begun = machine.cut_begins(manifest(), now=NOW, lease=30)
    totals = Totals(segments=chunks * 100)
    return machine.cut(begun, terms=TERMS, chunks=chunks, totals=totals, sha256="ab", cutter="x", now=NOW)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 300), st.randoms(use_true_random=False))
def test_the_last_chunk_leads_to_assembly_whatever_the_order(chunks: int, luck: random.Random) -> None:
    order = list(range(chunks))
    luck.shuffle(order)
    state = cut(chunks)
    for place, chunk in enumerate(order):
        assert isinstance(state.state, Embedding)
        assert sorted(state.state.left) == sorted(order[place:])
        state = machine.chunk_done(state, chunk, Totals(hits=1, cost=2), now=NOW)
    assert isinstance(state.state, Assembling)
    assert (state.totals.hits, state.totals.cost, state.totals.segments) == (chunks, 2 * chunks, 100 * chunks)


def test_every_change_raises_the_version_and_says_when_it_is_due() -> None:
    steps = [manifest()]
    steps.append(machine.cut_begins(steps[-1], now=NOW, lease=30))
    steps.append(cut(1))
    steps.append(machine.paused(steps[-1], "why", until=NOW + 500))
    steps.append(machine.nudged(steps[-1], now=NOW + 500))
    steps.append(machine.chunk_done(steps[-1], 0, Totals(), now=NOW))
    steps.append(machine.assembly_begins(steps[-1], now=NOW, lease=30))
    versions = [step.version for step in steps]
    assert versions[1:3] == [2, 3]
    assert versions[3:] == [4, 5, 6, 7]
    assert all(step.due is not None for step in steps)
    ended = machine.published(steps[-1], now=NOW)
    assert ended.state == Ended(Outcome.PUBLISHED, NOW)
    assert ended.due is None


def test_what_nobody_watches_is_never_due() -> None:
    state = machine.cut_begins(machine.unwatched(manifest()), now=NOW, lease=30)
    assert state.due is None


def test_nudges_come_ever_later_and_end_with_the_deadline() -> None:
    state, now, times = manifest(), NOW, []
    for _ in range(30):
        assert state.due is not None
        now = max(now + 1, state.due)
        state = machine.nudged(state, now=now)
        times.append(now)
        if now >= state.deadline:
            break
    assert len(times) < 20
    assert state.deadline <= now <= state.deadline + 61


def test_rows_are_read_as_they_were_written() -> None:
    terms = replace(
        TERMS,
        dimensions=768,
        task_type=TaskType.RETRIEVAL_DOCUMENT,
        title="Ä title",
        format=Format.CSV,
        cut=CutOptions(field="a.b", id_field="id"),
        output=Output.FLOAT,
        sink=Sink("b", "i"),
        most=5,
        daily=6,
    )
    states = [
        manifest(),
        replace(cut(20), terms=terms),
        machine.paused(cut(3), "why", until=NOW),
        machine.failed(cut(3), InvalidRequest("no"), now=NOW),
        machine.superseded(cut(3), now=NOW),
    ]
    for each in states:
        assert manifestrow.decode(each.id, each.version, manifestrow.encode(each)) == each


@pytest.mark.parametrize("text", ["{}", '{"format":2}', "[]", '{"format":1,"source":{}}'])
def test_rows_of_others_are_not_read(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        manifestrow.decode("a" * 32, 1, text)
    with pytest.raises((ValueError, TypeError)):
        manifestrow.decode_head("a" * 32, 1, text)


@given(st.lists(st.text("0123456789ABCDEF", min_size=1, max_size=24), min_size=3, max_size=3))
def test_newer_is_an_order(sequencers: list[str]) -> None:
    one, two, three = sequencers
    assert not newer(one, one)
    assert not (newer(one, two) and newer(two, one))
    if newer(one, two) and newer(two, three):
        assert newer(one, three)


def test_sequencers_of_different_lengths_are_filled_on_the_right() -> None:
    assert newer("0055AED6DCD90281E6", "0055AED6DCD90281E5")
    assert newer("56", "0055AED6DCD90281E5")
    assert not newer("55", "550")
    assert newer("551", "55")


def test_a_head_goes_forward_only() -> None:
    first = machine.arrived(None, SOURCE, "one")
    assert first is not None
    later = replace(SOURCE, sequencer="0055AED6DCD90281E6")
    second = machine.arrived(first, later, "two")
    assert second is not None
    assert (second.newest, second.version) == ("two", 2)
    assert machine.arrived(second, SOURCE, "one") is None
    held = machine.publishing(second, "two", now=NOW, lease=30)
    assert held is not None
    assert machine.publishing(held, "three", now=NOW + 29, lease=30) is None
    assert machine.publishing(held, "three", now=NOW + 30, lease=30) is not None
    assert machine.publishing(held, "two", now=NOW + 1, lease=30) is not None


def test_the_longest_prefix_and_then_the_longest_suffix_decides() -> None:
    rules = [
        Rule(prefix, suffix, TERMS) for prefix, suffix in (("", ""), ("a/", ""), ("a/", ".md"), ("", ".md"))
    ]
    for key, expected in (("x", "*"), ("x.md", "*.md"), ("a/x", "a/*"), ("a/x.md", "a/*.md")):
        found = matching(rules, key)
        assert found is not None
        assert found.name == expected
    assert matching(rules[1:3], "b") is None


def test_a_hash_tells_what_is_not_as_by_default() -> None:
    """Golden: with another one, all of an inbox would be cut anew after an update."""
    assert Rule("", "", TERMS).hash == "c13def410b3a5974faea45e423c8235c"
    assert TERMS.hash == "799614b3564b33abd04d2c7ab0650b4b"
    others = [
        replace(TERMS, dimensions=768),
        replace(TERMS, cut=CutOptions(pages=2)),
        replace(TERMS, output=Output.FLOAT),
        replace(TERMS, sink=Sink("a", "b")),
    ]
    assert len({TERMS.hash, *(each.hash for each in others)}) == 5
    assert replace(TERMS, cut=CutOptions()).hash == TERMS.hash


def test_metadata_choose_only_what_the_rule_lists() -> None:
    may = {Choosable.TASK_TYPE: frozenset({"RETRIEVAL_QUERY"}), Choosable.TITLE: None}
    rule = Rule("", "", TERMS, may)
    assert rule.chosen({"unrelated": "x", "title": ""}) == TERMS
    chosen = rule.chosen({"task-type": "RETRIEVAL_QUERY", "title": "A title"})
    assert (chosen.task_type, chosen.title) == (TaskType.RETRIEVAL_QUERY, "A title")
    for metadata, said in (
        ({"task-type": "CLUSTERING"}, "allows RETRIEVAL_QUERY"),
        ({"output-dimensionality": "768"}, "does not let objects choose it"),
        ({"title": "x" * 501}, "more than 500"),
    ):
        with pytest.raises(InvalidRequest, match=said):
            rule.chosen(metadata)
    anything = Rule("", "", TERMS, dict.fromkeys(Choosable))
    with pytest.raises(InvalidRequest, match="no such value"):
        anything.chosen({"output-dimensionality": "many"})


def test_a_manifest_is_of_one_version_under_one_rule() -> None:
    ids = {
        SOURCE.manifest_id("rule"),
        SOURCE.manifest_id("other"),
        replace(SOURCE, version="v2").manifest_id("rule"),
        replace(SOURCE, key="folder/a", bucket="bucket b.pdf").manifest_id("rule"),
    }
    assert len(ids) == 4
