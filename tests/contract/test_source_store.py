"""What every SourceStore does; and that only what is configured is read, in one version (SECURITY 1, 15)."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import FlexibleChecksumError, ResponseStreamingError
from urllib3.exceptions import ProtocolError

from embedonce.core.errors import LimitExceeded, StoreUnavailable
from embedonce.core.source import Source
from embedonce.ports import SourceGone
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.sources import RESUMES, S3Sources
from embedonce.stores.embedded.inbox import MAX_DEPTH, scan
from embedonce.stores.embedded.sources import DirectorySources, version_of
from support import aws
from support.adapters import Sources
from support.aws import Call, PatchedClients, refused

KEY = "in/a ä/b.pdf"
DATA = bytes(range(251)) * 10_000
OTHER = DATA[::-1]
MIB = 1 << 20


def test_all_ways_to_read_give_the_same(sources: Sources) -> None:
    source = sources.put(KEY, DATA)
    assert dict(sources.store.metadata(source)) == {}
    with sources.store.open(source) as reader:
        assert reader.size == len(DATA)
        for size in (0, 1, 1000, len(DATA), len(DATA) + 1):
            assert reader.head(size) == DATA[:size]
        pieces = list(reader.pieces())
        assert b"".join(pieces) == DATA
        assert max(map(len, pieces)) <= MIB
        assert reader.sha256() == hashlib.sha256(DATA).digest()
        for _ in range(2):
            file = reader.file()
            assert (file.seekable(), file.fileno() > 2) == (True, True)
            assert file.read(10) == DATA[:10]
            file.seek(-10, os.SEEK_END)
            assert file.read() == DATA[-10:]
        assert b"".join(reader.pieces()) == DATA
    assert file.closed


@pytest.mark.parametrize("first", ["sha256", "file"])
def test_the_hash_needs_nothing_read_before(sources: Sources, first: str) -> None:
    with sources.store.open(sources.put(KEY, DATA)) as reader:
        getattr(reader, first)()
        assert reader.sha256() == hashlib.sha256(DATA).digest()


def test_an_empty_source(sources: Sources) -> None:
    with sources.store.open(sources.put(KEY, b"")) as reader:
        assert (reader.size, reader.head(10), list(reader.pieces())) == (0, b"", [])
        assert reader.file().read() == b""
        assert reader.sha256() == hashlib.sha256().digest()


def test_what_was_replaced_is_the_version_that_was_asked_for_or_gone(sources: Sources) -> None:
    old = sources.put(KEY, DATA)
    new = sources.put(KEY, OTHER)
    with sources.store.open(new) as reader:
        assert b"".join(reader.pieces()) == OTHER
    if sources.kept:
        with sources.store.open(old) as reader:
            assert b"".join(reader.pieces()) == DATA
    else:
        assert gone(sources, old)


def test_what_is_replaced_while_it_is_read_is_no_mix(sources: Sources) -> None:
    source = sources.put(KEY, DATA)
    with pytest.raises(SourceGone), sources.store.open(source) as reader:  # noqa: PT012
        assert reader.head(10) == DATA[:10]
        sources.put(KEY, OTHER)
        assert b"".join(reader.pieces()) == DATA
        assert sources.kept
        raise SourceGone


def test_what_was_deleted_or_never_was_is_gone(sources: Sources) -> None:
    source = sources.put(KEY, DATA)
    sources.delete(source)
    assert gone(sources, source)
    assert gone(sources, replace(source, key="in/never"))
    assert gone(sources, replace(sources.put("in/x", b""), version="", etag=""))


@pytest.mark.parametrize("bucket", ["", "other", "vectors-bucket", "..", "/"])
def test_other_buckets_are_not_read(sources: Sources, bucket: str) -> None:
    assert gone(sources, replace(sources.put(KEY, DATA), bucket=bucket))


@pytest.mark.parametrize(
    "key",
    ["", "/", ".", "..", "in/../in/a", "../in/x", "/etc/passwd", "in//x", "in/x/", "in/\0", "in/\udcff"],
)
def test_odd_keys_are_gone(sources: Sources, key: str) -> None:
    assert gone(sources, replace(sources.put("in/x", DATA), key=key))


def test_a_store_that_is_down_says_so(sources: Sources) -> None:
    source = sources.put(KEY, DATA)
    sources.down()
    with pytest.raises(StoreUnavailable):
        sources.store.metadata(source)
    with pytest.raises(StoreUnavailable), sources.store.open(source):
        pass


def gone(sources: Sources, source: Source) -> bool:
    with pytest.raises(SourceGone):
        sources.store.metadata(source)
    with pytest.raises(SourceGone), sources.store.open(source):
        pass
    return True


# ---- folders


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data" / "inbox"
    root.mkdir(parents=True)
    return root


def at(path: Path, key: str = "f") -> Source:
    return Source("inbox", key, version_of(os.stat(path)), "", 0, "1")


def is_gone(root: Path, source: Source) -> bool:
    with pytest.raises(SourceGone), DirectorySources({"inbox": root}).open(source):
        pass
    return True


def test_links_below_the_folder_are_not_followed(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_bytes(b"secret")
    (root / "inside").write_bytes(b"")
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "f")
    (root / "neighbour").symlink_to(root / "inside")
    (root / "loop").symlink_to(root / "loop")
    secret = at(outside / "f")
    for key in ("folder/f", "file", "../../outside/f", "loop"):
        assert is_gone(root, replace(secret, key=key))
    assert is_gone(root, at(root / "inside", "neighbour"))
    (root.parent / "link").symlink_to(root)
    with DirectorySources({"inbox": root.parent / "link"}).open(at(root / "inside", "inside")) as reader:
        assert reader.size == 0


def test_what_is_no_regular_file_is_no_source(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    monkeypatch.chdir(root)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind("socket")
    for name in ("pipe", "folder", "socket", "x" * 300, "pipe/x"):
        path = root / name
        assert is_gone(root, at(path if len(name) < 10 and path.exists() else root, name))
    listening.close()
    null = os.stat("/dev/null")
    with (
        pytest.raises(SourceGone),
        DirectorySources({"dev": Path("/dev")}).open(Source("dev", "null", version_of(null), "", 0, "1")),
    ):
        pass


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(OTHER)


def rename(path: Path) -> None:
    path.with_name("new").write_bytes(OTHER)
    path.with_name("new").rename(path)


CHANGES: dict[str, Callable[[Path], None]] = {
    "overwritten": overwrite,
    "replaced": rename,
    "cut": lambda path: os.truncate(path, 5),
    "longer": lambda path: os.truncate(path, len(DATA) + 5),
    "deleted": Path.unlink,
    "set back": lambda path: os.utime(path, (1, 1)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("way", ["pieces", "midway", "head", "sha256", "known sha256", "file", "nothing"])
def test_a_file_that_changes_while_it_is_open_is_gone(
    root: Path, change: Callable[[Path], None], way: str
) -> None:
    path = root / "f"
    path.write_bytes(DATA)
    source = at(path)
    time.sleep(0.02)  # the grain of the kernel's clock
    with pytest.raises(SourceGone), DirectorySources({"inbox": root}).open(source) as reader:  # noqa: PT012
        pieces = reader.pieces()
        if way == "midway":
            next(pieces)
        if way == "known sha256":
            reader.sha256()
        change(path)
        if way in ("pieces", "midway"):
            for _ in pieces:
                pytest.fail("of another version")
        elif way == "head":
            reader.head(1)
            pytest.fail("of another version")
        elif way.endswith("sha256"):
            reader.sha256()
            pytest.fail("of another version")
        elif way == "file":
            reader.file()
            pytest.fail("of another version")
    assert is_gone(root, source)


def test_what_was_concluded_from_a_file_that_changed_does_not_count(root: Path) -> None:
    path = root / "f"
    path.write_bytes(DATA)
    with pytest.raises(SourceGone), DirectorySources({"inbox": root}).open(at(path)):  # noqa: PT012
        path.unlink()
        raise ValueError("is no PDF")
    path.write_bytes(DATA)
    with pytest.raises(ValueError, match="PDF"), DirectorySources({"inbox": root}).open(at(path)):
        raise ValueError("is no PDF")


def test_no_descriptor_is_left_open(root: Path) -> None:
    (root / "f").write_bytes(DATA)
    (root / "link").symlink_to(root)
    (root / "sub").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    store = DirectorySources({"inbox": root})
    with store.open(at(root / "f")) as reader:
        reader.file()
        reader.file().close()
        next(reader.pieces())
    for key in ("link/f", "sub", "f/x", "never"):
        assert is_gone(root, at(root / "f", key))
    assert is_gone(root, replace(at(root / "f"), version="0"))
    next(scan(root))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_scan_finds_files_and_leaves_out_what_is_none(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"")
    deep = "/".join(["d"] * MAX_DEPTH)
    found = ["b", "a/2", "a/10", "a.json", "ä\n", "-rf", "in/x.embedding.json.pdf", f"{deep}/f", "error.json"]
    for key in (
        *found,
        ".hidden",
        ".git/config",
        "~lock",
        "a~",
        "x.part",
        "x.TMP",
        "x.crdownload",
        "x.download",
        "x.swp",
        "y.part/z",
        "b.embedding.json",
        "a/2.embedding.jsonl",
        "a/2.error.json",
        f"{deep}/d/f",
    ):
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(key.encode())
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    (root / "empty").mkdir()
    os.mkfifo(root / "pipe")
    (Path(os.fsdecode(os.fsencode(root) + b"/\xff"))).write_bytes(b"")
    scanned = list(scan(root))
    assert [key for key, _ in scanned] == sorted(found, key=lambda key: key.split("/"))
    store = DirectorySources({"inbox": root})
    for key, about in scanned:
        with store.open(Source("inbox", key, version_of(about), "", about.st_size, "1")) as reader:
            assert b"".join(reader.pieces()) == key.encode()


def test_a_folder_that_is_not_there_cannot_be_scanned(root: Path) -> None:
    (root / "f").touch()
    for path in (root / "never", root / "f"):
        with pytest.raises(StoreUnavailable):
            list(scan(path))


def test_what_vanishes_during_a_scan_is_left_out(root: Path) -> None:
    for name in ("a", "b", "c/d"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    scanning = scan(root)
    assert next(scanning)[0] == "a"
    (root / "b").unlink()
    (root / "c/d").unlink()
    (root / "c").rmdir()
    assert list(scanning) == []


# ---- S3


def stored(clients: AwsClients, bucket: str = aws.SOURCES, **more: Any) -> Source:
    said: Any = clients.s3().put_object(Bucket=bucket, Key="in/x", Body=DATA, **more)
    return Source(bucket, "in/x", said.get("VersionId", ""), said["ETag"].strip('"'), len(DATA), "1")


def s3(clients: AwsClients, bucket: str = aws.SOURCES, **calls: Call) -> S3Sources:
    return S3Sources(PatchedClients(clients, **calls), bucket, "in/", spool_bytes=3_000_000)


def test_keys_outside_of_the_prefix_cost_no_call(clients: AwsClients) -> None:
    def call(real: Call, **arguments: Any) -> Any:
        pytest.fail("a call")

    store = s3(clients, head_object=call, get_object=call)
    source = stored(clients)
    for key in ("x", "i", "in", "out/in/x", "IN/x", ""):
        with pytest.raises(SourceGone):
            store.metadata(replace(source, key=key))
    for other in (
        replace(source, bucket="other"),
        replace(source, etag=""),
        replace(source, version="null", etag=""),
    ):
        with pytest.raises(SourceGone):
            store.metadata(other)


def test_every_call_names_the_version(clients: AwsClients) -> None:
    seen: list[dict[str, Any]] = []

    def call(real: Call, **arguments: Any) -> Any:
        seen.append({name: arguments.get(name) for name in ("VersionId", "IfMatch")})
        return real(**arguments)

    for bucket, named in ((aws.SOURCES, "IfMatch"), (aws.VERSIONED, "VersionId")):
        source = stored(clients, bucket)
        with s3(clients, bucket, head_object=call, get_object=call).open(source) as reader:
            reader.head(5)
            list(reader.pieces())
            reader.file()
        value = source.version or f'"{source.etag}"'
        assert [each[named] for each in seen] == [value] * 4
        assert {each["VersionId" if named == "IfMatch" else "IfMatch"] for each in seen} == {None}
        seen.clear()


def test_the_version_null_is_read_by_its_etag_as_well(clients: AwsClients) -> None:
    seen: list[Any] = []

    def call(real: Call, **arguments: Any) -> Any:
        seen.append(arguments)
        raise refused("412")

    source = replace(stored(clients), version="null", etag='"e"')
    with pytest.raises(SourceGone):
        s3(clients, head_object=call).metadata(source)
    assert (seen[0]["VersionId"], seen[0]["IfMatch"]) == ("null", '"e"')


@pytest.mark.parametrize("code", ["NoSuchKey", "NoSuchVersion", "PreconditionFailed", "MethodNotAllowed"])
def test_what_s3_says_of_a_version_that_is_gone(clients: AwsClients, code: str) -> None:
    def get_object(real: Call, **arguments: Any) -> Any:
        raise refused(code)

    with s3(clients, get_object=get_object).open(stored(clients)) as reader, pytest.raises(SourceGone):
        reader.head(1)


def test_a_delete_marker_is_gone(clients: AwsClients) -> None:
    source = stored(clients, aws.VERSIONED)
    marker = clients.s3().delete_object(Bucket=aws.VERSIONED, Key=source.key)["VersionId"]
    with pytest.raises(SourceGone):
        s3(clients, aws.VERSIONED).metadata(replace(source, version=marker))
    with s3(clients, aws.VERSIONED).open(source) as reader:
        assert reader.head(3) == DATA[:3]


def test_metadata_are_decoded(clients: AwsClients) -> None:
    said = {
        "Title": "=?UTF-8?Q?=C3=A4_b?= =?UTF-8?B?w7Y=?=",
        "plain": "a, b = c",
        "odd": "=?x-unknown?Q?a?=",
        "damaged": "=?UTF-8?B?/w==?=",
    }
    found = s3(clients).metadata(stored(clients, Metadata=said))
    assert found == {"title": "ä bö", "plain": "a, b = c", "odd": said["odd"], "damaged": said["damaged"]}


class Broken:
    """A body whose connection breaks after some bytes."""

    def __init__(self, body: Any, after: int, error: Exception | None) -> None:
        self._body = body
        self._left = after
        self._error = error

    def read(self, size: int) -> bytes:
        data: bytes = self._body.read(min(size, self._left))
        self._left -= len(data)
        if not data and self._error is not None:
            raise self._error
        return data

    def close(self) -> None:
        self._body.close()


BREAKS = [ResponseStreamingError(error="x"), ProtocolError("x"), ConnectionResetError(), None]


@pytest.mark.parametrize("error", BREAKS, ids=["botocore", "urllib3", "os", "short"])
def test_a_connection_that_breaks_is_resumed_where_it_broke(
    clients: AwsClients, error: Exception | None
) -> None:
    ranges: list[str | None] = []

    def get_object(real: Call, **arguments: Any) -> Any:
        ranges.append(arguments.get("Range"))
        answer = real(**arguments)
        return answer | {"Body": Broken(answer["Body"], 800_000, error)}

    store = s3(clients, get_object=get_object)
    with store.open(stored(clients)) as reader:
        assert b"".join(reader.pieces()) == DATA
        assert reader.sha256() == hashlib.sha256(DATA).digest()
    last = len(DATA) - 1
    assert ranges[:2] == [None, f"bytes=800000-{last}"]
    assert len(ranges) == 4


def test_a_connection_that_always_breaks_is_given_up(clients: AwsClients) -> None:
    calls: list[int] = []

    def get_object(real: Call, **arguments: Any) -> Any:
        calls.append(1)
        answer = real(**arguments)
        return answer | {"Body": Broken(answer["Body"], 10, ProtocolError("secret data"))}

    with s3(clients, get_object=get_object).open(stored(clients)) as reader:
        with pytest.raises(StoreUnavailable, match=r"^s3: ProtocolError$"):
            reader.sha256()
        assert len(calls) == 1 + RESUMES
        with pytest.raises(StoreUnavailable):
            reader.file()


def test_an_object_replaced_where_the_connection_broke_is_gone(clients: AwsClients) -> None:
    def get_object(real: Call, **arguments: Any) -> Any:
        answer = real(**arguments)
        clients.s3().put_object(Bucket=aws.SOURCES, Key="in/x", Body=OTHER)
        return answer | {"Body": Broken(answer["Body"], 10, ProtocolError("x"))}

    store = s3(clients, get_object=get_object)
    with store.open(stored(clients)) as reader, pytest.raises(SourceGone):
        list(reader.pieces())


def test_a_wrong_checksum_is_not_resumed(clients: AwsClients) -> None:
    def get_object(real: Call, **arguments: Any) -> Any:
        answer = real(**arguments)
        error = FlexibleChecksumError(error_msg="x")
        return answer | {"Body": Broken(answer["Body"], len(DATA), error)}

    with (
        s3(clients, get_object=get_object).open(stored(clients)) as reader,
        pytest.raises(StoreUnavailable, match="Checksum"),
    ):
        reader.sha256()


def test_a_range_that_is_ignored_is_not_read(clients: AwsClients) -> None:
    def get_object(real: Call, **arguments: Any) -> Any:
        arguments.pop("Range", None)
        return real(**arguments)

    with s3(clients, get_object=get_object).open(stored(clients)) as reader, pytest.raises(StoreUnavailable):
        reader.head(5)


def test_what_is_larger_than_what_is_copied(clients: AwsClients) -> None:
    store = S3Sources(clients, aws.SOURCES, "in/", spool_bytes=len(DATA) - 1)
    with store.open(stored(clients)) as reader:
        with pytest.raises(LimitExceeded) as caught:
            reader.file()
        assert (caught.value.param, caught.value.value) == ("file", f"{len(DATA)} bytes")
        assert b"".join(reader.pieces()) == DATA


def test_a_copy_is_read_instead_of_the_object_and_has_no_name(
    clients: AwsClients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    calls: list[int] = []

    def get_object(real: Call, **arguments: Any) -> Any:
        calls.append(1)
        return real(**arguments)

    before = len(os.listdir("/proc/self/fd"))
    with s3(clients, get_object=get_object).open(stored(clients)) as reader:
        reader.file()
        assert b"".join(reader.pieces()) == DATA
        reader.file()
        reader.sha256()
        assert list(tmp_path.iterdir()) == []
        assert len(calls) == 1
    assert len(os.listdir("/proc/self/fd")) == before
