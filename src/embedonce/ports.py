"""What the use cases need from outside, as small protocols. The same contract tests run on every adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, Protocol, TypeVar

from embedonce.core.catalog import Model
from embedonce.core.content import Content, Draft, Modality
from embedonce.core.deadline import Deadline
from embedonce.core.errors import StoreUnavailable
from embedonce.core.fingerprint import Namespace
from embedonce.core.flight import Flight
from embedonce.core.options import EmbedOptions
from embedonce.core.plan import VectorKey
from embedonce.core.pricing import Price
from embedonce.core.record import StoredVector
from embedonce.core.ticket import Ticket, TicketRef

if TYPE_CHECKING:  # of no use to the API, whose callers wait for its imports
    from embedonce.core.manifest import Head, Manifest
    from embedonce.core.rule import Sink
    from embedonce.core.segment import CutOptions, Format, Segment
    from embedonce.core.source import Source

Message = TypeVar("Message")


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since 1970."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; what deadlines are measured on."""

    def sleep(self, seconds: float) -> None: ...


class Telemetry(Protocol):
    """Counts, measured values and one-line events. Never given inputs, keys, vectors or upstream text."""

    def count(self, name: str, value: float = 1, *, upstream: str | None = None) -> None:
        """Add to a sum. With `upstream` (its configured name) also to that upstream's own."""

    def measure(self, name: str, value: float, unit: str, *, upstream: str | None = None) -> None:
        """One value of a distribution; `unit` as CloudWatch names it, one for each name."""

    def event(self, name: str, **fields: str | float) -> None: ...

    def answered(
        self,
        *,
        request_id: str,
        method: str,
        route: str,
        status: int,
        seconds: float,
        key_id: str | None = None,
        correlation_id: str | None = None,
    ) -> None:
        """One request is answered; `route` is the pattern of the route table, never the path asked for,
        `key_id` the public id of the key that asked, `correlation_id` the client's own for the request."""


class VectorStore(Protocol):
    """Paid vectors. Expired ones are never returned, whether or not they are still there.

    Both calls raise `StoreUnavailable` when nothing could be read or written at all; where only some could,
    `get_many` leaves the unread ones out and `put_many` answers None for what was not stored.
    """

    def get_many(self, keys: Sequence[VectorKey]) -> dict[bytes, StoredVector]:
        """Found vectors by fingerprint. One round trip for up to 100 keys."""

    def put_many(
        self, entries: Sequence[tuple[VectorKey, StoredVector]], *, overwrite: bool = False
    ) -> list[StoredVector | None]:
        """First writer wins: per entry the live vector that stands afterwards, given or earlier."""

    def delete_many(self, keys: Sequence[VectorKey]) -> None:
        """Raises `StoreUnavailable` unless all are gone."""


class VectorScan(Protocol):
    """All stored vectors, for operators: slow, and on AWS billed by what is read. Raises
    `StoreUnavailable`."""

    def scan(self, *, vectors: bool) -> Iterator[tuple[VectorKey, StoredVector]]:
        """Each live one at least once, in no order. `vectors` False: `StoredVector.data` is empty, so its
        `dimensions` mean nothing. Those written meanwhile may be left out; what cannot be read is. The keys
        are good to delete by; their `dimensions` need not be those that were asked for."""


@dataclass(frozen=True, slots=True)
class Swap:
    """Write `flight` if the row's version is `over` (0: if there is no row)."""

    flight: Flight
    over: int


class MediaResolver(Protocol):
    """From what clients sent to bytes, under guard."""

    def resolve(
        self,
        drafts: Sequence[Draft],
        *,
        namespace: Namespace,
        owner: str,
        deadline: Deadline,
        whole: bool = False,
        remember: bool = True,
    ) -> tuple[Content, ...]:
        """In order. A URL that has not changed, and an upload, come without their bytes, unless `whole`.

        :param owner: the id of the key whose uploads may be read
        :param remember: whether what origins say of URLs may be used and kept
        :raises InvalidRequest: media that cannot be decoded or fetched, or are not what their field is for
        """


class VectorMemory(Protocol):
    """A process's own memory of vectors: never waits, never fails."""

    def get_many(self, keys: Sequence[VectorKey]) -> dict[bytes, StoredVector]: ...


