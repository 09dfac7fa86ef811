"""Media through the gateway: what is sent is what was hashed, limits before anything is paid, one refusal."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from embedonce.bootstrap import build
from embedonce.bootstrap.stores import open_stores
from embedonce.clock import SystemClock
from embedonce.config import ConfigError, load
from embedonce.core.errors import StoreUnavailable
from embedonce.core.fingerprint import Namespace
from embedonce.ports import Validator
from embedonce.telemetry import LogTelemetry
from support import media
from support.everything import Everything, vector_of
from support.gateway import Answer, TestGateway, gateway
from support.origin import Asked, Origin, conditional, head, ok

SIZE = 256
KINDS = {"image": "image_url", "audio": "input_audio", "video": "input_video", "pdf": "input_file"}


def part(kind: str, value: bytes | str) -> dict[str, Any]:
    """Bytes go as base64, text as the URL that it is."""
    text = base64.b64encode(value).decode() if isinstance(value, bytes) else value
    name = KINDS[kind]
    return {"type": name, name: {"url" if kind == "image" else "data": text}}


def content(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"content": list(parts)}]


@pytest.fixture
def upstream() -> Everything:
    return Everything()


class Body:
    """What an origin has at every path; honest about its ETag."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.etag = '"1"'

    def __call__(self, asked: Asked) -> Iterable[bytes]:
        return [conditional(asked, self.data, self.etag)]


@pytest.fixture
def body() -> Body:
    return Body(media.png())


@pytest.fixture
def origin(body: Body) -> Iterator[Origin]:
    with Origin(body) as running:
        yield running


@pytest.fixture
def gate(tmp_path: Path, upstream: Everything, origin: Origin) -> Iterator[TestGateway]:
    settings = {"media_origins": origin.url, "media_timeout": "1", "media_mb": "1"}
    with gateway(tmp_path, upstreams=[upstream], **settings) as running:
        yield running


def embed(gate: TestGateway, *parts: dict[str, Any], **more: Any) -> Answer:
    return gate.embed(content(*parts), dimensions=SIZE, encoding_format="base64", **more)


def cut(answer: Answer) -> bytes:
    assert answer.status == 200, answer.response.body
    return answer.vectors[0]


def test_one_picture_in_every_spelling_is_one_entry_and_one_call(
    gate: TestGateway, upstream: Everything, origin: Origin, body: Body
) -> None:
    picture = body.data = media.jpeg(40, 40)
    standard = base64.b64encode(picture).decode()
    urlsafe = base64.urlsafe_b64encode(picture).decode().rstrip("=")
    assert standard.rstrip("=") != urlsafe
    spellings = [
        *(standard, urlsafe, "\r\n".join(standard[at : at + 60] for at in range(0, len(standard), 60))),
        *(f"data:image/png;base64,{standard}", f"DATA:text/plain;base64,{urlsafe}", f"{origin.url}/x.jpg"),
    ]
    answers = {cut(embed(gate, part("image", spelling))) for spelling in spellings}
    assert len(answers) == 1
    assert upstream.sent == [(picture,)]


def test_an_unchanged_url_is_not_downloaded_again(
    gate: TestGateway, upstream: Everything, origin: Origin, body: Body
) -> None:
    url = f"{origin.url}/a.png?signature=1"
    first = cut(embed(gate, part("image", url)))
    assert origin.sent_whole == 1
    for _ in range(3):
        again = embed(gate, part("image", url))
        assert cut(again) == first
        assert again.headers["X-Cache"] == "HIT"
    assert len(origin.asked) == 4
    assert origin.sent_whole == 1
    body.data, body.etag = media.png(shade=1), '"2"'
    assert cut(embed(gate, part("image", url))) != first
    assert upstream.sent == [(media.png(),), (media.png(shade=1),)]


