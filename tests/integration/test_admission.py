"""The request path under `pays`: what is looked up, flown, stored and held, by the verdict on each input."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from embedonce import bootstrap
from embedonce.access.authenticate import DEVELOPMENT
from embedonce.bootstrap.admission import admission_of, pays
from embedonce.bootstrap.embedding import embedder_of
from embedonce.bootstrap.parts import parts_of
from embedonce.bootstrap.stores import Stores, open_stores
from embedonce.config import env_of, load
from embedonce.core.answer import Answered, Origin
from embedonce.core.cachecontrol import DEFAULT, CacheControls
from embedonce.core.catalog import GEMINI_EMBEDDING_2
from embedonce.core.content import Content, Draft, Modality, TextPart
from embedonce.core.costcalls import DYNAMODB
from embedonce.core.deadline import Deadline
from embedonce.core.errors import NotCached, StoreUnavailable
from embedonce.core.options import EmbedOptions
from embedonce.core.patience import Patience
from embedonce.core.plan import VectorKey, items_of
from embedonce.core.prices import built_in
from embedonce.core.verdict import Verdict
from embedonce.stores.memory import MemoryVectors
from embedonce.telemetry import LogTelemetry
from embedonce.usecases.request import EmbedRequest
from fakes.openrouter import FakeOpenRouter
from support.clock import FakeClock
from support.gateway import gateway
from support.media import png, wav
from support.pipeline import Provider, expected, inline

DAY = 86_400
NEVER = Verdict(looks=False, keep=False, flies=False, ttl_seconds=0)
SECOND = Verdict(looks=True, keep=False, flies=False, ttl_seconds=3 * DAY)
FIRST = Verdict(looks=True, keep=True, flies=False, ttl_seconds=5 * DAY)
FLOWN = replace(FIRST, flies=True)
SAMPLED = Verdict(looks=True, keep=True, flies=False, ttl_seconds=30 * DAY, sampled=True)
TTL_DAYS = 180


class Told:
    """Says what it was told to say, and remembers what it hears."""

    def __init__(self, held: MemoryVectors, verdict: Verdict) -> None:
        self.held = held
        self.says = verdict
        self.seen: list[Any] = []

    def verdict(self, item: Any, model: Any) -> Verdict:
        return self.says

    def bought(self, item: Any, model: Any) -> None:
        self.seen.append("bought")

    def found(self, item: Any, model: Any, age: float, *, remembered: bool) -> None:
        self.seen.append((age, remembered))


class Watched:
    """A store whose calls are counted, and which may be down."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.calls: list[str] = []
        self.down = False

    def __getattr__(self, name: str) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            self.calls.append(name)
            if self.down:
                raise StoreUnavailable("down")
            return getattr(self._inner, name)(*given, **named)

        return call

    def taken(self) -> list[str]:
        calls, self.calls = self.calls, []
        return calls


class Process:
    def __init__(self, shared: Lab, verdict: Verdict) -> None:
        self.parts = parts_of(
            shared.settings,
            LogTelemetry(),
            clock=shared.clock,
            stores=shared.stores,
            upstreams=[shared.provider],
        )
        held = MemoryVectors(max_bytes=1 << 20, max_age=float("inf"), clock=shared.clock)
        self.parts.accounts.deployment.on_purge(held.clear)
        self.policy = Told(held, verdict)
        self._shared = shared
        self.embed = embedder_of(self.parts, shared.pool, lane=None, admission=self.policy)  # type: ignore[arg-type]

    def ask(
        self,
        *texts: str,
        dimensions: int = 3072,
        controls: CacheControls = DEFAULT,
        namespace: str = "",
        patience: Patience = Patience.PROVIDERS,
    ) -> list[Answered]:
        result = self.embed(
            EmbedRequest(
                drafts=tuple(Draft((TextPart(text),), "input") for text in texts),
                options=EmbedOptions(GEMINI_EMBEDDING_2, dimensions),
                controls=controls,
                caller=DEVELOPMENT,
                namespace=namespace,
                deadline=Deadline.after(25, self._shared.clock.monotonic()),
                patience=patience,
            )
        )
        answers = [result.answers[index] for index in result.order]
        for text, answered in zip(texts, answers, strict=True):
            if dimensions == 3072:
                assert answered.record.data == expected(text, 3072)
        return answers

    def one(self, text: str, **named: Any) -> tuple[Origin, bool]:
        (answered,) = self.ask(text, **named)
        return answered.origin, answered.stored


