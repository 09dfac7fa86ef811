"""The gateway over each provider and over several: what is wrong is never stored or returned, one space's
providers stand in for each other, and settings choose between them."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from embedonce.bootstrap import build
from embedonce.bootstrap.upstreams import upstream_names
from embedonce.config import ConfigError, load
from embedonce.core import vector
from embedonce.core.content import MediaPart, Modality
from embedonce.local.server import greeting
from embedonce.telemetry import LogTelemetry
from fakes.behaviour import status
from fakes.google import FakeGoogle
from fakes.openrouter import FakeOpenRouter
from fakes.provider import FakeProvider
from fakes.segmind import FakeSegmind
from support.gateway import ImpatientClock, TestGateway, gateway
from support.upstream import AUDIO, IMAGE, MEDIA, OTHER_IMAGE, PDF, VIDEO, sent

MAKERS: dict[str, type[FakeProvider]] = {
    "google": FakeGoogle,
    "openrouter": FakeOpenRouter,
    "segmind": FakeSegmind,
}
SETTING = {"google": "gemini", "openrouter": "openrouter", "segmind": "segmind"}
CANARY = "canary-0123456789-éè"
TEXTS = ["first text", "second text", "third text"]
ONLY_CACHED = {"cache-control": "only-if-cached"}


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, Any]]:
    fakes = {name: make() for name, make in MAKERS.items()}  # type: ignore[call-arg]
    yield fakes
    for fake in fakes.values():
        fake.close()


@pytest.fixture
def fakes(running: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for fake in running.values():
        fake.reset()
    running["segmind"].job_polls = (0, 0)
    yield running
    for fake in running.values():
        fake.release()


@contextmanager
def buying_from(
    folder: Path, fakes: dict[str, Any], names: Sequence[str], **settings: Any
) -> Iterator[TestGateway]:
    for name in names:
        settings[f"{SETTING[name]}_api_key"] = fakes[name].key
        settings[f"{SETTING[name]}_base_url"] = fakes[name].base_url
    with gateway(folder, clock=ImpatientClock(), **settings) as gate:
        yield gate


def part_of(medium: MediaPart) -> dict[str, Any]:
    data = f"data:{medium.media_type};base64,{base64.b64encode(medium.sent_bytes).decode()}"
    if medium.modality is Modality.IMAGE:
        return {"type": "image_url", "image_url": {"url": data}}
    kind = "input_file" if medium.modality is Modality.PDF else f"input_{medium.modality}"
    return {"type": kind, kind: {"data": data}}


def content_of(*parts: str | MediaPart) -> dict[str, Any]:
    said = [{"type": "text", "text": p} if isinstance(p, str) else part_of(p) for p in parts]
    return {"content": said}


POISON = [
    *("shorten", "lengthen", "no_vectors", "zero", "nan_null", "nan_literal", "infinite", "text_number"),
    *("null_vector", "wrong_dims", "invalid_json", "html", "empty", "unknown_shape", "queued"),
    *("error_under_200:502", "endless", "gzip_bomb"),
]
OF_BATCHES = ["repeat", "constant", "one_wrong_dims"]
OF_INDEXES = [
    *("shuffle_without_index", "duplicate_index", "null_index", "one_index_missing"),
    *("index_out_of_range", "other_model:google/gemini-embedding-001"),
]
CASES = [
    *((name, kind) for name in MAKERS for kind in POISON),
    *((name, kind) for name in ("google", "openrouter") for kind in OF_BATCHES),
    *(("openrouter", kind) for kind in OF_INDEXES),
]


@pytest.mark.parametrize(("name", "behaviour"), CASES, ids=lambda value: value)
def test_a_wrong_answer_is_never_stored_or_returned(
    tmp_path: Path, fakes: dict[str, Any], name: str, behaviour: str
) -> None:
    fake = fakes[name]
    with buying_from(tmp_path, fakes, [name]) as gate:
        fake.always(behaviour)
        failed = gate.embed(TEXTS, dimensions=256)
        assert failed.status in (502, 503), failed.body
        assert "data" not in failed.body
        fake.always("ok")
        for text in TEXTS:
            assert gate.embed(text, dimensions=256, headers=ONLY_CACHED).status == 504
        right = gate.embed(TEXTS, dimensions=256, headers={"cache-control": "no-store"})
        assert right.vectors == [fake.vector_for(text, 256) for text in TEXTS]


def test_an_answer_out_of_order_is_put_right(tmp_path: Path, fakes: dict[str, Any]) -> None:
    """Only OpenRouter's wire has an order to be out of: Google's has no index, Segmind's one vector."""
    fake = fakes["openrouter"]
    with buying_from(tmp_path, fakes, ["openrouter"]) as gate:
        fake.always("shuffle")
        for _ in range(2):
            answer = gate.embed(TEXTS, dimensions=256)
            assert answer.vectors == [fake.vector_for(text, 256) for text in TEXTS]
        assert fake.calls == 1


