"""What every VectorStore does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from embedonce.core.content import Modality
from embedonce.core.errors import StoreUnavailable
from embedonce.core.plan import VectorKey
from embedonce.core.record import StoredVector
from embedonce.ports import VectorScan
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.s3_vectors import S3Vectors
from embedonce.stores.aws.vectors import DynamoVectors
from embedonce.stores.embedded import vectors as embedded
from support import aws
from support.adapters import Vectors
from support.aws import Call, PatchedClients, in_turn, refused
from support.clock import FakeClock
from support.stored import fingerprint, key, record


def test_what_was_put_is_read_back_bit_for_bit(vectors: Vectors) -> None:
    small, large = record(1), record(2, dimensions=3072)
    entries = [(key(1), small), (key(2, 3072), large)]

    assert vectors.store.put_many(entries) == [small, large]
    found = vectors.store.get_many([key(1), key(2, 3072), key(3)])

    assert found == {fingerprint(1): small, fingerprint(2): large}
    assert found[fingerprint(2)].data == large.data
    assert type(found[fingerprint(2)].data) is bytes


def test_every_field_survives(vectors: Vectors) -> None:
    given = replace(
        record(1),
        model="модель/嵌入 v2 %41",
        lineage=" führt: ümlaut, emoji 🚀/1 ",
        upstream="a\tb",
        modality=Modality.PDF,
        tokens=0,
        cost=9_000_000_000_000_000,
        estimated=True,
    )
    vectors.store.put_many([(key(1), given)])
    assert vectors.store.get_many([key(1)]) == {fingerprint(1): given}


def test_the_first_writer_wins(vectors: Vectors) -> None:
    assert vectors.store.put_many([(key(1), record(1))]) == [record(1)]
    assert vectors.store.put_many([(key(1), record(8)), (key(2), record(2))]) == [record(1), record(2)]
    assert vectors.store.get_many([key(1)]) == {fingerprint(1): record(1)}


def test_overwrite_replaces(vectors: Vectors) -> None:
    vectors.store.put_many([(key(1), record(1))])
    assert vectors.store.put_many([(key(1), record(8))], overwrite=True) == [record(8)]
    assert vectors.store.get_many([key(1)]) == {fingerprint(1): record(8)}


def test_expired_is_absent_to_the_second(vectors: Vectors, clock: FakeClock) -> None:
    vectors.store.put_many([(key(1), record(1, ttl=50)), (key(2), record(2))])
    clock.advance(49.75)
    assert set(vectors.store.get_many([key(1), key(2)])) == {fingerprint(1), fingerprint(2)}
    clock.advance(0.25)
    assert set(vectors.store.get_many([key(1), key(2)])) == {fingerprint(2)}


def test_expired_is_replaced_but_not_before(vectors: Vectors, clock: FakeClock) -> None:
    vectors.store.put_many([(key(1), record(1, ttl=50))])
    clock.advance(49.75)
    later = record(8, created=int(clock.now()))
    assert vectors.store.put_many([(key(1), later)]) == [record(1, ttl=50)]
    clock.advance(0.25)
    assert vectors.store.put_many([(key(1), later)]) == [later]
    assert vectors.store.get_many([key(1)]) == {fingerprint(1): later}


def test_what_has_expired_already_is_not_kept(vectors: Vectors) -> None:
    assert vectors.store.put_many([(key(1), record(1, ttl=0))]) == [None]
    assert vectors.store.put_many([(key(1), record(2))]) == [record(2)]


def test_duplicates_in_one_call(vectors: Vectors) -> None:
    entries = [(key(1), record(1)), (key(2), record(2)), (key(1), record(8))]
    assert vectors.store.put_many(entries) == [record(1), record(2), record(1)]
    found = vectors.store.get_many([key(1), key(2), key(1)])
    assert found == {fingerprint(1): record(1), fingerprint(2): record(2)}

    again = [(key(1), record(5)), (key(1), record(6))]
    assert vectors.store.put_many(again, overwrite=True) == [record(6), record(6)]
    assert vectors.store.get_many([key(1)]) == {fingerprint(1): record(6)}


def test_nothing_is_no_call(vectors: Vectors) -> None:
    vectors.down()
    assert vectors.store.get_many([]) == {}
    assert vectors.store.put_many([]) == []
    vectors.store.delete_many([])


@pytest.mark.parametrize("count", [1, 100, 101, 250])
def test_any_number_of_keys_in_any_order(vectors: Vectors, count: int) -> None:
    entries = [(key(n), record(n)) for n in range(count)]
    assert vectors.store.put_many(entries[1:]) == [given for _, given in entries[1:]]
    assert vectors.store.put_many(entries) == [given for _, given in entries]
    found = vectors.store.get_many([key(n) for n in reversed(range(count))] + [key(-1)])
    assert found == {each.fingerprint: given for each, given in entries}


def test_both_sizes_in_one_call_keep_their_order(vectors: Vectors) -> None:
    sizes = [(n, 3072 if n % 3 else None if n % 2 else 4) for n in range(9)]
    entries = [(key(n, size), record(n, dimensions=size or 4)) for n, size in sizes]
    assert vectors.store.put_many(entries) == [given for _, given in entries]
    found = vectors.store.get_many([each for each, _ in entries])
    assert found == {each.fingerprint: given for each, given in entries}


def test_deleted_is_absent(vectors: Vectors) -> None:
    vectors.store.put_many([(key(1), record(1)), (key(2), record(2)), (key(3, 3072), record(3))])
    vectors.store.delete_many([key(1), key(3, 3072), key(9), key(1)])
    assert vectors.store.get_many([key(1), key(2), key(3, 3072)]) == {fingerprint(2): record(2)}
    assert vectors.store.put_many([(key(1), record(8))]) == [record(8)]


def test_a_damaged_row_is_absent_and_replaced(vectors: Vectors) -> None:
    vectors.store.put_many([(key(1), record(1)), (key(2), record(2))])
    vectors.damage(fingerprint(1))
    assert vectors.store.get_many([key(1), key(2)]) == {fingerprint(2): record(2)}
    assert vectors.store.put_many([(key(1), record(8))]) == [record(8)]
    assert vectors.store.get_many([key(1)]) == {fingerprint(1): record(8)}


def test_a_store_that_is_down_says_so_without_data(vectors: Vectors, clock: FakeClock) -> None:
    vectors.store.put_many([(key(1), record(1))])
    vectors.down()
    clock.advance(60)
    for call in (
        lambda: vectors.store.get_many([key(1), key(2, 3072)]),
        lambda: vectors.store.put_many([(key(1), record(1)), (key(2, 3072), record(2))]),
        lambda: vectors.store.put_many([(key(1), record(1))], overwrite=True),
        lambda: vectors.store.delete_many([key(1), key(2, 3072)]),
    ):
        with pytest.raises(StoreUnavailable) as failure:
            call()
        assert str(failure.value).split(": ")[0] in ("sqlite", "dynamodb", "s3")
        assert failure.value.__cause__ is None
        assert failure.value.__suppress_context__


scanned = pytest.mark.parametrize("vectors", ["embedded", "dynamodb", "s3"], indirect=True)


def scan(store: Any, *, vectors: bool) -> dict[VectorKey, StoredVector]:
    return dict(cast("VectorScan", store).scan(vectors=vectors))


@scanned
def test_all_live_vectors_are_scanned_and_what_cannot_be_read_is_left_out(
    vectors: Vectors, clock: FakeClock
) -> None:
    assert scan(vectors.store, vectors=True) == {}
    given = {n: record(n, dimensions=3 + n, ttl=50 if n == 2 else 1000) for n in range(5)}
    vectors.store.put_many([(key(n, None), each) for n, each in given.items()])
    vectors.damage(fingerprint(3))
    clock.advance(50)
    left = {VectorKey(fingerprint(n), 3 + n): given[n] for n in (0, 1, 4)}
    assert scan(vectors.store, vectors=True) == left
    bare = {each: replace(standing, data=b"") for each, standing in left.items()}
    assert scan(vectors.store, vectors=False) == bare
    vectors.store.delete_many(list(bare))
    assert scan(vectors.store, vectors=False) == {}


@scanned
def test_a_scan_of_a_store_that_is_down_says_so(vectors: Vectors) -> None:
    vectors.down()
    with pytest.raises(StoreUnavailable):
        scan(vectors.store, vectors=False)


MANY = [(key(n), record(n)) for n in range(7)]
ALL = {each: replace(standing, data=b"") for each, standing in MANY}


@pytest.mark.parametrize("vectors", ["embedded"], indirect=True)
def test_sqlite_is_scanned_in_bites(vectors: Vectors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "SCANNED_ROWS", 3)
    vectors.store.put_many(MANY)
    assert scan(vectors.store, vectors=False) == ALL
    assert scan(vectors.store, vectors=True) == dict(MANY)


def test_dynamodb_is_scanned_in_pages_and_waits_where_it_is_throttled(
    clients: AwsClients, clock: FakeClock
) -> None:
    throttled = in_turn(None, refused("ThrottlingException"), refused("ThrottlingException"))

    def page(real: Call, **arguments: Any) -> Any:
        return throttled(real, **arguments, Limit=2)

    store = DynamoVectors(PatchedClients(clients, scan=page), aws.VECTORS, clock)
    store.put_many(MANY)
    assert scan(store, vectors=False) == ALL
    assert len(clock.sleeps) == 2
    broken = PatchedClients(clients, scan=in_turn(refused("InternalServerError")))
    with pytest.raises(StoreUnavailable):
        scan(DynamoVectors(broken, aws.VECTORS, clock), vectors=False)


def test_without_vectors_dynamodb_and_s3_send_none(clients: AwsClients, clock: FakeClock) -> None:
    pages: list[Any] = []

    def page(real: Call, **arguments: Any) -> Any:
        pages.append(real(**arguments))
        return pages[-1]

    def no_get(real: Call, **arguments: Any) -> Any:
        raise AssertionError("a HEAD is enough")

    patched = PatchedClients(clients, scan=page, get_object=no_get)
    for store in (DynamoVectors(patched, aws.VECTORS, clock), S3Vectors(patched, aws.BUCKET, clock)):
        store.put_many(MANY)
        assert scan(store, vectors=False) == ALL
    assert not any("v" in item for each in pages for item in each["Items"])


def test_s3_is_listed_in_pages_and_what_is_not_ours_is_not_read(
    clients: AwsClients, clock: FakeClock
) -> None:
    def listed(real: Call, **arguments: Any) -> Any:
        return real(**arguments, MaxKeys=2)

    store = S3Vectors(PatchedClients(clients, list_objects_v2=listed), aws.BUCKET, clock)
    store.put_many(MANY)
    clients.s3().put_object(Bucket=aws.BUCKET, Key="vectors/v1/note.txt", Body=b"x")
    assert scan(store, vectors=True) == dict(MANY)
    failing = PatchedClients(clients, head_object=in_turn(None, refused("SlowDown")))
    with pytest.raises(StoreUnavailable, match="SlowDown"):
        scan(S3Vectors(failing, aws.BUCKET, clock), vectors=False)