class FirstSights(VectorMemory, Protocol):
    """What a process has bought and not stored, within bounds."""

    def put(self, key: VectorKey, record: StoredVector, *, replace: bool = True) -> None:
        """`replace` False: a live one stands."""

    def discard(self, keys: Sequence[VectorKey]) -> None: ...

    def clear(self) -> None: ...


class FlightStore(Protocol):
    """One row per fingerprint, changed by compare-and-swap on its version.

    Reads are strongly consistent. Raises `StoreUnavailable`. Rows past `expires` may vanish at any time.
    """

    def get_many(self, fingerprints: Sequence[bytes]) -> dict[bytes, Flight]:
        """A row that cannot be read (damaged, a later version's) appears as one that has expired."""

    def swap_many(self, swaps: Sequence[Swap]) -> list[Flight | StoreUnavailable | None]:
        """Per swap, in order: None if it was written, else the row that stood in the way, or why the outcome
        is not known. Raises `StoreUnavailable` where it is not known of any.

        Swaps are independent of each other. A swap whose row vanished between check and read is answered
        with the flight that was to be written and `version` 0: try again.
        """

    def landed(self) -> Iterator[Flight]:
        """Every row that holds a vector, expired ones too, for operators: slow, and on AWS billed by what is
        read. What cannot be read is left out."""

    def delete_many(self, flights: Sequence[Flight]) -> None:
        """Each row that still has its flight's version; others stay, and that is no error. Raises
        `StoreUnavailable` unless all of them are gone or were changed."""


class TicketStore(Protocol):
    """Tickets by owner and id, changed by compare-and-swap on their version, and by when they are due.

    Raises `StoreUnavailable`. Tickets past `expires` may vanish at any time, and a row that cannot be read
    (damaged, a later version's) is none.
    """

    def get(self, ref: TicketRef) -> Ticket | None:
        """Strongly consistent. Expired ones may still be found: whoever asks checks."""

    def swap(self, ticket: Ticket, over: int) -> Ticket | None:
        """Write `ticket` if the row's version is `over` (0: if there is none). None: it was written; else
        what stands in the way, or `ticket` with version 0 where nothing stands any more."""

    def due(self, before: float, limit: int) -> list[TicketRef]:
        """At most about `limit` tickets whose `due` is before that time, the longest overdue first (within a
        shard). Eventually consistent: whoever acts on one reads it first."""


class ManifestStore(Protocol):
    """Manifests and heads, each changed by compare-and-swap on its version; manifests also by when they are
    due.

    Reads by name are strongly consistent. Raises `StoreUnavailable`. Manifests past `expires` may vanish at
    any time, heads never do; a row that cannot be read (damaged, a later version's) is none. Both swaps
    answer as `TicketStore.swap` does.
    """

    def get(self, manifest_id: str) -> Manifest | None: ...

    def swap(self, manifest: Manifest, over: int) -> Manifest | None: ...

    def head(self, place: str) -> Head | None: ...

    def swap_head(self, head: Head, over: int) -> Head | None: ...

    def due(self, before: float, limit: int) -> list[str]:
        """Ids of at most about `limit` manifests whose `due` is before that time, as `TicketStore.due`."""


@dataclass(frozen=True, slots=True)
class Delivery(Generic[Message]):
    """One message as received. `receipt` is what acknowledges it; `receives` counts this time too."""

    message: Message
    receipt: str
    receives: int


@dataclass(frozen=True, slots=True)
class Depth:
    """About how many messages: ready, not yet due, being handled, given up."""

    ready: int
    delayed: int
    in_flight: int
    dead: int


class Queue(Protocol[Message]):
    """Messages of one kind (`TicketRef`, `Task`), at least once, in no order. Raises `StoreUnavailable`.

    A message that was received and not acknowledged is delivered again after the queue's visibility time-out;
    one that was received too often goes to the dead letters.
    """

    def send(self, message: Message, *, delay: float = 0.0) -> None:
        """:param delay: seconds, at most 900 count (rounded up to whole ones by SQS)"""

    def send_many(self, messages: Sequence[Message]) -> None:
        """As if one by one, in fewer calls; where it raises, some may have been sent."""

    def receive(self, most: int) -> list[Delivery[Message]]:
        """At most `most` (1 to 10), possibly none; does not wait."""

    def acknowledge(self, delivery: Delivery[Message]) -> None:
        """It was handled. Harmless if it has been delivered again meanwhile."""

    def depth(self) -> Depth: ...