@pytest.mark.parametrize(
    ("name", "behaviour"), [("segmind", "repeat"), ("google", "constant"), ("openrouter", "constant")]
)
def test_a_repeated_vector_is_refused_over_calls(
    tmp_path: Path, fakes: dict[str, Any], name: str, behaviour: str
) -> None:
    fake = fakes[name]
    with buying_from(tmp_path, fakes, [name]) as gate:
        fake.next(behaviour, behaviour)
        gate.embed("first", dimensions=256)
        assert gate.embed("second", dimensions=256).status == 502
        assert gate.embed("second", dimensions=256, headers=ONLY_CACHED).status == 504


def test_an_answer_that_no_reader_expected_is_a_502(
    tmp_path: Path, fakes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(*args: Any, **kwargs: Any) -> Any:
        raise TypeError("unhashable type: 'list'")

    with buying_from(tmp_path, fakes, ["google"]) as gate:
        monkeypatch.setattr(gate.app.router.upstreams[0], "embed", odd)
        failed = gate.embed("text", dimensions=256)
        assert failed.status == 502
        assert failed.error["metadata"]["reason"] == "upstream_invalid_answer"


TAKEN = [(name, medium) for name in MAKERS for medium in MEDIA if name != "openrouter" or medium is IMAGE]


@pytest.mark.parametrize(
    ("name", "medium"), TAKEN, ids=lambda v: v if isinstance(v, str) else v.modality.value
)
def test_media_are_bought_once_and_cut_from_the_full_size(
    tmp_path: Path, fakes: dict[str, Any], name: str, medium: MediaPart
) -> None:
    fake = fakes[name]
    with buying_from(tmp_path, fakes, [name]) as gate:
        inputs = [content_of(medium), content_of("a cat", medium)]
        full = [fake.vector_for(sent(medium), 3072), fake.vector_for(sent("a cat", medium), 3072)]
        miss = gate.embed(inputs)
        assert miss.status == 200, miss.body
        bought = fake.calls
        hit, smaller = gate.embed(inputs), gate.embed(inputs, dimensions=256)
        assert miss.vectors == hit.vectors == full
        assert smaller.vectors == [vector.cut(data, 256) for data in full]
        assert (miss.headers["X-Cache"], hit.headers["X-Cache"]) == ("MISS", "HIT")
        assert fake.calls == bought
        assert miss.headers["X-Embedonce-Upstream"] == name
        assert "X-Embedonce-Made-Up" not in miss.headers


def test_media_after_a_timeout_are_a_504_and_one_call(tmp_path: Path, fakes: dict[str, Any]) -> None:
    with buying_from(tmp_path, fakes, list(MAKERS), upstream_timeout=0.25) as gate:
        fakes["google"].always("hang")
        assert gate.embed([content_of(IMAGE)]).status == 504
        assert [fake.calls for fake in fakes.values()] == [1, 0, 0]


@pytest.mark.parametrize("failure", [status(401), status(429, retry_after="9"), status(503)], ids=str)
@pytest.mark.parametrize(
    "content", [("a text",), (IMAGE,), ("both", OTHER_IMAGE)], ids=["text", "image", "both"]
)
def test_openrouter_stands_in_for_google_and_the_entry_is_one(
    tmp_path: Path, fakes: dict[str, Any], failure: Any, content: Any
) -> None:
    google, openrouter = fakes["google"], fakes["openrouter"]
    with buying_from(tmp_path, fakes, ["openrouter", "google"]) as gate:
        google.always(failure)
        stood_in = gate.embed([content_of(*content)])
        assert stood_in.headers["X-Embedonce-Upstream"] == "openrouter"
        google.always("ok")
        hit = gate.embed([content_of(*content)])
        assert hit.headers["X-Cache"] == "HIT"
        assert stood_in.vectors == hit.vectors == [google.vector_for(sent(*content))]
        assert (google.calls, openrouter.calls) == (1, 1)


def test_input_type_stays_at_openrouter(tmp_path: Path, fakes: dict[str, Any]) -> None:
    google, openrouter = fakes["google"], fakes["openrouter"]
    with buying_from(tmp_path, fakes, ["google", "openrouter"]) as gate:
        plain = gate.embed("a", dimensions=256)
        typed = gate.embed("a", dimensions=256, input_type="search_query")
        assert plain.vectors != typed.vectors
        assert typed.vectors == [openrouter.vector_for("a", 256, input_type="search_query")]
        openrouter.always(status(401))
        assert gate.embed("b", dimensions=256, input_type="search_query").status == 502
        assert (google.calls, openrouter.calls) == (1, 2)


def test_two_spaces_never_share_an_entry(tmp_path: Path, fakes: dict[str, Any]) -> None:
    with buying_from(tmp_path, fakes, ["segmind"]) as gate:
        own = gate.embed("a", dimensions=256).vectors
    with buying_from(tmp_path, fakes, ["google", "segmind"]) as gate:
        googles = gate.embed("a", dimensions=256)
        assert googles.headers["X-Cache"] == "MISS"
        assert googles.vectors != own
    with buying_from(tmp_path, fakes, ["segmind"], segmind_space="google") as gate:
        assert gate.embed("a", dimensions=256).headers["X-Cache"] == "HIT"


def test_routes_choose_by_modality(tmp_path: Path, fakes: dict[str, Any]) -> None:
    routes = "text=openrouter,google;video=segmind"
    with buying_from(tmp_path, fakes, list(MAKERS), routes=routes) as gate:
        inputs = ["a", content_of(VIDEO), content_of(AUDIO), content_of("b", VIDEO)]
        chosen = [gate.embed([one]).headers["X-Embedonce-Upstream"] for one in inputs]
        assert chosen == ["openrouter", "segmind", "google", "segmind"]
        said = greeting(load({}), gate.app, "key", 1)
    assert "openrouter (paid), else google (paid)" in said
    assert "WARNING: different vector spaces, not comparable with each other" in said


def test_offline_says_what_is_made_up(tmp_path: Path) -> None:
    with gateway(tmp_path) as gate:
        real = gate.embed(["a cat", content_of(PDF)])
        made = gate.embed([content_of("a cat", IMAGE), content_of(VIDEO)])
        assert "X-Embedonce-Made-Up" not in real.headers
        assert made.headers["X-Embedonce-Made-Up"] == "image, video"
        said = greeting(load({}), gate.app, "key", 1)
    assert "image, audio, video     embedded: MADE UP" in said
    assert "by the PDF's text" in said
    assert "WARNING" not in said


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, ("embedded",)),
        ({"SEGMIND_API_KEY": "k", "OPENROUTER_API_KEY": "k", "GEMINI_API_KEY": "k"}, tuple(MAKERS)),
        ({"SEGMIND_API_KEY": "k"}, ("segmind",)),
        ({"GEMINI_API_KEY": "k", "EMBEDONCE_UPSTREAMS": "segmind,google"}, ("segmind", "google")),
        ({"EMBEDONCE_MODE": "aws"}, ("openrouter",)),
        ({"EMBEDONCE_MODE": "aws", "SEGMIND_API_KEY_SECRET": "s"}, ("segmind",)),
    ],
    ids=str,
)
def test_who_answers_by_default(given: dict[str, str], names: tuple[str, ...]) -> None:
    assert upstream_names(load(given)) == names