def test_no_store_leaves_no_trace_of_a_url_and_follows_none(gate: TestGateway, origin: Origin) -> None:
    url = f"{origin.url}/a.png"
    quiet = {"cache-control": "no-store"}
    for headers in (quiet, quiet, {}, quiet, {}):
        cut(embed(gate, part("image", url), headers=headers))
    assert [a.headers.get("if-none-match") for a in origin.asked] == [None, None, None, None, '"1"']


def test_no_cache_downloads_at_once(gate: TestGateway, upstream: Everything, origin: Origin) -> None:
    url = f"{origin.url}/a.png"
    cut(embed(gate, part("image", url)))
    cut(embed(gate, part("image", url), headers={"cache-control": "no-cache"}))
    assert [a.headers.get("if-none-match") for a in origin.asked] == [None, None]
    assert len(upstream.sent) == 2


def test_unchanged_but_no_longer_in_the_cache_is_downloaded(
    gate: TestGateway, upstream: Everything, origin: Origin
) -> None:
    url = f"{origin.url}/a.png"
    first = cut(embed(gate, part("image", url)))
    other = embed(gate, part("image", url), model="google/gemini-embedding-2-preview")  # another space
    assert cut(other) == first
    assert upstream.sent == [(media.png(),)] * 2
    assert [a.headers.get("if-none-match") for a in origin.asked] == [None, '"1"', None]


def test_an_origin_that_alternates_its_bytes_poisons_nothing(
    gate: TestGateway, upstream: Everything, origin: Origin
) -> None:
    """It sends A and B in turn under one strong ETag, and says that nothing changed whenever it is asked."""
    bytes_a, bytes_b = media.png(shade=10), media.png(shade=20)
    turn = [0]

    def alternate(asked: Asked) -> Iterable[bytes]:
        if "if-none-match" in asked.headers:
            return [head(304, etag='"same"')]
        turn[0] += 1
        return [ok(bytes_a if turn[0] % 2 else bytes_b, etag='"same"')]

    origin.respond = alternate
    for model in ("google/gemini-embedding-2", "google/gemini-embedding-2-preview") * 3:
        for headers in ({}, {"cache-control": "no-cache"}, {"cache-control": "no-store"}):
            answer = embed(gate, part("image", f"{origin.url}/x.png"), model=model, headers=headers)
            assert answer.status == 200
    vector_a = embed(gate, part("image", bytes_a))
    vector_b = embed(gate, part("image", bytes_b))
    for data in (bytes_a, bytes_b):
        whole = gate.embed(content(part("image", data)), encoding_format="base64")
        assert cut(whole) == vector_of((data,), 3072)
    assert cut(vector_a) != cut(vector_b)
    assert {data for (data,) in upstream.sent} == {bytes_a, bytes_b}
    assert turn[0] > 4


@pytest.mark.parametrize(
    "headers",
    [
        {"etag": 'W/"1"'},
        {"etag": "1"},
        {"etag": '""'},
        {"etag": '"1"', "cache_control": "private, no-store"},
        {"date": "Fri, 20 Nov 2026 10:00:30 GMT", "last_modified": "Fri, 20 Nov 2026 10:00:00 GMT"},
        {"last_modified": "Fri, 20 Nov 2026 10:00:00 GMT"},
        {"date": "Fri, 20 Nov 2026 10:00:30 GMT", "last_modified": "nonsense"},
        {},
    ],
    ids=str,
)
def test_what_is_no_strong_validator_is_not_used(
    gate: TestGateway, upstream: Everything, origin: Origin, headers: dict[str, str]
) -> None:
    origin.respond = lambda asked: [ok(media.png(), **headers)]
    for _ in range(2):
        assert embed(gate, part("image", f"{origin.url}/x")).status == 200
    assert origin.sent_whole == 2
    assert len(upstream.sent) == 1


