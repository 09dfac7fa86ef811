"""Google's dialect: what its SDKs may send, what they get back, and what is refused (WIRE 3)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from embedonce.core import vector
from embedonce.core.catalog import BUILT_IN, Catalog, Model
from embedonce.core.content import TEXT_ONLY, RemoteMedia
from embedonce.core.tasks import TaskType
from embedonce.dialects.google.request import parse_one
from embedonce.ports import Offer, UpstreamAnswer, UpstreamCall
from embedonce.upstreams.failure import Kind, UpstreamFailure
from support import media
from support.anymodal import TOKENS, AnyModal, sent, vector_of
from support.gateway import Answer, ImpatientClock, TestGateway, gateway
from support.origin import Asked, Origin, conditional
from support.spoken import heard, standard, url_safe

MODEL = "gemini-embedding-2"
ONE = f"/v1beta/models/{MODEL}:embedContent"
BATCH = f"/v1beta/models/{MODEL}:batchEmbedContents"
PNG = media.png()


def text(*texts: str, **more: Any) -> dict[str, Any]:
    return {"parts": [{"text": t} for t in texts], **more}


def post(gate: TestGateway, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
    return gate.request("POST", path, body if isinstance(body, bytes) else orjson.dumps(body), headers)


def batch(gate: TestGateway, *requests: Any, path: str = BATCH, **more: Any) -> Answer:
    return post(gate, path, {"requests": requests, **more})


def test_one_content(anygate: TestGateway, anymodal: AnyModal) -> None:
    answer = post(anygate, ONE, {"content": text("hello", role="user")})
    assert answer.body.keys() == {"embedding", "usageMetadata"}
    assert answer.body["embedding"].keys() == {"values"}
    assert heard(answer) == [vector_of(["hello"])]
    assert answer.body["usageMetadata"] == {
        "promptTokenCount": TOKENS,
        "promptTokenDetails": [{"modality": "TEXT", "tokenCount": TOKENS}],
    }
    assert post(anygate, ONE, {"content": text("hello", role="model")}).headers["X-Cache"] == "HIT"
    assert post(anygate, ONE, {"content": text("hello")}).body == answer.body
    assert anymodal.contents == [["hello"]]


def test_a_batch_keeps_its_order_and_parts_stay_together(anygate: TestGateway, anymodal: AnyModal) -> None:
    texts = [["b"], ["a", "b"], ["a"], ["b"], ["c"]]
    requests = [{"model": f"models/{MODEL}", "content": text(*t)} for t in texts]
    answer = batch(anygate, *requests, foo=1)
    assert answer.body.keys() == {"embeddings", "usageMetadata"}
    assert heard(answer) == [vector_of(t) for t in texts]
    assert answer.body["usageMetadata"]["promptTokenCount"] == TOKENS * len(texts)
    assert answer.headers["X-Cache"] == "MISS"
    again = batch(anygate, *reversed(requests))
    assert heard(again) == [vector_of(t) for t in reversed(texts)]
    assert again.headers["X-Cache"] == "HIT"
    assert len(anymodal.contents) == 4


def test_a_batch_with_different_options_is_one_answer_in_order(tmp_path: Path) -> None:
    upstream = AnyModal(parameters=["taskType", "title"])
    options: list[dict[str, Any]] = [
        {"outputDimensionality": 256},
        {},
        {"taskType": "RETRIEVAL_QUERY"},
        {"embedContentConfig": {"outputDimensionality": 256}},
        {"output_dimensionality": 128, "task_type": "RETRIEVAL_DOCUMENT", "title": "T"},
        {"embed_content_config": {"task_type": "RETRIEVAL_QUERY"}},
        {"outputDimensionality": 3072, "taskType": "TASK_TYPE_UNSPECIFIED"},
    ]
    sizes = [256, 3072, 3072, 256, 128, 3072, 3072]
    requests = [{"content": text("same"), **more} for more in options]
    with gateway(tmp_path, upstreams=[upstream], clock=ImpatientClock()) as gate:
        answer = batch(gate, *requests)
        assert [vector.dimensions_of(v) for v in heard(answer)] == sizes
        assert heard(answer) == [vector_of(["same"], size) for size in sizes]
        assert answer.body["usageMetadata"]["promptTokenCount"] == TOKENS * len(sizes)
        again = batch(gate, *requests)
        assert again.headers["X-Cache"] == "HIT"
        assert heard(again) == heard(answer)
    sent = [dict(call.parameters) for call in upstream.calls]
    assert sorted(sent, key=len) == [
        {},
        {"taskType": "RETRIEVAL_QUERY"},
        {"taskType": "RETRIEVAL_DOCUMENT", "title": "T"},
    ]
    assert upstream.contents == [["same"]] * 3  # no prefix; 256 is cut from what the same batch bought


def test_task_types_are_no_part_of_the_key_where_they_are_not_sent(
    anygate: TestGateway, anymodal: AnyModal
) -> None:
    for task in (None, "TASK_TYPE_UNSPECIFIED", *TaskType):
        assert post(anygate, ONE, {"content": text("x"), "taskType": task, "title": "T"}).status == 200
    assert anymodal.contents == [["x"]]
    assert anymodal.calls[0].parameters == {}


PATHS = [
    "/v1beta/models/gemini-embedding-2",
    "/v1/models/gemini-embedding-2",
    "/v1beta/models/google/gemini-embedding-2",
    "/v1/models/google/gemini-embedding-2",
    "/v1beta/models/models/gemini-embedding-2",
    "/v1beta1/publishers/google/models/gemini-embedding-2",
    "/v1/publishers/google/models/gemini-embedding-2",
    "/v1/projects/p-1/locations/us-central1/publishers/google/models/gemini-embedding-2",
    "/v1beta1/projects/p-1/locations/global/publishers/google/models/gemini-embedding-2",
]


@pytest.mark.parametrize("path", PATHS)
def test_every_path_is_the_same_entry(anygate: TestGateway, anymodal: AnyModal, path: str) -> None:
    first = post(anygate, ONE, {"content": text("x")})
    for answer in (
        post(anygate, f"{path}:embedContent", {"content": text("x")}),
        batch(anygate, {"content": text("x")}, path=f"{path}:batchEmbedContents"),
    ):
        assert answer.headers["X-Cache"] == "HIT"
        assert heard(answer) == heard(first)
        vertex = "/publishers/" in path
        assert ("promptTokensDetails" in answer.body["usageMetadata"]) == vertex
        assert ("promptTokenDetails" in answer.body["usageMetadata"]) != vertex
    refused = post(anygate, f"{path}:generateContent", {"contents": []})
    assert refused.status == 404
    assert refused.error["status"] == "NOT_FOUND"
    assert len(anymodal.calls) == 1


@pytest.mark.parametrize(
    "part",
    [
        {"inlineData": {"mimeType": "image/png", "data": standard(PNG)}},
        {"inline_data": {"mime_type": "image/png", "data": url_safe(PNG)}},
        {"inlineData": {"mime_type": "audio/mpeg", "data": url_safe(PNG).rstrip("=")}},
        {"inline_data": {"data": standard(PNG)}, "inlineData": None, "text": None, "fileData": None},
        {"inlineData": {"data": standard(PNG)}, "videoMetadata": {}, "thought": False},
    ],
    ids=str,
)
def test_both_spellings_and_alphabets(anygate: TestGateway, anymodal: AnyModal, part: dict[str, Any]) -> None:
    for parts in ([part], [{"text": "cap"}, part]):
        sent = ["cap", PNG] if len(parts) == 2 else [PNG]
        answer = batch(anygate, {"content": {"parts": parts}, "output_dimensionality": "768"})
        assert heard(answer) == [vector_of(sent, 768)]
    assert anymodal.contents == [[PNG], ["cap", PNG]]


@pytest.mark.parametrize(
    "names", [("fileData", "fileUri"), ("file_data", "file_uri"), ("file_data", "fileUri")]
)
def test_urls_are_kept_for_the_guard(names: tuple[str, str]) -> None:
    url = "https://example.com/v.mp4"
    parts = [{"text": "x"}, {names[0]: {names[1]: url, "mimeType": "video/mp4"}}]
    body = parse_one(orjson.dumps({"content": {"parts": parts}}), MODEL, Catalog(BUILT_IN))
    found = body.groups[0].drafts[0].parts[1]
    assert found == RemoteMedia(url, None, f"content.parts[1].{names[0]}.{names[1]}")


def file(uri: Any) -> dict[str, Any]:
    return {"content": {"parts": [{"fileData": {"fileUri": uri}}]}}


def inline(data: Any) -> dict[str, Any]:
    return {"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": data}}]}}


FILE_URI = "content.parts[0].fileData.fileUri"
BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "content"),
    ({"content": None}, "content"),
    ({"content": "x"}, "content.parts"),
    ({"content": {}}, "content.parts"),
    ({"content": {"parts": []}}, "content.parts"),
    ({"content": {"parts": "x"}}, "content.parts"),
    ({"content": {"parts": ["x"]}}, "content.parts[0]"),
    ({"content": {"parts": [{}]}}, "content.parts[0]"),
    ({"content": {"parts": [{"text": "x"}, {"functionCall": {}}]}}, "content.parts[1]"),
    ({"content": {"parts": [{"text": "x", "inlineData": {"data": "AA=="}}]}}, "content.parts[0]"),
    ({"content": text("")}, "content.parts[0].text"),
    ({"content": {"parts": [{"text": 5}]}}, "content.parts[0].text"),
    ({"content": text("x" * 65_537)}, "content"),
    (inline(None), "content.parts[0].inlineData.data"),
    (inline(""), "content.parts[0].inlineData.data"),
    (inline("§§"), "content.parts[0].inlineData.data"),
    (inline("https://example.com/x.png"), "content.parts[0].inlineData.data"),
    (inline(standard(b"nothing known")), "content.parts[0].inlineData.data"),
    ({"content": {"parts": [{"inline_data": "AA=="}]}}, "content.parts[0].inline_data.data"),
    (
        {"content": {"parts": [{"inlineData": {"data": "AA=="}, "video_metadata": {"fps": 1}}]}},
        "content.parts[0].video_metadata",
    ),
    ({"content": {"parts": [{"fileData": "https://x/y"}]}}, "content.parts[0].fileData"),
    (file(None), FILE_URI),
    (file(5), FILE_URI),
    (file("gs://bucket/video.mp4"), FILE_URI),
    (file("files/abc-123"), FILE_URI),
    (file("https://generativelanguage.googleapis.com/v1beta/files/abc-123"), FILE_URI),
    (file("ftp://example.com/x"), FILE_URI),
    (file("https://[bad"), FILE_URI),
    (file("http://127.0.0.1/x.png"), FILE_URI),
    (file("https://127.0.0.1/x.png"), FILE_URI),
    ({"content": text("x"), "taskType": "SEARCH"}, "taskType"),
    ({"content": text("x"), "task_type": 1}, "task_type"),
    ({"content": text("x"), "title": 5}, "title"),
    ({"content": text("x"), "title": "t" * 1025}, "title"),
    ({"content": text("x"), "outputDimensionality": 64}, "outputDimensionality"),
    ({"content": text("x"), "output_dimensionality": 4000}, "output_dimensionality"),
    ({"content": text("x"), "outputDimensionality": "many"}, "outputDimensionality"),
    ({"content": text("x"), "outputDimensionality": True}, "outputDimensionality"),
    ({"content": text("x"), "embedContentConfig": 5}, "embedContentConfig"),
    ({"content": text("x"), "embedContentConfig": {"taskType": "X"}}, "embedContentConfig.taskType"),
    (
        {"content": text("x"), "embed_content_config": {"output_dimensionality": 1}},
        "embed_content_config.output_dimensionality",
    ),
    ({"content": text("x"), "embedContentConfig": {"documentOcr": True}}, "embedContentConfig.documentOcr"),
    ({"content": text("x"), "model": "models/gemini-embedding-2-preview"}, "model"),
    ({"content": text("x"), "model": "models/nothing"}, "model"),
    ({"content": text("x"), "model": 5}, "model"),
]


@pytest.mark.parametrize(("body", "field"), BAD, ids=lambda v: str(v)[:60])
def test_a_wrong_field_is_named(
    anygate: TestGateway, anymodal: AnyModal, body: dict[str, Any], field: str
) -> None:
    good = {"content": text("good")}
    for answer, where in (
        (post(anygate, ONE, body), field),
        (batch(anygate, good, body), f"requests[1].{field}"),
    ):
        assert answer.status == answer.error["code"] == 400
        assert answer.error["status"] == "INVALID_ARGUMENT"
        assert answer.error["message"].startswith(f"{where}:")
        (violation,) = answer.error["details"][1]["fieldViolations"]
        assert violation["field"] == where
    assert anymodal.calls == []


def test_one_bad_request_refuses_the_batch_before_anything_is_paid(
    anygate: TestGateway, anymodal: AnyModal
) -> None:
    """Also where its options put it into another group than the good ones."""
    picture = {"inlineData": {"data": standard(PNG)}}
    good = [{"content": text("a")}, {"content": {"parts": [picture]}, "outputDimensionality": 256}]
    for bad in (
        {"content": {"parts": [{"inlineData": {"data": standard(media.wav(181))}}]}},
        {"content": {"parts": [{"inlineData": {"data": standard(media.gif())}}]}},
        {"content": text("x" * 65_537)},
    ):
        for requests in ([*good, bad], [bad, *good]):
            for size in (128, 3072):
                answer = batch(
                    anygate, *({**r, "outputDimensionality": size} if r is bad else r for r in requests)
                )
                assert answer.status == 400
                assert f"requests[{requests.index(bad)}]" in answer.error["message"]
    assert anymodal.calls == []
    assert batch(anygate, *good).status == 200
    assert sorted(anymodal.contents, key=str) == [["a"], [PNG]]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"null",
        b'{"requests": "\xff"}',
        {},
        {"requests": []},
        {"requests": {}},
        {"requests": ["x"]},
    ],
    ids=str,
)
def test_a_body_that_is_no_request(anygate: TestGateway, anymodal: AnyModal, body: Any) -> None:
    for path in (ONE, BATCH):
        answer = post(anygate, path, body)
        assert answer.status == 400
        assert answer.error["status"] == "INVALID_ARGUMENT"
    assert anymodal.calls == []


def test_at_most_100_requests_in_a_batch(anygate: TestGateway, anymodal: AnyModal) -> None:
    requests = [{"content": text(f"text {i}"), "outputDimensionality": 128} for i in range(101)]
    refused = batch(anygate, *requests)
    assert refused.status == 400
    assert "at most 100 requests can be in one batch" in refused.error["message"]
    assert anymodal.calls == []
    answer = batch(anygate, *requests[:100])
    assert heard(answer) == [vector_of([f"text {i}"], 128) for i in range(100)]
    assert len(anymodal.calls) == 1


def test_bad_keys_are_400_as_at_google(anygate: TestGateway) -> None:
    for headers in ({}, {"x-goog-api-key": "AIza-nonsense"}):
        answer = post(anygate, ONE, {"content": text("x")}, {"authorization": "", **headers})
        assert answer.status == answer.error["code"] == 400
        assert answer.error["status"] == "INVALID_ARGUMENT"
        assert answer.error["message"] == "API key not valid. Please pass a valid API key."
        (detail,) = answer.error["details"]
        assert detail["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
        assert (detail["reason"], detail["domain"]) == ("API_KEY_INVALID", "googleapis.com")


def test_unknown_models_and_routes_are_said_in_googles_words(anygate: TestGateway) -> None:
    for path in ("/v1beta/models/nothing:embedContent", "/v1/models/nothing:batchEmbedContents"):
        answer = post(anygate, path, {"requests": []})
        assert (answer.status, answer.error["status"]) == (404, "NOT_FOUND")
        assert "google/gemini-embedding-2" in answer.error["message"]
    for method, path in (
        ("GET", "/v1beta/nothing"),
        ("POST", "/v1beta/files"),
        ("POST", "/upload/v1beta/files"),
        ("GET", "/v1beta1/publishers/google/models"),
        ("GET", "/v1beta/batches/1"),
        ("POST", f"/v1beta/models/{MODEL}:asyncBatchEmbedContent"),
        ("POST", f"/v1/models/{MODEL}:countTokens"),
        ("GET", "/v1beta/models/nothing"),
    ):
        answer = anygate.request(method, path)
        assert (answer.status, answer.error["status"]) == (404, "NOT_FOUND"), path
    wrong = anygate.request("GET", "/v1beta1/publishers/google/models/x:embedContent")
    assert (wrong.status, wrong.error["status"]) == (405, "UNIMPLEMENTED")
    assert anygate.request("POST", "/v1beta/models").error["code"] == 405


def test_models(anygate: TestGateway) -> None:
    key = {"authorization": "", "x-goog-api-key": "test-development-key"}
    listed = anygate.request("GET", "/v1beta/models", headers=key).body
    assert listed == anygate.request("GET", "/v1/models", headers=key).body
    assert (
        listed
        == anygate.request("GET", "/v1/models?key=test-development-key", headers={"authorization": ""}).body
    )
    assert listed.keys() == {"models"}
    assert listed["models"][0] == {
        "name": "models/gemini-embedding-2",
        "baseModelId": "gemini-embedding-2",
        "version": "2",
        "displayName": "Google: Gemini Embedding 2",
        "description": BUILT_IN[0].description,
        "inputTokenLimit": 8192,
        "outputTokenLimit": 1,
        "supportedGenerationMethods": ["embedContent", "batchEmbedContents"],
    }
    for model in listed["models"]:
        for path in (f"/v1beta/{model['name']}", f"/v1/{model['name']}"):
            assert anygate.request("GET", path, headers=key).body == model
    first = anygate.request("GET", "/v1beta/models?pageSize=1", headers=key).body
    second = anygate.request(
        "GET", f"/v1beta/models?pageSize=1&pageToken={first['nextPageToken']}", headers=key
    )
    assert first["models"] + second.body["models"] == listed["models"]
    assert "nextPageToken" not in second.body
    assert anygate.request("GET", "/v1beta/models?pageSize=x", headers=key).status == 400
    # without Google's header the path is OpenAI's, and so is its refusal
    assert anygate.request("GET", "/v1/models").body["object"] == "list"
    assert anygate.request("GET", f"/v1/models/{MODEL}").body["object"] == "model"
    nobody = {"authorization": ""}
    assert anygate.request("GET", "/v1/models", headers=nobody).status == 401
    assert anygate.request("GET", "/v1/models?key=", headers=nobody).status == 400


def test_models_beyond_the_built_in_ones_have_names_that_lead_back_to_them(tmp_path: Path) -> None:
    models = orjson.dumps(
        [{"id": "google/other"}, {"id": "acme/embed-3"}, {"id": "google/embed"}, {"id": "embed"}]
    ).decode()
    with gateway(tmp_path, upstreams=[AnyModal()], models=models) as gate:
        listed = gate.request("GET", "/v1beta/models").body["models"]
        names = [model["name"] for model in listed][len(BUILT_IN) :]
        assert names == ["models/other", "models/acme/embed-3", "models/google/embed", "models/embed"]
        for model in listed:
            assert gate.request("GET", f"/v1beta/{model['name']}").body == model


def test_an_answer_that_would_not_fit_is_refused_before_paying(tmp_path: Path) -> None:
    models = orjson.dumps([{"id": "large", "dimensions": 4096}]).decode()
    upstream = AnyModal()
    with gateway(tmp_path, upstreams=[upstream], models=models) as gate:
        requests = [{"content": text(f"text {i}")} for i in range(100)]
        answer = batch(gate, *requests, path="/v1beta/models/large:batchEmbedContents")
        assert answer.status == answer.error["code"] == 413
        assert "4096 dimensions at most 83 requests fit" in answer.error["message"]
        assert upstream.calls == []


class Slow(AnyModal):
    """Each call takes a while; texts with "bad" are refused."""

    seconds = 0.3

    def embed(self, call: UpstreamCall, *, timeout: float) -> UpstreamAnswer:
        time.sleep(self.seconds)
        if any("bad" in str(part) for content in call.contents for part in sent(content)):
            self.calls.append(call)
            raise UpstreamFailure(Kind.REJECTED, "anymodal refused the input")
        return super().embed(call, timeout=timeout)


@pytest.fixture
def slow() -> Slow:
    return Slow(parameters=["taskType", "title"])


@pytest.fixture
def slowgate(tmp_path: Path, slow: Slow) -> Iterator[TestGateway]:
    with gateway(tmp_path, upstreams=[slow], clock=ImpatientClock()) as running:
        yield running


def titled(n: int, content: Any = None, **more: Any) -> dict[str, Any]:
    more = {"outputDimensionality": 128, **more}
    return {"content": content or text(f"text {n}"), "taskType": "RETRIEVAL_DOCUMENT", "title": f"{n}"} | more


def test_what_has_different_options_is_bought_at_once_in_order(slowgate: TestGateway, slow: Slow) -> None:
    requests = [titled(n) for n in range(100)]
    began = time.monotonic()
    answer = batch(slowgate, *requests)
    assert time.monotonic() - began < 8
    assert heard(answer) == [vector_of([f"text {n}"], 128) for n in range(100)]
    assert len(slow.calls) == 100
    assert batch(slowgate, *requests).headers["X-Cache"] == "HIT"


def test_the_first_failure_of_a_group_ends_the_batch_and_what_was_bought_is_kept(
    slowgate: TestGateway, slow: Slow
) -> None:
    requests = [titled(n) for n in range(4)]
    answer = batch(slowgate, *requests, titled(4, text("bad")))
    assert answer.status == 400
    assert "refused" in answer.error["message"]
    assert batch(slowgate, *requests).headers["X-Cache"] == "HIT"
    assert len(slow.calls) == 5


def test_groups_that_take_too_long_end_with_the_deadline(slowgate: TestGateway, slow: Slow) -> None:
    slow.seconds = 1.0
    body = orjson.dumps({"requests": [titled(n) for n in range(100)]})
    began = time.monotonic()
    answer = slowgate.request("POST", BATCH, body, seconds=2.5)
    assert time.monotonic() - began < 8
    assert answer.status == 504
    calls = len(slow.calls)
    time.sleep(1.2)
    assert len(slow.calls) <= calls + 64 < 100  # what had not begun is not bought


def test_a_known_refusal_is_named_by_its_place_in_the_body(slowgate: TestGateway, slow: Slow) -> None:
    slow.seconds = 0.0
    assert batch(slowgate, titled(1, text("bad"))).status == 400
    said = batch(slowgate, titled(0), titled(1, text("bad"))).error["message"]
    assert said.startswith("requests[1].content: ")
    body = {"model": MODEL, "input": [{"content": [{"type": "text", "text": "bad"}]}, "bad"]}
    for _ in range(2):
        openai = post(slowgate, "/v1/embeddings", body)
    assert (openai.error["param"], len(slow.calls)) == ("input[0]", 3)


class TextOnly(AnyModal):
    def offer(self, model: Model) -> Offer | None:
        offer = super().offer(model)
        assert offer is not None
        return replace(offer, modalities=TEXT_ONLY)


def test_what_no_upstream_takes_is_named_by_its_place_before_anything_is_paid(tmp_path: Path) -> None:
    sound = {"parts": [{"inlineData": {"data": standard(media.wav(1))}}]}
    upstream = TextOnly(parameters=["taskType", "title"])
    with gateway(tmp_path, upstreams=[upstream]) as gate:
        said = batch(gate, titled(0), titled(1, sound), titled(2, sound)).error["message"]
    assert said.startswith("requests[1].content: audio is not taken by")
    assert upstream.calls == []


def linked(n: int, url: str) -> dict[str, Any]:
    return titled(n, {"parts": [{"fileData": {"fileUri": url}}]})


def test_urls_of_all_groups_are_fetched_once_and_bounded_together(tmp_path: Path) -> None:
    def respond(asked: Asked) -> Iterable[bytes]:
        return [conditional(asked, media.png(shade=int(asked.path[1:]) % 4), f'"{asked.path}"')]

    upstream = AnyModal(parameters=["taskType", "title"])
    with Origin(respond) as origin:
        settings = {"media_origins": origin.url}
        with gateway(tmp_path, upstreams=[upstream], clock=ImpatientClock(), **settings) as gate:
            many = batch(gate, *(linked(n, f"{origin.url}/{n}") for n in range(17)))
            assert many.status == 400
            assert "16 different URLs in one request" in many.error["message"]
            assert origin.asked == []
            same = [linked(n, f"{origin.url}/1") for n in range(6)]
            assert batch(gate, *same).status == 200
            assert len(origin.asked) == 1
            assert len(upstream.calls) == 6
            more = [linked(n, f"{origin.url}/1") for n in range(8)]
            assert batch(gate, *more).status == 200
            assert len(origin.asked) == 3  # unchanged, then its bytes for what is missing
            assert len(upstream.calls) == 8


def test_media_bytes_of_all_groups_are_bounded_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedonce.media.resolve.MAX_REQUEST_BYTES", 1)
    upstream = AnyModal(parameters=["taskType", "title"])
    with gateway(tmp_path, upstreams=[upstream], clock=ImpatientClock(), media_mb="1") as gate:
        pictures = [media.png(shade=n) + bytes(400_000) for n in range(3)]
        parts = [{"parts": [{"inlineData": {"data": standard(p)}}]} for p in pictures]
        answer = batch(gate, *(titled(n, p) for n, p in enumerate(parts)))
    assert answer.status == 400
    assert "bytes of media in one request" in answer.error["message"]
    assert upstream.calls == []