@pytest.mark.parametrize(
    ("given", "variable"),
    [
        ({"EMBEDONCE_ROUTES": "text=nobody"}, "EMBEDONCE_ROUTES"),
        ({"EMBEDONCE_ROUTES": "text"}, "EMBEDONCE_ROUTES"),
        ({"EMBEDONCE_ROUTES": "text=google"}, "EMBEDONCE_ROUTES: google is not among the upstreams"),
        (
            {"EMBEDONCE_ROUTES": "video=openrouter", "OPENROUTER_API_KEY": "k"},
            "openrouter does not take video",
        ),
        ({"EMBEDONCE_UPSTREAMS": "google,google"}, "EMBEDONCE_UPSTREAMS"),
        ({"SEGMIND_SPACE": "mine"}, "SEGMIND_SPACE"),
        (
            {"SEGMIND_SPACE": "google", "SEGMIND_MEDIA_INPUT": "space", "SEGMIND_API_KEY": "k"},
            "SEGMIND_MEDIA_INPUT",
        ),
        ({"OPENROUTER_MODALITIES": "smell"}, "OPENROUTER_MODALITIES"),
        ({"GEMINI_BASE_URL": "https://user@example.org", "GEMINI_API_KEY": "k"}, "base URL"),
    ],
    ids=str,
)
def test_settings_that_cannot_work(tmp_path: Path, given: dict[str, str], variable: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        build(load({"EMBEDONCE_DATA_DIR": str(tmp_path), **given}), LogTelemetry())


@pytest.mark.parametrize("name", MAKERS)
def test_logs_and_errors_carry_no_input_key_or_upstream_text(
    tmp_path: Path, fakes: dict[str, Any], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fake = fakes[name]
    with buying_from(tmp_path, fakes, [name]) as gate:
        for code in (400, 401, 429, 500):
            fake.next(*[status(code, text=CANARY)] * 3)
            failed = gate.embed(f"{CANARY} {code}", seconds=3)
            assert failed.status >= 400
            fake.reset()
            assert CANARY not in failed.response.body.decode()
    assert CANARY not in caplog.text
    assert fake.key not in caplog.text
