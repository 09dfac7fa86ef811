"""Manifests: what has become of one version of a source. A pure state machine, like flights and tickets.

    Cutting ──▶ Embedding ──▶ Assembling ──▶ Ended (PUBLISHED)
       │            │             ▲   └─────▶ Ended (FAILED): what is published is the error
       └────────────┴── error ────┘
    any open state ──▶ Ended (SUPERSEDED): a newer version of the same key is there

Rows are the truth, messages are nudges. A source is cut into chunks of segments before any of it is bought.
The change that marks the last chunk as done is the one that leads to `Assembling`. A `Head` is kept for each
key: which version is the newest, and which one's result is published.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import assert_never

from embedonce.core.errors import EmbedonceError
from embedonce.core.rule import Sink, Terms
from embedonce.core.source import Source, newer

DEADLINE_SECONDS = 7 * 86_400.0
"""A source that is not done by then has failed."""
RETENTION_SECONDS = 7 * 86_400.0
"""From its end on; afterwards its head still knows what is published."""
STALL_SECONDS = 60.0
"""A manifest that nobody changed for so long, and for twice as long each further time, is nudged."""
CHUNK_STALL_SECONDS = 300.0
"""The same while its chunks are embedded: each chunk that is done is a change."""


class Outcome(StrEnum):
    PUBLISHED = "published"
    FAILED = "failed"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class Cutting:
    """`until`: whoever cuts it is done by then, or dead. `attempts` counts those who began."""

    attempts: int = 0
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class Embedding:
    """`done`: a bit for each chunk, the first chunk's the lowest of the first byte."""

    chunks: int
    done: bytes
    paused: str | None = None

    def has(self, chunk: int) -> bool:
        return bool(self.done[chunk // 8] >> chunk % 8 & 1)

    @property
    def left(self) -> list[int]:
        return [chunk for chunk in range(self.chunks) if not self.has(chunk)]


@dataclass(frozen=True, slots=True)
class Assembling:
    """`chunks`: how many there are to put together; 0 for an error."""

    chunks: int
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class Ended:
    outcome: Outcome
    at: float


State = Cutting | Embedding | Assembling | Ended


@dataclass(frozen=True, slots=True)
class Totals:
    """Over all segments. Money in pico-dollars."""

    segments: int = 0
    hits: int = 0
    derived: int = 0
    misses: int = 0
    failed: int = 0
    tokens: int = 0
    cost: int = 0
    saved: int = 0

    def plus(self, other: Totals) -> Totals:
        return Totals(
            *(getattr(self, name) + getattr(other, name) for name in self.__slots__)  # all are numbers
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """`rule` is the hash of the rule that was in force, `terms` what it says together with the object's own
    metadata (once that is known). `cutter`: the lineage of the cuts; `sha256` (hex) of the source: both are
    known when it is cut. `error`: code and message, where the source as a whole cannot be embedded. `due`:
    when somebody has to look after it; None: never."""

    id: str
    version: int
    source: Source
    rule: str
    terms: Terms
    state: State
    created: float
    due: float | None
    nudges: int = 0
    totals: Totals = field(default=Totals())
    sha256: str = ""
    cutter: str = ""
    error: tuple[str, str] | None = None
    note: str | None = None

    @property
    def open(self) -> bool:
        return not isinstance(self.state, Ended)

    @property
    def deadline(self) -> float:
        return self.created + DEADLINE_SECONDS

    @property
    def expires(self) -> float:
        match self.state:
            case Ended(at=at):
                return at + RETENTION_SECONDS
            case Cutting() | Embedding() | Assembling():
                return self.deadline + RETENTION_SECONDS
            case _:
                assert_never(self.state)


def announced(manifest_id: str, source: Source, rule: str, terms: Terms, *, now: float) -> Manifest:
    return Manifest(manifest_id, 1, source, rule, terms, Cutting(), now, due=now + STALL_SECONDS)


def unwatched(manifest: Manifest) -> Manifest:
    """One that no janitor has to look after."""
    return replace(manifest, due=None)


def cut_begins(manifest: Manifest, *, now: float, lease: float) -> Manifest:
    assert isinstance(manifest.state, Cutting)
    state = Cutting(manifest.state.attempts + 1, now + lease)
    return _changed(manifest, state, due=now + lease + STALL_SECONDS)


def cut(
    manifest: Manifest, *, terms: Terms, chunks: int, totals: Totals, sha256: str, cutter: str, now: float
) -> Manifest:
    """It lies in chunks, none of which is done. `totals` hold what is known of it already."""
    assert isinstance(manifest.state, Cutting)
    state = Embedding(chunks, bytes((chunks + 7) // 8))
    changed = _changed(manifest, state, due=now + CHUNK_STALL_SECONDS)
    return replace(changed, terms=terms, totals=totals, sha256=sha256, cutter=cutter)


def kept(manifest: Manifest, *, now: float, note: str) -> Manifest:
    """What is published of an earlier version stands for this one too."""
    assert isinstance(manifest.state, Cutting)
    return replace(_changed(manifest, Ended(Outcome.PUBLISHED, now), due=None), note=note)


def recut(manifest: Manifest, *, now: float) -> Manifest:
    """Its segments are gone: from the beginning."""
    assert isinstance(manifest.state, Embedding | Assembling)
    changed = _changed(manifest, Cutting(), due=now + STALL_SECONDS)
    return replace(changed, totals=Totals())


def chunk_done(manifest: Manifest, chunk: int, totals: Totals, *, now: float) -> Manifest:
    """The change that completes the last chunk leads to its assembly."""
    state = manifest.state
    assert isinstance(state, Embedding)
    assert not state.has(chunk)
    done = bytearray(state.done)
    done[chunk // 8] |= 1 << chunk % 8
    after = replace(state, done=bytes(done))
    changed = replace(manifest, totals=manifest.totals.plus(totals))
    if after.left:
        return _changed(changed, after, due=_later(manifest, after, now))
    return _changed(changed, Assembling(state.chunks), due=now + STALL_SECONDS)


def _later(manifest: Manifest, state: Embedding, now: float) -> float | None:
    """When to look after it next: moved by whole minutes only, as each move is a write to an index too."""
    later = now + CHUNK_STALL_SECONDS
    if manifest.due is None or state.paused is not None:
        return manifest.due
    return manifest.due if later - STALL_SECONDS < manifest.due <= later else later


def paused(manifest: Manifest, why: str, *, until: float) -> Manifest:
    """Nothing of it is bought before `until`."""
    assert isinstance(manifest.state, Embedding)
    return _changed(manifest, replace(manifest.state, paused=why), due=until)


def failed(manifest: Manifest, error: EmbedonceError, *, now: float) -> Manifest:
    """The source as a whole cannot be embedded: what is to be published is why."""
    assert manifest.open
    changed = _changed(manifest, Assembling(0), due=now + STALL_SECONDS)
    return replace(changed, error=(type(error).code, error.message))


def assembly_begins(manifest: Manifest, *, now: float, lease: float) -> Manifest:
    assert isinstance(manifest.state, Assembling)
    state = replace(manifest.state, until=now + lease)
    return _changed(manifest, state, due=now + lease + STALL_SECONDS)


def published(manifest: Manifest, *, now: float) -> Manifest:
    assert isinstance(manifest.state, Assembling)
    outcome = Outcome.PUBLISHED if manifest.error is None else Outcome.FAILED
    return _changed(manifest, Ended(outcome, now), due=None)


def superseded(manifest: Manifest, *, now: float) -> Manifest:
    assert manifest.open
    return _changed(manifest, Ended(Outcome.SUPERSEDED, now), due=None)


def nudged(manifest: Manifest, *, now: float) -> Manifest:
    """Its messages are sent anew. What is paused is not any more."""
    stall = CHUNK_STALL_SECONDS if isinstance(manifest.state, Embedding) else STALL_SECONDS
    again = stall * 2.0 ** min(manifest.nudges + 1, 12)
    state = manifest.state
    if isinstance(state, Embedding) and state.paused is not None:
        state = replace(state, paused=None)
    due = min(now + again, max(manifest.deadline, now + STALL_SECONDS))
    return replace(_changed(manifest, state, due=due), nudges=manifest.nudges + 1)


def _changed(manifest: Manifest, state: State, *, due: float | None) -> Manifest:
    watched = manifest.due is not None
    return replace(
        manifest, version=manifest.version + 1, state=state, due=due if watched else None, nudges=0
    )


@dataclass(frozen=True, slots=True)
class Published:
    """What stands of a key: `name` of the result, of what bytes, on what terms (their hash) and how cut."""

    manifest: str
    sha256: str
    terms: str
    cutter: str
    name: str


@dataclass(frozen=True, slots=True)
class Head:
    """`newest`: the newest version's manifest. `publishing`: whose result is on its way, at most until.
    `sink`: the index that may hold vectors of this key, numbered below `reach`. `filled`: how many chunks of
    which manifest are in it."""

    place: str
    version: int
    newest: str
    sequencer: str
    publishing: tuple[str, float] | None = None
    published: Published | None = None
    sink: Sink | None = None
    reach: int = 0
    filled: tuple[str, int] | None = None


def arrived(head: Head | None, source: Source, manifest_id: str) -> Head | None:
    """The head after that version was seen; None: it is not newer than what was seen before."""
    if head is None:
        return Head(source.place, 1, manifest_id, source.sequencer)
    if not newer(source.sequencer, head.sequencer):
        return None
    return replace(head, version=head.version + 1, newest=manifest_id, sequencer=source.sequencer)


def publishing(head: Head, manifest_id: str, *, now: float, lease: float) -> Head | None:
    """None: somebody else is at it. Also renews one's own."""
    if head.publishing is not None:
        who, until = head.publishing
        if who != manifest_id and now < until:
            return None
    return replace(head, version=head.version + 1, publishing=(manifest_id, now + lease))


def reaching(head: Head, sink: Sink | None, reach: int) -> Head:
    """Before vectors are put: up to where there may be some from now on."""
    reach = max(reach, head.reach) if sink == head.sink else reach
    return replace(head, version=head.version + 1, sink=sink, reach=reach)


def filling(head: Head, manifest_id: str, chunks: int) -> Head:
    """Together with another change."""
    return replace(head, filled=(manifest_id, chunks))


def stands(head: Head, published: Published, *, reach: int) -> Head:
    """`reach`: of the sink, where everything above was removed."""
    return replace(
        head, version=head.version + 1, publishing=None, published=published, reach=reach, filled=None
    )