class Lab:
    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.settings = load({env_of("data_dir"): str(folder), env_of("upstreams"): "embedded"})
        opened = open_stores(self.settings, self.clock)
        self.vectors, self.flights = Watched(opened.vectors), Watched(opened.flights)
        self.stores: Stores = replace(opened, vectors=self.vectors, flights=self.flights)  # type: ignore[arg-type]
        self.provider: Any = Provider(submits=False, max_inputs=100)
        self.pool = ThreadPoolExecutor(4)

    def process(self, verdict: Verdict) -> Process:
        return Process(self, verdict)

    @property
    def bought(self) -> int:
        return int(self.provider.submissions.total())


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.pool.shutdown()
    lab.stores.close()


HIT, MISS = Origin.HIT, Origin.MISS


def test_a_second_sight_is_written_and_not_bought_again(lab: Lab) -> None:
    process = lab.process(SECOND)
    assert process.one("a") == (MISS, False)
    assert lab.vectors.taken() == ["get_many"]
    assert process.one("a") == (HIT, True)
    assert lab.vectors.taken() == ["get_many", "put_many"]
    assert process.one("a") == (HIT, True)
    assert lab.vectors.taken() == [], "it is in the memory of what is stored"
    assert lab.flights.taken() == []
    assert lab.process(SECOND).one("a") == (HIT, True), "and for everybody"
    assert lab.bought == 1


def test_a_second_sight_lives_as_long_as_that_pays_but_no_longer_than_configured(lab: Lab) -> None:
    process = lab.process(SECOND)
    process.ask("a")
    lab.clock.advance(2 * DAY)
    (answered,) = process.ask("a")
    assert answered.record.created == lab.clock.now() - 2 * DAY
    assert answered.record.expires == lab.clock.now() + 3 * DAY
    process.ask("b")
    lab.clock.advance((TTL_DAYS - 1) * DAY)
    (answered,) = process.ask("b")
    assert answered.record.expires == answered.record.created + TTL_DAYS * DAY


def test_what_is_never_kept_is_not_looked_for_nor_flown_but_remembered(lab: Lab) -> None:
    process = lab.process(NEVER)
    assert process.one("a") == (MISS, False)
    assert process.one("a") == (HIT, False)
    assert process.one("a", dimensions=256) == (Origin.DERIVED, False)
    assert lab.vectors.taken() == lab.flights.taken() == []
    assert lab.bought == 1
    assert lab.process(NEVER).one("a") == (MISS, False), "by this process only"


def test_what_the_stores_gave_this_process_is_found_although_they_are_not_asked(lab: Lab) -> None:
    process = lab.process(FIRST)
    process.ask("a")
    lab.vectors.taken()
    process.policy.says = NEVER
    assert process.one("a") == (HIT, True)
    assert process.one("a", dimensions=256) == (Origin.DERIVED, True)
    assert lab.vectors.taken() == []


def test_a_first_sight_that_pays_is_stored_for_its_ttl_with_a_flight_if_that_pays(lab: Lab) -> None:
    (answered,) = lab.process(FIRST).ask("a")
    assert answered.stored
    assert answered.record.expires == lab.clock.now() + 5 * DAY
    assert lab.flights.taken() == []
    lab.process(FLOWN).ask("b")
    assert lab.flights.taken() == ["swap_many", "swap_many"]


def test_inputs_of_one_request_are_told_apart(lab: Lab) -> None:
    process = lab.process(FIRST)
    verdicts = {3072: FIRST}

    def by_length(item: Any, model: Any) -> Verdict:
        return FIRST if item.content.size > 4 else verdicts.get(0, NEVER)

    process.policy.verdict = by_length  # type: ignore[method-assign]
    answers = process.ask("short"[:3], "a longer text", "more of it")
    assert [answered.stored for answered in answers] == [False, True, True]
    again = process.ask("short"[:3], "a longer text", "other")
    assert [answered.origin for answered in again] == [HIT, HIT, MISS]
    assert lab.bought == 4


def test_at_once_they_share_one_purchase_within_the_process(lab: Lab) -> None:
    process, sending = lab.process(NEVER), threading.Event()
    lab.provider.on_submit = lambda call: sending.wait(5)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(process.one, "a") for _ in range(8)]
        threading.Timer(0.2, sending.set).start()
        answers = [future.result(10) for future in futures]
    assert lab.bought == 1
    assert sorted(answers)[-1] == (MISS, False)
    assert not any(stored for _, stored in answers)
    assert lab.flights.taken() == []


