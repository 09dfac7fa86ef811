"""Embedding one chunk: what is in the cache is taken from there, the rest is bought like any other input, its
part of the result is written. A chunk is done when its bit is set, and then never touched again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import orjson

from embedonce.access.authenticate import Authenticator
from embedonce.access.keys import Scope
from embedonce.core import manifest as machine
from embedonce.core.answer import Origin
from embedonce.core.cachecontrol import DEFAULT
from embedonce.core.catalog import Model, check_content
from embedonce.core.content import Draft, TextPart
from embedonce.core.deadline import Deadline
from embedonce.core.errors import (
    BudgetExceeded,
    EmbedonceError,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    UpstreamInvalid,
    UpstreamJobFailed,
    UpstreamOutcomeUnknown,
    UpstreamRejected,
    UpstreamTimeout,
)
from embedonce.core.manifest import Embedding, Manifest, Totals
from embedonce.core.options import EmbedOptions
from embedonce.core.rule import Terms
from embedonce.core.task import Task
from embedonce.ports import Clock, Telemetry
from embedonce.usecases.embed import EmbedContents
from embedonce.usecases.ingest import pieces as chunkfile
from embedonce.usecases.ingest.lines import Embedded, Line, part, totals_of, unembedded
from embedonce.usecases.ingest.manifests import BOUGHT, CHUNK, MEDIA, RESULT, TICKETS, Manifests
from embedonce.usecases.ingest.media import Order, SlowMedia, is_slow_piece
from embedonce.usecases.ingest.pieces import Piece
from embedonce.usecases.ingest.pricing import Ceiling
from embedonce.usecases.request import EmbedRequest

PATIENT_HOPS = 20
"""After so many attempts at a chunk (some four hours) its providers' passing failures count as final."""
SEND_SECONDS = 120.0
"""One attempt at a chunk of texts may take; what is bought by then is kept."""

LOOK_SECONDS, LOOK_GROWTH, LONGEST_LOOK_SECONDS = 0.5, 1.5, 30.0
"""Between looks at tickets that are worked on: the first, how much longer each next one, the longest."""

_FINAL = (InvalidRequest, UpstreamRejected, UpstreamJobFailed, UpstreamOutcomeUnknown)
"""Errors that are the input's own, or that nobody may try again."""
_PERHAPS_BILLED = (UpstreamInvalid, UpstreamTimeout)
"""Errors that may cost money each time: in the end they count as final too."""


