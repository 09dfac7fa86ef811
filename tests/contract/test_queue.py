"""What every Queue does."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest

from embedonce.core.errors import StoreUnavailable
from embedonce.core.ticket import TicketRef
from embedonce.ports import Delivery, Depth
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.queue import SqsQueue
from embedonce.stores.embedded.database import Database
from embedonce.stores.embedded.queue import MAX_OWED, EmbeddedQueue
from embedonce.stores.messages import body_of, ref_of
from support import aws
from support.adapters import Queues
from support.aws import Call, PatchedClients
from support.clock import FakeClock
from support.issued import ref

DAY = 86_400.0


@pytest.fixture
def embedded(database: Database, clock: FakeClock) -> EmbeddedQueue:
    return EmbeddedQueue(database, clock, "poll", visibility=60, max_receives=5)


def test_what_is_sent_is_received_once_and_acknowledged(queues: Queues, clock: FakeClock) -> None:
    assert queues.queue.receive(10) == []
    queues.queue.send(ref(1))
    [delivery] = queues.queue.receive(10)
    assert (delivery.ref, delivery.receives) == (ref(1), 1)
    assert queues.queue.receive(10) == []
    queues.queue.acknowledge(delivery)
    clock.advance(61)
    assert queues.queue.receive(10) == []
    assert queues.queue.depth() == Depth(0, 0, 0, 0)
    queues.queue.acknowledge(delivery)


def test_at_most_so_many_at_a_time(queues: Queues) -> None:
    for n in range(13):
        queues.queue.send(ref(n))
    received = [queues.queue.receive(most) for most in (1, 10, 10, 10)]
    assert [len(each) for each in received] == [1, 10, 2, 0]
    assert {each.ref for some in received for each in some} == {ref(n) for n in range(13)}
    assert len({each.receipt for some in received for each in some}) == 13


def test_a_delayed_message_comes_late(queues: Queues, clock: FakeClock) -> None:
    queues.queue.send(ref(1), delay=29.5)
    queues.queue.send(ref(2), delay=100_000)
    assert queues.queue.receive(10) == []
    assert queues.queue.depth() == Depth(0, 2, 0, 0)
    clock.advance(31)
    assert [each.ref for each in queues.queue.receive(10)] == [ref(1)]
    clock.advance(870)
    assert ref(2) in [each.ref for each in queues.queue.receive(10)]


def test_what_is_not_acknowledged_comes_again(queues: Queues, clock: FakeClock) -> None:
    queues.queue.send(ref(1))
    [first] = queues.queue.receive(10)
    clock.advance(59)
    assert queues.queue.receive(10) == []
    clock.advance(2)
    [second] = queues.queue.receive(10)
    assert (second.ref, second.receives) == (ref(1), 2)
    assert second.receipt != first.receipt
    queues.queue.acknowledge(second)
    queues.queue.acknowledge(first)
    assert queues.queue.depth() == Depth(0, 0, 0, 0)


def test_depth_tells_apart_what_waits_and_what_is_handled(queues: Queues) -> None:
    for n in range(3):
        queues.queue.send(ref(n))
    queues.queue.send(ref(4), delay=10)
    queues.queue.receive(1)
    assert queues.queue.depth() == Depth(ready=2, delayed=1, in_flight=1, dead=0)


def test_what_was_received_too_often_is_a_dead_letter(queues: Queues, clock: FakeClock) -> None:
    queues.queue.send(ref(1))
    for count in range(1, 6):
        assert [each.receives for each in queues.queue.receive(10)] == [count]
        clock.advance(61)
    assert queues.queue.receive(10) == []
    assert queues.queue.depth() == Depth(0, 0, 0, 1)


def test_a_message_that_is_not_ours_holds_up_no_other(queues: Queues, clock: FakeClock) -> None:
    queues.put('{"v":2,"ticket":"a/b"}')
    queues.queue.send(ref(1))
    [delivery] = queues.queue.receive(10)
    assert delivery.ref == ref(1)
    queues.queue.acknowledge(delivery)
    for _ in range(5):
        clock.advance(61)
        assert queues.queue.receive(10) == []
    assert queues.queue.depth().dead == 1


def test_a_receipt_that_never_was_is_harmless(queues: Queues) -> None:
    queues.queue.send(ref(1))
    queues.queue.acknowledge(Delivery(ref(1), "never", 1))
    assert queues.queue.depth().ready == 1


def test_a_queue_that_is_down_says_so(queues: Queues) -> None:
    queues.down()
    for call in (
        lambda: queues.queue.send(ref(1)),
        lambda: queues.queue.receive(1),
        lambda: queues.queue.acknowledge(Delivery(ref(1), "r", 1)),
        queues.queue.depth,
    ):
        with pytest.raises(StoreUnavailable):
            call()


def test_a_body_names_a_ticket_and_nothing_else() -> None:
    assert body_of(TicketRef("k1", "0a")) == '{"v":1,"ticket":"k1/0a"}'
    assert ref_of('{"ticket": "k1/0a", "v": 1}') == TicketRef("k1", "0a")
    for wrong in (
        "",
        "null",
        "[]",
        "{}",
        "[" * 5000,
        '"k1/0a"',
        "\ud800",
        '{"v":1}',
        '{"v":1,"ticket":null}',
        '{"v":1,"ticket":"k1"}',
        '{"v":1,"ticket":"/0a"}',
        '{"v":"1","ticket":"k1/0a"}',
        '{"v":2,"ticket":"k1/0a"}',
        '{"v":1,"ticket":"k1/0a","more":1}',
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            ref_of(wrong)


# ---- the embedded queue


def test_only_the_current_receipt_acknowledges(embedded: EmbeddedQueue, clock: FakeClock) -> None:
    embedded.send(ref(1))
    [first] = embedded.receive(1)
    clock.advance(60)
    [second] = embedded.receive(1)
    embedded.acknowledge(first)
    assert embedded.depth().in_flight == 1
    embedded.acknowledge(second)
    assert embedded.depth().in_flight == 0


def test_queues_of_one_file_are_apart(database: Database, embedded: EmbeddedQueue, clock: FakeClock) -> None:
    other = EmbeddedQueue(database, clock, "work", visibility=330, max_receives=5)
    embedded.send(ref(1))
    assert other.receive(10) == []
    [delivery] = embedded.receive(10)
    other.acknowledge(delivery)
    assert (embedded.depth().in_flight, other.depth()) == (1, Depth(0, 0, 0, 0))


def test_dead_letters_can_be_sent_back_until_they_are_swept(
    database: Database, embedded: EmbeddedQueue, clock: FakeClock
) -> None:
    for n in range(3):
        embedded.send(ref(n))
    for _ in range(5):
        assert len(embedded.receive(10)) == 3
        clock.advance(60)
    assert embedded.redrive() == 3
    assert embedded.redrive() == 0
    assert {each.receives for each in embedded.receive(10)} == {1}
    for _ in range(4):
        clock.advance(60)
        embedded.receive(10)
    clock.advance(60)
    assert embedded.receive(10) == []
    assert embedded.depth() == Depth(0, 0, 0, 3)
    clock.advance(14 * DAY)
    assert embedded.redrive() == 0
    embedded.send(ref(9))
    assert embedded.depth() == Depth(1, 0, 0, 0)
    assert database.read("SELECT count(*) FROM messages")[0][0] == 1


def test_what_was_in_the_hands_of_the_dead_is_released(embedded: EmbeddedQueue) -> None:
    for n in range(2):
        embedded.send(ref(n))
    embedded.send(ref(2), delay=10)
    [first] = embedded.receive(1)
    embedded.acknowledge(first)
    [second] = embedded.receive(1)
    embedded.release()
    [again] = embedded.receive(10)
    assert (again.ref, again.receives) == (second.ref, 2)
    assert embedded.depth() == Depth(0, 1, 1, 0)


def test_who_waits_is_woken_by_what_is_ready(embedded: EmbeddedQueue) -> None:
    assert not embedded.wait(0)
    embedded.send(ref(1), delay=5)
    assert not embedded.wait(0)
    embedded.send(ref(2))
    assert embedded.wait(60)
    assert not embedded.wait(0)
    woken: list[bool] = []
    waiter = threading.Thread(target=lambda: woken.append(embedded.wait(60)))
    waiter.start()
    embedded.send(ref(3))
    waiter.join(60)
    assert woken == [True]


def test_what_is_owed_to_those_who_did_not_wait_is_bounded(embedded: EmbeddedQueue) -> None:
    for _ in range(3 * MAX_OWED):
        embedded.wake()
    assert sum(embedded.wait(0) for _ in range(3 * MAX_OWED)) == MAX_OWED


# ---- SQS


def test_sqs_is_told_whole_seconds_and_does_not_wait(clients: AwsClients) -> None:
    seen: list[Any] = []

    def send_message(real: Call, **arguments: Any) -> Any:
        seen.append(arguments["DelaySeconds"])
        return real(**arguments)

    def receive_message(real: Call, **arguments: Any) -> Any:
        seen.append((arguments["MaxNumberOfMessages"], arguments["WaitTimeSeconds"], len(arguments)))
        return real(**arguments)

    patched = PatchedClients(clients, send_message=send_message, receive_message=receive_message)
    queue = SqsQueue(patched, aws.queue_url(clients, "work"))
    for delay in (0.0, 0.01, 29.5, 900, 901, math.nextafter(0, -1)):
        queue.send(ref(1), delay=delay)
    queue.receive(3)
    assert seen == [0, 1, 30, 900, 900, 0, (3, 0, 4)]
