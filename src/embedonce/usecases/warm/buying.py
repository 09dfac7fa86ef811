"""One batch of inputs, until each is in the cache, is refused, or nothing more can be done now."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from embedonce.access.authenticate import Caller
from embedonce.core.answer import EmbedResult, Origin
from embedonce.core.cachecontrol import DEFAULT
from embedonce.core.content import Draft, InlineMedia, Part, Source, TextPart
from embedonce.core.deadline import Deadline
from embedonce.core.errors import (
    EmbedonceError,
    InvalidRequest,
    ServiceUnavailable,
    UpstreamInvalid,
    UpstreamJobFailed,
    UpstreamOutcomeUnknown,
    UpstreamRejected,
    UpstreamTimeout,
)
from embedonce.core.options import EmbedOptions
from embedonce.ports import Clock
from embedonce.usecases.embed import EmbedContents
from embedonce.usecases.jobs.lane import is_slow
from embedonce.usecases.request import EmbedRequest
from embedonce.usecases.warm.entry import Failure, Outcome, Slot, Stop, Tally, Wait, Waits

SEND_SECONDS = 120.0
"""One try of a batch: longer than a dead process's lease, which is waited for."""
SLOW_SECONDS = 900.0
"""The same for audio, video and PDFs."""
TRIES = 6
"""Of a batch whose failures may pass, before the run ends."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
LONGEST_RETRY_AFTER_SECONDS = 120.0
"""Who asks for more patience than this is not waited for."""
OVER_BUDGET = 402
PAUSED = "the operator has paused buying (`embedonce limits resume`)"
PAUSE_LOOK_SECONDS = 10.0
LONGEST_PAUSED_SECONDS = 300.0
"""A pause by the operator that takes longer ends the run."""
SLICE_SECONDS = 0.5
"""A pause is looked up from so often, to see whether the run was stopped."""

_REFUSED = (InvalidRequest, UpstreamRejected, UpstreamJobFailed, UpstreamOutcomeUnknown)
"""Errors that are the input's own, or that nobody may try again."""
_PERHAPS_BILLED = (UpstreamInvalid, UpstreamTimeout)
"""Errors that may cost money each time: in the end they count as the input's own."""


@dataclass(frozen=True, slots=True)
class Order:
    """`since`: when the run began that this one goes on with, `now` when this process did (seconds since
    1970): what was bought in between, by one that died, is no saving."""

    options: EmbedOptions
    caller: Caller
    namespace: str
    since: float
    now: float


