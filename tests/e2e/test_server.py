"""The local server as its users run it: a process, real clients, restarts, kill -9."""

from __future__ import annotations

import http.client
import json
import math
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from fakes.answers import vector_for
from support.process import SERVE, ServerProcess, clean_environment, provider, server

MODEL = "google/gemini-embedding-2"


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Without any key: the offline model answers."""
    with server(tmp_path_factory.mktemp("offline") / "data") as running:
        yield running


def client(running: ServerProcess, path: str = "/v1") -> openai.OpenAI:
    return openai.OpenAI(base_url=running.url + path, api_key=running.key, max_retries=0)


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot / math.sqrt(sum(a * a for a in one)) / math.sqrt(sum(b * b for b in other))


def test_the_tour(offline: ServerProcess) -> None:
    assert "small offline model" in offline.said
    with client(offline) as api:
        texts = ["The cat sleeps on the sofa", "A kitten naps on the couch", "Interest rates rose again"]
        first = api.embeddings.with_raw_response.create(model=MODEL, input=texts)
        again = api.embeddings.with_raw_response.create(model=MODEL, input=texts)
    assert first.headers["x-cache"] == "MISS"
    assert again.headers["x-cache"] == "HIT"
    vectors = [item.embedding for item in again.parse().data]
    assert vectors == [item.embedding for item in first.parse().data]
    assert {len(v) for v in vectors} == {3072}
    assert cosine(vectors[0], vectors[1]) > cosine(vectors[0], vectors[2]) + 0.2


def test_the_openai_client_gets_the_same_bits_whatever_way_it_asks(offline: ServerProcess) -> None:
    with client(offline) as api, client(offline, "/api/v1") as router:
        alone = api.embeddings.create(model=MODEL, input="alone").data[0].embedding
        floats = api.embeddings.create(model=MODEL, input="alone", encoding_format="float").data[0].embedding
        batch = router.embeddings.create(model=MODEL, input=["other", "alone", "alone", "third"]).data
        assert [item.index for item in batch] == [0, 1, 2, 3]
        assert alone == batch[1].embedding == batch[2].embedding
        assert [float32(x) for x in floats] == alone
        small = api.embeddings.create(model=MODEL, input=["alone"], dimensions=768).data[0].embedding
        raw = api.embeddings.with_raw_response.create(model=MODEL, input="alone", dimensions=768)
        assert raw.parse().data[0].embedding == small
        assert 'derived=1"' in raw.headers["cache-status"]
        length = math.sqrt(sum(x * x for x in alone[:768]))
        assert small == pytest.approx([x / length for x in alone[:768]], abs=1e-6)
        assert {m.id for m in api.models.list()} >= {MODEL}


def float32(value: float) -> float:
    import struct

    packed: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return packed


def test_errors_reach_the_openai_client_typed(offline: ServerProcess) -> None:
    with client(offline) as api:
        with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length"):
            api.embeddings.create(model=MODEL, input=[1, 2, 3])
        with pytest.raises(openai.NotFoundError):
            api.embeddings.create(model="nope", input="x")
    with (
        openai.OpenAI(base_url=f"{offline.url}/v1", api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.embeddings.create(model=MODEL, input="x")


def call(
    port: int,
    method: str,
    path: str,
    headers: dict[str, str] | list[tuple[str, str]],
    body: bytes | None = None,
) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    for name, value in headers.items() if isinstance(headers, dict) else headers:
        connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    answer.data = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


ROUTES = [
    ("GET", "/health"),
    ("GET", "/openapi.json"),
    ("GET", "/dashboard"),
    ("GET", "/dashboard/app.js"),
    ("GET", "/v1/models"),
    ("GET", "/api/v1/embeddings/models"),
    ("POST", "/v1/embeddings"),
    ("POST", "/api/v1/embeddings"),
    ("POST", "/v1/gemini-embedding-2"),
    ("POST", "/v2/gemini-embedding-2"),
    ("GET", f"/v2/requests/{'0' * 32}/status"),
    ("GET", f"/v2/requests/{'0' * 32}"),
    ("POST", "/v2/uploads"),
    ("GET", "/v2/webhooks/secret"),
    ("GET", "/v1beta/models"),
    ("POST", "/v1beta/models/gemini-embedding-2:embedContent"),
    ("OPTIONS", "/v1/embeddings"),
    ("GET", "/nowhere"),
]
OPEN = ("/health", "/openapi.json", "/nowhere")


def test_a_page_elsewhere_cannot_put_either(offline: ServerProcess) -> None:
    """A PUT by a URL of ours needs no key, and without its signature it is refused anyway."""
    path, host = f"/v2/uploads/{'0' * 32}", f"127.0.0.1:{offline.port}"
    assert call(offline.port, "PUT", path, {"Host": "evil.example"}, b"x").status == 421
    answer = call(offline.port, "PUT", path, {"Host": host, "Origin": "https://evil.example"}, b"x")
    assert answer.status == 403
    assert b"web origins" in answer.data


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_the_browser_cannot_be_used_against_it(offline: ServerProcess, method: str, path: str) -> None:
    key = {"Authorization": f"Bearer {offline.key}"}
    good = {"Host": f"127.0.0.1:{offline.port}", **key}
    body = json.dumps({"model": MODEL, "input": "x"}).encode() if method == "POST" else None
    evil_hosts = ["evil.example", f"evil.example:{offline.port}", "127.0.0.1.evil.example", "", "localhost@x"]
    for host in evil_hosts:
        assert call(offline.port, method, path, {**good, "Host": host}, body).status == 421
    evil_origins = [
        "https://evil.example",
        "null",
        "http://127.0.0.1:1",
        f"http://evil.example:{offline.port}",
    ]
    for origin in evil_origins:
        assert call(offline.port, method, path, {**good, "Origin": origin}, body).status == 403
    assert call(offline.port, method, path, {**good, "Sec-Fetch-Site": "cross-site"}, body).status == 403
    answers = [call(offline.port, method, path, {**good, "Host": f"localhost:{offline.port}"}, body)]
    answers.append(call(offline.port, method, path, good, body))
    for answer in answers:
        assert answer.status not in (421, 403)
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert answer.headers["X-Request-Id"]
    without = call(offline.port, method, path, {"Host": good["Host"]}, body)
    open_to_all = path in OPEN or path.startswith("/dashboard") or method == "OPTIONS"
    assert (without.status == 401 or b"API_KEY_INVALID" in without.data) != open_to_all


def test_repeated_headers_are_one_list_and_credentials_come_once(offline: ServerProcess) -> None:
    body = json.dumps({"model": MODEL, "input": "said twice", "dimensions": 128}).encode()
    host = ("Host", f"127.0.0.1:{offline.port}")
    key = ("Authorization", f"Bearer {offline.key}")
    private = [host, key, ("Cache-Control", "no-store"), ("Cache-Control", "max-age=100")]
    answer = call(offline.port, "POST", "/v1/embeddings", private, body)
    assert "stored=?0" in answer.headers["Cache-Status"]
    for twice in (("Host", "evil.example"), key, ("Origin", "http://evil.example")):
        assert call(offline.port, "POST", "/v1/embeddings", [host, key, twice, twice], body).status == 400


def test_head_is_answered_like_get(offline: ServerProcess) -> None:
    answer = call(offline.port, "HEAD", "/health", [("Host", f"127.0.0.1:{offline.port}")])
    assert (answer.status, answer.data) == (200, b"")


OVER_THE_LIMIT: list[tuple[str, Callable[[Any], str]]] = [
    ("/v1/embeddings", lambda error: error["message"]),
    ("/v1/gemini-embedding-2", lambda error: error),
    ("/v1beta/models/gemini-embedding-2:batchEmbedContents", lambda error: error["message"]),
]


@pytest.mark.parametrize(("path", "said"), OVER_THE_LIMIT, ids=["openai", "segmind", "google"])
def test_a_body_over_the_limit_is_refused_before_it_is_read(
    offline: ServerProcess, path: str, said: Callable[[Any], str]
) -> None:
    headers = {
        "Host": f"127.0.0.1:{offline.port}",
        "Authorization": f"Bearer {offline.key}",
        "Content-Length": "6000000",
    }
    refused = call(offline.port, "POST", path, headers)
    assert refused.status == 413
    assert "5500000" in said(json.loads(refused.data)["error"])


def test_a_restart_serves_what_was_bought_and_the_same_key_works(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with server(folder) as first, client(first) as api:
        bought = api.embeddings.create(model=MODEL, input=["kept"]).data[0].embedding
        first.kill()
    key_file = folder / "development.key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "embedonce.sqlite3").stat().st_mode) == 0o600
    with server(folder) as second, client(second) as api:
        assert second.key == first.key == key_file.read_text().strip()
        again = api.embeddings.with_raw_response.create(model=MODEL, input=["kept"])
        assert again.headers["x-cache"] == "HIT"
        assert again.parse().data[0].embedding == bought
        assert "Traceback" not in second.stop()


def test_two_servers_on_one_folder_and_kill_9_of_the_leader(tmp_path: Path) -> None:
    """Followers on both servers get the vector from the second of two calls."""
    slow = {"EMBEDONCE_UPSTREAM_TIMEOUT": "2", "EMBEDONCE_DEV_KEY": "dev"}
    with provider() as paid:
        paid.control("_next", "hang")
        settings = {**paid.settings, **slow}
        with server(tmp_path / "d", **settings) as leader, server(tmp_path / "d", **settings) as other:
            with ThreadPoolExecutor(20) as pool:
                lost = pool.submit(embed, leader, "precious")
                wait_until(lambda: paid.counted()["calls"] == 1)
                following = [pool.submit(embed, other, "precious") for _ in range(16)]
                leader.kill()
                vectors = [f.result(20) for f in following]
            assert isinstance(lost.exception(), openai.APIError)
            assert set(vectors) == {vector_for("precious", 128)}
            assert paid.counted()["calls"] == 2


def test_identical_requests_on_two_servers_are_one_call(tmp_path: Path) -> None:
    with provider("--delay", "1") as paid:
        settings = {**paid.settings, "EMBEDONCE_DEV_KEY": "dev"}
        with server(tmp_path / "d", **settings) as one, server(tmp_path / "d", **settings) as two:
            with ThreadPoolExecutor(32) as pool:
                made = list(pool.map(lambda i: embed((one, two)[i % 2], "the same"), range(32)))
            assert set(made) == {vector_for("the same", 128)}
            assert paid.counted()["calls"] == 1
            assert "openrouter (paid)" in one.said


def test_hits_never_queue_behind_misses(tmp_path: Path) -> None:
    """300 requests wait for a provider that hangs; what only the database holds is answered all the same."""
    with provider() as paid:
        settings = {**paid.settings, "EMBEDONCE_DEV_KEY": "dev", "EMBEDONCE_MEMORY_MB": "0"}
        with server(tmp_path / "d", **settings) as running:
            kept = embed(running, "kept")
            paid.control("_always", "hang")
            with ThreadPoolExecutor(300) as pool:
                waiting = [pool.submit(embed, running, f"slow {n % 3}") for n in range(300)]
                wait_until(lambda: paid.counted()["calls"] == 4)
                assert embed(running, "kept") == kept
                assert not any(f.done() for f in waiting)
                paid.control("_always", "ok")
                paid.control("_release")
                for future in waiting:
                    future.exception(30)


def embed(running: ServerProcess, text: str) -> bytes:
    import base64

    with client(running) as api:
        answer = api.embeddings.with_raw_response.create(
            model=MODEL, input=text, dimensions=128, encoding_format="base64"
        )
        return base64.b64decode(json.loads(answer.content)["data"][0]["embedding"])


def wait_until(happened: Any) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"PORT": "eighty"}, "PORT"),
        ({"EMBEDONCE_UPSTREAMS": "nobody"}, "EMBEDONCE_UPSTREAMS"),
        ({"OPENROUTER_BASE_URL": "openrouter.ai"}, "OPENROUTER_BASE_URL"),
        ({"EMBEDONCE_MODE": "aws"}, "EMBEDONCE_MODE"),
        ({"OPENAI_COMPATIBLE_BASE_URL": "http://127.0.0.1:1/v1"}, "OPENAI_COMPATIBLE_MODEL"),
        ({"EMBEDONCE_MODELS": "[{]"}, "EMBEDONCE_MODELS"),
        ({"EMBEDONCE_MODELS": '[{"id": "x", "like": "nothing"}]'}, "EMBEDONCE_MODELS"),
        ({"EMBEDONCE_DATA_DIR": "/dev/null/x"}, "EMBEDONCE_DATA_DIR"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_named(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    environment = clean_environment() | {"EMBEDONCE_DATA_DIR": str(tmp_path), "PORT": "0", **settings}
    ended = subprocess.run(
        SERVE, env=environment, capture_output=True, text=True, check=False, timeout=30, cwd=tmp_path
    )
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_taken_port_is_named(offline: ServerProcess, tmp_path: Path) -> None:
    environment = clean_environment() | {"EMBEDONCE_DATA_DIR": str(tmp_path), "PORT": str(offline.port)}
    ended = subprocess.run(SERVE, env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 2
    assert str(offline.port) in ended.stderr


def test_as_json_every_line_of_the_log_is_an_object(tmp_path: Path) -> None:
    settings = {"EMBEDONCE_LOG_FORMAT": "json", "EMBEDONCE_LOG_LEVEL": "DEBUG"}
    with server(tmp_path / "data", **settings) as running:
        asked = {"host": "localhost", "authorization": f"Bearer {running.key}", "x-request-id": "mine-1"}
        answer = call(running.port, "GET", "/v1/models", asked)
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(b"canary, no HTTP\r\n\r\n")
            connection.recv(1000)
        said = [json.loads(line) for line in running.stop().splitlines()]
    (line,) = [each for each in said if each["message"] == "request"]
    assert (line["method"], line["route"], line["status"]) == ("GET", "/v1/models", 200)
    assert (line["request_id"], line["correlation_id"]) == (answer.headers["X-Request-Id"], "mine-1")
    assert line["key_id"] == "development"
    assert line["ms"] > 0
    assert "uvicorn.error" in {each["logger"] for each in said}
    assert "canary" not in json.dumps(said)
    assert running.key not in json.dumps(said)
