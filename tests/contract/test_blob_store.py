"""What every BlobStore does; and that nothing leads out of the folder (SECURITY 14, 15)."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from embedonce.core.errors import StoreUnavailable
from embedonce.ports import PresignedPut
from embedonce.stores.aws.blobs import S3Blobs
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.embedded import folder as module
from embedonce.stores.embedded.blobs import DirectoryBlobs
from support import aws
from support.adapters import Blobs
from support.clock import START, FakeClock

KEY = "payloads/k1/0a/0"
DATA = bytes(range(256)) * 40
SHA256 = hashlib.sha256(DATA).digest()
WRONG = (
    "",
    "/",
    "/etc/passwd",
    "a//b",
    "a/",
    "/a",
    ".",
    "..",
    "a/../b",
    "../a",
    "a/..",
    "a/./b",
    "a\0b",
    "a\n",
    "a\\b",
    "a b",
    "~a",
    "ä",
    "C:a",
    "a/" + "b" * 201,
    "/".join(["a" * 100] * 11),
)


def test_what_was_put_is_there_until_it_is_deleted(blobs: Blobs) -> None:
    store = blobs.store
    assert store.get(KEY, most=100) is None
    for data in (DATA, b"", b"other"):
        store.put(KEY, data)
        assert store.get(KEY, most=20_000) == data
    store.put("payloads/k1/0a/1", b"1")
    store.delete_many([KEY, "payloads/never", "never/was"])
    assert store.get(KEY, most=100) is None
    assert store.get("payloads/k1/0a/1", most=1) == b"1"
    store.delete_many([])


def test_no_more_is_read_than_was_said(blobs: Blobs) -> None:
    blobs.store.put(KEY, DATA)
    assert blobs.store.get(KEY, most=len(DATA)) == DATA
    with pytest.raises(ValueError, match="more than"):
        blobs.store.get(KEY, most=len(DATA) - 1)


def test_how_it_starts_and_how_large_it_is(blobs: Blobs) -> None:
    assert blobs.store.start(KEY, 10) is None
    blobs.store.put(KEY, DATA)
    for size in (0, 1, 10, len(DATA), len(DATA) + 1):
        assert blobs.store.start(KEY, size) == (DATA[:size], len(DATA))
    blobs.store.put(KEY, b"")
    assert blobs.store.start(KEY, 10) == (b"", 0)


def test_what_others_keys_begin_with_is_no_blob(blobs: Blobs) -> None:
    blobs.store.put(KEY, DATA)
    assert blobs.store.get("payloads/k1", most=100) is None
    assert blobs.store.start("payloads/k1", 1) is None
    blobs.store.delete_many(["payloads/k1"])
    assert blobs.store.get(KEY, most=len(DATA)) == DATA


@pytest.mark.parametrize("key", WRONG)
def test_keys_of_another_form_are_refused(blobs: Blobs, key: str) -> None:
    store = blobs.store
    for call in (
        lambda: store.put(key, b""),
        lambda: store.get(key, most=1),
        lambda: store.start(key, 1),
        lambda: store.delete_many([KEY, key]),
        lambda: store.presign_put(key, size=1, sha256=SHA256, content_type="a/b", seconds=1),
        lambda: store.presign_get(key, seconds=1),
    ):
        with pytest.raises(ValueError, match="no blob can be called that"):
            call()


def test_odd_keys_of_the_form_are_fine(blobs: Blobs) -> None:
    for n, key in enumerate(("...", "-rf", ".hidden/..a", "A" * 200, "CON/aux.txt")):
        blobs.store.put(key, bytes([n]))
        assert blobs.store.get(key, most=1) == bytes([n])


def test_a_store_that_is_down_says_so(blobs: Blobs) -> None:
    blobs.down()
    for call in (
        lambda: blobs.store.put(KEY, b""),
        lambda: blobs.store.get(KEY, most=1),
        lambda: blobs.store.start(KEY, 1),
        lambda: blobs.store.delete_many([KEY]),
    ):
        with pytest.raises(StoreUnavailable):
            call()


# ---- the folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / "blobs"


@pytest.fixture
def directory(root: Path, clock: FakeClock) -> DirectoryBlobs:
    return DirectoryBlobs(root, clock)


def files(root: Path) -> set[str]:
    return {each.relative_to(root).as_posix() for each in root.rglob("*") if not each.is_dir()}


def test_only_the_owner_may_read(directory: DirectoryBlobs, root: Path) -> None:
    directory.put(KEY, DATA)
    with directory.create("uploads/x") as writer:
        writer.commit()
    for each in (root, *root.rglob("*")):
        expected = 0o700 if each.is_dir() else 0o600
        assert stat.S_IMODE(each.stat().st_mode) == expected
    assert files(root) == {KEY, "uploads/x"}


def test_links_out_of_the_folder_are_not_followed(
    directory: DirectoryBlobs, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    root.mkdir(parents=True)
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    (root / "dangling").symlink_to(outside / "new")
    for key in ("folder/secret", "file"):
        with pytest.raises(StoreUnavailable):
            directory.get(key, most=100)
        with pytest.raises(StoreUnavailable):
            directory.start(key, 100)
    for call in (
        lambda: directory.put("folder/secret", b"changed"),
        lambda: directory.put("folder/new", b"new"),
        lambda: directory.create("folder/new"),
        lambda: directory.delete_many(["folder/secret"]),
    ):
        with pytest.raises(StoreUnavailable):
            call()
    directory.put("file", b"changed")
    directory.put("dangling", b"new")
    directory.delete_many(["dangling"])
    directory.sweep(START * 2)
    assert {each.name: each.read_bytes() for each in outside.iterdir()} == {"secret": b"secret"}


def test_a_link_in_the_way_is_not_written_through(
    directory: DirectoryBlobs, root: Path, tmp_path: Path
) -> None:
    root.mkdir(parents=True)
    (root / "dangling").symlink_to(tmp_path / "new")
    with directory.create("dangling") as writer, pytest.raises(FileExistsError):
        writer.commit()
    assert not (tmp_path / "new").exists()


def test_what_is_no_file_is_not_read(directory: DirectoryBlobs, root: Path) -> None:
    root.mkdir(parents=True)
    os.mkfifo(root / "pipe")
    with pytest.raises(StoreUnavailable, match=r"^blobs: OSError$"):
        directory.get("pipe", most=1)


def test_what_comes_in_pieces_is_there_at_once_or_not_at_all(directory: DirectoryBlobs, root: Path) -> None:
    with directory.create(KEY) as writer:
        for at in range(0, len(DATA), 1000):
            writer.write(DATA[at : at + 1000])
            assert directory.get(KEY, most=1) is None
        writer.commit()
        assert directory.get(KEY, most=len(DATA)) == DATA
        with pytest.raises(ValueError, match="before"):
            writer.commit()
    with directory.create("a/b") as writer:
        writer.write(b"half")
    aborted = directory.create("a/b")
    aborted.abort()
    aborted.abort()
    with pytest.raises(ValueError, match="before"):
        aborted.write(b"late")
    assert files(root) == {KEY}


def test_of_two_who_create_one_blob_one_does(directory: DirectoryBlobs, root: Path) -> None:
    with directory.create(KEY) as first, directory.create(KEY) as second:
        first.write(b"first")
        second.write(b"second")
        second.commit()
        with pytest.raises(FileExistsError):
            first.commit()
    with directory.create(KEY) as third, pytest.raises(FileExistsError):
        third.commit()
    assert directory.get(KEY, most=10) == b"second"
    assert files(root) == {KEY}


def test_the_sweep_takes_what_is_old_and_empty_folders(
    directory: DirectoryBlobs, root: Path, clock: FakeClock
) -> None:
    directory.sweep(START)
    directory.put("payloads/k1/old/0", b"")
    directory.put("payloads/k1/new/0", b"")
    abandoned = directory.create("uploads/k1/x")
    [temporary] = [root / name for name in files(root) if "~" in name]
    os.utime(temporary, (START - 100, START - 100))
    clock.advance(100)
    directory.put("payloads/k1/new/0", b"again")
    directory.sweep(START + 1)
    assert {each.relative_to(root).as_posix() for each in root.rglob("*")} == {
        "payloads",
        "payloads/k1",
        "payloads/k1/new",
        "payloads/k1/new/0",
    }
    with pytest.raises(StoreUnavailable):
        abandoned.commit()


def test_a_folder_that_is_swept_while_it_is_made_is_made_again(
    directory: DirectoryBlobs, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, swept = module.Writing, iter([True, True, False])

    def writing(folder: int, name: str, what: str) -> module.Writing:
        if next(swept):
            directory.sweep(START)
        return real(folder, name, what)

    monkeypatch.setattr(module, "Writing", writing)
    directory.put(KEY, DATA)
    assert directory.get(KEY, most=len(DATA)) == DATA


def test_no_descriptor_is_left_open(directory: DirectoryBlobs, root: Path) -> None:
    directory.put(KEY, DATA)
    before = len(os.listdir("/proc/self/fd"))
    (root / "link").symlink_to(root)
    for n in range(5):
        directory.put(f"a/{n}", DATA)
        directory.get(f"a/{n}", most=len(DATA))
        directory.get("a", most=1)
        directory.get("a/b/c", most=1)
        for key in ("link/a", f"a/{n}/x"):
            with pytest.raises(StoreUnavailable):
                directory.get(key, most=1)
            with pytest.raises(StoreUnavailable):
                directory.put(key, b"")
        directory.create("b").abort()
        directory.delete_many([f"a/{n}"])
    directory.sweep(START * 2)
    assert len(os.listdir("/proc/self/fd")) == before


def test_urls_are_the_signers(root: Path, clock: FakeClock) -> None:
    asked: list[tuple[object, ...]] = []

    def sign(*about: object) -> PresignedPut:
        asked.append(about)
        return PresignedPut("http://127.0.0.1:8787/x", {})

    signed = DirectoryBlobs(root, clock, sign)
    put = signed.presign_put(KEY, size=5, sha256=SHA256, content_type="image/png", seconds=60)
    assert put == PresignedPut("http://127.0.0.1:8787/x", {})
    assert asked == [(KEY, 5, SHA256, "image/png", 60)]
    assert signed.presign_get(KEY, seconds=60) is None
    unsigned = DirectoryBlobs(root, clock)
    assert unsigned.presign_put(KEY, size=5, sha256=SHA256, content_type="image/png", seconds=60) is None
    with pytest.raises(ValueError, match="no blob"):
        signed.presign_put("../x", size=5, sha256=SHA256, content_type="image/png", seconds=60)


# ---- S3


def test_all_that_was_agreed_is_in_the_signature(clients: AwsClients) -> None:
    put = S3Blobs(clients, aws.BLOBS).presign_put(
        KEY, size=len(DATA), sha256=SHA256, content_type="image/png", seconds=10_000
    )
    url, query = urlsplit(put.url), parse_qs(urlsplit(put.url).query)
    assert (url.scheme, url.path) == ("https", f"/{KEY}")
    assert url.netloc == f"{aws.BLOBS}.s3.us-east-1.amazonaws.com"
    assert set(query["X-Amz-SignedHeaders"][0].split(";")) == {
        "host",
        "content-length",
        "content-type",
        "if-none-match",
        "x-amz-checksum-sha256",
    }
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Expires"] == ["900"]
    assert put.headers == {
        "Content-Length": str(len(DATA)),
        "Content-Type": "image/png",
        "x-amz-checksum-sha256": base64.b64encode(SHA256).decode(),
        "If-None-Match": "*",
    }


def test_urls_name_the_region(clients: AwsClients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    elsewhere = AwsClients()
    url = S3Blobs(elsewhere, aws.BLOBS).presign_get(KEY, seconds=60)
    elsewhere.close()
    assert url.startswith(f"https://{aws.BLOBS}.s3.eu-central-1.amazonaws.com/{KEY}?X-Amz-Algorithm=AWS4-")
    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == ["60"]
