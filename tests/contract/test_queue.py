"""What every Queue does."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest

from embedonce.core.errors import StoreUnavailable
from embedonce.core.task import Step, Task
from embedonce.core.ticket import TicketRef
from embedonce.ports import Delivery, Depth, Queue
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.queue import SqsQueue
from embedonce.stores.embedded.database import Database
from embedonce.stores.embedded.queue import MAX_OWED, EmbeddedQueue
from embedonce.stores.messages import MAX_COUNT, TASKS, TICKETS, body_of, ref_of, task_body, task_of
from support import aws
from support.adapters import Queues
from support.aws import Call, PatchedClients
from support.clock import FakeClock
from support.issued import ref

DAY = 86_400.0


@pytest.fixture
def embedded(database: Database, clock: FakeClock) -> EmbeddedQueue[TicketRef]:
    return EmbeddedQueue(database, clock, "poll", TICKETS, visibility=60, max_receives=5)


def test_what_is_sent_is_received_once_and_acknowledged(queues: Queues, clock: FakeClock) -> None:
    assert queues.queue.receive(10) == []
    queues.queue.send(ref(1))
    [delivery] = queues.queue.receive(10)
    assert (delivery.message, delivery.receives) == (ref(1), 1)
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
    assert {each.message for some in received for each in some} == {ref(n) for n in range(13)}
    assert len({each.receipt for some in received for each in some}) == 13


def test_a_delayed_message_comes_late(queues: Queues, clock: FakeClock) -> None:
    queues.queue.send(ref(1), delay=29.5)
    queues.queue.send(ref(2), delay=100_000)
    assert queues.queue.receive(10) == []
    assert queues.queue.depth() == Depth(0, 2, 0, 0)
    clock.advance(31)
    assert [each.message for each in queues.queue.receive(10)] == [ref(1)]
    clock.advance(870)
    assert ref(2) in [each.message for each in queues.queue.receive(10)]


def test_what_is_not_acknowledged_comes_again(queues: Queues, clock: FakeClock) -> None:
    queues.queue.send(ref(1))
    [first] = queues.queue.receive(10)
    clock.advance(59)
    assert queues.queue.receive(10) == []
    clock.advance(2)
    [second] = queues.queue.receive(10)
    assert (second.message, second.receives) == (ref(1), 2)
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
    assert delivery.message == ref(1)
    queues.queue.acknowledge(delivery)
    for _ in range(5):
        clock.advance(61)
        assert queues.queue.receive(10) == []
    assert queues.queue.depth().dead == 1


def test_a_receipt_that_never_was_is_harmless(queues: Queues) -> None:
    queues.queue.send(ref(1))
    queues.queue.acknowledge(Delivery(ref(1), "never", 1))
    assert queues.queue.depth().ready == 1


def test_many_are_sent_as_if_one_by_one(queues: Queues) -> None:
    queues.queue.send_many([])
    queues.queue.send_many([ref(n) for n in range(23)])
    assert queues.queue.depth() == Depth(23, 0, 0, 0)
    found = [each for _ in range(3) for each in queues.queue.receive(10)]
    assert sorted(each.message.id for each in found) == sorted(ref(n).id for n in range(23))
    assert {each.receives for each in found} == {1}


def test_a_queue_that_is_down_says_so(queues: Queues) -> None:
    queues.down()
    for call in (
        lambda: queues.queue.send(ref(1)),
        lambda: queues.queue.send_many([ref(1)]),
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


MANIFEST = "0123456789abcdef" * 2
TASK = '{"v":1,"task":{"manifest":"0123456789abcdef0123456789abcdef","step":"chunk","chunk":7,"hops":2}}'


def test_a_body_names_a_task_and_nothing_else() -> None:
    assert task_body(Task(MANIFEST, Step.CHUNK, 7, 2)) == TASK
    for step in Step:
        for counts in ((0, 0), (MAX_COUNT, MAX_COUNT)):
            assert task_of(task_body(Task(MANIFEST, step, *counts))) == Task(MANIFEST, step, *counts)
    assert type(task_of(TASK).step) is Step
    for old, new in (
        (TASK, ""),
        (TASK, "null"),
        (TASK, "[]"),
        (TASK, "[" * 5000),
        (TASK, "\ud800"),
        (TASK, body_of(ref(1))),
        (TASK, '{"v":1,"task":null}'),
        (TASK, '{"v":1,"task":{}}'),
        ('"v":1', '"v":2'),
        ('"v":1', '"v":true'),
        ('"v":1', '"v":1.0'),
        ('"v":1,', ""),
        ('"v":1', '"v":1,"more":1'),
        ('"hops":2', '"hops":2,"more":1'),
        (',"hops":2', ""),
        ('"hops":2', '"hops":true'),
        ('"hops":2', '"hops":2.0'),
        ('"hops":2', '"hops":"2"'),
        ('"hops":2', '"hops":null'),
        ('"chunk":7', '"chunk":-1'),
        ('"chunk":7', '"chunk":false'),
        ('"chunk":7', f'"chunk":{MAX_COUNT + 1}'),
        ('"step":"chunk"', '"step":"CHUNK"'),
        ('"step":"chunk"', '"step":null'),
        (MANIFEST, MANIFEST.upper()),
        (MANIFEST, MANIFEST + "\\n"),
        (MANIFEST, MANIFEST[1:]),
        (MANIFEST, MANIFEST + "0"),
        (f'"{MANIFEST}"', "1"),
    ):
        assert old in TASK
        with pytest.raises(ValueError):  # noqa: PT011
            task_of(TASK.replace(old, new))
    for wrong in (
        Task("x", Step.CUT),
        Task(MANIFEST, Step.CUT, -1),
        Task(MANIFEST, Step.CUT, hops=MAX_COUNT + 1),
    ):
        with pytest.raises(ValueError, match="task"):
            task_body(wrong)
    with pytest.raises(ValueError, match="no message"):
        ref_of(TASK)


@pytest.mark.parametrize("kind", ["embedded", "sqs"])
def test_a_queue_of_tasks(kind: str, request: pytest.FixtureRequest, clock: FakeClock) -> None:
    queue: Queue[Task]
    if kind == "embedded":
        database: Database = request.getfixturevalue("database")
        queue = EmbeddedQueue(database, clock, "chunk", TASKS, visibility=60, max_receives=5)
    else:
        clients: AwsClients = request.getfixturevalue("clients")
        queue = SqsQueue(clients, aws.queue_url(clients, "work"), TASKS)
    tasks = [Task(MANIFEST, Step.CHUNK, n) for n in range(12)]
    queue.send(tasks[0])
    queue.send_many(tasks[1:])
    received = [*queue.receive(10), *queue.receive(10)]
    assert sorted((each.message for each in received), key=lambda task: task.chunk) == tasks
    for each in received:
        queue.acknowledge(each)
    assert queue.depth() == Depth(0, 0, 0, 0)


# ---- the embedded queue


def test_many_are_sent_in_one_transaction(database: Database, clock: FakeClock) -> None:
    queue = EmbeddedQueue(database, clock, "chunk", TASKS, visibility=60, max_receives=5)
    with pytest.raises(ValueError, match="task"):
        queue.send_many([Task(MANIFEST, Step.CUT), Task("x", Step.CUT)])
    assert queue.depth().ready == 0
    queue.send_many([Task(MANIFEST, Step.CHUNK, n) for n in range(3)])
    assert [queue.wait(0) for _ in range(4)] == [True, True, True, False]


def test_only_the_current_receipt_acknowledges(embedded: EmbeddedQueue[TicketRef], clock: FakeClock) -> None:
    embedded.send(ref(1))
    [first] = embedded.receive(1)
    clock.advance(60)
    [second] = embedded.receive(1)
    embedded.acknowledge(first)
    assert embedded.depth().in_flight == 1
    embedded.acknowledge(second)
    assert embedded.depth().in_flight == 0


def test_queues_of_one_file_are_apart(
    database: Database, embedded: EmbeddedQueue[TicketRef], clock: FakeClock
) -> None:
    other = EmbeddedQueue(database, clock, "work", TICKETS, visibility=330, max_receives=5)
    embedded.send(ref(1))
    assert other.receive(10) == []
    [delivery] = embedded.receive(10)
    other.acknowledge(delivery)
    assert (embedded.depth().in_flight, other.depth()) == (1, Depth(0, 0, 0, 0))


def test_dead_letters_can_be_sent_back_until_they_are_swept(
    database: Database, embedded: EmbeddedQueue[TicketRef], clock: FakeClock
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


def test_what_was_in_the_hands_of_the_dead_is_released(embedded: EmbeddedQueue[TicketRef]) -> None:
    for n in range(2):
        embedded.send(ref(n))
    embedded.send(ref(2), delay=10)
    [first] = embedded.receive(1)
    embedded.acknowledge(first)
    [second] = embedded.receive(1)
    embedded.release()
    [again] = embedded.receive(10)
    assert (again.message, again.receives) == (second.message, 2)
    assert embedded.depth() == Depth(0, 1, 1, 0)


def test_who_waits_is_woken_by_what_is_ready(embedded: EmbeddedQueue[TicketRef]) -> None:
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


def test_what_is_owed_to_those_who_did_not_wait_is_bounded(embedded: EmbeddedQueue[TicketRef]) -> None:
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
    queue = SqsQueue(patched, aws.queue_url(clients, "work"), TICKETS)
    for delay in (0.0, 0.01, 29.5, 900, 901, math.nextafter(0, -1)):
        queue.send(ref(1), delay=delay)
    queue.receive(3)
    assert seen == [0, 1, 30, 900, 900, 0, (3, 0, 4)]


def send_many(clients: AwsClients, *failing: set[str]) -> list[list[str]]:
    """Sends 13; of each call in turn, those ids fail. Answers which ids were asked for."""
    asked: list[list[str]] = []
    failures = list(failing)

    def send_message_batch(real: Call, **arguments: Any) -> Any:
        ids = [each["Id"] for each in arguments["Entries"]]
        asked.append(ids)
        failed = failures.pop(0) if failures else set()
        sent = [each for each in arguments["Entries"] if each["Id"] not in failed]
        answer = real(**arguments | {"Entries": sent}) if sent else {}
        return answer | {"Failed": [{"Id": n, "Code": "Busy", "Message": "secret"} for n in sorted(failed)]}

    patched = PatchedClients(clients, send_message_batch=send_message_batch)
    queue = SqsQueue(patched, aws.queue_url(clients, "work"), TICKETS)
    try:
        queue.send_many([ref(n) for n in range(13)])
    except StoreUnavailable as failure:
        assert str(failure) == "sqs: Busy"  # noqa: PT017
        asked.append(["failed"])
    assert queue.depth().ready == 13 or asked[-1] == ["failed"]
    return asked


def test_sqs_takes_ten_at_a_time_and_is_asked_twice_for_what_failed(clients: AwsClients) -> None:
    ten, three = [str(n) for n in range(10)], ["0", "1", "2"]
    assert send_many(clients) == [ten, three]
    clients.sqs().purge_queue(QueueUrl=aws.queue_url(clients, "work"))
    assert send_many(clients, {"3", "7"}) == [ten, ["3", "7"], three]
    assert send_many(clients, {"3", "7"}, {"7"}) == [ten, ["3", "7"], ["failed"]]
