"""Tickets on their way through worker, poller and janitor, over real embedded stores and a fake clock."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from embedonce.access.authenticate import DEVELOPMENT, Caller
from embedonce.access.keys import Scope, issue
from embedonce.core import ticket as machine
from embedonce.core import vector
from embedonce.core.cachecontrol import CacheControls
from embedonce.core.content import Modality, RemoteMedia, UploadedMedia
from embedonce.core.errors import NotCached, NotFound, ServiceUnavailable, StoreUnavailable
from embedonce.core.ticket import Completed, Failed, Stage, Ticket
from embedonce.core.upload import Upload
from embedonce.ports import JobFailed, JobUnknown, Pending, UpstreamAnswer, UpstreamCall
from embedonce.upstreams.failure import Kind, UpstreamFailure
from support import media
from support.clock import FakeClock
from support.pipeline import Pipeline, Provider, expected, inline


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def pipeline(tmp_path: Path, provider: Provider, clock: FakeClock) -> Iterator[Pipeline]:
    pipeline = Pipeline(tmp_path, provider, clock)
    yield pipeline
    pipeline.stores.close()


def failing(kind: Kind, times: int = 1, retry_after: float | None = None) -> Callable[[UpstreamCall], None]:
    left = [kind] * times

    def fail(_call: UpstreamCall) -> None:
        if left:
            raise UpstreamFailure(left.pop(), "fake failed", retry_after=retry_after)

    return fail


def failed(pipeline: Pipeline, ticket: Ticket) -> Failed:
    state = pipeline.results.look(ticket.ref).state
    assert isinstance(state, Failed)
    return state


@pytest.mark.parametrize("submits", [True, False])
def test_a_text_is_queued_worked_on_and_completed(
    pipeline: Pipeline, provider: Provider, submits: bool
) -> None:
    provider.submits = submits
    ticket = pipeline.ask("hello")
    assert pipeline.results.look(ticket.ref).state == machine.Open(None)
    pipeline.step(Stage.WORK)
    if submits:
        assert isinstance(pipeline.results.look(ticket.ref).state, machine.Open)
    pipeline.run()
    done = pipeline.results.look(ticket.ref).state
    assert isinstance(done, Completed)
    assert done.paid
    assert pipeline.vector_of(ticket.ref) == expected("hello", 768)
    assert provider.submissions.total() == 1


def test_the_second_one_is_completed_at_once_and_costs_nothing(
    pipeline: Pipeline, provider: Provider
) -> None:
    pipeline.ask("hello")
    pipeline.run()
    again = pipeline.ask("hello")
    done = pipeline.results.look(again.ref).state
    assert isinstance(done, Completed)
    assert (done.paid, done.cost) == (False, 0)
    assert provider.submissions.total() == 1
    assert all(queue.depth().ready == 0 for queue in pipeline.stores.queues.values())


def test_two_hundred_over_twenty_cost_twenty(pipeline: Pipeline, provider: Provider) -> None:
    tickets = [pipeline.ask(f"text {n % 20}") for n in range(200)]
    pipeline.run()
    assert {pipeline.state(ticket.ref) for ticket in tickets} == {"COMPLETED"}
    assert provider.submissions.total() == 20
    assert sum(pipeline.results.look(t.ref).state.paid for t in tickets) == 20  # type: ignore[union-attr]


def test_media_travel_as_blobs_and_are_deleted_after_use(
    pipeline: Pipeline, tmp_path: Path, provider: Provider
) -> None:
    ticket = pipeline.ask("what is this", inline(media.png(), Modality.IMAGE, "image"))
    stored = pipeline.stores.tickets.get(ticket.ref)
    assert stored is not None
    assert stored.blobs == ("0",)
    assert pipeline.stores.blobs.start(stored.blob_prefix + "0", 4) is not None
    pipeline.run()
    assert pipeline.state(ticket.ref) == "COMPLETED"
    assert pipeline.stores.blobs.start(stored.blob_prefix + "0", 4) is None
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


def test_a_long_text_lies_beside_the_row(pipeline: Pipeline) -> None:
    ticket = pipeline.ask("word " * 5000)
    stored = pipeline.stores.tickets.get(ticket.ref)
    assert stored is not None
    assert (stored.job, stored.blobs) == (None, ("job",))
    pipeline.run()
    assert pipeline.state(ticket.ref) == "COMPLETED"


def test_bytes_that_are_not_the_hashed_ones_are_not_sent(pipeline: Pipeline, provider: Provider) -> None:
    ticket = pipeline.ask(inline(media.png(shade=1), Modality.IMAGE, "image"))
    pipeline.stores.blobs.put(ticket.blob_prefix + "0", media.png(shade=2))
    pipeline.run()
    assert "image" in failed(pipeline, ticket).message
    assert not provider.submissions


def test_a_url_that_cannot_be_fetched_fails_the_ticket_and_costs_nothing(
    pipeline: Pipeline, provider: Provider
) -> None:
    ticket = pipeline.ask(RemoteMedia("https://127.0.0.1/a.png", Modality.IMAGE, "image"))
    pipeline.run()
    assert failed(pipeline, ticket).message.startswith("image: the URL cannot be fetched")
    assert not provider.submissions


@pytest.mark.parametrize("kind", [Kind.BUSY, Kind.REFUSED])
def test_what_was_certainly_not_accepted_is_handed_over_again(
    pipeline: Pipeline, provider: Provider, kind: Kind
) -> None:
    provider.on_submit = failing(kind, times=3, retry_after=20)
    ticket = pipeline.ask("hello")
    pipeline.run()
    assert pipeline.state(ticket.ref) == "COMPLETED"
    assert provider.submissions.total() == 1


@pytest.mark.parametrize("kind", [Kind.REJECTED, Kind.MISCONFIGURED])
def test_a_refusal_fails_the_ticket(pipeline: Pipeline, provider: Provider, kind: Kind) -> None:
    provider.on_submit = failing(kind)
    ticket = pipeline.ask("hello")
    pipeline.run()
    assert failed(pipeline, ticket).message == "fake failed"


@pytest.mark.parametrize("kind", [Kind.TIMEOUT, Kind.BROKEN, Kind.INVALID])
@pytest.mark.parametrize("submits", [True, False])
def test_what_may_have_been_accepted_is_not_handed_over_again(
    pipeline: Pipeline, provider: Provider, clock: FakeClock, kind: Kind, submits: bool
) -> None:
    provider.submits = submits
    provider.on_submit = failing(kind)
    picture = inline(media.png(), Modality.IMAGE, "image")
    first, second = pipeline.ask(picture), pipeline.ask(picture)
    pipeline.run()
    third = pipeline.ask(picture)
    pipeline.run()
    for ticket in (second, third):
        assert failed(pipeline, ticket).code == "upstream_outcome_unknown"
    assert failed(pipeline, first)
    assert not provider.submissions
    clock.advance(3601)
    later = pipeline.ask(picture)
    pipeline.run()
    assert pipeline.state(later.ref) == "COMPLETED"


def test_by_policy_what_is_cheap_is_handed_over_again(
    tmp_path: Path, provider: Provider, clock: FakeClock
) -> None:
    pipeline = Pipeline(tmp_path, provider, clock, on_unknown="resubmit_below=0.01")
    provider.on_submit = failing(Kind.TIMEOUT, times=2)
    ticket = pipeline.ask("hello")
    pipeline.run()
    assert pipeline.state(ticket.ref) == "COMPLETED"
    dear = Pipeline(tmp_path, provider, clock, on_unknown="resubmit_below=0.00000001")
    provider.on_submit = failing(Kind.TIMEOUT)
    ticket = dear.ask("another")
    dear.run()
    assert failed(dear, ticket).code == "upstream_outcome_unknown"


def test_a_job_that_fails_at_the_provider_fails_everybody_and_is_not_submitted_again(
    pipeline: Pipeline, provider: Provider
) -> None:
    provider.on_poll = lambda handle: JobFailed()
    tickets = [pipeline.ask("hello") for _ in range(3)]
    pipeline.run()
    late = pipeline.ask("hello")
    pipeline.run()
    for ticket in (*tickets, late):
        assert failed(pipeline, ticket).code == "upstream_job_failed"
    assert provider.submissions.total() == 1


def test_a_lost_handle_is_asked_for_over_minutes_and_not_submitted_again(
    pipeline: Pipeline, provider: Provider
) -> None:
    provider.on_poll = lambda handle: JobUnknown()
    tickets = [pipeline.ask("hello") for _ in range(2)]
    pipeline.run()
    assert {failed(pipeline, ticket).code for ticket in tickets} == {"upstream_outcome_unknown"}
    assert 3 < provider.polls < 20
    assert provider.submissions.total() == 1


def test_a_handle_that_is_unknown_for_a_while_is_not_given_up(
    pipeline: Pipeline, provider: Provider, clock: FakeClock
) -> None:
    """A proxy in front of the provider, or a deployment there."""
    back = clock.now() + 60
    provider.on_poll = lambda handle: JobUnknown() if clock.now() < back else None
    ticket = pipeline.ask("hello")
    pipeline.run()
    assert pipeline.state(ticket.ref) == "COMPLETED"
    assert provider.submissions.total() == 1


def test_questions_that_fail_say_nothing_about_the_job(pipeline: Pipeline, provider: Provider) -> None:
    kinds = [Kind.BROKEN, Kind.BUSY, Kind.MISCONFIGURED, Kind.TIMEOUT, Kind.REFUSED]

    def ask(_handle: str) -> None:
        if kinds:
            raise UpstreamFailure(kinds.pop(), "fake failed", retry_after=40)

    provider.on_poll = ask
    ticket = pipeline.ask("hello")
    pipeline.run()
    assert pipeline.state(ticket.ref) == "COMPLETED"
    assert provider.submissions.total() == 1


@pytest.mark.parametrize(
    "answer",
    [
        UpstreamAnswer((b"",)),
        UpstreamAnswer((b"\0" * 3072,)),
        UpstreamAnswer((b"\0\0\x80\x3f" * 7,)),
        UpstreamAnswer(()),
    ],
)
def test_a_result_that_is_no_embedding_is_never_kept(
    pipeline: Pipeline, provider: Provider, answer: UpstreamAnswer
) -> None:
    provider.on_poll = lambda handle: answer
    ticket = pipeline.ask("hello")
    pipeline.run()
    assert failed(pipeline, ticket).code == "upstream_job_failed"
    provider.on_poll = lambda handle: None
    assert not isinstance(pipeline.ask("hello").state, Completed)
    assert provider.submissions.total() == 1


def test_one_vector_for_two_inputs_is_refused(pipeline: Pipeline, provider: Provider) -> None:
    same = UpstreamAnswer((b"\0\0\x80\x3f" * 768,))
    provider.on_poll = lambda handle: same
    first = pipeline.ask("one thing")
    pipeline.run()
    second = pipeline.ask("another thing")
    pipeline.run()
    assert pipeline.state(first.ref) == "COMPLETED"
    assert failed(pipeline, second).code == "upstream_job_failed"


def test_a_job_that_never_ends_fails_at_the_deadline_with_few_questions(
    tmp_path: Path, provider: Provider, clock: FakeClock
) -> None:
    pipeline = Pipeline(tmp_path, provider, clock, job_timeout="600")
    provider.on_poll = lambda handle: Pending()
    ticket = pipeline.ask("hello")
    pipeline.run()
    assert failed(pipeline, ticket).message == "it was not done within 600 seconds"
    assert provider.polls < 40
    # What was accepted is asked for again, not bought again.
    provider.on_poll = lambda handle: None
    again = pipeline.ask("hello")
    pipeline.run()
    assert pipeline.state(again.ref) == "COMPLETED"
    assert provider.submissions.total() == 1


def test_unknown_foreign_and_expired_ids_are_one_look_at_the_store(
    pipeline: Pipeline, clock: FakeClock
) -> None:
    ticket = pipeline.ask("hello")
    pipeline.run()
    mine = ticket.ref
    foreign = replace(mine, owner="key_other")
    unknown = replace(mine, id="0" * 32)
    assert pipeline.results.look(mine)
    seen = []
    clock.advance(3601)
    for ref in (foreign, unknown, mine):
        pipeline.fate.seen.clear()
        with pytest.raises(NotFound) as refused:
            pipeline.results.look(ref)
        seen.append((refused.value.message.replace(ref.id, "ID"), tuple(pipeline.fate.seen)))
    assert seen == [("Request ID not found", ("tickets.get",))] * 3


def test_a_key_revoked_on_the_way_buys_nothing(
    pipeline: Pipeline, provider: Provider, clock: FakeClock
) -> None:
    _, key = issue("a", namespace="n", scopes=frozenset({Scope.EMBED.value}), isolated=False, now=clock.now())
    pipeline.stores.access.add(key)
    caller = Caller(key.id, key.namespace, key.scopes, isolated=False)
    ticket = pipeline.ask("hello", caller=caller)
    pipeline.stores.access.revoke(key.id, int(clock.now()))
    pipeline.run()
    assert failed(pipeline, ticket).code == "invalid_api_key"
    assert not provider.submissions


def test_isolated_keys_share_no_flight(pipeline: Pipeline, provider: Provider, clock: FakeClock) -> None:
    scopes = frozenset({Scope.EMBED.value})
    for name in ("a", "b"):
        _, key = issue(name, namespace="n", scopes=scopes, isolated=True, now=clock.now())
        pipeline.stores.access.add(key)
        pipeline.ask("hello", caller=Caller(key.id, key.namespace, key.scopes, isolated=True))
    pipeline.run()
    assert provider.submissions.total() == 2


@pytest.mark.parametrize(
    "controls", [CacheControls(no_cache=True), CacheControls(no_store=True, no_cache=True)]
)
def test_who_asks_past_the_cache_flies_alone(
    pipeline: Pipeline, provider: Provider, controls: CacheControls
) -> None:
    first = pipeline.ask("hello")
    alone = pipeline.ask("hello", controls=controls)
    pipeline.run()
    assert {pipeline.state(first.ref), pipeline.state(alone.ref)} == {"COMPLETED"}
    assert provider.submissions.total() == 2
    assert pipeline.vector_of(alone.ref) == pipeline.vector_of(first.ref)


def test_no_store_leaves_nothing_in_the_cache(pipeline: Pipeline) -> None:
    ticket = pipeline.ask("hello", controls=CacheControls(no_store=True))
    pipeline.run()
    assert pipeline.state(ticket.ref) == "COMPLETED"
    assert len(pipeline.vector_of(ticket.ref)) == 768 * 4
    assert pipeline.results.look(ticket.ref).passage is not None
    with pytest.raises(NotCached):
        pipeline.ask("hello", controls=CacheControls(only_if_cached=True))


def test_ten_thousand_stalled_jobs_get_few_messages(
    tmp_path: Path, provider: Provider, clock: FakeClock
) -> None:
    """SECURITY 11, a hundredth of it: the rule is one ticket's, and the round takes pages."""
    pipeline = Pipeline(tmp_path, provider, clock, job_timeout="7200")
    count = 600
    for n in range(count):
        pipeline.ask(f"text {n}")
    queue = pipeline.stores.queues[Stage.WORK]
    sent = queue.depth().ready
    assert sent == count
    for _ in range(60):
        clock.advance(60)
        pipeline.janitor.tick(pipeline.deadline())
    assert queue.depth().ready - sent <= 6 * count
    assert queue.depth().ready - sent >= 4 * count