def test_an_old_last_modified_is_a_validator(gate: TestGateway, origin: Origin) -> None:
    modified = "Fri, 20 Nov 2026 10:00:00 GMT"

    def respond(asked: Asked) -> Iterable[bytes]:
        if asked.headers.get("if-modified-since") == modified:
            return [head(304)]
        date = "Fri, 20 Nov 2026 10:05:00 GMT"
        return [ok(media.png(), date=date, last_modified=modified, etag='W/"1"')]

    origin.respond = respond
    for _ in range(3):
        assert embed(gate, part("image", f"{origin.url}/x")).status == 200
    assert [a.headers.get("if-modified-since") for a in origin.asked] == [None, modified, modified]


def test_a_304_that_nobody_asked_for_is_refused(gate: TestGateway, origin: Origin) -> None:
    origin.respond = lambda asked: [head(304, etag='"1"')]
    assert embed(gate, part("image", f"{origin.url}/x")).status == 400


def test_validators_are_of_the_namespace(gate: TestGateway, origin: Origin) -> None:
    for name in ("a", "b", "a"):
        assert embed(gate, part("image", f"{origin.url}/x"), cache={"namespace": name}).status == 200
    assert origin.sent_whole == 2


class BrokenValidators:
    def get(self, namespace: Namespace, url: bytes) -> Validator | None:
        raise StoreUnavailable("down")

    def put(self, namespace: Namespace, url: bytes, validator: Validator) -> None:
        raise StoreUnavailable("down")


def test_without_validators_it_is_just_downloaded(
    tmp_path: Path, upstream: Everything, origin: Origin
) -> None:
    settings: dict[str, Any] = {"data_dir": str(tmp_path), "media_origins": origin.url}
    real = open_stores(load({"EMBEDONCE_DATA_DIR": str(tmp_path)}), SystemClock())
    stores = replace(real, validators=BrokenValidators())
    with gateway(tmp_path, upstreams=[upstream], stores=stores, **settings) as gate:
        for _ in range(2):
            assert embed(gate, part("image", f"{origin.url}/x")).status == 200
    assert origin.sent_whole == 2
    assert len(upstream.sent) == 1


def test_several_parts_are_one_vector_in_their_order(
    gate: TestGateway, upstream: Everything, origin: Origin, body: Body
) -> None:
    text = {"type": "text", "text": "a caption"}
    url = part("image", f"{origin.url}/x")
    mixed = [text, url, part("audio", media.wav()), part("image", media.jpeg()), part("pdf", media.pdf(2))]
    first, other = embed(gate, *mixed), embed(gate, *reversed(mixed))
    sent = (b"a caption", body.data, media.wav(), media.jpeg(), media.pdf(2))
    assert upstream.sent == [sent, tuple(reversed(sent))]
    assert cut(first) != cut(other)


def test_many_urls_are_fetched_at_once_and_each_one_once(
    gate: TestGateway, upstream: Everything, origin: Origin
) -> None:
    def respond(asked: Asked) -> Iterable[bytes]:
        origin.closing.wait(0.2)
        return [ok(media.png(shade=int(asked.path[1:])))]

    origin.respond = respond
    inputs = [content(part("image", f"{origin.url}/{n % 4}"))[0] for n in range(12)]
    began = time.monotonic()
    answer = gate.embed(inputs, dimensions=SIZE)
    assert time.monotonic() - began < 8
    assert answer.status == 200
    assert len(set(answer.vectors)) == len(upstream.sent) == len(origin.asked) == 4


