"""Uploads: leave to put exactly these bytes, once, soon; what the local server makes of it (SECURITY 14)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from embedonce.core.errors import StoreUnavailable
from embedonce.core.upload import Upload, parse
from embedonce.local import uploads as local
from embedonce.local.asgi import LocalApp
from embedonce.local.uploads import SECRET_FILE, UploadReceiver, UploadSigner, signing_secret
from embedonce.ports import PresignedPut
from embedonce.stores.embedded.blobs import DirectoryBlobs
from support import media
from support.asgi import HOST, Told, ask, asked, pieces
from support.clock import FakeClock
from support.jobgate import BASE, JobGate, jobgate

DATA = b"some bytes of a video"
SECRET = b"s" * 32


def wanted(data: bytes = DATA, **changes: Any) -> dict[str, Any]:
    sha256 = hashlib.sha256(data).hexdigest()
    return {"size": len(data), "sha256": sha256, "content_type": "video/mp4", **changes}


# ---- POST /v2/uploads


@dataclass
class Bucket:
    """A blob store that is reached by URLs of its own, or not at all."""

    url: str | None = "https://bucket.example/x?signature=1"
    down: bool = False
    asked: tuple[Any, ...] = ()

    def presign_put(
        self, key: str, *, size: int, sha256: bytes, content_type: str, seconds: int
    ) -> PresignedPut | None:
        if self.down:
            raise StoreUnavailable("no")
        self.asked = (key, size, sha256, content_type, seconds)
        return None if self.url is None else PresignedPut(self.url, {"If-None-Match": "*"})


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def gate(tmp_path: Path, bucket: Bucket) -> Iterator[JobGate]:
    store: Any = bucket
    with jobgate(tmp_path, blobs=store) as running:
        yield running


def test_what_is_answered(gate: JobGate, bucket: Bucket) -> None:
    key, key_id = gate.new_key()
    answer = gate.request("POST", "/v2/uploads", wanted(), key=key)
    assert answer.status == 200
    handle = parse(answer.body["handle"])
    assert handle is not None
    assert answer.body == {
        "upload_url": bucket.url,
        "method": "PUT",
        "headers": {"If-None-Match": "*"},
        "handle": f"upload://{handle.id}.{hashlib.sha256(DATA).hexdigest()}",
        "expires_in": 900,
    }
    sha256 = hashlib.sha256(DATA).digest()
    assert bucket.asked == (handle.blob_key(key_id), len(DATA), sha256, "video/mp4", 900)
    again = gate.request("POST", "/v2/uploads", wanted(), key=key)
    assert again.body["handle"] != answer.body["handle"]


@pytest.mark.parametrize("form", ["hex", "HEX", "base64", "unpadded", "url-safe"])
def test_the_sha256_in_every_spelling(gate: JobGate, form: str) -> None:
    data = b"\xff\xfe 67"
    digest = hashlib.sha256(data).digest()
    plain = base64.b64encode(digest).decode()
    said = {
        "hex": digest.hex(),
        "HEX": digest.hex().upper(),
        "base64": plain,
        "unpadded": plain.rstrip("="),
        "url-safe": base64.urlsafe_b64encode(digest).decode(),
    }[form]
    answer = gate.request("POST", "/v2/uploads", wanted(data, sha256=said))
    assert answer.body["handle"].endswith(f".{digest.hex()}")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": None}, "size: required"),
        ({"size": 0}, "size: required"),
        ({"size": -1}, "size: required"),
        ({"size": 1.5}, "size: must be a whole number"),
        ({"size": True}, "size: must be a whole number"),
        ({"size": 1001}, "size: limit is 1000 bytes, got 1001 bytes"),
        ({"sha256": None}, "sha256: must be"),
        ({"sha256": "x" * 64}, "sha256: must be"),
        ({"sha256": "0" * 63}, "sha256: must be"),
        ({"sha256": "0" * 65}, "sha256: limit is"),
        ({"sha256": "A" * 42}, "sha256: must be"),
        ({"sha256": 5}, "sha256: must be a string"),
        ({"content_type": None}, "content_type: must be one of application/octet-stream, application/pdf"),
        ({"content_type": "text/html"}, "content_type: must be one of"),
        ({"content_type": "image/png; charset=x"}, "content_type: must be one of"),
        ({"content_type": "image/png\r\nx: y"}, "content_type: must be one of"),
        ({"content_type": 5}, "content_type: must be a string"),
    ],
)
def test_what_may_not_be_put(gate: JobGate, bucket: Bucket, changes: dict[str, Any], said: str) -> None:
    answer = gate.request("POST", "/v2/uploads", wanted(**changes))
    assert answer.status == 400
    assert answer.error.startswith(said)
    assert not bucket.asked


@pytest.mark.parametrize("content_type", ["IMAGE/PNG", "application/octet-stream", "audio/wav"])
def test_types_that_models_take(gate: JobGate, bucket: Bucket, content_type: str) -> None:
    assert gate.request("POST", "/v2/uploads", wanted(content_type=content_type)).status == 200
    assert bucket.asked[3] == content_type.lower()


def test_a_key_has_so_many_bytes_a_day(gate: JobGate) -> None:
    key, _ = gate.new_key()
    other, _ = gate.new_key()

    def put(size: int, key: str = key) -> Any:
        return gate.request("POST", "/v2/uploads", wanted(size=size), key=key)

    now = datetime.fromtimestamp(gate.clock.now(), UTC)
    gate.clock.advance(3600 * (12 - now.hour) - 60 * now.minute - now.second)
    assert [put(1000).status for _ in range(3)] == [200, 200, 200]
    refused = put(1)
    assert refused.status == 429
    assert refused.headers["Retry-After"] == str(12 * 3600)
    assert refused.error.startswith("size: this API key may upload 3000 bytes a day (UTC)")
    assert put(1000, other).status == 200
    gate.clock.advance(12 * 3600 - 1)
    assert put(1).headers["Retry-After"] == "1"
    gate.clock.advance(1)
    assert put(1000).status == 200


def test_without_urls_there_are_no_uploads(gate: JobGate, bucket: Bucket) -> None:
    bucket.url = None
    answer = gate.request("POST", "/v2/uploads", wanted())
    assert (answer.status, answer.error) == (502, "uploads are not available here")
    assert answer.headers["x-should-retry"] == "false"


def test_a_store_that_is_down(gate: JobGate, bucket: Bucket) -> None:
    bucket.down = True
    answer = gate.request("POST", "/v2/uploads", wanted())
    assert (answer.status, answer.headers["Retry-After"]) == (502, "2")


# ---- the local PUT


@dataclass
class Local:
    app: LocalApp
    blobs: DirectoryBlobs
    signer: UploadSigner
    clock: FakeClock
    folder: Path
    answered: list[Any]

    def sign(self, data: bytes = DATA, *, seconds: int = 900, owner: str = "key_1") -> Presigned:
        upload = Upload(hashlib.md5(data).hexdigest(), hashlib.sha256(data).digest())
        key = upload.blob_key(owner)
        put = self.blobs.presign_put(
            key, size=len(data), sha256=upload.sha256, content_type="video/mp4", seconds=seconds
        )
        assert put is not None
        return Presigned(put.url, dict(put.headers), key)

    def kept(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]


@dataclass
class Presigned:
    url: str
    headers: dict[str, str]
    key: str


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Local]:
    clock = FakeClock()
    signer = UploadSigner(SECRET, clock)
    folder = tmp_path / "blobs"
    blobs = DirectoryBlobs(folder, clock, signer)
    answered: list[Any] = []
    settings = SimpleNamespace(public_base_url=None, trusted_proxies=())
    telemetry = SimpleNamespace(answered=lambda **said: answered.append(said))
    app: Any = SimpleNamespace(
        parts=SimpleNamespace(settings=settings, telemetry=telemetry),
        clock=clock,
        max_body_bytes=10,
        gateway=SimpleNamespace(refuse=_refused),
    )
    receiver = UploadReceiver(signer, blobs)
    yield Local(LocalApp(app, uploads=receiver), blobs, signer, clock, folder, answered)
    receiver.close()


def _refused(_request: Any, error: Any) -> Any:
    return SimpleNamespace(
        status=error.http_status, body=error.message.encode(), content_type="text/plain", headers={}
    )


def put(
    server: Local,
    presigned: Presigned,
    data: bytes = DATA,
    *,
    url: str | None = None,
    chunks: Sequence[bytes] | None = None,
    **headers: Any,
) -> Told:
    """`headers` instead of those that were signed; None: not at all."""
    given: Mapping[str, str | None] = {
        **presigned.headers,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    names = {name.lower(): value for name, value in given.items()}
    sent = {name: value for name, value in names.items() if value is not None}
    return asked(server.app, "PUT", url or presigned.url, sent, chunks or [data])


def code(told: Told) -> tuple[int, str]:
    error: str = told.body["error"]
    return told.status, error.partition(":")[0]


def test_exactly_the_bytes_are_put_once(server: Local) -> None:
    presigned = server.sign()
    assert presigned.url.startswith("/v2/uploads/")
    assert presigned.headers == {
        "Content-Length": str(len(DATA)),
        "Content-Type": "video/mp4",
        "If-None-Match": "*",
    }
    told = put(server, presigned, chunks=[*pieces(DATA, 5)])
    assert (told.status, told.data) == (200, b"")
    assert told.headers["cache-control"] == "private, no-store"
    assert told.headers["x-request-id"]
    assert server.blobs.get(presigned.key, most=100) == DATA
    assert len(server.kept()) == 1
    assert server.answered[-1]["route"] == "/v2/uploads/{id}"
    assert code(put(server, presigned)) == (412, "PreconditionFailed")
    assert server.blobs.get(presigned.key, most=100) == DATA


def test_what_is_larger_than_any_request_is_put_in_pieces(server: Local) -> None:
    data = bytes(range(256)) * 8192
    presigned = server.sign(data)
    assert put(server, presigned, chunks=[*pieces(data, 65_536)]).status == 200
    assert server.blobs.get(presigned.key, most=len(data)) == data


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({"content_length": None}, 411, "MissingContentLength"),
        ({"content_length": None, "transfer_encoding": "chunked"}, 411, "MissingContentLength"),
        ({"content_length": "20"}, 400, "IncorrectContentLength"),
        ({"content_length": "22"}, 400, "IncorrectContentLength"),
        ({"content_length": "+21"}, 400, "IncorrectContentLength"),
        ({"content_length": "²¹"}, 400, "IncorrectContentLength"),
        ({"content_type": None}, 403, "SignatureDoesNotMatch"),
        ({"content_type": "video/quicktime"}, 403, "SignatureDoesNotMatch"),
        ({"if_none_match": None}, 403, "SignatureDoesNotMatch"),
        ({"if_none_match": '"etag"'}, 403, "SignatureDoesNotMatch"),
    ],
)
def test_other_headers(server: Local, headers: dict[str, Any], status: int, said: str) -> None:
    presigned = server.sign()
    assert code(put(server, presigned, **headers)) == (status, said)
    assert server.kept() == []
    assert put(server, presigned).status == 200


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        (b"x" * len(DATA), 400, "BadDigest"),
        (DATA[:-1], 400, "IncompleteBody"),
        (DATA + b"x", 400, "IncorrectContentLength"),
        (b"", 400, "IncompleteBody"),
    ],
)
def test_other_bytes(server: Local, data: bytes, status: int, said: str) -> None:
    presigned = server.sign()
    assert code(put(server, presigned, data)) == (status, said)
    assert server.kept() == []
    assert put(server, presigned).status == 200


def altered(url: str, **changes: str | None) -> str:
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    changed = {name: value for name, value in {**query, **changes}.items() if value is not None}
    return f"{parts.path}?{urlencode(changed)}"


@pytest.mark.parametrize(
    "changes",
    [
        {"signature": None},
        {"signature": "0" * 64},
        {"signature": "ä"},
        {"size": "22"},
        {"size": None},
        {"sha256": "0" * 64},
        {"type": "text/html"},
        {"expires": "99999999999"},
        {"expires": "x"},
        {"blob": "uploads/key_2/" + "0" * 32 + "/" + "0" * 64},
        {"blob": "../../etc/passwd"},
        {"blob": None},
    ],
    ids=str,
)
def test_an_altered_url(server: Local, changes: dict[str, str | None]) -> None:
    presigned = server.sign()
    told = put(server, presigned, url=altered(presigned.url, **changes))
    assert code(told) == (403, "SignatureDoesNotMatch")
    assert not server.folder.exists()


def test_a_url_is_good_for_its_own_path_only(server: Local) -> None:
    presigned = server.sign()
    other = presigned.url.replace("/v2/uploads/", "/v2/uploads/x", 1)
    assert code(put(server, presigned, url=other)) == (403, "SignatureDoesNotMatch")


def test_two_values_of_one_name_are_the_last(server: Local) -> None:
    presigned = server.sign()
    assert code(put(server, presigned, url=f"{presigned.url}&size=22")) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize(("asked_for", "good_for"), [(60, 60), (900, 900), (86_400, 900)])
def test_a_url_expires(server: Local, asked_for: int, good_for: int) -> None:
    first, second = server.sign(seconds=asked_for), server.sign(b"other", seconds=asked_for)
    server.clock.advance(good_for - 1)
    assert put(server, first).status == 200
    server.clock.advance(1)
    assert code(put(server, second, b"other")) == (403, "AccessDenied")


def test_another_installations_url(server: Local, tmp_path: Path) -> None:
    stranger = UploadSigner(b"t" * 32, server.clock)
    upload = Upload("0" * 32, hashlib.sha256(DATA).digest())
    foreign = stranger(upload.blob_key("key_1"), len(DATA), upload.sha256, "video/mp4", 900)
    told = put(server, Presigned(foreign.url, dict(foreign.headers), ""))
    assert code(told) == (403, "SignatureDoesNotMatch")


def test_host_and_origin_are_checked_as_everywhere(server: Local) -> None:
    presigned = server.sign()
    assert put(server, presigned, host="evil.example").status == 421
    assert put(server, presigned, origin="https://evil.example").status == 403
    assert put(server, presigned, sec_fetch_site="cross-site").status == 403
    assert server.kept() == []


def test_whoever_goes_away_leaves_nothing(server: Local) -> None:
    presigned = server.sign()
    gone = asyncio.run(
        ask(server.app, "PUT", presigned.url, presigned.headers, [DATA[:5]], ends="disconnect")
    )
    assert gone is None
    assert server.kept() == []


@pytest.mark.parametrize("limit", ["IDLE_SECONDS", "BODY_SECONDS"])
def test_whoever_stalls_is_not_waited_for(server: Local, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, limit, 0.05)
    presigned = server.sign()
    told = asyncio.run(ask(server.app, "PUT", presigned.url, presigned.headers, [DATA[:5]], ends="hang"))
    assert told is not None
    assert code(told) == (408, "RequestTimeout")
    assert server.kept() == []


def test_two_at_once_are_one(server: Local) -> None:
    presigned = server.sign()

    async def both() -> list[Told | None]:
        asks = (ask(server.app, "PUT", presigned.url, presigned.headers, [DATA]) for _ in range(8))
        return list(await asyncio.gather(*asks))

    statuses = sorted(told.status for told in asyncio.run(both()) if told is not None)
    assert statuses[0] == 200
    assert set(statuses[1:]) <= {409, 412}
    assert len(server.kept()) == 1


def test_a_disk_that_fails(server: Local) -> None:
    presigned = server.sign()
    server.folder.write_text("no folder")
    told = put(server, presigned)
    assert code(told) == (503, "ServiceUnavailable")
    assert told.headers["retry-after"] == "2"


def test_the_secret_is_made_once(tmp_path: Path) -> None:
    secret = signing_secret(tmp_path / "data")
    assert len(secret) == 32
    assert signing_secret(tmp_path / "data") == secret
    assert stat.S_IMODE((tmp_path / "data" / SECRET_FILE).stat().st_mode) == 0o600


# ---- both


def test_what_was_put_is_embedded_by_its_handle(tmp_path: Path) -> None:
    clock = FakeClock()
    data = media.png()
    signer = UploadSigner(SECRET, clock)
    with jobgate(tmp_path, max_bytes=1 << 20, quota_bytes=1 << 30) as plain:
        folder = plain.pipeline.parts.settings.data_dir / "blobs"
    blobs = DirectoryBlobs(folder, clock, signer)
    receiver = UploadReceiver(signer, blobs)
    with jobgate(tmp_path, blobs=blobs, max_bytes=1 << 20, quota_bytes=1 << 30) as gate:
        begun = gate.request("POST", "/v2/uploads", wanted(data, content_type="image/png"))
        url = begun.body["upload_url"]
        assert url.startswith(f"{BASE}/v2/uploads/")
        handle = begun.body["handle"]
        assert gate.submit(image=handle).error == "image: there is no such upload"

        app: Any = SimpleNamespace(
            parts=SimpleNamespace(
                settings=gate.pipeline.parts.settings, telemetry=gate.pipeline.parts.telemetry
            ),
            clock=clock,
        )
        headers = {**begun.body["headers"], "host": HOST}
        told = asked(LocalApp(app, uploads=receiver), "PUT", url.removeprefix(BASE), headers, [data])
        assert told.status == 200

        request_id = gate.submitted(image=handle)
        gate.pipeline.run()
        assert gate.result(request_id).status == 200
        stranger, _ = gate.new_key()
        foreign = gate.request("POST", "/v2/gemini-embedding-2", {"image": handle}, key=stranger)
        assert (foreign.status, foreign.error) == (400, "image: there is no such upload")
    receiver.close()
