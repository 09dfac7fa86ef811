"""Cutting: a source becomes chunks of segments, which lie as blobs until they are embedded. Nothing is paid
before all of it is cut and known to be within its limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from embedonce.core import manifest as machine
from embedonce.core.catalog import Model, checked_dimensions, most_cost
from embedonce.core.content import Modality
from embedonce.core.deadline import Deadline
from embedonce.core.errors import EmbedonceError, InvalidRequest, LimitExceeded, StoreUnavailable
from embedonce.core.manifest import Cutting, Manifest, Totals
from embedonce.core.pricing import usd_text
from embedonce.core.resultname import ERROR
from embedonce.core.rule import Rule, Terms, matching
from embedonce.core.segment import CutOptions, Format, Segment, Uncuttable
from embedonce.core.task import Task
from embedonce.core.tasks import prefix_for, with_prefix
from embedonce.ports import Clock, Segmenter, SourceGone, SourceReader, SourceStore, Telemetry
from embedonce.usecases.ingest import pieces
from embedonce.usecases.ingest.manifests import CHUNK, MEDIA, Lease, Lost, Manifests, OutOfTime
from embedonce.usecases.ingest.pieces import Piece, piece_of

LEASE_SECONDS = 30.0
ATTEMPTS = 5
"""At cutting one source, of which each ended without a word: it is what ends them."""
CHUNK_TEXTS = 100
CHUNK_MEDIA = 10
CHUNK_BYTES = 1 << 20
"""Of text in one chunk."""
HEAD_BYTES = 4096
MODEL_BYTES = 8192
"""Of text, prefix included: certainly no more tokens than the model takes."""
SUPPORTED = "text, Markdown, HTML, CSV, JSON Lines, PDF, WAV, MP3, MP4, MOV, PNG and JPEG"


@dataclass(slots=True)
class _Cuts:
    """What was cut so far."""

    chunks: int = 0
    segments: int = 0
    cost: int = 0
    open: list[Piece] = field(default_factory=list)
    size: int = 0
    media: list[int] = field(default_factory=list)


class CutSource:
    """`most_segments`: that one source may have."""

    def __init__(
        self,
        manifests: Manifests,
        sources: SourceStore,
        segmenter: Segmenter,
        rules: Sequence[Rule],
        find_model: Callable[[str], Model],
        clock: Clock,
        telemetry: Telemetry,
        *,
        prefix: str,
        most_segments: int,
    ) -> None:
        self._manifests = manifests
        self._sources = sources
        self._segmenter = segmenter
        self._rules = rules
        self._find_model = find_model
        self._clock = clock
        self._telemetry = telemetry
        self._prefix = prefix
        self._most = most_segments

    def handle(self, task: Task, deadline: Deadline) -> None:
        """:raises StoreUnavailable: the message has to come again"""
        manifest = self._manifests.read(task.manifest)
        if manifest is None or not manifest.open:
            return
        if not isinstance(manifest.state, Cutting):
            self._manifests.send_all(manifest)  # whoever cut it may have died before it sent them
            return
        left = manifest.state.until - self._clock.now()
        if left > 0:
            self._manifests.again(task, delay=left)
            return
        if not self._manifests.is_newest(manifest):
            self._manifests.superseded(manifest)
            return
        if manifest.state.attempts >= ATTEMPTS:
            error = InvalidRequest(f"it could not be cut: {ATTEMPTS} attempts ended without a word")
            self._manifests.failed(manifest, error)
            return
        begun = machine.cut_begins(manifest, now=self._clock.now(), lease=LEASE_SECONDS)
        if self._manifests.change(manifest, begun):
            self._cut(begun, task, deadline)

    def _cut(self, manifest: Manifest, task: Task, deadline: Deadline) -> None:
        holder = _Holder(manifest, self._manifests, self._clock)
        lease = Lease(self._clock, LEASE_SECONDS, holder.renew, deadline)
        cuts = _Cuts()
        try:
            changed = self._changed(holder, cuts, lease, deadline)
        except SourceGone:
            self._forget(manifest, cuts)
            self._manifests.superseded(holder.manifest)
        except Lost:
            self._telemetry.event("cut_given_up", why="Lost")
            if not self._manifests.is_newest(manifest):
                self._manifests.superseded(manifest)
        except OutOfTime:
            self._telemetry.event("cut_given_up", why="OutOfTime")
            self._manifests.again(task, delay=LEASE_SECONDS)
        except Uncuttable as why:
            self._forget(manifest, cuts)
            self._manifests.failed(holder.manifest, InvalidRequest(f"the source {why}"))
        except EmbedonceError as error:
            if error.retryable:
                self._postpone(holder, task, type(error).code)
            else:
                self._forget(manifest, cuts)
                self._manifests.failed(holder.manifest, error)
        except StoreUnavailable:
            self._postpone(holder, task, "store_unavailable")
        else:
            if self._manifests.change(holder.manifest, changed):
                self._manifests.send_all(changed)

    def _postpone(self, holder: _Holder, task: Task, why: str) -> None:
        """It is no fault of the source, so it is no attempt either."""
        self._telemetry.event("cut_postponed", why=why)
        holder.give_back()
        self._manifests.again(task)

    def _forget(self, manifest: Manifest, cuts: _Cuts) -> None:
        """What was cut of a source that will not be embedded."""
        self._manifests.delete_blobs(manifest.id, CHUNK, range(cuts.chunks))
        self._manifests.delete_blobs(manifest.id, MEDIA, cuts.media)

    def _changed(self, holder: _Holder, cuts: _Cuts, lease: Lease, deadline: Deadline) -> Manifest:
        manifest = holder.manifest
        terms, model = self._terms(manifest)
        with self._sources.open(manifest.source) as reader:
            kind = self._kind(reader, manifest, terms)
            options = _fitting(terms)
            seconds = max(1.0, deadline.remaining(self._clock.monotonic()))
            with self._segmenter.cut(reader, kind, options, most=self._most, seconds=seconds) as segments:
                for piece in self._pieces(iter(segments), cuts):
                    self._put(manifest, piece, cuts, terms, model)
                    lease.keep()
                cutter = segments.lineage
            self._close(manifest, cuts)
            sha256 = reader.sha256().hex()
        if not cuts.segments:
            raise Uncuttable("is empty")
        if terms.most is not None and cuts.cost > terms.most:
            limit = f"{usd_text(terms.most)} USD for one source"
            raise LimitExceeded("source", limit=limit, value=f"up to {usd_text(cuts.cost)} USD")
        now = self._clock.now()
        before = self._manifests.head(manifest.source.place)
        stands = before.published if before and self._manifests.watched else None
        same = stands and (stands.sha256, stands.terms) == (sha256, terms.hash)
        if stands and same and stands.cutter != cutter and not stands.name.endswith(ERROR):
            # The same bytes, cut anew by another cutter, would be bought anew.
            self._telemetry.event("cutter_changed", before=stands.cutter, now=cutter)
            self._forget(manifest, cuts)
            note = f"the result stands as it was cut by {stands.cutter}"
            return machine.kept(holder.manifest, now=now, note=note)
        return machine.cut(
            holder.manifest,
            terms=terms,
            chunks=cuts.chunks,
            totals=Totals(segments=cuts.segments),
            sha256=sha256,
            cutter=cutter,
            now=now,
        )

    def _terms(self, manifest: Manifest) -> tuple[Terms, Model]:
        """As the rule and the object's own metadata say.

        :raises EmbedonceError: what they say cannot be
        """
        rule = matching(self._rules, manifest.source.key.removeprefix(self._prefix))
        if rule is None:
            raise InvalidRequest("there is no rule for this prefix", param="key")
        terms = rule.chosen(self._sources.metadata(manifest.source))
        model = self._find_model(terms.model)
        return replace(terms, dimensions=checked_dimensions(model, terms.dimensions)), model

    def _kind(self, reader: SourceReader, manifest: Manifest, terms: Terms) -> Format:
        if not reader.size:
            raise Uncuttable("is empty")
        head = reader.head(HEAD_BYTES)
        kind = terms.format or self._segmenter.format_of(head, manifest.source.key)
        if kind is None:
            raise InvalidRequest(f"this kind of file is not supported; what is: {SUPPORTED}", param="key")
        return kind

    @staticmethod
    def _pieces(segments: Iterator[Segment], cuts: _Cuts) -> Iterator[Piece]:
        for segment in segments:
            yield piece_of(cuts.segments, segment)
            cuts.segments += 1

    def _put(self, manifest: Manifest, piece: Piece, cuts: _Cuts, terms: Terms, model: Model) -> None:
        """Into the open chunk; one that is full is closed before."""
        segment = piece.segment
        size = len(segment.text.encode()) if segment.text else 0
        full = CHUNK_MEDIA if segment.modality is not Modality.TEXT else CHUNK_TEXTS
        if len(cuts.open) >= full or cuts.size + size > CHUNK_BYTES:
            self._close(manifest, cuts)
        if segment.data is not None:
            cuts.media.append(piece.index)
            self._manifests.put_blob(manifest.id, MEDIA, piece.index, segment.data)
            piece = Piece(piece.index, replace(segment, data=None), piece.sha256, piece.size)
        if segment.error is None:
            sent = with_prefix(piece.content(), terms.task_type, terms.title)
            cuts.cost += most_cost(sent, model)
        cuts.open.append(piece)
        cuts.size += size

    def _close(self, manifest: Manifest, cuts: _Cuts) -> None:
        if cuts.open:
            self._manifests.put_blob(manifest.id, CHUNK, cuts.chunks, pieces.encode(cuts.open))
            cuts.chunks += 1
            cuts.open, cuts.size = [], 0


class _Holder:
    """The manifest as it stands while its lease is renewed."""

    def __init__(self, manifest: Manifest, manifests: Manifests, clock: Clock) -> None:
        self.manifest = manifest
        self._manifests = manifests
        self._clock = clock

    def give_back(self) -> None:
        """:raises StoreUnavailable:"""
        state = self.manifest.state
        assert isinstance(state, Cutting)
        free = machine.cut_begins(self.manifest, now=self._clock.now(), lease=0.0)
        self._manifests.change(self.manifest, replace(free, state=Cutting(state.attempts - 1)))

    def renew(self) -> None:
        """:raises Lost:"""
        state = self.manifest.state
        assert isinstance(state, Cutting)
        fresh = replace(self.manifest, state=Cutting(state.attempts - 1))
        changed = machine.cut_begins(fresh, now=self._clock.now(), lease=LEASE_SECONDS)
        if not self._manifests.change(self.manifest, changed) or not self._manifests.is_newest(changed):
            raise Lost
        self.manifest = changed


def _fitting(terms: Terms) -> CutOptions:
    """The prefix that a task puts before each text counts too."""
    options = terms.cut
    if terms.task_type is None or options.segment_bytes > MODEL_BYTES:
        return options
    prefix = len(prefix_for(terms.task_type, terms.title).encode())
    return replace(options, segment_bytes=min(options.segment_bytes, MODEL_BYTES - prefix))
