"""Vectors out of the stores and into them: lines of JSON, one a vector (docs/vectors.md).

Two kinds come in: what was exported here, under the very keys it had, and what was paid for elsewhere, under
the keys that requests for the same texts have here. Neither replaces what stands.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol, TypeVar

import orjson

from embedonce.core import vector
from embedonce.core.catalog import Model, check_content, estimated_tokens
from embedonce.core.content import Content, Modality, text_part
from embedonce.core.errors import InvalidRequest, NotFound, UpstreamInvalid
from embedonce.core.fingerprint import Namespace
from embedonce.core.options import EmbedOptions
from embedonce.core.plan import VectorKey
from embedonce.core.pricing import Price
from embedonce.core.record import StoredVector
from embedonce.core.validation import checked_vectors, subject_of
from embedonce.ports import Clock, VectorScan, VectorStore
from embedonce.usecases.planning import Planner
from embedonce.usecases.purge import Filter

FORMAT = 1
HEADER = "embedonce_vectors"
"""Of the first line of an export; its value is the format's version."""
FOOTER = "end"
"""Of the last one: how many vectors it has."""
GENERATIONS = "generations"
"""In the header: how often each model had been purged where the export was made."""
IMPORTED = "import"
"""What stands for the upstream of a vector that was paid for elsewhere."""
BATCH = 100
REMEMBERED = 100_000
"""Vectors, each with what it was given for: one vector for different texts is refused."""
FINGERPRINT_BYTES = 32

Thing = TypeVar("Thing")


def exported(
    scan: VectorScan, wanted: Filter, now: float, *, generations: Mapping[str, int] | None = None
) -> Iterator[bytes]:
    """Lines, the header and the end included. `generations` of models, by id, as they stood before. Raises
    `StoreUnavailable`, and then has no end."""
    yield _line({HEADER: FORMAT, "at": int(now), GENERATIONS: dict(generations or {})})
    count = 0
    for key, record in scan.scan(vectors=True):
        if wanted.takes(record):
            count += 1
            yield _line(
                {
                    "fp": key.fingerprint.hex(),
                    "key_d": key.dimensions,
                    **record.metadata(),
                    "v": vector.to_base64(record.data).decode(),
                    "s": digest_of(key.fingerprint, record.data),
                }
            )
    yield _line({FOOTER: count})


def digest_of(fingerprint: bytes, data: bytes) -> str:
    """SHA-256 in hex of both, so that a line that was damaged is not taken for another vector."""
    return hashlib.sha256(fingerprint + data).hexdigest()


def is_export(first: bytes) -> bool:
    """Of a file's first line.

    :raises ValueError: an export of a version that is not known here
    """
    try:
        said = orjson.loads(first)
    except ValueError:
        return False
    if not isinstance(said, dict) or HEADER not in said:
        return False
    if said[HEADER] != FORMAT:
        raise ValueError(f"is an export in format {said[HEADER]!r}, not {FORMAT}")
    return True


def generations_of(header: bytes) -> dict[str, int] | None:
    """Of an export's first line; None: it does not say.

    :raises ValueError: they are no numbers by model
    """
    said = orjson.loads(header).get(GENERATIONS)
    if said is not None and not (isinstance(said, dict) and all(type(each) is int for each in said.values())):
        raise ValueError(f"has a header whose {GENERATIONS} are no numbers")
    return said


@dataclass(frozen=True, slots=True)
class Incoming:
    """A line, read. `keys`: all of one fingerprint, for both tiers where its own is not known."""

    line: int
    keys: tuple[VectorKey, ...]
    record: StoredVector

    @property
    def fingerprint(self) -> bytes:
        return self.keys[0].fingerprint


class Refused(Exception):
    """`str()` says why a line is no vector that could be kept."""


class Reader(Protocol):
    """Lines (by number) to what is to be put, or why not; lines that say nothing are left out."""

    def __call__(self, lines: Sequence[tuple[int, bytes]]) -> Iterator[Incoming | tuple[int, str]]: ...


@dataclass(slots=True)
class Tally:
    """`lost`: no store kept them. `unnormalised`: of the new ones, those whose length is not 1."""

    new: int = 0
    there: int = 0
    refused: int = 0
    expired: int = 0
    lost: int = 0
    unnormalised: int = 0


