"""Segmind's v1: what its client may send, what it gets back, and what is refused (WIRE 2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from embedonce.core.catalog import BUILT_IN, GEMINI_EMBEDDING_2, Catalog
from embedonce.core.content import Modality, RemoteMedia
from embedonce.core.errors import EmbedonceError
from embedonce.core.tasks import TaskType
from embedonce.dialects.segmind import errors
from embedonce.dialects.segmind.request import parse
from support import media
from support.anymodal import TOKENS, AnyModal, vector_of
from support.gateway import Answer, TestGateway, gateway
from support.spoken import heard, standard

SLUG = "gemini-embedding-2"
PNG = [media.png(shade=n) for n in range(7)]


def infer(
    gate: TestGateway, slug: str = SLUG, headers: Mapping[str, str] | None = None, **fields: Any
) -> Answer:
    return gate.request("POST", f"/v1/{slug}", orjson.dumps(fields), headers)


def test_the_seeds_request(anygate: TestGateway, anymodal: AnyModal) -> None:
    text = "Segmind provides fast and affordable AI model APIs."
    answer = infer(anygate, input=text, task_type="RETRIEVAL_DOCUMENT", output_dimensionality=768)
    assert heard(answer) == [vector_of([f"title: none | text: {text}"], 768)]
    assert {k: v for k, v in answer.body.items() if k != "embedding"} == {
        "dimensions": 768,
        "model": "google/gemini-embedding-2",
        "usage": {
            "prompt_tokens": TOKENS,
            "total_tokens": TOKENS,
            "cost": pytest.approx(TOKENS * 0.20 / 1e6),
            "prompt_tokens_details": {"text_tokens": TOKENS, "cached_tokens": 0},
        },
    }
    assert answer.headers["X-Cost"] == answer.headers["X-Cost-USD"] == "0.0000014"
    assert 0 <= float(answer.headers["X-Generation-Time"]) < 20
    assert answer.headers["X-Request-Id"]
    assert "x-remaining-credits" not in {name.lower() for name in answer.headers}
    again = infer(anygate, input=text)
    assert again.headers["X-Cache"] == "HIT"
    assert again.headers["X-Cost"] == "0"
    assert again.body["embedding"] == answer.body["embedding"]


@pytest.mark.parametrize(
    "fields",
    [
        {"task_type": None, "output_dimensionality": None, "image": None, "images": None, "title": None},
        {"task_type": "", "image": "", "images": [], "audio": "", "video": "", "pdf": "", "title": ""},
        {"images": "", "output_dimensionality": 768.0},
        {"timeout": 5, "interval": 0.5, "image_urls": ["https://x/y.png"], "seed": {"a": []}},
        {"input": None, "text": "a cat"},
        {"input": "", "text": "a cat"},
        {"text": "another text"},
    ],
    ids=str,
)
def test_what_means_the_same_is_the_same_entry(
    anygate: TestGateway, anymodal: AnyModal, fields: dict[str, Any]
) -> None:
    infer(anygate, input="a cat")
    assert infer(anygate, **{"input": "a cat", **fields}).headers["X-Cache"] == "HIT"
    assert anymodal.contents == [["title: none | text: a cat"]]


@pytest.mark.parametrize("task", TaskType)
def test_the_task_goes_into_the_text(anygate: TestGateway, anymodal: AnyModal, task: TaskType) -> None:
    assert infer(anygate, input="x", task_type=task.value, title="T").status == 200
    (sent,) = anymodal.contents
    assert sent != ["x"]
    assert str(sent[0]).endswith(": x")
    assert str(sent[0]).startswith("title: T |" if task is TaskType.RETRIEVAL_DOCUMENT else "task: ")


@pytest.mark.parametrize(
    "slug", [n for m in BUILT_IN for n in (m.id, *m.aliases) if not n.startswith("models/")]
)
def test_the_models_name_is_the_path(anygate: TestGateway, slug: str) -> None:
    assert infer(anygate, slug, input="x").body["model"] == f"google/{slug.removeprefix('google/')}"


def test_parts_come_in_a_fixed_order_whatever_the_json_has(anygate: TestGateway, anymodal: AnyModal) -> None:
    wav, mp4, pdf = media.wav(), media.mp4(), media.pdf()
    fields = {
        "pdf": standard(pdf),
        "video": standard(mp4),
        "audio": standard(wav),
        "images": [standard(PNG[1]), standard(PNG[2])],
        "image": standard(PNG[0]),
        "input": "a text",
    }
    parts = ["a text", PNG[0], PNG[1], PNG[2], wav, mp4, pdf]
    for said in (fields, dict(reversed(fields.items()))):
        assert heard(infer(anygate, **said)) == [vector_of(parts, 768)]
    assert anymodal.contents == [parts]


def test_media_need_no_text_and_one_image_needs_no_list(anygate: TestGateway, anymodal: AnyModal) -> None:
    image = standard(PNG[0])
    for fields in ({"image": image}, {"images": [image]}, {"images": image}, {"image": image, "input": ""}):
        assert heard(infer(anygate, **fields)) == [vector_of([PNG[0]], 768)]
    assert anymodal.contents == [[PNG[0]]]


def test_six_images_are_taken_and_seven_are_not(anygate: TestGateway, anymodal: AnyModal) -> None:
    images = [standard(png) for png in PNG]
    for fields in ({"images": images}, {"image": images[0], "images": images[1:]}):
        refused = infer(anygate, input="x", **fields)
        assert refused.status == 400
        assert refused.error == "images: limit is 6 images in one request, got 7"
    assert anymodal.calls == []
    assert infer(anygate, input="x", image=images[0], images=images[1:6]).status == 200


def test_urls_are_kept_for_the_guard_with_the_field_they_came_in() -> None:
    url = "https://example.com/x"
    body = orjson.dumps({"image": url, "images": [url], "audio": url, "video": url, "pdf": url})
    draft = parse(body, SLUG, Catalog(BUILT_IN)).draft
    assert draft.parts == (
        RemoteMedia(url, Modality.IMAGE, "image"),
        RemoteMedia(url, Modality.IMAGE, "images[0]"),
        RemoteMedia(url, Modality.AUDIO, "audio"),
        RemoteMedia(url, Modality.VIDEO, "video"),
        RemoteMedia(url, Modality.PDF, "pdf"),
    )
    assert draft.param == "image, images, audio, video, pdf"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": None}, "input"),
        ({"input": "", "text": "", "images": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": ["a", "b"]}, "input"),
        ({"input": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}, "input"),
        ({"text": ["a"]}, "text"),
        ({"input": "x" * 65_537}, "input"),
        ({"input": "x", "task_type": "SEARCH"}, "task_type"),
        ({"input": "x", "task_type": "TASK_TYPE_UNSPECIFIED"}, "task_type"),
        ({"input": "x", "task_type": 3}, "task_type"),
        ({"input": "x", "title": 3}, "title"),
        ({"input": "x", "title": "t" * 1025}, "title"),
        ({"input": "x", "output_dimensionality": 64}, "output_dimensionality"),
        ({"input": "x", "output_dimensionality": 4000}, "output_dimensionality"),
        ({"input": "x", "output_dimensionality": "768"}, "output_dimensionality"),
        ({"input": "x", "output_dimensionality": 0}, "output_dimensionality"),
        ({"input": "x", "image": 5}, "image"),
        ({"input": "x", "image": "§"}, "image"),
        ({"input": "x", "image": {"url": "https://x/y.png"}}, "image"),
        ({"input": "x", "image": standard(media.wav())}, "image"),
        ({"input": "x", "image": standard(media.gif())}, "input, image"),
        ({"input": "x", "images": {}}, "images"),
        ({"input": "x", "images": [""]}, "images[0]"),
        ({"input": "x", "images": [standard(PNG[0]), None]}, "images[1]"),
        ({"input": "x", "images": [standard(PNG[0]), standard(media.pdf())]}, "images[1]"),
        ({"input": "x", "audio": [standard(media.wav())]}, "audio"),
        ({"input": "x", "audio": standard(media.mp4(audio=False))}, "audio"),
        ({"input": "x", "video": standard(PNG[0])}, "video"),
        ({"input": "x", "pdf": standard(PNG[0])}, "pdf"),
        ({"input": "x", "pdf": "files/abc"}, "pdf"),
        ({"input": "x", "image": "http://127.0.0.1/x.png"}, "image"),
        ({"input": "x", "image": "https://169.254.169.254/x.png"}, "image"),
        ({"input": "x", "cache": "no"}, "cache"),
    ],
    ids=lambda v: str(v)[:50],
)
def test_a_wrong_field_is_named(
    anygate: TestGateway, anymodal: AnyModal, fields: dict[str, Any], named: str
) -> None:
    answer = infer(anygate, **fields)
    assert answer.status == 400
    assert answer.body.keys() == {"error"}
    assert answer.error.startswith(f"{named}:")
    assert anymodal.calls == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"null", b'{"input": "\xff"}', b'{"input": "\\ud800"}']
)
def test_a_body_that_is_no_request(anygate: TestGateway, anymodal: AnyModal, body: bytes) -> None:
    answer = anygate.request("POST", f"/v1/{SLUG}", body)
    assert answer.status == 400
    assert isinstance(answer.error, str)
    assert anymodal.calls == []


def test_it_shadows_no_other_route(anygate: TestGateway) -> None:
    def post(path: str, method: str = "POST") -> Answer:
        return anygate.request(method, path, b'{"input": "x"}')

    for path in ("/v1/chat/completions", "/v1/nothing", "/v1/google/nothing", "/v1/embeddings/models"):
        unknown = post(path)
        assert unknown.status == 404
        assert unknown.error.startswith("model: unknown model. Known models: google/")
    assert post("/v1/embeddings").error["param"] == "model"
    for path in ("/v1/models", f"/v1/models/{SLUG}"):
        assert post(path).status == 405
        assert post(path).error["type"] == "invalid_request_error"
    assert post("/v1/nothing", "GET").status == 404
    assert post("/v1/nothing", "GET").error["type"] == "not_found_error"
    assert post(f"/v2/{SLUG}").body["status"] == "QUEUED"
    assert post("/v2/nothing").error.startswith("model: unknown model")
    assert post("/v3/nothing").status == 404
    assert post("/v1/").status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize("name", [SLUG, f"google/{SLUG}"])
def test_a_models_path_takes_no_other_method(anygate: TestGateway, name: str, method: str) -> None:
    answer = anygate.request(method, f"/v1/{name}", b"")
    assert (answer.status, answer.body) == (405, {"error": "this route takes POST"})


def test_every_documented_code_and_no_other() -> None:
    documented = {400, 401, 403, 404, 406, 429, 500, 502, 504}
    of_http = {405, 408, 413, 421}
    seen = set()

    def walk(kind: type[EmbedonceError]) -> None:
        for sub in kind.__subclasses__():
            if sub.__name__ != "LimitExceeded":
                error = sub("what happened")
                answer = errors.render(error)
                assert orjson.loads(answer.body) == {"error": "what happened"}
                assert ("Retry-After" in answer.headers) == error.retryable
                seen.add(answer.status)
            walk(sub)

    walk(EmbedonceError)
    seen.add(errors.render(EmbedonceError("what happened")).status)
    assert seen <= documented | of_http
    assert seen >= documented - {406}  # no credits: with budgets

    class NoCredits(EmbedonceError):
        http_status = 402

    assert errors.render(NoCredits("what happened")).status == 406


def test_a_model_of_one_size_has_its_own_default(tmp_path: Path) -> None:
    models = orjson.dumps([{"id": "small", "dimensions": 384}]).decode()
    upstream = AnyModal()
    with gateway(tmp_path, upstreams=[upstream], models=models) as gate:
        assert infer(gate, "small", input="x").body["dimensions"] == 384
        assert infer(gate, input="x").body["dimensions"] == 768
    assert GEMINI_EMBEDDING_2.dimensions.default == 3072