class EmbedChunk:
    def __init__(
        self,
        manifests: Manifests,
        embed: EmbedContents,
        slow: SlowMedia,
        ceiling: Ceiling,
        authenticator: Authenticator,
        find_model: Callable[[str], Model],
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._manifests = manifests
        self._embed = embed
        self._slow = slow
        self._ceiling = ceiling
        self._authenticator = authenticator
        self._find_model = find_model
        self._clock = clock
        self._telemetry = telemetry

    def handle(self, task: Task, deadline: Deadline) -> None:
        """:raises StoreUnavailable: the message has to come again"""
        manifest = self._manifests.read(task.manifest)
        if manifest is None or not isinstance(manifest.state, Embedding):
            return
        if manifest.state.paused is not None or manifest.state.has(task.chunk):
            return
        if not self._manifests.is_newest(manifest):
            self._manifests.superseded(manifest)
            return
        pieces = self._pieces(manifest, task.chunk)
        if pieces is None:
            self._recut(manifest)
            return
        bought = self._bought_before(manifest, task)
        try:
            lines = self._lines(manifest, pieces, task, bought, deadline)
        except _Later:
            self._manifests.again(task, delay=_look_pause(task.hops))
        except _OverBudget as over:
            self._pause(manifest, str(over))
        except BudgetExceeded as over:
            self._remember(manifest, task, bought)
            self._pause(manifest, over.message)
        except Unauthenticated:
            why = f"{manifest.terms.payer}, the key that its rule names, is unknown or revoked"
            self._manifests.failed(manifest, Unauthenticated(why))
        except (PermissionDenied, LimitExceeded, InvalidRequest, NotFound) as error:
            self._manifests.failed(manifest, error)
        except EmbedonceError as error:
            self._remember(manifest, task, bought)
            self._telemetry.count("ChunksPostponed")
            self._telemetry.event("chunk_postponed", code=type(error).code)
            self._manifests.again(task, delay=None if error.retry_after is None else self._pause_of(error))
        else:
            self._done(manifest, task, pieces, lines)

    def _bought_before(self, manifest: Manifest, task: Task) -> dict[bytes, int]:
        """What attempts at the chunk that failed have paid for all the same: cost by fingerprint."""
        data = self._manifests.blob(manifest.id, BOUGHT, task.chunk) if task.hops else None
        said: dict[str, int] = {} if data is None else orjson.loads(data)
        return {bytes.fromhex(fingerprint): cost for fingerprint, cost in said.items()}

    def _remember(self, manifest: Manifest, task: Task, bought: dict[bytes, int]) -> None:
        if bought:
            said = {fingerprint.hex(): cost for fingerprint, cost in bought.items()}
            self._manifests.put_blob(manifest.id, BOUGHT, task.chunk, orjson.dumps(said))

    def _pieces(self, manifest: Manifest, chunk: int) -> list[Piece] | None:
        """None: they were removed, as after weeks of a pause, or cannot be read."""
        data = self._manifests.blob(manifest.id, CHUNK, chunk)
        try:
            return None if data is None else chunkfile.decode(data)
        except ValueError:
            return None

    @staticmethod
    def _pause_of(error: EmbedonceError) -> float | None:
        """What a provider asks for, where that is longer than what the task waits anyway."""
        return error.retry_after if error.retry_after is not None and error.retry_after > 60 else None

    def _lines(
        self,
        manifest: Manifest,
        pieces: Sequence[Piece],
        task: Task,
        bought: dict[bytes, int],
        deadline: Deadline,
    ) -> list[Line]:
        """In order of the pieces. `bought` is added to as it is bought, also where this raises in the end.

        :raises _Later: something is still being worked on
        :raises _OverBudget: of its rule
        :raises EmbedonceError: it can be tried again, or nothing of the source can be embedded
        """
        terms = manifest.terms
        caller = self._authenticator.recall(terms.payer).unhurried
        caller.require(Scope.EMBED)
        options = self._options(terms)
        lines: dict[int, Line] = {}
        sound: list[Piece] = []
        for piece in pieces:
            error = self._wrong(piece, options.model)
            if error is None:
                sound.append(piece)
            else:
                lines[piece.index] = unembedded(piece, error)
        order = Order(manifest, task.chunk, options, caller, bought)
        if not self._ceiling.allows(order, sound, self._clock.now()):
            raise _OverBudget("its rule's ceiling for the day is reached")
        slow = [piece for piece in sound if is_slow_piece(piece)]
        if slow:
            answered = self._slow.ask(order, slow, deadline)
            if answered is None:
                raise _Later
            lines |= {line.piece.index: line for line in answered}
        quick = [piece for piece in sound if not is_slow_piece(piece)]
        if quick:
            seconds = min(SEND_SECONDS, deadline.remaining(self._clock.monotonic()))
            soon = Deadline.after(seconds, self._clock.monotonic())
            found = self._quick(order, quick, soon, final=task.hops >= PATIENT_HOPS)
            lines |= {line.piece.index: line for line in found}
        return [lines[piece.index] for piece in pieces]

    def _options(self, terms: Terms) -> EmbedOptions:
        return EmbedOptions(
            self._find_model(terms.model), terms.dimensions, task_type=terms.task_type, title=terms.title
        )

    @staticmethod
    def _wrong(piece: Piece, model: Model) -> EmbedonceError | None:
        """Why it cannot be embedded, if that is known without asking."""
        if piece.segment.error is not None:
            return InvalidRequest(piece.segment.error)
        try:
            check_content(model, piece.content(), f"segment {piece.index}")
        except InvalidRequest as error:
            return error
        return None

    def _quick(self, order: Order, pieces: Sequence[Piece], deadline: Deadline, *, final: bool) -> list[Line]:
        """What is refused is halved until it is known which piece is to blame: one that cannot be embedded
        does not sink the rest."""
        try:
            return self._embedded(order, pieces, deadline)
        except EmbedonceError as error:
            own = isinstance(error, _FINAL) or (final and isinstance(error, _PERHAPS_BILLED))
            if not own:
                raise
            if len(pieces) == 1:
                return [unembedded(pieces[0], error)]
            half = len(pieces) // 2
            return [
                *self._quick(order, pieces[:half], deadline, final=final),
                *self._quick(order, pieces[half:], deadline, final=final),
            ]

    def _embedded(self, order: Order, pieces: Sequence[Piece], deadline: Deadline) -> list[Line]:
        contents = tuple(
            piece.content(None if piece.is_text else order.bytes_of(self._manifests, piece))
            for piece in pieces
        )
        drafts = tuple(
            Draft(tuple(part for part in content.parts if isinstance(part, TextPart)), f"segment {p.index}")
            for content, p in zip(contents, pieces, strict=True)
        )
        request = EmbedRequest(
            drafts=drafts,
            options=order.options,
            controls=DEFAULT,
            caller=order.caller,
            namespace=order.manifest.terms.namespace,
            deadline=deadline,
            contents=contents,
            bought=order.bought,
        )
        result = self._embed(request)
        seen: set[int] = set()
        lines: list[Line] = []
        for piece, index in zip(pieces, result.order, strict=True):
            answered = result.answers[index]
            fingerprint = result.fingerprints[index]
            repeats = index in seen
            seen.add(index)
            # Also what was bought by an attempt that failed, and is found in the cache now.
            cost = order.bought.pop(fingerprint, None)
            origin = answered.origin if cost is None else Origin.MISS
            made_up = piece.segment.modality in result.made_up
            lines.append(Embedded(piece, answered.record, origin, cost or 0, fingerprint, made_up, repeats))
        return lines

    def _done(self, manifest: Manifest, task: Task, pieces: Sequence[Piece], lines: Sequence[Line]) -> None:
        chunk = task.chunk
        totals = totals_of(list(lines), since=manifest.created)
        self._manifests.put_blob(manifest.id, RESULT, chunk, part(lines, totals, manifest.terms.output))

        def change(m: Manifest) -> Manifest | None:
            if not isinstance(m.state, Embedding) or m.state.has(chunk):
                return None
            return machine.chunk_done(m, chunk, totals, now=self._clock.now())

        changed = self._manifests.amend(manifest.id, change)
        if changed is None:
            return
        self._count(totals)
        media = [piece.index for piece in pieces if not piece.is_text and piece.segment.error is None]
        self._manifests.delete_blobs(manifest.id, MEDIA, media)
        if any(is_slow_piece(piece) for piece in pieces):
            self._manifests.delete_blobs(manifest.id, TICKETS, [chunk])
        if task.hops:
            self._manifests.delete_blobs(manifest.id, BOUGHT, [chunk])
        if not isinstance(changed.state, Embedding):
            self._manifests.send_all(changed)

    def _count(self, totals: Totals) -> None:
        for name, number in (
            ("SegmentsEmbedded", totals.hits + totals.derived + totals.misses),
            ("SegmentsFailed", totals.failed),
        ):
            if number:
                self._telemetry.count(name, number)

    def _recut(self, manifest: Manifest) -> None:
        """Cut anew, what was embedded is a hit."""
        changed = machine.recut(manifest, now=self._clock.now())
        if self._manifests.change(manifest, changed):
            self._telemetry.event("segments_gone")
            self._manifests.send_all(changed)

    def _pause(self, manifest: Manifest, why: str) -> None:
        """Until the next day (UTC), when ceilings are whole again."""
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()

        def change(m: Manifest) -> Manifest | None:
            if not isinstance(m.state, Embedding) or m.state.paused is not None:
                return None
            return machine.paused(m, why, until=midnight)

        if self._manifests.amend(manifest.id, change) is not None:
            self._telemetry.count("SourcesPaused")


class _Later(Exception):
    """Something is still being worked on."""


class _OverBudget(Exception):
    """`str()` says whose."""


def _look_pause(hops: int) -> float:
    return float(min(LOOK_SECONDS * LOOK_GROWTH ** min(hops, 20), LONGEST_LOOK_SECONDS))