def test_what_another_thread_bought_after_it_was_looked_for_is_not_bought_again(lab: Lab) -> None:
    """Without a row only memory can tell."""
    process = lab.process(NEVER)
    take = process.policy.held.get_many
    raced: list[bool] = []

    def race(keys: Any) -> Any:
        found = take(keys)
        if not raced:
            raced.append(True)
            process.ask("a")
        return found

    process.policy.held.get_many = race  # type: ignore[method-assign]
    assert process.one("a") == (Origin.COLLAPSED, False)
    assert lab.bought == 1


def test_a_purge_reaches_what_is_held(lab: Lab) -> None:
    process = lab.process(NEVER)
    process.ask("a")
    access = lab.stores.access
    assert access.set_deployment(replace(access.deployment(), purged=int(lab.clock.now())))
    lab.clock.advance(50)
    assert process.one("a") == (MISS, False)


@pytest.mark.parametrize("verdict", [NEVER, SECOND, FIRST, FLOWN], ids=["never", "second", "first", "flown"])
def test_no_store_leaves_nothing_behind(verdict: Verdict, lab: Lab) -> None:
    process, private = lab.process(verdict), CacheControls(no_store=True)
    assert process.one("a", controls=private) == (MISS, False)
    assert process.one("a") == (MISS, verdict.keep)
    lab.vectors.taken()
    assert process.one("a", controls=private)[0] is HIT
    assert "put_many" not in lab.vectors.taken(), "nor is it what makes a second sight"


def test_a_held_vector_answers_where_the_stored_one_is_too_old(lab: Lab) -> None:
    lab.process(FIRST).ask("a")
    lab.clock.advance(100)
    process = lab.process(SECOND)
    process.ask("a", controls=CacheControls(no_cache=True))
    assert process.one("a", controls=CacheControls(max_age=50)) == (HIT, False)
    assert process.one("a") == (HIT, True)
    assert lab.bought == 2


def test_a_race_for_the_second_sight_has_one_winner(lab: Lab) -> None:
    one, other = lab.process(SECOND), lab.process(SECOND)
    one.ask("a")
    lab.clock.advance(10)
    other.ask("a")
    put = lab.stores.vectors.put_many

    def race(entries: Any, **named: Any) -> Any:
        lab.vectors.put_many = put
        other.ask("a")
        return put(entries, **named)

    lab.vectors.put_many = race
    (answered,) = one.ask("a")
    assert answered.stored
    assert answered.record.created == lab.clock.now(), "the other's"


def test_cache_controls_look_at_when_a_held_one_was_bought(lab: Lab) -> None:
    process = lab.process(NEVER)
    process.ask("a")
    lab.clock.advance(100)
    assert process.one("a", controls=CacheControls(max_age=100)) == (HIT, False)
    assert process.one("a", controls=CacheControls(max_age=99)) == (MISS, False)
    assert process.one("a", controls=CacheControls(max_age=99)) == (MISS, False), "what others get stays"
    assert process.one("a", controls=CacheControls(no_cache=True)) == (MISS, False)
    assert process.one("a", controls=CacheControls(only_if_cached=True)) == (HIT, False)
    with pytest.raises(NotCached):
        process.ask("b", controls=CacheControls(only_if_cached=True))


def test_a_refresh_is_stored_whatever_it_is_worth(lab: Lab) -> None:
    process = lab.process(NEVER)
    process.ask("a")
    assert process.one("a", controls=CacheControls(refresh=True)) == (MISS, True)
    assert len(process.policy.held) == 0


def test_namespaces_do_not_share_what_is_held(lab: Lab) -> None:
    process = lab.process(NEVER)
    process.ask("a", namespace="one")
    assert process.one("a", namespace="two") == (MISS, False)
    assert process.one("a", namespace="one") == (HIT, False)


def test_a_store_that_fails_costs_no_more_than_the_writing(lab: Lab) -> None:
    process = lab.process(SECOND)
    process.ask("a")
    lab.vectors.down = True
    assert process.one("a") == (HIT, False)
    lab.vectors.down = False
    lab.clock.advance(10)
    assert process.one("a") == (HIT, True)
    assert lab.bought == 1


def test_another_ones_vector_stands(lab: Lab) -> None:
    process, other = lab.process(SECOND), lab.process(FIRST)
    process.ask("a")
    lab.clock.advance(60)
    other.ask("b")
    assert len(process.policy.held) == 1
    other.ask("a", controls=CacheControls(no_cache=True))
    lab.vectors.taken()
    (answered,) = process.ask("a")
    assert answered.record.created == lab.clock.now(), "the first that was stored"
    assert lab.vectors.taken() == ["get_many"], "nothing is written in vain"
    assert len(process.policy.held) == 0


