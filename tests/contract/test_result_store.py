"""What every ResultStore does; and that nothing leads out of the folder (SECURITY 15)."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from embedonce.core.errors import StoreUnavailable
from embedonce.core.resultname import ERROR, MANY, ONE, result_name
from embedonce.ports import ResultStore
from embedonce.stores.aws import results as module
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.results import S3Results
from embedonce.stores.embedded.results import DirectoryResults
from support import aws
from support.adapters import Results
from support.aws import Call, PatchedClients, in_turn, refused
from support.clock import FakeClock

NAME = "a ä/b+c%2F.pdf.embedding.jsonl"


def publish(store: ResultStore, name: str, *pieces: bytes) -> None:
    with store.writing(name) as writer:
        for piece in pieces:
            writer.write(piece)
        writer.commit()


def test_a_result_is_there_from_its_commit_on(results: Results) -> None:
    with results.store.writing(NAME) as writer:
        writer.write(b"one")
        writer.write(b"")
        writer.write(b"two")
        assert results.found() == {}
        writer.commit()
        assert results.found() == {NAME: b"onetwo"}
        for call in (writer.commit, lambda: writer.write(b"late")):
            with pytest.raises(ValueError, match="before"):
                call()
    assert results.found() == {NAME: b"onetwo"}


def test_a_result_replaces_what_was_there(results: Results) -> None:
    publish(results.store, NAME, b"old")
    with results.store.writing(NAME) as writer:
        writer.write(b"new")
        assert results.found() == {NAME: b"old"}
        writer.commit()
    publish(results.store, "x", b"")
    assert results.found() == {NAME: b"new", "x": b""}


def test_what_is_not_committed_is_dropped(results: Results) -> None:
    publish(results.store, NAME, b"old")
    with results.store.writing(NAME) as writer:
        writer.write(b"new")
    with pytest.raises(RuntimeError), results.store.writing(NAME) as writer:  # noqa: PT012
        writer.write(b"new")
        raise RuntimeError
    with pytest.raises(ValueError, match="before"):
        writer.commit()
    assert results.found() == {NAME: b"old"}


def test_deleting_what_is_not_there_is_no_error(results: Results) -> None:
    for name in (NAME, "b", "c"):
        publish(results.store, name, b"")
    results.store.delete_many([NAME, "b", "never", "never/was", "c/below"])
    results.store.delete_many([])
    assert results.found() == {"c": b""}


@pytest.mark.parametrize("name", ["", "a\udcff"])
def test_what_nothing_can_be_called(results: Results, name: str) -> None:
    with pytest.raises(ValueError), results.store.writing(name):  # noqa: PT011
        pass
    with pytest.raises(ValueError):  # noqa: PT011
        results.store.delete_many([name])


@pytest.mark.parametrize(
    "key", ["ä" * 120, "ä" * 126 + "x", "🎉" * 300, "d/" * 600 + "x", ("ö" * 120 + "/") * 9]
)
@pytest.mark.parametrize("suffix", [ONE, MANY, ERROR])
def test_the_longest_names_are_cut_and_stay_apart(results: Results, key: str, suffix: str) -> None:
    names = [result_name(key + more, suffix) for more in ("", "x")]
    for n, name in enumerate(names):
        publish(results.store, name, bytes([n]))
    assert sorted(results.found().values()) == [b"\0", b"\1"]
    assert all(name.endswith(suffix) for name in results.found())
    results.store.delete_many(names)
    assert results.found() == {}


def test_a_store_that_is_down_says_so(results: Results) -> None:
    results.down()
    with pytest.raises(StoreUnavailable):
        publish(results.store, NAME, b"")
    with pytest.raises(StoreUnavailable):
        results.store.delete_many(["a/b"])


# ---- the folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def directory(root: Path, clock: FakeClock) -> DirectoryResults:
    return DirectoryResults(root, clock)


@pytest.mark.parametrize(
    "name", ["/", "/etc/x", ".", "..", "a/../b", "../a", "a/..", "a/./b", "a//b", "a/", "a\0b", "a" * 256]
)
def test_what_is_no_path_is_refused(directory: DirectoryResults, root: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no result"), directory.writing(name):
        pass
    with pytest.raises(ValueError, match="no result"):
        directory.delete_many(["x", name])
    assert not root.exists()


def test_odd_names_that_are_paths_are_fine(results: Results) -> None:
    names = ["...", "-rf", ".hidden/..a", "A" * 255, "C:\\x\n", "~x", "CON/aux.txt"]
    for name in names:
        publish(results.store, name, name.encode())
    assert results.found() == {name: name.encode() for name in names}


def test_nothing_is_written_or_deleted_over_links(
    directory: DirectoryResults, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    root.mkdir()
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    for name in ("folder/secret", "folder/new"):
        with pytest.raises(StoreUnavailable, match=r"^results: "):
            publish(directory, name, b"changed")
        directory.delete_many([name])
    publish(directory, "file", b"new")
    assert not (root / "file").is_symlink()
    assert {each.name: each.read_bytes() for each in outside.iterdir()} == {"secret": b"secret"}


def test_a_folder_in_the_way_stays(directory: DirectoryResults, root: Path) -> None:
    publish(directory, "a/b", b"b")
    for name in ("a", "a/b/c"):
        with pytest.raises(StoreUnavailable, match=r"^results: "):
            publish(directory, name, b"")
    directory.delete_many(["a", "a/b/c"])
    assert [each.name for each in root.rglob("*")] == ["a", "b"]


def test_only_the_owner_may_read_and_no_descriptor_is_left(directory: DirectoryResults, root: Path) -> None:
    publish(directory, "x", b"")
    before = len(os.listdir("/proc/self/fd"))
    publish(directory, "a/b", b"")
    with directory.writing("a/c"):
        pass
    assert len(os.listdir("/proc/self/fd")) == before
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o700
    assert stat.S_IMODE((root / "a/b").stat().st_mode) == 0o600


# ---- S3


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """A part's size; S3 itself takes none below 5 MiB but the last."""
    monkeypatch.setattr(module, "PART_BYTES", 5 << 20)
    return 5 << 20


