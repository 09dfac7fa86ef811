"""Killed at every single call to anything outside, before and after it has its effect, and started anew.

Whatever dies where: every accepted ticket is settled, each input is handed to the provider at most once, and
never less is counted than it bills.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from embedonce.core.content import Modality
from embedonce.core.ticket import Stage, TicketRef
from support import media
from support.clock import FakeClock
from support.pipeline import Fate, Killed, Pipeline, Provider, inline

PICTURE = inline(media.png(), Modality.IMAGE, "image")
WAYS = ["jobs", "at once"]


def scenario(pipeline: Pipeline, accepted: list[TicketRef]) -> None:
    """Two callers with one picture, another with a text, and all that follows."""
    for parts in ((PICTURE,), ("hello",), (PICTURE,)):
        accepted.append(pipeline.ask(*parts).ref)  # noqa: PERF401  # what is accepted before it is killed
    pipeline.run()


def survived(folder: Path, way: str, fate: Fate, act: Callable[[Pipeline, list[TicketRef]], None]) -> str:
    """What became of it, as a text; fails where a rule was broken."""
    clock, provider = FakeClock(), Provider(submits=way == "jobs", pending=1)
    accepted: list[TicketRef] = []
    first = Pipeline(folder, provider, clock, fate=fate)
    with suppress(Killed):
        act(first, accepted)
        first.parts.accounts.settle_up()
    first.stores.close()
    second = Pipeline(folder, provider, clock)
    second.run()
    states = [second.state(ref) for ref in accepted]
    check_books(second, provider, exact=fate.at is None)
    second.stores.close()
    assert "open" not in states
    text_may_be_bought_again = way == "at once"
    for digest, count in provider.submissions.items():
        is_text = digest == TEXT_DIGEST
        assert count <= (2 if is_text and text_may_be_bought_again else 1), (digest, fate.seen[-3:])
    return ",".join(states)


def check_books(pipeline: Pipeline, provider: Provider, *, exact: bool) -> None:
    settled, unknown, committed = pipeline.books()
    assert settled <= provider.billed <= settled + unknown
    assert provider.billed <= committed
    if exact:
        assert settled == provider.billed == committed > 0


TEXT_DIGEST = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
"""SHA-256 of `hello`."""


def calls_of(folder: Path, way: str) -> int:
    fate = Fate()
    assert survived(folder, way, fate, scenario) == "COMPLETED,COMPLETED,COMPLETED"
    return fate.calls


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_killed_at_every_call(tmp_path: Path, way: str, before: bool) -> None:
    (tmp_path / "whole").mkdir()
    total = calls_of(tmp_path / "whole", way)
    assert total > 30
    outcomes = set()
    # Dead after one call is dead before the next: the second direction is a sample.
    for at in range(1, total + 1, 1 if before else 4):
        folder = tmp_path / str(at)
        folder.mkdir()
        outcomes.add(survived(folder, way, Fate(at, before), scenario))
    assert "COMPLETED,COMPLETED,COMPLETED" in outcomes
    if before:
        assert any("FAILED" in outcome for outcome in outcomes), "some crash must leave an unknown outcome"


@pytest.mark.parametrize("seed", range(12))
def test_doubled_dropped_and_reordered_messages_change_nothing(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    clock, provider = FakeClock(), Provider(submits=seed % 2 == 0, pending=1)
    pipeline = Pipeline(tmp_path, provider, clock)
    for queue in pipeline.stores.queues.values():
        disturb(queue, rng)
    tickets = [pipeline.ask(*parts) for parts in ((PICTURE,), ("hello",), (PICTURE,), ("other",))]
    pipeline.run()
    assert {pipeline.state(ticket.ref) for ticket in tickets} == {"COMPLETED"}
    assert set(provider.submissions.values()) == {1}
    assert provider.submissions.total() == 3
    check_books(pipeline, provider, exact=True)


def disturb(queue: object, rng: random.Random) -> None:
    send = queue.send  # type: ignore[attr-defined]

    def disturbed(ref: TicketRef, *, delay: float = 0.0) -> None:
        for _ in range(rng.choice([0, 1, 1, 2, 3])):
            send(ref, delay=delay * rng.random() * 3)

    queue.send = disturbed  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", range(6))
def test_two_processes_take_turns_at_every_step(tmp_path: Path, seed: int) -> None:
    """The same message in two hands, whichever goes on first."""
    rng = random.Random(seed)
    clock, provider = FakeClock(), Provider(submits=True, pending=1)
    one, two = (Pipeline(tmp_path, provider, clock) for _ in range(2))
    tickets = [one.ask("hello") for _ in range(4)]
    for _ in range(400):
        chosen = rng.choice([one, two])
        for ticket in tickets:
            handler = rng.choice([chosen.worker, chosen.poller])
            if rng.random() < 0.3:
                handler.handle(ticket.ref, chosen.deadline())
        chosen.step(rng.choice(list(Stage)))
        clock.advance(rng.random())
    one.run()
    assert {one.state(ticket.ref) for ticket in tickets} == {"COMPLETED"}
    assert provider.submissions.total() == 1
    two.parts.accounts.settle_up()
    check_books(one, provider, exact=True)


@pytest.mark.parametrize("seed", range(40))
def test_killed_again_and_again(tmp_path: Path, seed: int) -> None:
    """Up to six lives, each ended at a call of chance, with messages disturbed and the clock going on."""
    rng = random.Random(seed)
    clock, provider = FakeClock(), Provider(submits=True, pending=1)
    accepted: list[TicketRef] = []
    settled: dict[TicketRef, str] = {}
    for life in range(rng.randint(2, 6)):
        fate = Fate(rng.randint(1, 60), rng.random() < 0.5)
        pipeline = Pipeline(tmp_path, provider, clock, fate=fate)
        with suppress(Killed):
            for parts in ((PICTURE,), (f"text {life % 2}",)):
                accepted.append(pipeline.ask(*parts).ref)  # noqa: PERF401
            pipeline.run(rng.random() * 200)
        clock.advance(rng.choice([0.0, 1.0, 90.0]))
        pipeline.stores.close()
        watcher = Pipeline(tmp_path, provider, clock)
        for ref in accepted:
            state = watcher.state(ref)
            assert settled.get(ref, state) == state, "what was told once stays so"
            if state != "open":
                settled[ref] = state
        watcher.stores.close()
    last = Pipeline(tmp_path, provider, clock)
    last.run()
    assert "open" not in {last.state(ref) for ref in accepted}
    assert set(provider.submissions.values()) <= {1}
    check_books(last, provider, exact=False)
    last.stores.close()