def test_what_is_held_expires_and_is_bounded(lab: Lab) -> None:
    process = lab.process(NEVER)
    process.ask("a")
    lab.clock.advance(TTL_DAYS * DAY)
    assert process.one("a") == (MISS, False)
    for start in range(0, 120, 20):
        process.ask(*(f"text {start + n}" for n in range(20)))
    assert process.policy.held.bytes_held <= 1 << 20
    assert process.one("a") == (MISS, False)


def test_patience_for_memory_alone_does_not_reach_what_may_have_to_be_written(lab: Lab) -> None:
    process = lab.process(SECOND)
    process.ask("a")
    assert process.one("a", patience=Patience.STORES) == (HIT, True)
    assert process.one("a", patience=Patience.MEMORY) == (HIT, True)


def test_the_sample_is_seen_by_every_process_and_says_whether_this_one_remembered(lab: Lab) -> None:
    process, other = lab.process(SAMPLED), lab.process(SAMPLED)
    assert process.one("a") == (MISS, True)
    lab.clock.advance(100)
    assert other.one("a") == (HIT, True)
    lab.clock.advance(100)
    assert process.one("a") == (HIT, True)
    assert other.one("a") == (HIT, True)
    assert process.policy.seen == ["bought", (200, True)]
    assert other.policy.seen == [(100, False), (200, True)]
    private = CacheControls(no_store=True)
    process.ask("a", controls=private)
    process.ask("b", controls=private)
    process.ask("a", controls=CacheControls(no_cache=True))
    assert len(process.policy.seen) == 2, "what bypasses the cache says nothing about it"
    assert lab.vectors.calls.count("put_many") == 2


# ---- the real policy


def test_kinds_are_told_apart_and_slow_media_are_always_kept(lab: Lab) -> None:
    policy = pays(lab.process(FIRST).parts, DYNAMODB, built_in())

    def verdict(content: Content, dimensions: int = 3072) -> Verdict:
        options = EmbedOptions(GEMINI_EMBEDDING_2, dimensions)
        (item,) = items_of([content], [_Name()], options, ["input"])  # type: ignore[list-item]
        return policy.verdict(item, GEMINI_EMBEDDING_2)

    assert not verdict(Content.of_text("x" * 80)).looks
    assert verdict(Content.of_text("x" * 4000)).keep
    assert verdict(Content.of_text("x" * 4000), 256).flies
    media = {Modality.IMAGE: png(), Modality.AUDIO: wav(1.0)}
    for modality, data in media.items():
        content = lab.process(FIRST).parts.media.resolve(
            (Draft((inline(data, modality, "input"),), "input"),),
            namespace=None,  # type: ignore[arg-type]
            owner="",
            deadline=Deadline.after(20, lab.clock.monotonic()),
        )[0]
        assert verdict(content).keep
        assert verdict(content).flies
    assert verdict(content).ttl_seconds == TTL_DAYS * DAY


class _Name:
    def of(self, content: Content, dimensions: int | None) -> bytes:
        return b"\xff" * 32


def test_without_a_cost_of_keeping_everything_is_kept(lab: Lab) -> None:
    parts = lab.process(FIRST).parts
    assert admission_of(parts) is None
    paying = parts.settings.model_copy(update={"admission": "pays"})
    assert admission_of(replace(parts, settings=paying)) is None, "local mode"
    on_aws = paying.model_copy(update={"mode": "aws"})
    policy = admission_of(replace(parts, settings=on_aws))
    assert policy is not None
    policy.held.put(VectorKey(b"a" * 32, 3072), lab.process(FIRST).ask("a")[0].record)
    assert policy.held.get_many([VectorKey(b"a" * 32, 3072)])
    assert admission_of(replace(parts, settings=on_aws.model_copy(update={"admission": "always"}))) is None


def test_the_answer_says_that_it_was_not_stored(
    tmp_path: Path, fake: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "admission_of", lambda parts: pays(parts, DYNAMODB, built_in()))
    with gateway(tmp_path, fake) as gate:
        first, second = gate.embed("some short text"), gate.embed("some short text")
        long = gate.embed("some text " * 400)
    assert first.status == second.status == 200
    assert "stored=?0" in first.headers["Cache-Status"]
    assert second.headers["X-Cache"] == "HIT"
    assert second.vectors == first.vectors
    assert second.usage["cost"] == 0
    assert "stored=?0" not in long.headers["Cache-Status"]
    assert fake.calls == 2