class Recorder:
    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def clients(self, clients: AwsClients, **more: Call) -> AwsClients:
        def call(name: str) -> Call:
            def recorded(real: Call, **arguments: Any) -> Any:
                self.calls.append((name, arguments))
                return more[name](real, **arguments) if name in more else real(**arguments)

            return recorded

        names = ("put_object", "create_multipart_upload", "upload_part", "complete_multipart_upload")
        return PatchedClients(clients, **{n: call(n) for n in (*names, "abort_multipart_upload")})

    def names(self) -> list[str]:
        return [name.partition("_")[0] for name, _ in self.calls]


def uploads(clients: AwsClients) -> Any:
    return clients.s3().list_multipart_uploads(Bucket=aws.RESULTS).get("Uploads", [])


@pytest.mark.parametrize(("over", "calls"), [(0, ["put"]), (1, ["create", "upload", "upload", "complete"])])
def test_what_is_larger_than_a_part_is_uploaded_in_parts(
    clients: AwsClients, small: int, over: int, calls: list[str]
) -> None:
    recorder = Recorder()
    data = os.urandom(small + over)
    store = S3Results(recorder.clients(clients), aws.RESULTS, "out/")
    publish(store, "x.embedding.jsonl", *(data[at : at + 700_001] for at in range(0, len(data), 700_001)))
    assert recorder.names() == calls
    found = clients.s3().get_object(Bucket=aws.RESULTS, Key="out/x.embedding.jsonl")
    assert found["Body"].read() == data
    assert found["ContentType"] == "application/x-ndjson"
    assert uploads(clients) == []


def test_parts_are_of_one_size_and_their_checksums_are_sent_again(clients: AwsClients, small: int) -> None:
    recorder = Recorder()
    store = S3Results(recorder.clients(clients), aws.RESULTS, "out/")
    publish(store, "x" + ONE, bytes(3 * small + 5))
    parts = [arguments for name, arguments in recorder.calls if name == "upload_part"]
    assert [(each["PartNumber"], len(each["Body"])) for each in parts] == [
        (1, small),
        (2, small),
        (3, small),
        (4, 5),
    ]
    completed = recorder.calls[-1][1]["MultipartUpload"]["Parts"]
    assert [set(each) for each in completed] == [{"PartNumber", "ETag", "ChecksumCRC32"}] * 4
    assert (
        clients.s3().head_object(Bucket=aws.RESULTS, Key="out/x" + ONE)["ContentType"] == "application/json"
    )


def test_what_is_not_completed_is_aborted(clients: AwsClients, small: int) -> None:
    for broken in (
        {},
        {"complete_multipart_upload": in_turn(refused("SlowDown"))},
        {"upload_part": in_turn(None, refused("SlowDown"))},
    ):
        recorder = Recorder()
        store = S3Results(recorder.clients(clients, **broken), aws.RESULTS, "out/")
        try:
            with store.writing(NAME) as writer:
                writer.write(bytes(2 * small + 1))
                if broken:
                    writer.commit()
        except StoreUnavailable as failure:
            assert str(failure) == "s3: SlowDown"  # noqa: PT017
        assert recorder.names()[-1] == "abort"
        assert uploads(clients) == []
    assert clients.s3().list_objects_v2(Bucket=aws.RESULTS)["KeyCount"] == 0


def test_a_result_of_too_many_parts_is_refused(
    clients: AwsClients, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    monkeypatch.setattr(module, "MAX_PARTS", 2)
    with pytest.raises(ValueError, match="at most"):
        publish(S3Results(clients, aws.RESULTS, ""), NAME, bytes(2 * small + 1))
    assert uploads(clients) == []


def test_some_that_could_not_be_deleted(clients: AwsClients) -> None:
    def delete_objects(real: Call, **arguments: Any) -> Any:
        return {"Errors": [{"Code": "InternalError"}]}

    with pytest.raises(StoreUnavailable, match=r"^s3: InternalError$"):
        S3Results(PatchedClients(clients, delete_objects=delete_objects), aws.RESULTS, "").delete_many(["x"])


def test_keys_have_room_beside_the_prefix(clients: AwsClients) -> None:
    prefix = "ö" * 384
    store = S3Results(clients, aws.RESULTS, prefix)
    name = result_name("d" * 100 + "/" + "d" * 200 + "/" + "x" * 200, ONE)
    publish(store, name, b"1")
    [found] = clients.s3().list_objects_v2(Bucket=aws.RESULTS)["Contents"]
    assert len(found["Key"].encode()) <= 1024
    assert found["Key"].endswith(ONE)
    store.delete_many([name])
    assert clients.s3().list_objects_v2(Bucket=aws.RESULTS)["KeyCount"] == 0
    with pytest.raises(ValueError, match="prefix"):
        S3Results(clients, aws.RESULTS, "x" * 770)