@dataclass(frozen=True, slots=True)
class PresignedPut:
    """`headers` must be sent exactly so."""

    url: str
    headers: Mapping[str, str]


class BlobStore(Protocol):
    """Bytes that are too large for rows and messages, by key: path segments of `A-Za-z0-9_.-` joined by `/`.

    Raises `StoreUnavailable`, and `ValueError` for a key of another form. What is forgotten is removed after
    a day (a lifecycle rule, or `sweep`).
    """

    def put(self, key: str, data: bytes) -> None:
        """Durable when it returns; replaces what was there."""

    def get(self, key: str, *, most: int) -> bytes | None:
        """All of it, or None if there is none.

        :raises ValueError: it has more than `most` bytes
        """

    def start(self, key: str, size: int) -> tuple[bytes, int] | None:
        """The first `size` bytes, and how many there are in all; None if there is none."""

    def delete_many(self, keys: Sequence[str]) -> None:
        """Deleting what is not there is no error."""

    def presign_put(
        self, key: str, *, size: int, sha256: bytes, content_type: str, seconds: int
    ) -> PresignedPut | None:
        """To put exactly those bytes, once, within `seconds`; None: this store is not reached by URL."""

    def presign_get(self, key: str, *, seconds: int) -> str | None:
        """To read it within `seconds`; None: this store is not reached by URL."""

    def sweep(self, before: float) -> None:
        """Remove what was put before that time (seconds since 1970), unless the store does so itself."""


class SourceGone(Exception):
    """That version of the source is not there any more: it was deleted, or replaced where no versions are
    kept."""


class SourceReader(Protocol):
    """One version of a source, open. Every call may raise `SourceGone` and `StoreUnavailable`; never a mix of
    two versions is read. Not thread-safe."""

    size: int

    def head(self, size: int) -> bytes:
        """The first `size` bytes, or all if there are fewer."""

    def pieces(self) -> Iterator[bytes]:
        """All of it from the start, in pieces of at most 1 MiB."""

    def file(self) -> BinaryIO:
        """All of it, seekable and with a descriptor; may be a temporary copy.

        :raises LimitExceeded: it is larger than what is copied
        """

    def sha256(self) -> bytes:
        """Of all of it (32 bytes). Cheap after `pieces` or `file` were read to the end."""


class SourceStore(Protocol):
    """Where sources lie. Only what is configured is read, whatever a `Source` says: all else is
    `SourceGone`."""

    def metadata(self, source: Source) -> Mapping[str, str]:
        """What the object's own metadata say, names in lower case; empty for files.

        :raises SourceGone:
        """

    def open(self, source: Source) -> AbstractContextManager[SourceReader]:
        """:raises SourceGone:"""


class ResultWriter(Protocol):
    """A result on its way: nobody sees it before `commit`. Leaving its context without that drops it."""

    def write(self, data: bytes) -> None: ...

    def commit(self) -> None:
        """It stands, and replaces what was there, in one step."""


class ResultStore(Protocol):
    """Where results are published, by name: the source's key and a suffix of ours. Raises
    `StoreUnavailable`."""

    def writing(self, name: str) -> AbstractContextManager[ResultWriter]: ...

    def delete_many(self, names: Sequence[str]) -> None:
        """Deleting what is not there is no error."""


class Cuts(Protocol):
    """The segments of a source, in order. `lineage` is known at the end: what decides the cuts besides the
    options, the version of the cutter and those of its libraries.

    Raised by the iterator, beside what the reader raises:

    :raises Uncuttable: it cannot be cut, and never will be
    :raises ServiceUnavailable: it cannot be cut now, or not in the time there was
    """

    def __iter__(self) -> Iterator[Segment]: ...

    @property
    def lineage(self) -> str: ...


class Segmenter(Protocol):
    """Cuts sources; parsers of hostile bytes run in a process of their own."""

    def format_of(self, head: bytes, key: str) -> Format | None:
        """By its first bytes, or by its name; None: nothing that can be embedded."""

    def cut(
        self, reader: SourceReader, kind: Format, options: CutOptions, *, most: int, seconds: float
    ) -> AbstractContextManager[Cuts]:
        """:param most: segments"""


