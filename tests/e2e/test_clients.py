"""Real clients of the three protocols against a real server: every modality they can send, miss and hit."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import segmind
from google import genai
from google.genai import errors, types
from segmind.exceptions import SegmindError

from embedonce.core import vector
from support import media
from support.anymodal import TOKENS, AnyModal, vector_of
from support.gateway import DEV_KEY
from support.serving import served
from support.spoken import data_url, standard

MODEL = "gemini-embedding-2"
MEDIA = {
    "image": ("image/png", media.png(shade=9)),
    "audio": ("audio/mpeg", media.mp3()),
    "video": ("video/mp4", media.mp4()),
    "pdf": ("application/pdf", media.pdf()),
}


@pytest.fixture(scope="module")
def upstream() -> AnyModal:
    return AnyModal()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, upstream: AnyModal) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("clients"), [upstream]) as base:
        yield base


@pytest.fixture
def gemini(url: str) -> Iterator[genai.Client]:
    client = genai.Client(api_key=DEV_KEY, http_options=types.HttpOptions(base_url=url))
    yield client
    client.close()


@pytest.fixture
def vertex(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[genai.Client]:
    for name in ("GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION"):
        monkeypatch.delenv(name, raising=False)
    client = genai.Client(vertexai=True, api_key=DEV_KEY, http_options=types.HttpOptions(base_url=url))
    yield client
    client.close()


@pytest.fixture
def seg(url: str) -> Iterator[Any]:
    client = segmind.SegmindClient(api_key=DEV_KEY, base_url=f"{url}/v1")
    yield client
    client._client.close()


@pytest.fixture
def oai(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=DEV_KEY, max_retries=0) as client:
        yield client


def read(answer: types.EmbedContentResponse) -> list[bytes]:
    assert answer.embeddings is not None
    return [vector.pack(one.values or []) for one in answer.embeddings]


def status(answer: types.EmbedContentResponse) -> str:
    assert answer.sdk_http_response is not None
    headers = {k.lower(): v for k, v in (answer.sdk_http_response.headers or {}).items()}
    return headers["x-cache"]


def test_google_texts(gemini: genai.Client) -> None:
    one = gemini.models.embed_content(model=MODEL, contents="hello")
    assert read(one) == [vector_of(["hello"])]
    assert status(one) == "MISS"
    assert status(gemini.models.embed_content(model=f"models/{MODEL}", contents="hello")) == "HIT"
    together = gemini.models.embed_content(model=f"google/{MODEL}", contents=["a", "b"])
    assert read(together) == [vector_of(["a", "b"])]
    apart = gemini.models.embed_content(
        model=MODEL, contents=[types.Content(parts=[types.Part(text=t)]) for t in ("b", "a", "hello")]
    )
    assert read(apart) == [vector_of([t]) for t in ("b", "a", "hello")]
    assert status(apart) == "PARTIAL"


def test_google_settings(gemini: genai.Client, upstream: AnyModal) -> None:
    config = types.EmbedContentConfig(task_type="RETRIEVAL_DOCUMENT", title="T", output_dimensionality=256)
    answer = gemini.models.embed_content(model=MODEL, contents="with settings", config=config)
    assert read(answer) == [vector_of(["with settings"], 256)]
    many = [types.Content(parts=[types.Part(text=f"text {n}")]) for n in range(101)]
    with pytest.raises(errors.ClientError, match="at most 100 requests can be in one batch"):
        gemini.models.embed_content(model=MODEL, contents=many)
    before = len(upstream.contents)
    answer = gemini.models.embed_content(
        model=MODEL, contents=many[:100], config=types.EmbedContentConfig(output_dimensionality=128)
    )
    assert read(answer) == [vector_of([f"text {n}"], 128) for n in range(100)]
    assert len(upstream.contents) == before + 100


@pytest.mark.parametrize("kind", MEDIA)
def test_google_media(gemini: genai.Client, vertex: genai.Client, upstream: AnyModal, kind: str) -> None:
    media_type, data = MEDIA[kind]
    part = types.Part.from_bytes(data=data, mime_type=media_type)
    before = len(upstream.contents)
    parts = [types.Part(text=f"google {kind}"), part]
    for client in (gemini, vertex):
        answer = client.models.embed_content(model=MODEL, contents=types.Content(parts=parts))
        assert read(answer) == [vector_of([f"google {kind}", data])]
    assert status(answer) == "HIT"
    assert len(upstream.contents) == before + 1


def test_google_without_waiting(gemini: genai.Client) -> None:
    async def both() -> list[types.EmbedContentResponse]:
        asked = [gemini.aio.models.embed_content(model=MODEL, contents=f"async {n}") for n in range(4)]
        answers = await asyncio.gather(*asked)
        await gemini.aio.aclose()
        return answers

    for n, answer in enumerate(asyncio.run(both())):
        assert read(answer) == [vector_of([f"async {n}"])]


def test_google_on_vertex(vertex: genai.Client) -> None:
    config = types.EmbedContentConfig(output_dimensionality=256, auto_truncate=False)
    answer = vertex.models.embed_content(model=MODEL, contents=["on", "vertex"], config=config)
    assert read(answer) == [vector_of(["on", "vertex"], 256)]
    assert answer.embeddings is not None
    assert answer.embeddings[0].statistics is not None
    assert answer.embeddings[0].statistics.token_count == TOKENS
    with pytest.raises(errors.ClientError, match="documentOcr: not supported"):
        vertex.models.embed_content(
            model=MODEL, contents="x", config=types.EmbedContentConfig(document_ocr=True)
        )


def test_google_models_and_refusals(url: str, gemini: genai.Client) -> None:
    assert [model.name for model in gemini.models.list()][:1] == [f"models/{MODEL}"]
    model = gemini.models.get(model=MODEL)
    assert model.supported_actions == ["embedContent", "batchEmbedContents"]
    assert model.input_token_limit == 8192
    with pytest.raises(errors.ClientError) as unknown:
        gemini.models.embed_content(model="gemini-embedding-001", contents="x")
    assert (unknown.value.code, unknown.value.status) == (404, "NOT_FOUND")
    uri = types.Part.from_uri(file_uri="gs://bucket/v.mp4", mime_type="video/mp4")
    with pytest.raises(errors.ClientError, match="Cloud Storage cannot be read") as refused:
        gemini.models.embed_content(model=MODEL, contents=types.Content(parts=[uri]))
    assert (refused.value.code, refused.value.status) == (400, "INVALID_ARGUMENT")
    with genai.Client(api_key="AIza-wrong", http_options=types.HttpOptions(base_url=url)) as stranger:
        with pytest.raises(errors.ClientError, match="API key not valid") as bad:
            stranger.models.embed_content(model=MODEL, contents="x")
        assert (bad.value.code, bad.value.status) == (400, "INVALID_ARGUMENT")


def test_segmind(seg: Any, upstream: AnyModal) -> None:
    answers = [seg.run_sync(MODEL, input="hello", timeout=5, interval=1.0) for _ in range(2)]
    assert [answer.headers["x-cache"] for answer in answers] == ["MISS", "HIT"]
    assert {"x-cost", "x-request-id", "x-generation-time"} <= answers[0].headers.keys()
    bodies = [answer.json() for answer in answers]
    assert bodies[0]["embedding"] == bodies[1]["embedding"]
    assert bodies[0]["dimensions"] == 768
    assert vector.pack(bodies[0]["embedding"]) == vector_of(["title: none | text: hello"], 768)


@pytest.mark.parametrize("kind", MEDIA)
def test_segmind_media(seg: Any, upstream: AnyModal, kind: str) -> None:
    media_type, data = MEDIA[kind]
    before = len(upstream.contents)
    for said in (standard(data), data_url(data, media_type), base64.urlsafe_b64encode(data).decode()):
        body = seg.run_sync(MODEL, input=f"segmind {kind}", **{kind: said}).json()
        assert vector.pack(body["embedding"]) == vector_of([f"segmind {kind}", data], 768)
    assert len(upstream.contents) == before + 1


def test_segmind_refusals(seg: Any, url: str) -> None:
    for slug, fields, code, why in (
        (MODEL, {}, 400, "input: required"),
        (MODEL, {"input": "x", "images": [standard(media.png(shade=n)) for n in range(7)]}, 400, "6 images"),
        ("nothing", {"input": "x"}, 404, "unknown model"),
    ):
        with pytest.raises(SegmindError, match=why) as refused:
            seg.run_sync(slug, **fields)
        assert refused.value.status == code
    stranger = segmind.SegmindClient(api_key="wrong", base_url=f"{url}/v1")
    with pytest.raises(SegmindError) as bad:
        stranger.run_sync(MODEL, input="x")
    stranger._client.close()
    assert bad.value.status == 401


OPENAI_PARTS = {
    "image": lambda said: {"type": "image_url", "image_url": {"url": said}},
    "audio": lambda said: {"type": "input_audio", "input_audio": {"data": said, "format": "mp3"}},
    "video": lambda said: {"type": "input_video", "input_video": {"data": said}},
    "pdf": lambda said: {"type": "input_file", "input_file": {"file_data": said, "filename": "a.pdf"}},
}


@pytest.mark.parametrize("kind", MEDIA)
def test_openai_media(oai: openai.OpenAI, upstream: AnyModal, kind: str) -> None:
    media_type, data = MEDIA[kind]
    before = len(upstream.contents)
    for said in (standard(data), data_url(data, media_type)):
        content = [{"type": "text", "text": f"openai {kind}"}, OPENAI_PARTS[kind](said)]
        made: Any = oai.embeddings.create(
            model=f"google/{MODEL}",
            input=[{"content": content}, "text"],
            dimensions=256,  # type: ignore[list-item]
        )
        found = [vector.pack(item.embedding) for item in made.data]
        assert found == [vector_of([f"openai {kind}", data], 256), vector_of(["text"], 256)]
    assert len([c for c in upstream.contents[before:] if data in c]) == 1


def test_one_picture_through_all_three_is_one_purchase(
    gemini: genai.Client, seg: Any, oai: openai.OpenAI, upstream: AnyModal
) -> None:
    picture = media.png(shade=77)
    content = [{"type": "image_url", "image_url": {"url": data_url(picture, "image/png")}}]
    made = oai.embeddings.create(model=MODEL, input=[{"content": content}], dimensions=768)  # type: ignore[list-item]
    part = types.Part.from_bytes(data=picture, mime_type="image/png")
    config = types.EmbedContentConfig(output_dimensionality=768)
    told = gemini.models.embed_content(model=MODEL, contents=part, config=config)
    ran = seg.run_sync(MODEL, image=standard(picture)).json()
    expected = vector_of([picture], 768)
    assert vector.pack(made.data[0].embedding) == vector.pack(ran["embedding"]) == expected
    assert read(told) == [expected]
    assert upstream.contents.count([picture]) == 1