def bring_in(
    lines: Iterable[bytes],
    read: Reader,
    vectors: VectorStore,
    clock: Clock,
    *,
    refused: Callable[[int, str], None],
    show: Callable[[Tally], None] = lambda _tally: None,
    tally: Tally | None = None,
) -> Tally:
    """All lines of a file, from its first. `refused` is told a line's number and why. `tally` grows as it
    goes on. Raises `StoreUnavailable`; what was put stays, and the next time it is there already."""
    tally = tally if tally is not None else Tally()
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    for some in _batches(numbered):
        sound: dict[bytes, Incoming] = {}
        for found in read(some):
            if isinstance(found, Incoming):
                tally.there += found.fingerprint in sound
                sound.setdefault(found.fingerprint, found)
            else:
                tally.refused += 1
                refused(*found)
        _put(list(sound.values()), vectors, clock, tally)
        show(tally)
    return tally


def _put(incoming: Sequence[Incoming], vectors: VectorStore, clock: Clock, tally: Tally) -> None:
    if not incoming:
        return
    now = clock.now()
    live = [each for each in incoming if each.record.live(now)]
    tally.expired += len(incoming) - len(live)
    # A look is cheaper than a write that is refused, and tells what is new.
    there = vectors.get_many([key for each in live for key in each.keys]) if live else {}
    new = [each for each in live if each.fingerprint not in there]
    tally.there += len(live) - len(new)
    if not new:
        return
    entries = [(key, each.record) for each in new for key in each.keys]
    standing = iter(vectors.put_many(entries))
    for each in new:
        stood = [next(standing) for _ in each.keys]
        if None in stood:
            tally.lost += 1
        else:
            tally.new += 1
            tally.unnormalised += not is_normalised(each.record.data)


@dataclass(frozen=True, slots=True)
class OwnExport:
    """What was exported here or by another deployment, header and end included. `find_model` raises
    `NotFound`. Nothing is kept beyond `latest` (seconds since 1970). `purged`: models whose generation is
    another one here than where the export was made, so that no request finds their vectors."""

    find_model: Callable[[str], Model]
    latest: int
    ends: list[int] = field(default_factory=list)
    """How many vectors it says it has, once its end was read."""
    purged: frozenset[str] = frozenset()
    unfindable: Counter[str] = field(default_factory=Counter)
    """Vectors by model, of those in `purged`."""

    def __call__(self, lines: Sequence[tuple[int, bytes]]) -> Iterator[Incoming | tuple[int, str]]:
        for number, line in lines:
            try:
                said = _object(line)
                if HEADER in said:
                    continue
                if FOOTER in said:
                    self.ends.append(int(said[FOOTER]))
                    continue
                yield self._incoming(number, said)
            except Refused as refused:
                yield number, str(refused)

    def _incoming(self, number: int, said: dict[str, Any]) -> Incoming:
        """:raises Refused:"""
        try:
            fingerprint = bytes.fromhex(said["fp"])
            key_size = said["key_d"]
            record = StoredVector.from_metadata(said, _decoded(said["v"]))
        except KeyError as missing:
            raise Refused(f"lacks {missing}") from None
        except (ValueError, TypeError) as wrong:
            raise Refused(f"is no exported vector: {wrong}") from None
        if len(fingerprint) != FINGERPRINT_BYTES:
            raise Refused("has no fingerprint of 32 bytes")
        if not (key_size is None or isinstance(key_size, int)):
            raise Refused("has no size that a key could have")
        _check(record.data, record.dimensions)
        if said.get("s") != digest_of(fingerprint, record.data):
            raise Refused("is damaged: its digest `s` is another one")
        record = replace(record, expires=min(record.expires, self.latest))
        if record.model in self.purged:
            self.unfindable[record.model] += 1
        return Incoming(number, self._keys(fingerprint, key_size, record), record)

    def _keys(self, fingerprint: bytes, key_size: int | None, record: StoredVector) -> tuple[VectorKey, ...]:
        """Where requests look for it here. Of a model whose own size is not known, they may not say one."""
        try:
            unknown = self.find_model(record.model).dimensions.default is None
        except NotFound:
            unknown = True
        sizes: list[int | None] = [record.dimensions]
        if unknown or key_size is None:
            sizes.append(None)
        return tuple(VectorKey(fingerprint, size) for size in sizes)