def test_everything_lost_is_found_by_the_janitor(pipeline: Pipeline, clock: FakeClock) -> None:
    ticket = pipeline.ask("hello")
    for delivery in pipeline.stores.queues[Stage.WORK].receive(10):
        pipeline.stores.queues[Stage.WORK].acknowledge(delivery)
    pipeline.run()
    assert pipeline.state(ticket.ref) == "COMPLETED"


def test_the_development_key_is_no_key_where_there_is_none(pipeline: Pipeline) -> None:
    assert pipeline.parts.authenticator.recall(DEVELOPMENT.key_id) is DEVELOPMENT


def key_with(pipeline: Pipeline, *scopes: Scope) -> Caller:
    _, key = issue("a", namespace="n", scopes=frozenset(scopes), isolated=False, now=pipeline.clock.now())
    pipeline.stores.access.add(key)
    return Caller(key.id, key.namespace, key.scopes, isolated=False)


def test_a_key_without_the_scope_buys_nothing(pipeline: Pipeline, provider: Provider) -> None:
    """It had the scope when it submitted."""
    ticket = pipeline.ask("hello", caller=key_with(pipeline, Scope.ADMIN))
    pipeline.run()
    assert failed(pipeline, ticket).code == "permission_denied"
    assert not provider.submissions