REFUSALS = {
    "7 images": (
        [part("image", media.png(shade=n)) for n in range(7)],
        "limit is 6 images in one content, got 7",
    ),
    "181 s wav": ([part("audio", media.wav(181))], "limit is 180 seconds of audio in one content, got 181"),
    "wav that says 1 s": (
        [part("audio", media.wav(181, claimed=1))],
        "limit is 180 seconds of audio in one content, got 181",
    ),
    "mp3 that says 1 s": (
        [part("audio", media.mp3(181, xing_frames=20))],
        "limit is 180 seconds of audio in one content, got 181.04",
    ),
    "2 x 91 s": (
        [part("audio", media.wav(91)), part("audio", media.wav(91, tone=1))],
        "limit is 180 seconds of audio in one content, got 182",
    ),
    "121 s mp4": ([part("video", media.mp4(121))], "limit is 120 seconds of video in one content, got 121"),
    "121 s mov": ([part("video", media.mov(121))], "limit is 120 seconds of video in one content, got 121"),
    "7 pages": ([part("pdf", media.pdf(7))], "limit is 6 PDF pages in one content, got 7"),
    "2 pdfs": (
        [part("pdf", media.pdf(1)), part("pdf", media.pdf(2))],
        "limit is 1 PDF documents in one content, got 2",
    ),
    "webp": ([part("image", media.webp())], "image/webp is not taken"),
    "gif": ([part("image", media.gif())], "image/gif is not taken"),
    "truncated png": ([part("image", media.png(50, 50)[:-20])], "is a truncated PNG"),
    "truncated jpeg": ([part("image", media.jpeg()[:-2])], "is a truncated JPEG"),
    "truncated mp4": ([part("video", media.mp4()[:-9])], "is a truncated MP4 or MOV"),
    "truncated wav": ([part("audio", media.wav()[:-9])], "is a truncated WAV"),
    "truncated mp3": ([part("audio", media.mp3()[:-9])], "is a truncated MP3"),
    "50k x 50k": (
        [part("image", media.png_claiming(50_000, 50_000))],
        "limit is 100 megapixels, got 50000 x 50000",
    ),
    "audio as image": ([part("image", media.wav())], "is audio/wav, not image"),
    "1 MiB": ([part("image", bytes((1 << 20) + 1))], "limit is 1048576 bytes, got 1048577"),
    "2 MiB": ([part("image", bytes(2 << 20))], "limit is 1048576 bytes, got about 2"),
    "17 urls": (
        [part("image", f"https://a.example/{n}") for n in range(17)],
        "limit is 16 different URLs in one request, got at least 17",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_over_the_limit_names_field_limit_and_value_and_costs_nothing(
    gate: TestGateway, upstream: Everything, name: str
) -> None:
    parts, says = REFUSALS[name]
    answer = embed(gate, *parts)
    assert answer.status == 400
    assert says in answer.error["message"]
    assert answer.error["message"].startswith("input")
    assert upstream.sent == []


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("audio", media.wav(180)),
        ("audio", media.mp3(179.98)),
        ("video", media.mp4(120)),
        ("video", media.mov(120)),
        ("pdf", media.pdf(6)),
    ],
)
def test_at_the_limit_is_taken(gate: TestGateway, upstream: Everything, name: str, data: bytes) -> None:
    assert embed(gate, part(name, data)).status == 200
    assert upstream.sent == [(data,)]


def test_all_refusals_of_urls_read_the_same(gate: TestGateway, upstream: Everything, origin: Origin) -> None:
    def respond(asked: Asked) -> Iterable[bytes]:
        match asked.path:
            case "/gzip":
                yield ok(b"\x1f\x8b" + bytes(40_000), content_encoding="gzip")
            case "/slow":
                yield from origin.trickle(ok(media.png()))
            case "/large":
                yield head(200) + bytes((1 << 20) + 1)
            case "/redirect":
                yield head(302, location="http://169.254.169.254/", content_length=0)
            case "/silent":
                yield b""
            case _:
                yield head(404, content_length=0)

    origin.respond = respond
    paths = ("/gzip", "/slow", "/large", "/redirect", "/silent", "/missing")
    urls = [
        *(f"{origin.url}{path}" for path in paths),
        *("http://127.0.0.1:1/", "https://127.0.0.1/", "https://localhost/", "https://10.0.0.1/secret-path"),
        *("http://example.com/", "https://user:secret@example.com/", "https://[::ffff:7f00:1]/"),
    ]
    messages = set()
    for url in urls:
        answer = embed(gate, part("image", url))
        assert answer.status == 400, url
        messages.add(answer.error["message"].partition(": ")[2])
    assert messages == {
        "the URL cannot be fetched: it must be a public https URL that answers within 1 s "
        "with at most 1048576 bytes"
    }
    assert upstream.sent == []


