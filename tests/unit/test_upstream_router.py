"""Routing and failover between real adapters over fakes: one lineage, three attempts, media never twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from embedonce.core.catalog import BUILT_IN, GEMINI_EMBEDDING_2
from embedonce.core.content import Modality
from embedonce.core.deadline import Deadline
from embedonce.core.errors import InvalidRequest, ServiceUnavailable
from embedonce.core.options import EmbedOptions
from embedonce.core.tasks import TaskType
from embedonce.ports import Upstream, UpstreamAnswer, UpstreamCall
from embedonce.telemetry import LogTelemetry
from embedonce.upstreams.failure import Kind
from embedonce.upstreams.google import Google
from embedonce.upstreams.openrouter import OpenRouter
from embedonce.upstreams.router import Purchase, Route, Router
from embedonce.upstreams.segmind import Segmind
from embedonce.upstreams.transport import Transport
from fakes.behaviour import status
from fakes.google import FakeGoogle
from fakes.openrouter import FakeOpenRouter, closed_port
from fakes.provider import FakeProvider
from fakes.segmind import FakeSegmind
from support.clock import FakeClock
from support.upstream import IMAGE, VIDEO, RealClock, call_of, failure_of

BRIEF = 0.25
TEXT, VIDEOS = frozenset({Modality.TEXT}), frozenset({Modality.VIDEO})


class Fakes:
    """The three providers, and adapters that speak to them."""

    def __init__(self) -> None:
        self.google, self.openrouter, self.segmind = FakeGoogle(), FakeOpenRouter(), FakeSegmind()
        self.all: tuple[FakeProvider, ...] = (self.google, self.openrouter, self.segmind)
        self.transport = Transport(RealClock())

    def upstreams(self, *names: str, googles_space: bool = False) -> list[Upstream]:
        made: dict[str, Upstream] = {
            "google": Google(self.transport, lambda: self.google.key, base_url=self.google.base_url),
            "openrouter": OpenRouter(
                self.transport,
                lambda: self.openrouter.key,
                catalog=BUILT_IN,
                base_url=self.openrouter.base_url,
            ),
            "segmind": Segmind(
                self.transport,
                lambda: self.segmind.key,
                RealClock(),
                base_url=self.segmind.base_url,
                googles_space=googles_space,
            ),
        }
        return [made[name] for name in names]

    @property
    def calls(self) -> tuple[int, int, int]:
        return self.google.calls, self.openrouter.calls, self.segmind.calls


@pytest.fixture(scope="module")
def running() -> Iterator[Fakes]:
    fakes = Fakes()
    yield fakes
    fakes.transport.close()
    for fake in fakes.all:
        fake.close()


@pytest.fixture
def fakes(running: Fakes) -> Iterator[Fakes]:
    for fake in running.all:
        fake.reset()
    yield running
    for fake in running.all:
        fake.release()


def router_of(upstreams: Sequence[Upstream], **options: Any) -> tuple[Router, FakeClock]:
    clock = FakeClock()
    return Router(
        upstreams, clock, LogTelemetry(), attempt_timeout=BRIEF, jitter=lambda: 0.5, **options
    ), clock


def buy(router: Router, clock: FakeClock, call: UpstreamCall, route: Route | None = None) -> Purchase:
    modalities = frozenset().union(*(content.modalities for content in call.contents))
    route = route or router.route(call.model, modalities)
    return router.embed(route, call, Deadline.after(60.0, clock.monotonic()), lambda seconds, billed: True)


@pytest.mark.parametrize(
    ("failure", "asked"),
    [
        (status(429, retry_after="17"), (1, 1, 0)),
        (status(503), (1, 1, 0)),
        (status(401), (1, 1, 0)),
        (status(400, text="API key not valid."), (1, 1, 0)),
        (status(500), (1, 1, 0)),
        ("disconnect", (1, 1, 0)),
        ("hang", (1, 1, 0)),
    ],
    ids=str,
)
def test_the_second_of_one_lineage_answers(fakes: Fakes, failure: Any, asked: tuple[int, ...]) -> None:
    router, clock = router_of(fakes.upstreams("google", "openrouter", "segmind"))
    fakes.google.always(failure)
    began = clock.now()
    purchase = buy(router, clock, call_of("a", "b"))
    assert purchase.upstream == "openrouter"
    assert purchase.answer.vectors == tuple(fakes.google.vector_for(text, 256) for text in "ab")
    assert fakes.calls == asked
    assert clock.now() == began, "nobody waits where another can answer"


def test_and_the_other_way_round_for_images(fakes: Fakes) -> None:
    router, clock = router_of(fakes.upstreams("openrouter", "google"))
    fakes.openrouter.always(status(402))
    assert buy(router, clock, call_of(IMAGE)).upstream == "google"
    assert fakes.calls == (1, 1, 0)


def test_an_upstream_that_is_down(fakes: Fakes) -> None:
    down = Google(fakes.transport, lambda: "k", base_url=f"http://127.0.0.1:{closed_port()}")
    router, clock = router_of([down, *fakes.upstreams("openrouter")])
    assert buy(router, clock, call_of("a")).upstream == "openrouter"


def test_an_upstream_without_a_key_is_passed_over(fakes: Fakes) -> None:
    def missing() -> str:
        raise ServiceUnavailable("no key")

    keyless = Google(fakes.transport, missing, base_url=fakes.google.base_url)
    router, clock = router_of([keyless, *fakes.upstreams("openrouter")])
    assert buy(router, clock, call_of("a")).upstream == "openrouter"
    router, clock = router_of([keyless])
    with pytest.raises(ServiceUnavailable):
        buy(router, clock, call_of("a"))


def test_three_attempts_in_all_and_an_upstream_rests_as_long_as_it_asked(fakes: Fakes) -> None:
    router, clock = router_of(fakes.upstreams("google", "openrouter"))
    fakes.google.always(status(429, retry_after="17"))
    fakes.openrouter.always(status(429))
    began = clock.now()
    assert failure_of(lambda: buy(router, clock, call_of("a"))).kind is Kind.BUSY
    assert fakes.calls == (2, 1, 0)
    assert clock.now() - began == pytest.approx(17, abs=0.5)


@pytest.mark.parametrize("failure", ["hang", "disconnect", status(500)], ids=str)
def test_media_are_not_sent_again_when_they_may_have_been_billed(fakes: Fakes, failure: Any) -> None:
    router, clock = router_of(fakes.upstreams("google", "openrouter", "segmind"))
    fakes.google.always(failure)
    for medium in (IMAGE, VIDEO):
        assert failure_of(lambda m=medium: buy(router, clock, call_of(m))).billed  # type: ignore[misc]
    assert fakes.calls == (2, 0, 0)


@pytest.mark.parametrize("failure", ["hang", "disconnect", status(502), status(503)], ids=str)
def test_segmind_is_never_posted_to_again_not_even_a_text(fakes: Fakes, failure: Any) -> None:
    router, clock = router_of(fakes.upstreams("segmind"))
    fakes.segmind.always(failure)
    assert failure_of(lambda: buy(router, clock, call_of("a"))).billed
    assert fakes.calls == (0, 0, 1)


def test_another_may_be_asked_for_a_text_but_segmind_not_again(fakes: Fakes) -> None:
    router, clock = router_of(fakes.upstreams("segmind", "google", googles_space=True))
    fakes.segmind.always(status(500))
    fakes.google.always(status(429))
    assert failure_of(lambda: buy(router, clock, call_of("a"))).kind is Kind.BUSY
    assert fakes.calls == (2, 0, 1)


def test_segmind_is_asked_again_when_it_certainly_did_not_accept(fakes: Fakes) -> None:
    router, clock = router_of(fakes.upstreams("segmind"))
    fakes.segmind.next(status(429), status(429))
    assert buy(router, clock, call_of("a")).upstream == "segmind"
    assert fakes.calls == (0, 0, 3)


def test_what_the_stand_in_cannot_say_does_not_make_a_failure_permanent(fakes: Fakes) -> None:
    router, clock = router_of(fakes.upstreams("google", "openrouter", "segmind", googles_space=True))
    fakes.google.always(status(429))
    fakes.openrouter.always(status(429))
    assert failure_of(lambda: buy(router, clock, call_of(("two", "parts")))).kind is Kind.BUSY
    assert fakes.calls == (2, 1, 0)


def names(route: Route) -> list[str]:
    return [upstream.name for upstream, _ in route.candidates]


def test_routes_stay_in_the_lineage_of_the_first(fakes: Fakes) -> None:
    router, _ = router_of(fakes.upstreams("openrouter", "segmind", "google"))
    assert names(router.route(GEMINI_EMBEDDING_2, TEXT)) == ["openrouter", "google"]
    assert names(router.route(GEMINI_EMBEDDING_2, VIDEOS)) == ["segmind"]
    assert names(router.route(GEMINI_EMBEDDING_2, TEXT | VIDEOS)) == ["segmind"]
    router, _ = router_of(fakes.upstreams("openrouter"))
    with pytest.raises(InvalidRequest, match="text with video is not taken by openrouter"):
        router.route(GEMINI_EMBEDDING_2, TEXT | VIDEOS)


def test_the_operators_order(fakes: Fakes) -> None:
    order = {Modality.TEXT: ("openrouter", "google"), Modality.VIDEO: ("segmind",)}
    router, _ = router_of(fakes.upstreams("google", "openrouter", "segmind"), order=order)
    assert names(router.route(GEMINI_EMBEDDING_2, TEXT)) == ["openrouter", "google"]
    assert names(router.route(GEMINI_EMBEDDING_2, TEXT | VIDEOS)) == ["segmind"]
    assert names(router.route(GEMINI_EMBEDDING_2, frozenset({Modality.PDF}))) == ["google"]


def test_what_only_one_passes_on_stays_with_it(fakes: Fakes) -> None:
    router, _ = router_of(fakes.upstreams("google", "openrouter", "segmind"))
    route = router.route(GEMINI_EMBEDDING_2, TEXT)

    def sending(task: TaskType | None = None, **parameters: Any) -> list[str]:
        return names(route.sending(EmbedOptions(GEMINI_EMBEDDING_2, 256, task, parameters=parameters)))

    assert sending() == sending(TaskType.CLUSTERING) == ["google", "openrouter"]
    assert sending(input_type="search_query") == sending(provider={"only": ["x"]}) == ["openrouter"]
    assert sending(taskType="CLUSTERING", title="t") == ["google"]
    assert sending(unknown=1) == ["google", "openrouter"]


def test_an_input_type_is_not_dropped_when_its_upstream_fails(fakes: Fakes) -> None:
    router, clock = router_of(fakes.upstreams("google", "openrouter"))
    fakes.openrouter.always(status(401))
    options = EmbedOptions(GEMINI_EMBEDDING_2, 256, parameters={"input_type": "search_query"})
    route = router.route(GEMINI_EMBEDDING_2, TEXT).sending(options)
    call = call_of("a", parameters=dict(route.offer.sends(options)))
    assert failure_of(lambda: buy(router, clock, call, route)).kind is Kind.MISCONFIGURED
    assert fakes.calls == (0, 1, 0)


# ---- what is told of attempts


def test_every_attempt_is_told_with_its_upstream_time_and_outcome(fakes: Fakes) -> None:
    seen: list[tuple[str, str]] = []
    upstreams = fakes.upstreams("google", "openrouter")
    telemetry = LogTelemetry()
    clock = FakeClock()
    router = Router(
        upstreams,
        clock,
        telemetry,
        attempt_timeout=BRIEF,
        observe=lambda upstream, seconds, outcome: seen.append((upstream, outcome)),
    ).with_timeout(BRIEF)
    fakes.google.next(status(429))
    assert buy(router, clock, call_of("a")).upstream == "openrouter"
    assert seen == [("google", "busy"), ("openrouter", "ok")]
    counts = {name: dict(each) for name, each in telemetry.counts_by_upstream.items()}
    assert counts == {
        "google": {"UpstreamCalls": 1, "UpstreamFailures": 1, "UpstreamRateLimited": 1},
        "openrouter": {"UpstreamCalls": 1},
    }
    assert telemetry.counts == {"UpstreamCalls": 2, "UpstreamFailures": 1, "UpstreamRateLimited": 1}
    assert {name: len(each["UpstreamLatency"]) for name, each in telemetry.samples_by_upstream.items()} == {
        "google": 1,
        "openrouter": 1,
    }


def test_what_an_attempt_took_is_measured_and_an_unreadable_answer_is_a_failure(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, float, str]] = []
    upstreams = fakes.upstreams("google")
    router, clock = router_of(upstreams, observe=lambda *told: seen.append(told))

    def slow(call: UpstreamCall, *, timeout: float) -> UpstreamAnswer:
        clock.advance(3)
        raise KeyError("data")

    monkeypatch.setattr(upstreams[0], "embed", slow)
    failure_of(lambda: buy(router, clock, call_of("a")))
    assert seen == [("google", 3.0, "invalid")]