def test_an_upload_over_the_models_limit_fails_and_costs_nothing(
    pipeline: Pipeline, provider: Provider
) -> None:
    """Its length is read when it is worked on, not when it is submitted."""
    data = media.wav(181)
    upload = Upload("a" * 32, hashlib.sha256(data).digest())
    pipeline.stores.blobs.put(upload.blob_key(DEVELOPMENT.key_id), data)
    ticket = pipeline.ask(UploadedMedia(upload.handle, Modality.AUDIO, "audio"))
    pipeline.run()
    assert "limit is 180 seconds of audio" in failed(pipeline, ticket).message
    assert not provider.submissions


def test_a_refresh_replaces_what_is_stored(pipeline: Pipeline, provider: Provider) -> None:
    pipeline.ask("hello")
    pipeline.run()
    other = UpstreamAnswer((vector.pack([1.0] + [0.0] * 767),))
    provider.on_poll = lambda handle: other
    pipeline.ask("hello", controls=CacheControls(no_cache=True, refresh=True))
    pipeline.run()
    again = pipeline.ask("hello")
    assert isinstance(again.state, Completed)
    assert pipeline.vector_of(again.ref) == other.vectors[0]


def test_what_was_not_accepted_leaves_nothing_behind(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object) -> None:
        raise StoreUnavailable("down")

    monkeypatch.setattr(pipeline.stores.tickets, "swap", down)
    with pytest.raises(ServiceUnavailable):
        pipeline.ask(inline(media.png(), Modality.IMAGE, "image"))
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


def test_a_stage_is_left_to_whose_it_is(pipeline: Pipeline, provider: Provider) -> None:
    ticket = pipeline.ask("hello")
    pipeline.poller.handle(ticket.ref, pipeline.deadline())
    assert pipeline.results.look(ticket.ref).version == ticket.version, "the worker's"
    pipeline.step(Stage.WORK)
    version = pipeline.results.look(ticket.ref).version
    pipeline.worker.handle(ticket.ref, pipeline.deadline())
    assert pipeline.results.look(ticket.ref).version == version, "the poller's"
    assert provider.submissions.total() == 1


@pytest.mark.parametrize("move", ["hop", "nudge"])
def test_whoever_was_second_sends_no_message(pipeline: Pipeline, move: str) -> None:
    old = pipeline.stores.tickets.get(pipeline.ask("hello").ref)
    assert old is not None
    tickets, queue = pipeline.parts.tickets, pipeline.stores.queues[Stage.WORK]
    assert tickets.change(old, machine.begin(old, now=pipeline.clock.now(), lease=1))
    ready = queue.depth().ready
    if move == "hop":
        tickets.hop(old, Stage.WORK, until=pipeline.clock.now())
    else:
        assert not tickets.nudge(old)
    assert queue.depth().ready == ready
