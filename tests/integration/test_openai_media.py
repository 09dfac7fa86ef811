"""OpenRouter's content parts: every way of saying them that clients have, and what is refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from embedonce.core.catalog import BUILT_IN, Catalog
from embedonce.core.content import Modality, RemoteMedia
from embedonce.dialects.openai.request import parse
from support import media
from support.anymodal import AnyModal, vector_of
from support.gateway import MODEL, TestGateway
from support.spoken import data_url, standard, url_safe

PNG, WAV, MP4, PDF = media.png(), media.wav(), media.mp4(), media.pdf()
URL = "https://example.com/x"


def element(*parts: Any) -> dict[str, Any]:
    return {"content": list(parts)}


@pytest.mark.parametrize(
    ("part", "data"),
    [
        ({"type": "image_url", "image_url": {"url": data_url(PNG, "image/png"), "detail": "low"}}, PNG),
        ({"type": "image_url", "image_url": {"url": standard(PNG)}}, PNG),
        ({"type": "image_url", "image_url": url_safe(PNG)}, PNG),
        ({"type": "input_audio", "input_audio": {"data": standard(WAV), "format": "mp3"}}, WAV),
        ({"type": "input_audio", "input_audio": {"data": data_url(WAV, "audio/wav")}}, WAV),
        ({"type": "input_audio", "input_audio": {"url": standard(WAV)}}, WAV),
        ({"type": "input_video", "input_video": {"data": standard(MP4)}}, MP4),
        ({"type": "input_file", "input_file": {"data": standard(PDF)}}, PDF),
        ({"type": "input_file", "input_file": {"data": standard(PNG), "format": "pdf"}}, PNG),
        ({"type": "input_file", "input_file": {"file_data": data_url(PDF), "filename": "a.pdf"}}, PDF),
        ({"type": "input_file", "filename": "a.pdf", "file_data": data_url(PDF)}, PDF),
        ({"type": "input_file", "input_file": None, "data": standard(PDF)}, PDF),
    ],
    ids=lambda v: str(v)[:70],
)
def test_every_spelling_of_a_part(
    anygate: TestGateway, anymodal: AnyModal, part: dict[str, Any], data: bytes
) -> None:
    answer = anygate.embed([element(part), element({"type": "text", "text": "t"}, part)], dimensions=128)
    assert answer.vectors == [vector_of([data], 128), vector_of(["t", data], 128)]
    assert sorted(anymodal.contents, key=len) == [[data], ["t", data]]


def test_text_and_media_in_one_request_keep_their_places(anygate: TestGateway, anymodal: AnyModal) -> None:
    picture = {"type": "image_url", "image_url": {"url": standard(PNG)}}
    sound = {"type": "input_audio", "input_audio": {"data": standard(WAV)}}
    inputs = ["a", element(picture), element(sound), "b", element(picture), element(picture, sound)]
    expected = [[p] for p in ("a", PNG, WAV, "b", PNG)] + [[PNG, WAV]]
    for encoding in ("float", "base64"):
        answer = anygate.embed(inputs, dimensions=256, encoding_format=encoding)
        assert answer.vectors == [vector_of(parts, 256) for parts in expected]
    assert len(anymodal.contents) == 5
    assert answer.headers["X-Cache"] == "HIT"


@pytest.mark.parametrize(
    ("part", "modality", "param"),
    [
        ({"type": "image_url", "image_url": {"url": URL}}, Modality.IMAGE, "image_url.url"),
        ({"type": "image_url", "image_url": URL}, Modality.IMAGE, "image_url"),
        ({"type": "input_audio", "input_audio": {"data": URL}}, Modality.AUDIO, "input_audio.data"),
        ({"type": "input_video", "input_video": {"data": URL}}, Modality.VIDEO, "input_video.data"),
        ({"type": "input_file", "input_file": {"data": URL}}, None, "input_file.data"),
        ({"type": "input_file", "file_url": URL}, None, "file_url"),
    ],
    ids=str,
)
def test_urls_are_kept_for_the_guard(part: dict[str, Any], modality: Modality | None, param: str) -> None:
    body = orjson.dumps({"model": MODEL, "input": [element(part)]})
    (draft,) = parse(body, {}, Catalog(BUILT_IN)).drafts
    assert draft.parts == (RemoteMedia(URL, modality, f"input[0].content[0].{param}"),)


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ({"type": "image_url"}, ".image_url"),
        ({"type": "image_url", "image_url": None}, ".image_url"),
        ({"type": "image_url", "image_url": ["x"]}, ".image_url"),
        ({"type": "image_url", "image_url": {}}, ".image_url.url"),
        ({"type": "image_url", "image_url": {"url": ""}}, ".image_url.url"),
        ({"type": "image_url", "image_url": {"url": 5}}, ".image_url.url"),
        ({"type": "image_url", "image_url": {"url": "§"}}, ".image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64"}}, ".image_url.url"),
        ({"type": "image_url", "image_url": {"url": standard(WAV)}}, ".image_url.url"),
        ({"type": "image_url", "image_url": {"url": "http://127.0.0.1/x"}}, ".image_url.url"),
        ({"type": "image_url", "image_url": {"url": "https://[::1]/x"}}, ".image_url.url"),
        ({"type": "input_audio", "input_audio": {"data": standard(PNG)}}, ".input_audio.data"),
        ({"type": "input_video", "input_video": {"format": "mp4"}}, ".input_video.data"),
        ({"type": "input_file", "input_file": {"file_id": "file-1"}}, ".input_file.data"),
        ({"type": "input_file", "input_file": {"file_data": "§"}}, ".input_file.file_data"),
        ({"type": "input_file", "file_id": "file-1"}, ".input_file"),
        ({"type": "input_image", "image_url": standard(PNG)}, ""),
        ({"type": ["image_url"]}, ""),
        ({"image_url": {"url": standard(PNG)}}, ""),
    ],
    ids=lambda v: str(v)[:60],
)
def test_a_wrong_part_is_named(
    anygate: TestGateway, anymodal: AnyModal, part: dict[str, Any], named: str
) -> None:
    answer = anygate.embed(["good", element({"type": "text", "text": "x"}, part)])
    param = f"input[1].content[1]{named}"
    assert answer.status == 400
    assert (answer.error["code"], answer.error["param"]) == (400, param)
    assert answer.error["message"].startswith(f"{param}:")
    assert anymodal.calls == []


def test_seven_images_in_one_element_are_too_many(anygate: TestGateway, anymodal: AnyModal) -> None:
    pictures = [{"type": "image_url", "image_url": {"url": standard(media.png(shade=n))}} for n in range(7)]
    refused = anygate.embed([element(*pictures)])
    assert refused.status == 400
    assert refused.error["message"] == "input[0]: limit is 6 images in one content, got 7"
    assert anymodal.calls == []
    assert anygate.embed([element(p) for p in pictures]).status == 200