@dataclass(frozen=True, slots=True)
class SinkEntry:
    """`data` is little-endian float32; `metadata` has short texts and numbers."""

    key: str
    data: bytes
    metadata: Mapping[str, str | float]


class VectorSink(Protocol):
    """An index of vectors that others search. Raises `StoreUnavailable`."""

    def put_many(self, sink: Sink, entries: Sequence[SinkEntry]) -> None:
        """Replaces what is there under the same keys.

        :raises InvalidRequest: the index does not exist, or does not take such vectors
        """

    def delete_many(self, sink: Sink, keys: Sequence[str]) -> None:
        """Deleting what is not there is no error."""


class WebhookSender(Protocol):
    """Never raises: what cannot be delivered now is tried again later."""

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> bool | None:
        """Whether it was answered with 2xx, within `core.ticket.WEBHOOK_SECONDS`. Guarded at each attempt;
        redirects are no answer. None: no attempt was made, as its host has enough of them in hand."""


class QuotaStore(Protocol):
    """Sums that may not pass a limit. Raises `StoreUnavailable`."""

    def take(self, name: str, amount: int, *, limit: int, expires: float) -> bool:
        """Atomically add `amount` to the sum called `name` if that stays within `limit`; False: it would not.
        The sum is forgotten after `expires` (seconds since 1970; the first `take` says when)."""

    def give(self, name: str, amount: int) -> None:
        """Give back what was taken and not used. Never sent twice: where it raises, it may be lost, so a sum
        can only be too high. A forgotten sum stays forgotten, and more than there is cannot be given."""

    def total(self, name: str) -> int:
        """0 where there is none."""


class UsageStore(Protocol):
    """Counters by owner (a key's id, or another name) and day (UTC, YYYYMMDD), which are only added to.
    Raises `StoreUnavailable`."""

    def add(self, owner: str, day: str, counts: Mapping[str, int]) -> None:
        """Add to each, in one atomic step; amounts may be negative, names are `core.usage`'s. Never sent
        twice: where it raises, it is not known whether it was counted."""

    def read(self, owner: str, first: str, last: str) -> dict[str, dict[str, int]]:
        """By day, from `first` to `last` inclusive, ascending; days without counters are left out."""


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What a key may spend and do; None: as much as the deployment allows. `budget` in pico-dollars a month
    (UTC)."""

    budget: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    @property
    def rated(self) -> bool:
        """Whether anything is limited by the minute."""
        return self.requests_per_minute is not None or self.tokens_per_minute is not None


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An API key's record. The key itself is never kept: `id` is public, `secret_hash` its SHA-256 in hex."""

    id: str
    secret_hash: str
    name: str
    namespace: str
    scopes: frozenset[str]
    isolated: bool
    created: int
    revoked: int | None = None
    limits: KeyLimits = KeyLimits()

    @property
    def live(self) -> bool:
        return self.revoked is None


@dataclass(frozen=True, slots=True)
class Deployment:
    """What an operator changes while everything runs. `daily`: pico-dollars that all keys together may spend
    in a day (UTC); None: as configured. `generations`: by `core.purge` name, how often it was purged.
    `purged`: when something was last purged (seconds since 1970): what a process remembers from before is
    forgotten."""

    paused: bool = False
    daily: int | None = None
    generations: Mapping[str, int] = field(default_factory=dict)
    purged: int = 0
    version: int = 0