def test_what_is_behind_a_url_is_measured_like_what_is_sent(
    gate: TestGateway, upstream: Everything, body: Body, origin: Origin
) -> None:
    for data, kind, says in (
        (media.wav(181), "audio", "got 181"),
        (media.pdf(7), "pdf", "got 7"),
        (media.webp(), "image", "image/webp is not taken"),
        (media.png()[:-5], "image", "is a truncated PNG"),
        (b"<!doctype html>", "image", "is of no known media type"),
        (media.png(), "audio", "is image/png, not audio"),
    ):
        body.data, body.etag = data, f'"{says}"'
        for _ in range(2):  # the second time some are known by their validators
            answer = embed(gate, part(kind, f"{origin.url}/x"))
            assert answer.status == 400
            assert says in answer.error["message"]
    assert upstream.sent == []


def test_one_url_for_two_kinds_of_fields(gate: TestGateway, origin: Origin) -> None:
    url = f"{origin.url}/x"
    answer = embed(gate, part("image", url), part("audio", url))
    assert answer.status == 400
    assert "is image/png, not audio" in answer.error["message"]


def test_a_request_that_ran_out_of_time_is_not_the_url_s_fault(
    gate: TestGateway, upstream: Everything, origin: Origin
) -> None:
    origin.respond = lambda asked: origin.trickle(ok(media.png()))
    began = time.monotonic()
    answer = embed(gate, part("image", f"{origin.url}/x"), seconds=0.2)
    assert answer.status == 504
    assert "Retry-After" in answer.headers
    assert time.monotonic() - began < 8
    assert upstream.sent == []


def test_all_media_of_a_request_together_are_bounded(
    tmp_path: Path, upstream: Everything, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedonce.media.resolve.MAX_REQUEST_BYTES", (1 << 20) + 100)
    origin.respond = lambda asked: [ok(media.wav(100, tone=int(asked.path[1:])))]
    with gateway(tmp_path, upstreams=[upstream], media_origins=origin.url, media_mb="1") as gate:
        within = [content(part("audio", f"{origin.url}/{n}"))[0] for n in range(10)]
        assert gate.embed(within, dimensions=SIZE).status == 200
        inline = content(part("audio", media.wav(100, tone=50)))
        answer = gate.embed(within + inline, dimensions=SIZE)
        assert answer.status == 400
        assert "limit is 1048676 bytes of media in one request, got at least" in answer.error["message"]
    assert len(upstream.sent) == 10


def test_own_origins_are_for_one_machine_only(tmp_path: Path) -> None:
    given = {"EMBEDONCE_MODE": "aws", "EMBEDONCE_MEDIA_ORIGINS": "http://127.0.0.1:9000"}
    tables = [f"{name}_TABLE" for name in ("VECTORS", "FLIGHTS", "ACCESS", "JOBS", "USAGE")]
    names = [*tables, "CACHE_BUCKET", "BLOB_BUCKET", "WORK_QUEUE_URL", "POLL_QUEUE_URL"]
    stores = {f"EMBEDONCE_{name}": "x" for name in names}
    with pytest.raises(ConfigError, match="EMBEDONCE_MEDIA_ORIGINS: local mode only"):
        build(load({**given, **stores}), LogTelemetry(), upstreams=[])
    settings = {"EMBEDONCE_DATA_DIR": str(tmp_path), "EMBEDONCE_MEDIA_ORIGINS": "127.0.0.1:9000"}
    with pytest.raises(ConfigError, match="EMBEDONCE_MEDIA_ORIGINS: an origin is"):
        build(load(settings), LogTelemetry(), upstreams=[])
