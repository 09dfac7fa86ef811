"""The slow lane: audio, video and PDF on routes whose callers wait, on the same tickets and flights as all.
The wait ends at the deadline, the work does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embedonce.access.authenticate import Caller
from embedonce.core.content import Content, Modality
from embedonce.core.deadline import Deadline
from embedonce.core.errors import DeadlineExceeded, EmbedonceError, ServiceUnavailable, rebuild
from embedonce.core.plan import Item
from embedonce.core.ticket import Completed, Failed, Ticket
from embedonce.ports import Clock
from embedonce.usecases.departure import ANSWER_MARGIN_SECONDS
from embedonce.usecases.jobs.results import Results
from embedonce.usecases.jobs.submit import Parcel, Submit
from embedonce.usecases.trip import Arrived

SLOW = frozenset({Modality.AUDIO, Modality.VIDEO, Modality.PDF})
POLL_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Between looks at the tickets; the last one repeats."""
RETRY_SECONDS = 5.0
"""After how long a caller whose deadline came first should ask again."""


def is_slow(content: Content) -> bool:
    return not SLOW.isdisjoint(content.modalities)


@dataclass(frozen=True, slots=True)
class Boarded:
    item: Item
    ticket: Ticket


class SlowLane:
    def __init__(self, submit: Submit, results: Results, clock: Clock) -> None:
        self._submit = submit
        self._results = results
        self._clock = clock

    def depart(
        self, parcels: Sequence[tuple[Item, Parcel]], caller: Caller
    ) -> tuple[list[Boarded], list[Item]]:
        """Those that were accepted, and those that the queue or its stores did not take."""
        boarded: list[Boarded] = []
        left: list[Item] = []
        for item, parcel in parcels:
            try:
                boarded.append(Boarded(item, self._submit.open(parcel, caller)))
            except ServiceUnavailable:
                left.append(item)
        return boarded, left

    def arrive(self, waiting: Sequence[Boarded], deadline: Deadline) -> Mapping[bytes, Arrived]:
        """Wait for all of them. By fingerprint of what was to be fetched.

        :raises DeadlineExceeded: with the tickets' ids; the work goes on
        :raises EmbedonceError: why one of them failed
        """
        arrived: dict[bytes, Arrived] = {}
        left = list(waiting)
        looks = 0
        while left:
            left = [boarded for boarded in left if not self._look(boarded, arrived)]
            if not left:
                break
            remaining = deadline.remaining(self._clock.monotonic()) - ANSWER_MARGIN_SECONDS
            if remaining <= 0:
                raise self._too_late(left)
            pause = POLL_SECONDS[min(looks, len(POLL_SECONDS) - 1)]
            looks += 1
            self._clock.sleep(min(pause, remaining))
        return arrived

    def _look(self, boarded: Boarded, arrived: dict[bytes, Arrived]) -> bool:
        """Whether it is over; a store that fails for a moment is looked at again."""
        try:
            ticket = self._results.look(boarded.ticket.ref)
            found = self._results.result(ticket).record if isinstance(ticket.state, Completed) else None
        except ServiceUnavailable:
            return False
        match ticket.state:
            case Completed(paid=paid, cost=cost):
                assert found is not None
                arrived[boarded.item.fetch.fingerprint] = Arrived(found, paid, stored=True, cost=cost)
                return True
            case Failed(code=code, message=message):
                raise self._naming(rebuild(code, message), boarded.item)
            case _:
                return False

    @staticmethod
    def _naming(error: EmbedonceError, item: Item) -> EmbedonceError:
        if error.message.startswith(item.param):
            error.param = item.param
            return error
        return type(error)(f"{item.param}: {error.message}", param=item.param, retry_after=error.retry_after)

    def _too_late(self, left: Sequence[Boarded]) -> DeadlineExceeded:
        ids = ", ".join(boarded.ticket.ref.id for boarded in left)
        late = DeadlineExceeded(
            f"it is still being worked on as request {ids}; the same request finds the result when it is "
            "there, and GET /v2/requests/{id} does too",
            retry_after=RETRY_SECONDS,
        )
        late.jobs = tuple(boarded.ticket.ref.id for boarded in left)
        return late