class AccessStore(Protocol):
    """Key records by the SHA-256 (hex) of the key. Raises `StoreUnavailable`."""

    def find(self, secret_hash: str) -> AccessKey | None: ...

    def find_by_id(self, key_id: str) -> AccessKey | None:
        """For work that is done on behalf of a key that is not at hand."""

    def add(self, key: AccessKey) -> None:
        """:raises ValueError: the id or the secret is taken"""

    def list(self) -> list[AccessKey]:
        """All of them, oldest first."""

    def revoke(self, key_id: str, when: int) -> bool:
        """False: no such key. Revoking twice keeps the first time."""

    def limit(self, key_id: str, limits: KeyLimits) -> bool:
        """Replace its limits. False: no such key."""

    def deployment(self) -> Deployment:
        """As it was last set; the defaults where it never was."""

    def set_deployment(self, deployment: Deployment) -> bool:
        """Write it with the next version if it still has the one given; False: somebody was first."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What an upstream does for one model.

    `lineage` says which vectors are interchangeable (vector space, task recipe and its version). `recipe`
    turns a content into what is sent; `sends` gives the parameters beside it that may change the vector.
    `made_up`: modalities whose vectors mean nothing (the offline upstream's). `retry_doubtful` False: each
    call makes a new paid job, so it is not asked again after an answer that was lost. `submits`: it takes
    jobs (`SubmittingUpstream`) that are asked for later.
    """

    lineage: str
    model: str
    modalities: frozenset[Modality]
    max_inputs: int
    max_bytes: int
    recipe: Callable[[Content, EmbedOptions], Content]
    sends: Callable[[EmbedOptions], Mapping[str, Any]]
    prices: Mapping[Modality, Price]
    distinct: bool = True
    made_up: frozenset[Modality] = frozenset()
    retry_doubtful: bool = True
    submits: bool = False


@dataclass(frozen=True, slots=True)
class UpstreamCall:
    """One batch as it will be sent: contents of equal modalities, loaded, different from each other."""

    model: Model
    contents: tuple[Content, ...]
    dimensions: int | None
    parameters: Mapping[str, Any]
    passthrough: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UpstreamAnswer:
    """`vectors` in the order of the contents, little-endian float32. `tokens` of the whole batch and `cost`
    (pico-dollars) are None where the provider did not say."""

    vectors: tuple[bytes, ...]
    tokens: int | None = None
    cost: int | None = None


class Upstream(Protocol):
    name: str

    def offer(self, model: Model) -> Offer | None: ...

    def embed(self, call: UpstreamCall, *, timeout: float) -> UpstreamAnswer:
        """Buy one batch; `timeout` in seconds is for the whole call.

        :raises UpstreamFailure: see `embedonce.upstreams.failure`
        """

    def close(self) -> None:
        """Close connections; the last call."""


@dataclass(frozen=True, slots=True)
class Pending:
    """Not done yet. `wait`: seconds before it may be asked again, if the provider said so."""

    wait: float | None = None


@dataclass(frozen=True, slots=True)
class JobFailed:
    """The provider took the job and could not do it (content blocks included): for good."""


@dataclass(frozen=True, slots=True)
class JobUnknown:
    """The provider does not know the handle."""


class SubmittingUpstream(Upstream, Protocol):
    """One that also takes jobs: whose POST is over before the work is."""

    def submit(self, call: UpstreamCall, *, timeout: float) -> str:
        """Hand over one content. The handle is short, printable ASCII.

        :raises UpstreamFailure: only BUSY, REFUSED, REJECTED and MISCONFIGURED say that it was not accepted
        """

    def poll(
        self, handle: str, model: Model, dimensions: int | None, *, timeout: float
    ) -> UpstreamAnswer | Pending | JobFailed | JobUnknown:
        """Ask for it. Costs nothing and changes nothing there.

        :raises UpstreamFailure: INVALID: it is done, and what came is no embedding; any other kind: the
            question failed, and says nothing about the job
        """


@dataclass(frozen=True, slots=True)
class Validator:
    """What was found behind a URL, and how to ask its origin whether it is still there.

    `etag` (strong) or `modified` (a Last-Modified that is as good as one) is set. `source` is the SHA-256 of
    the URL that sent the bytes, after redirects: only that one is asked. `expires` in seconds since 1970.
    """

    source: bytes
    etag: str | None
    modified: str | None
    sha256: bytes
    size: int
    modality: Modality
    media_type: str
    seconds: float
    pages: int
    expires: int


class ValidatorStore(Protocol):
    """Validators by namespace (owner and inner, whatever its generation) and SHA-256 of the URL.

    Losing them costs a download, so nothing waits for them: eventually consistent, last writer wins, a row
    that cannot be read is none. Expired ones are never returned. Raises `StoreUnavailable`.
    """

    def get(self, namespace: Namespace, url: bytes) -> Validator | None: ...

    def put(self, namespace: Namespace, url: bytes, validator: Validator) -> None: ...