class Buy:
    """`halted`: whether the run is to end. `paused`: whether the operator has paused buying, as it is now;
    `waits` is told before each pause. Thread-safe."""

    def __init__(
        self,
        order: Order,
        embed: EmbedContents,
        clock: Clock,
        halted: Callable[[], bool],
        *,
        paused: Callable[[], bool] = lambda: False,
        waits: Waits | None = None,
    ) -> None:
        self._order = order
        self._embed = embed
        self._clock = clock
        self._halted = halted
        self._paused = paused
        self._waits = waits or Waits(lambda _wait: None)
        self._lock = threading.Lock()
        self._not_before = 0.0
        self._asked = threading.Condition()
        self._asking = 0
        self._short = False
        """Of money: what others in flight may cost at most is held back, so batches go one by one then."""

    def __call__(self, slots: Sequence[Slot]) -> Outcome:
        out = Outcome()
        bought: dict[bytes, int] = {}
        given_up = self._settle(slots, out, bought, tries=TRIES)
        if given_up and (out.done or len(slots) == 1):
            out.failed += [(slot, failure_of(slot, error)) for slot, error in given_up]
        elif given_up:  # none of them could be bought: it is no input's fault
            out.stop = out.stop or Stop(given_up[0][1].message)
        out.spent += sum(bought.values())
        return out

    def _settle(
        self, slots: Sequence[Slot], out: Outcome, bought: dict[bytes, int], *, tries: int
    ) -> list[tuple[Slot, EmbedonceError]]:
        """What is refused is halved until it is known which input is to blame. Those with an error that may
        pass, but did not, are given back."""
        error = self._patiently(slots, out, bought, tries)
        if error is None:
            return []
        poor = type(error).http_status == OVER_BUDGET
        refused = poor or isinstance(error, _REFUSED)
        if poor and len(slots) == 1:
            out.stop = out.stop or Stop(error.message, budget=True)
            return []
        if len(slots) == 1:
            if not refused:
                return [(slots[0], error)]
            out.failed.append((slots[0], failure_of(slots[0], error)))
            return []
        half = len(slots) // 2
        return [
            given_up
            for part in (slots[:half], slots[half:])
            for given_up in self._settle(part, out, bought, tries=tries if refused else 1)
        ]

    def _patiently(
        self, slots: Sequence[Slot], out: Outcome, bought: dict[bytes, int], tries: int
    ) -> EmbedonceError | None:
        """An error that may be the fault of one of them; None: done, or the run has to stop."""
        tried = 0
        while out.stop is None and not self._halted():
            self._pause(self._not_before - self._clock.monotonic())
            if self._halted():
                break
            alone = self._short
            try:
                self._keep(slots, self._in_turn(slots, bought, alone=alone), out, bought)
                return None
            except EmbedonceError as error:
                if type(error).http_status == OVER_BUDGET and not alone:
                    self._short = True
                    continue
                if isinstance(error, ServiceUnavailable) and self._paused():
                    if not self._resumed():
                        out.stop = out.stop or Stop(PAUSED)
                    continue
                tried += 1
                if isinstance(error, _REFUSED) or type(error).http_status == OVER_BUDGET:
                    return error
                if not error.retryable:
                    out.stop = Stop(error.message)
                    return None
                asked = error.retry_after or 0.0
                long = asked > LONGEST_RETRY_AFTER_SECONDS
                if tried >= tries or long:
                    limited = type(error).http_status == 429
                    if not limited and (long or tries == 1 or isinstance(error, _PERHAPS_BILLED)):
                        return error
                    out.stop = Stop(error.message)
                    return None
                self._back_off(error, tried, asked, tries)
        return None

    def _resumed(self) -> bool:
        """Whether buying goes on, after as long a pause as is waited for."""
        waited = 0.0
        while waited < LONGEST_PAUSED_SECONDS and not self._halted():
            self._waits(Wait(PAUSED, "; next look in", PAUSE_LOOK_SECONDS))
            self._pause(PAUSE_LOOK_SECONDS)
            waited += PAUSE_LOOK_SECONDS
            if not self._paused():
                return True
        return self._halted()

    def _back_off(self, error: EmbedonceError, tried: int, asked: float, tries: int) -> None:
        grown = min(FIRST_PAUSE_SECONDS * 2.0 ** (tried - 1), LONGEST_PAUSE_SECONDS)
        seconds = max(asked, grown * random.uniform(0.5, 1.0))  # noqa: S311 spreads retries
        if type(error).http_status == 429:  # it is meant for all batches
            with self._lock:
                self._not_before = max(self._not_before, self._clock.monotonic() + seconds)
        self._waits(Wait(error.message, f"; try {tried + 1} of {tries} in", seconds))
        self._pause(seconds)

    def _pause(self, seconds: float) -> None:
        left = seconds
        while left > 0 and not self._halted():
            self._clock.sleep(min(left, SLICE_SECONDS))
            left -= SLICE_SECONDS

    def _in_turn(self, slots: Sequence[Slot], bought: dict[bytes, int], *, alone: bool) -> EmbedResult:
        """`alone`: when nothing else is in flight."""
        with self._asked:
            while alone and self._asking:
                self._asked.wait()
            self._asking += 1
        try:
            return self._ask(slots, bought)
        finally:
            with self._asked:
                self._asking -= 1
                self._asked.notify_all()

    def _ask(self, slots: Sequence[Slot], bought: dict[bytes, int]) -> EmbedResult:
        order = self._order
        contents = tuple(slot.given for slot in slots)
        seconds = SLOW_SECONDS if any(is_slow(content) for content in contents) else SEND_SECONDS
        drafts = tuple(
            Draft(tuple(_drafted(part, slot.entry.where) for part in slot.given.parts), slot.entry.where)
            for slot in slots
        )
        return self._embed(
            EmbedRequest(
                drafts=drafts,
                options=order.options,
                controls=DEFAULT,
                caller=order.caller,
                namespace=order.namespace,
                deadline=Deadline.after(seconds, self._clock.monotonic()),
                contents=contents,
                bought=bought,
            )
        )

    def _keep(
        self, slots: Sequence[Slot], result: EmbedResult, out: Outcome, bought: dict[bytes, int]
    ) -> None:
        self._waits.over()
        seen: set[int] = set()
        for slot, index in zip(slots, result.order, strict=True):
            answered, repeats = result.answers[index], index in seen
            seen.add(index)
            cost = bought.pop(result.fingerprints[index], None)
            if cost is None and answered.origin is Origin.MISS and not repeats:
                cost = answered.cost
            tally = Tally(tokens=answered.record.tokens)
            if not answered.stored:
                out.spent += cost or 0
                out.stop = out.stop or Stop("vectors that were bought cannot be stored")
                continue
            if cost is not None:
                tally.misses, tally.spent = 1, cost
            else:
                tally.repeats = int(repeats)
                tally.derived = int(not repeats and answered.origin is Origin.DERIVED)
                tally.hits = int(not repeats and not tally.derived)
                mine = repeats or answered.origin is Origin.COLLAPSED
                created = answered.record.created
                if mine or created < int(self._order.since) or created >= int(self._order.now):
                    tally.saved = answered.record.cost
            out.done.append((slot, tally))


def _drafted(part: Part, where: str) -> TextPart | Source:
    """As if a client had sent it; media are at hand as contents."""
    return part if isinstance(part, TextPart) else InlineMedia("", part.modality, where)


def failure_of(slot: Slot, error: EmbedonceError) -> Failure:
    where = slot.entry.where
    return Failure(where, type(error).code, error.message.removeprefix(f"{where}: "))
