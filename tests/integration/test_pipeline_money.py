"""Ways in which something was bought twice, lost after it was paid for, or refused although it was there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from embedonce.access.authenticate import DEVELOPMENT
from embedonce.bootstrap.embedding import embedder_of
from embedonce.bootstrap.jobs import poller_of, worker_of
from embedonce.core.cachecontrol import DEFAULT
from embedonce.core.catalog import GEMINI_EMBEDDING_2
from embedonce.core.content import Draft, Modality, Source, TextPart
from embedonce.core.errors import DeadlineExceeded, PermissionDenied, StoreUnavailable, UpstreamError, rebuild
from embedonce.core.flight import Landed, Submitted, Submitting
from embedonce.core.options import EmbedOptions
from embedonce.core.ticket import Completed, Stage, Ticket
from embedonce.ports import Pending, Swap, UpstreamCall
from embedonce.upstreams.failure import Kind, UpstreamFailure
from embedonce.usecases.embed import EmbedContents
from embedonce.usecases.jobs.lane import SlowLane
from embedonce.usecases.request import EmbedRequest
from support import media
from support.clock import FakeClock
from support.pipeline import Fate, Killed, Pipeline, Provider, inline

PICTURE = inline(media.png(), Modality.IMAGE, "image")


def waiting(pipeline: Pipeline) -> EmbedContents:
    """A route whose callers wait."""
    lane = SlowLane(pipeline.submit, pipeline.results, pipeline.clock)
    return embedder_of(pipeline.parts, ThreadPoolExecutor(4), lane=lane)


def request(pipeline: Pipeline, *inputs: str | Source) -> EmbedRequest:
    parts = [TextPart(each) if isinstance(each, str) else each for each in inputs]
    return EmbedRequest(
        drafts=tuple(Draft((part,), f"input[{i}]") for i, part in enumerate(parts)),
        options=EmbedOptions(GEMINI_EMBEDDING_2, 768),
        controls=DEFAULT,
        caller=DEVELOPMENT,
        namespace="",
        deadline=pipeline.deadline(25),
    )


def over(pipeline: Pipeline, *upstreams: Provider) -> None:
    pipeline.parts.router.upstreams = upstreams
    pipeline.parts.router._routes.clear()
    pipeline.worker, pipeline.poller = worker_of(pipeline.parts), poller_of(pipeline.parts)


def sound(tone: int = 0) -> Source:
    return inline(media.wav(1, tone=tone), Modality.AUDIO, "audio")


def down(*_: Any, **__: Any) -> Any:
    raise StoreUnavailable("down")


def completed(pipeline: Pipeline, ticket: Ticket) -> Completed:
    state = pipeline.results.look(ticket.ref).state
    assert isinstance(state, Completed), state
    return state


@pytest.mark.parametrize("by_worker", [False, True])
def test_what_is_cut_from_a_larger_vector_has_a_result(tmp_path: Path, by_worker: bool) -> None:
    pipeline = Pipeline(tmp_path, Provider(), FakeClock())
    if by_worker:
        ticket = pipeline.ask("hello")
        pipeline.ask("hello", dimensions=3072)
        queue = pipeline.stores.queues[Stage.WORK]
        first, second = queue.receive(10)
        pipeline.worker.handle(second.message, pipeline.deadline())
        pipeline.clock.advance(2)
        while pipeline.step(Stage.POLL) or pipeline.state(second.message) == "open":
            pipeline.clock.advance(2)
        pipeline.worker.handle(first.message, pipeline.deadline())
    else:
        pipeline.ask("hello", dimensions=3072)
        pipeline.run()
        ticket = pipeline.ask("hello")
    assert not completed(pipeline, ticket).paid
    assert len(pipeline.vector_of(ticket.ref)) == 768 * 4


@pytest.mark.parametrize("how", ["hiccup", "killed"])
def test_a_follower_finds_what_a_leader_stored_and_did_not_land(tmp_path: Path, how: str) -> None:
    clock, provider, fate = FakeClock(), Provider(submits=False), Fate()
    pipeline = Pipeline(tmp_path, provider, clock, fate=fate)
    leader, follower = pipeline.ask(PICTURE), pipeline.ask(PICTURE)

    def meanwhile(_call: UpstreamCall) -> None:
        Pipeline(tmp_path, provider, clock).step(Stage.WORK)

    provider.on_submit = meanwhile
    put, swap = pipeline.stores.vectors.put_many, pipeline.stores.flights.swap_many
    hiccup: list[bool] = []

    def put_then(*arguments: Any, **named: Any) -> Any:
        stored = put(*arguments, **named)
        if how == "killed":
            fate.at = fate.calls + 1
        else:
            hiccup.append(True)
        return stored

    def swap_but_once(swaps: list[Swap]) -> Any:
        if hiccup:
            hiccup.clear()
            raise StoreUnavailable("hiccup")
        return swap(swaps)

    pipeline.stores.vectors.put_many = put_then  # type: ignore[method-assign]
    pipeline.stores.flights.swap_many = swap_but_once  # type: ignore[method-assign,assignment]
    with suppress(Killed):
        pipeline.step(Stage.WORK)
    provider.on_submit = lambda call: None
    after = Pipeline(tmp_path, provider, clock)
    after.run()
    assert {after.state(leader.ref), after.state(follower.ref)} == {"COMPLETED"}
    assert provider.submissions.total() == 1


def test_without_blobs_a_waiting_route_pays_once_for_a_slow_medium(tmp_path: Path) -> None:
    clock, provider = FakeClock(), Provider()
    pipeline = Pipeline(tmp_path, provider, clock)
    pipeline.stores.blobs.put = down  # type: ignore[method-assign]
    embed, paid = waiting(pipeline), []

    def timed_out(_call: UpstreamCall) -> None:
        paid.append(1)
        raise UpstreamFailure(Kind.TIMEOUT, "late")

    provider.on_submit = timed_out
    for _ in range(8):
        with pytest.raises(UpstreamError):
            embed(request(pipeline, sound()))
        clock.advance(65)
    assert len(paid) == 1


def test_what_is_queued_already_is_not_bought_beside_the_queue(tmp_path: Path) -> None:
    clock, provider = FakeClock(), Provider()
    pipeline = Pipeline(tmp_path, provider, clock)
    put, calls = pipeline.stores.blobs.put, []

    def second_fails(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise StoreUnavailable("down")
        put(*arguments)

    pipeline.stores.blobs.put = second_fails  # type: ignore[method-assign]
    paid: Counter[bytes] = Counter()

    def timed_out(call: UpstreamCall) -> None:
        paid.update(part.sent_bytes for content in call.contents for part in content.parts)
        raise UpstreamFailure(Kind.TIMEOUT, "late")

    provider.on_submit = timed_out
    with pytest.raises((UpstreamError, DeadlineExceeded)):
        waiting(pipeline)(request(pipeline, sound(1), sound(2)))
    pipeline.stores.blobs.put = put  # type: ignore[method-assign]
    pipeline.run()
    assert set(paid.values()) == {1}


@pytest.mark.parametrize(("policy", "asleep"), [("fail", 3800.0), ("resubmit_below=1", 125.0)])
def test_a_machine_that_slept_looks_at_its_lease_before_it_pays(
    tmp_path: Path, policy: str, asleep: float
) -> None:
    clock, provider = FakeClock(), Provider()
    pipeline = Pipeline(tmp_path, provider, clock, on_unknown=policy)
    ticket = pipeline.ask("hello")
    swap, slept = pipeline.stores.tickets.swap, []

    def sleeping(changed: Ticket, over: int) -> Ticket | None:
        stood = swap(changed, over)
        if changed.passage is not None and changed.passage.leads and not slept:
            slept.append(1)
            clock.advance(asleep)
            other = Pipeline(tmp_path, provider, clock, on_unknown=policy)
            other.ask("hello")
            other.run(30)
        return stood

    pipeline.stores.tickets.swap = sleeping  # type: ignore[method-assign]
    pipeline.worker.handle(ticket.ref, pipeline.deadline(300 + asleep))
    assert provider.submissions.total() == 1


@pytest.mark.parametrize("where", ["flight", "ticket"])
def test_who_knows_that_nothing_was_sent_says_so(tmp_path: Path, where: str) -> None:
    clock, provider = FakeClock(), Provider()
    pipeline = Pipeline(tmp_path, provider, clock)
    ticket = pipeline.ask("hello")
    swap_flights, swap_ticket = pipeline.stores.flights.swap_many, pipeline.stores.tickets.swap
    hit: list[float] = []

    def check() -> None:
        if where == "ticket" and hit and clock.now() < hit[0] + 3:
            raise StoreUnavailable("down")

    def flights(swaps: list[Swap]) -> Any:
        check()
        stood = swap_flights(swaps)
        if where == "flight" and not hit and isinstance(swaps[0].flight.state, Submitting):
            hit.append(clock.now())
            raise StoreUnavailable("written, but the answer is lost")
        return stood

    def tickets(changed: Ticket, before: int) -> Ticket | None:
        if where == "ticket" and not hit and changed.passage is not None and changed.passage.leads:
            hit.append(clock.now())
        check()
        return swap_ticket(changed, before)

    pipeline.stores.flights.swap_many = flights  # type: ignore[method-assign,assignment]
    pipeline.stores.tickets.swap = tickets  # type: ignore[method-assign]
    with suppress(StoreUnavailable):
        pipeline.step(Stage.WORK)
    clock.advance(400)
    pipeline.run()
    assert hit
    assert pipeline.state(ticket.ref) == "COMPLETED"
    assert provider.submissions.total() == 1


@pytest.mark.parametrize("policy", ["fail", "resubmit_below=1"])
def test_the_next_upstream_has_a_lease_of_its_own(tmp_path: Path, policy: str) -> None:
    clock, first, second = FakeClock(), Provider(), Provider(submits=False)
    second.name = "other"
    pipeline = Pipeline(tmp_path, first, clock, on_unknown=policy)
    over(pipeline, first, second)
    one, two = pipeline.ask(PICTURE), pipeline.ask(PICTURE)

    def busy(_call: UpstreamCall) -> None:
        clock.advance(100)
        raise UpstreamFailure(Kind.BUSY, "busy")

    def slow(_call: UpstreamCall) -> None:
        second.on_submit = first.on_submit = lambda call: None
        clock.advance(60)
        beside = Pipeline(tmp_path, first, clock, on_unknown=policy)
        over(beside, first, second)
        beside.step(Stage.WORK)

    first.on_submit, second.on_submit = busy, slow
    pipeline.step(Stage.WORK)
    pipeline.run()
    assert {pipeline.state(one.ref), pipeline.state(two.ref)} == {"COMPLETED"}
    assert first.submissions.total() + second.submissions.total() == 1


def test_what_may_have_been_accepted_elsewhere_is_not_tried_again(tmp_path: Path) -> None:
    clock, first, second = FakeClock(), Provider(), Provider(submits=False)
    second.name = "other"
    pipeline = Pipeline(tmp_path, first, clock)
    over(pipeline, first, second)
    accepted, said = [], [Kind.TIMEOUT, Kind.REFUSED]

    def busy(_call: UpstreamCall) -> None:
        raise UpstreamFailure(Kind.BUSY, "busy")

    def doubtful(_call: UpstreamCall) -> None:
        kind = said.pop(0) if said else None
        if kind is not Kind.REFUSED:
            accepted.append(1)
        if kind is not None:
            raise UpstreamFailure(kind, "x")

    first.on_submit, second.on_submit = busy, doubtful
    pipeline.ask("hello")
    pipeline.run()
    assert len(accepted) == 1


def test_what_a_provider_accepted_and_nobody_asks_for_is_adopted(tmp_path: Path) -> None:
    clock, provider = FakeClock(), Provider(pending=0)
    pipeline = Pipeline(tmp_path, provider, clock)
    provider.on_poll = lambda handle: Pending()
    pipeline.ask("hello")
    pipeline.run()
    provider.on_poll = lambda handle: None
    clock.advance(3600 * 5)
    embed = waiting(pipeline)
    with pytest.raises(DeadlineExceeded):
        embed(request(pipeline, "hello"))
    pipeline.run(60)
    assert embed(request(pipeline, "hello")).answers
    assert provider.submissions.total() == 1


def busy_once() -> Callable[[UpstreamCall], None]:
    left = [1]

    def busy(_call: UpstreamCall) -> None:
        if left:
            left.pop()
            raise UpstreamFailure(Kind.BUSY, "busy")

    return busy


@pytest.mark.parametrize("stored", [True, False])
def test_an_entry_that_is_too_old_is_never_the_answer(tmp_path: Path, stored: bool) -> None:
    clock, provider = FakeClock(), Provider()
    pipeline = Pipeline(tmp_path, provider, clock)
    put = pipeline.stores.vectors.put_many
    if not stored:
        pipeline.stores.vectors.put_many = down  # type: ignore[method-assign]
    pipeline.ask("hello")
    pipeline.run()
    pipeline.stores.vectors.put_many = put  # type: ignore[method-assign]
    clock.advance(3000)
    asked = clock.now()
    provider.on_submit = busy_once()
    ticket = pipeline.ask("hello", controls=replace(DEFAULT, max_age=60))
    pipeline.run()
    completed(pipeline, ticket)
    record = pipeline.results.result(pipeline.results.look(ticket.ref)).record
    assert record.created >= int(asked)


def test_who_paid_is_told_so_although_the_worker_died(tmp_path: Path) -> None:
    clock, provider, fate = FakeClock(), Provider(), Fate()
    pipeline = Pipeline(tmp_path, provider, clock, fate=fate)
    ticket = pipeline.ask("hello")
    swap = pipeline.stores.flights.swap_many

    def dying(swaps: list[Swap]) -> Any:
        stood = swap(swaps)
        if isinstance(swaps[0].flight.state, Submitted):
            fate.at = fate.calls + 1
        return stood

    pipeline.stores.flights.swap_many = dying  # type: ignore[method-assign,assignment]
    with suppress(Killed):
        pipeline.step(Stage.WORK)
    after = Pipeline(tmp_path, provider, clock)
    after.run()
    assert completed(after, ticket).paid
    assert completed(after, ticket).cost > 0


def test_a_provider_that_asks_for_an_hour_is_asked_before_the_deadline(tmp_path: Path) -> None:
    provider = Provider(pending=0)
    pipeline = Pipeline(tmp_path, provider, FakeClock())
    said = [Pending(3600.0)]
    provider.on_poll = lambda handle: said.pop() if said else None
    ticket = pipeline.ask("hello")
    pipeline.run()
    completed(pipeline, ticket)


def test_an_answer_is_not_thrown_away_because_another_question_was_on_its_way(tmp_path: Path) -> None:
    clock, provider = FakeClock(), Provider(pending=0)
    pipeline = Pipeline(tmp_path, provider, clock)
    first, _ = (pipeline.ask("hello") for _ in range(2))
    while pipeline.step(Stage.WORK):
        pass

    def slow(_handle: str) -> Pending | None:
        """While the first question is answered a second one is asked, and told that it is not done yet."""
        clock.advance(2)
        if provider.polls > 1:
            return Pending()
        Pipeline(tmp_path, provider, clock).step(Stage.POLL)
        return None

    provider.on_poll = slow
    clock.advance(1)
    pipeline.step(Stage.POLL)
    assert provider.polls == 2
    passage = pipeline.stores.tickets.get(first.ref).passage  # type: ignore[union-attr]
    assert passage is not None
    row = pipeline.stores.flights.get_many([passage.flight])[passage.flight]
    assert isinstance(row.state, Landed), "the answer landed over the other question"


def test_what_costs_nothing_is_not_locked(tmp_path: Path) -> None:
    clock, provider, fate = FakeClock(), Provider(submits=False), Fate()
    pipeline = Pipeline(tmp_path, provider, clock, fate=fate)
    offer = provider.offer
    provider.offer = lambda model: replace(offer(model), prices={})  # type: ignore[method-assign,type-var]

    def die(_call: UpstreamCall) -> None:
        fate.dead = True
        raise Killed

    provider.on_submit = die
    ticket = pipeline.ask(PICTURE)
    with suppress(Killed):
        pipeline.step(Stage.WORK)
    provider.on_submit = lambda call: None
    after = Pipeline(tmp_path, provider, clock)
    after.run()
    assert after.state(ticket.ref) == "COMPLETED"


def test_a_lost_scope_is_told_as_such() -> None:
    assert rebuild(PermissionDenied.code, "no").http_status == 403