class PaidElsewhere:
    """Texts with their vectors, as `options` would have been asked for in `namespace`. `model` of a line, if
    it says one, must be one of `names`."""

    def __init__(
        self,
        planner: Planner,
        options: EmbedOptions,
        namespace: Namespace,
        lineage: str,
        clock: Clock,
        *,
        names: frozenset[str],
        price: Price,
        ttl_seconds: int,
    ) -> None:
        self._planner = planner
        self._options = options
        self._namespace = namespace
        self._lineage = lineage
        self._clock = clock
        self._names = names
        self._price = price
        self._ttl = ttl_seconds
        self._given: OrderedDict[bytes, bytes] = OrderedDict()

    def __call__(self, lines: Sequence[tuple[int, bytes]]) -> Iterator[Incoming | tuple[int, str]]:
        sound: list[tuple[int, Content, bytes, int | None]] = []
        for number, line in lines:
            try:
                sound.append((number, *self._read(_object(line))))
            except Refused as refused:
                yield number, str(refused)
        if not sound:
            return
        planned = self._planner(
            [content for _, content, _, _ in sound],
            [f"line {number}" for number, *_ in sound],
            self._options,
            self._namespace,
        )
        now = int(self._clock.now())
        for item in planned.items:
            for position in item.positions:
                number, content, data, tokens = sound[position]
                count = estimated_tokens(content) if tokens is None else tokens
                record = StoredVector(
                    data=data,
                    model=self._options.model.id,
                    lineage=self._lineage,
                    upstream=IMPORTED,
                    modality=Modality.TEXT,
                    tokens=count,
                    cost=self._price.of(count),
                    created=now,
                    expires=now + self._ttl,
                    estimated=tokens is None,
                )
                yield Incoming(number, (item.fetch,), record)

    def _read(self, said: dict[str, Any]) -> tuple[Content, bytes, int | None]:
        """:raises Refused:"""
        text, embedding, tokens = said.get("text"), said.get("embedding"), said.get("tokens")
        if not isinstance(text, str):
            raise Refused("has no text")
        if said.get("model") is not None and said["model"] not in self._names:
            raise Refused("is of another model")
        if tokens is not None and (isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0):
            raise Refused("tokens: is no whole number from 0")
        try:
            content = Content((text_part(text, "text"),))
            check_content(self._options.model, content, "text")
        except InvalidRequest as invalid:
            raise Refused(invalid.message) from None
        data = _packed(embedding)
        _check(data, self._options.dimensions)
        self._check_given(data, content)
        return content, data, tokens

    def _check_given(self, data: bytes, content: Content) -> None:
        """:raises Refused: another text has this vector, so that one of them is wrong"""
        key, subject = hashlib.sha256(data).digest(), subject_of(content)
        if self._given.setdefault(key, subject) != subject:
            raise Refused("has the vector of another text")
        if len(self._given) > REMEMBERED:
            self._given.popitem(last=False)


def is_normalised(data: bytes) -> bool:
    import numpy as np

    values = vector.unpack(data).astype(np.float64)
    return abs(float(np.sqrt(values @ values)) - 1.0) < 1e-3


def _check(data: bytes, dimensions: int | None) -> None:
    """:raises Refused: see `core.validation.checked_vectors`"""
    try:
        checked_vectors([data], [None], dimensions, upstream="", distinct=False)
    except UpstreamInvalid as invalid:
        raise Refused(invalid.message.rpartition(": ")[2].replace("vector 0 ", "")) from None


def _object(line: bytes) -> dict[str, Any]:
    """:raises Refused:"""
    try:
        said = orjson.loads(line)
    except ValueError:
        raise Refused("is no JSON") from None
    if not isinstance(said, dict):
        raise Refused("is no JSON object")
    return said


def _packed(embedding: object) -> bytes:
    """A list of numbers, or base64 of little-endian float32.

    :raises Refused:
    """
    try:
        if isinstance(embedding, str):
            return _decoded(embedding)
        if isinstance(embedding, list) and all(type(each) in (int, float) for each in embedding):
            return vector.pack(embedding)
    except (ValueError, OverflowError):
        pass
    raise Refused("embedding: is neither a list of numbers nor base64 of float32")


def _decoded(text: str) -> bytes:
    """:raises ValueError:"""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("no base64") from None
    if len(data) % vector.BYTES_PER_DIMENSION:
        raise ValueError("no whole number of float32 values")
    return data


def _line(said: dict[str, Any]) -> bytes:
    return orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE)


def _batches(things: Iterable[Thing]) -> Iterator[list[Thing]]:
    left = iter(things)
    while some := list(islice(left, BATCH)):
        yield some
