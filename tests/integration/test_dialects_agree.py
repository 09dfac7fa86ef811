"""What is the same content is one entry and one upstream call, in whatever dialect and encoding it comes."""

from __future__ import annotations

import logging
from itertools import product
from pathlib import Path

import orjson
import pytest

from embedonce.core.content import Modality
from embedonce.upstreams.failure import Kind, UpstreamFailure
from support import media
from support.anymodal import TOKENS, AnyModal, vector_of
from support.gateway import MODEL, TestGateway, gateway
from support.spoken import DIALECTS, complaint, data_url, heard, say, standard, url_safe

PICTURE = media.png(shade=250)
ONE_OF_EACH = [
    (Modality.IMAGE, PICTURE),
    (Modality.IMAGE, media.jpeg()),
    (Modality.AUDIO, media.wav()),
    (Modality.AUDIO, media.mp3()),
    (Modality.VIDEO, media.mp4()),
    (Modality.VIDEO, media.mov()),
    (Modality.PDF, media.pdf()),
]


def test_one_picture_is_one_entry_and_one_upstream_call(anygate: TestGateway, anymodal: AnyModal) -> None:
    picture = next(p for p in (media.png(shade=n) for n in range(99)) if set("-_") & set(url_safe(p)))
    encodings = [
        standard(picture),
        url_safe(picture),
        url_safe(picture).rstrip("="),
        data_url(picture, "image/png"),
        data_url(picture, "text/plain"),
    ]
    answers = [
        say(anygate, dialect, [(Modality.IMAGE, encoding)])
        for dialect, encoding in product(DIALECTS, encodings)
    ]
    assert {vector for answer in answers for vector in heard(answer)} == {vector_of([picture], 768)}
    assert [answer.headers["X-Cache"] for answer in answers] == ["MISS"] + ["HIT"] * (len(answers) - 1)
    assert anymodal.contents == [[picture]]


@pytest.mark.parametrize(("modality", "data"), ONE_OF_EACH, ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("first", DIALECTS)
def test_every_modality_in_every_dialect(
    anygate: TestGateway, anymodal: AnyModal, first: str, modality: Modality, data: bytes
) -> None:
    for dialect in (first, *DIALECTS):
        answer = say(anygate, dialect, [(modality, standard(data))], dimensions=256)
        assert heard(answer) == [vector_of([data], 256)]
        assert "X-Embedonce-Made-Up" not in answer.headers
    assert anymodal.contents == [[data]]
    assert anymodal.calls[0].dimensions == 3072  # media are bought at full size


def test_text_with_media_is_one_vector_without_a_prefix(anygate: TestGateway, anymodal: AnyModal) -> None:
    """Also in Segmind's dialect, whose texts alone have the default task."""
    for dialect in DIALECTS:
        answer = say(anygate, dialect, ["a cap", (Modality.IMAGE, standard(PICTURE))])
        assert heard(answer) == [vector_of(["a cap", PICTURE], 768)]
    assert anymodal.contents == [["a cap", PICTURE]]


def test_a_text_with_equal_tasks_is_one_entry(anygate: TestGateway, anymodal: AnyModal) -> None:
    told = anygate.embed("a cat", dimensions=768, task_type="RETRIEVAL_DOCUMENT")
    assert heard(told) == heard(say(anygate, "segmind", ["a cat"]))
    plain = anygate.embed("a cat", dimensions=768)
    assert heard(plain) == heard(say(anygate, "google", ["a cat"]))
    assert anymodal.contents == [["title: none | text: a cat"], ["a cat"]]


def test_hits_equal_misses_bit_for_bit_in_every_dialect(anygate: TestGateway) -> None:
    for dialect in DIALECTS:
        parts = [f"said in {dialect}"]
        first, again = say(anygate, dialect, parts), say(anygate, dialect, parts)
        assert (first.headers["X-Cache"], again.headers["X-Cache"]) == ("MISS", "HIT")
        assert heard(first) == heard(again)
        assert first.headers["X-Cost-USD"] == again.headers["X-Cost-Saved-USD"] != "0"
        assert again.headers["X-Cost-USD"] == "0"
        assert again.headers["Cache-Status"].startswith("embedonce; hit")
        assert again.headers["X-Embedonce-Upstream"] == "anymodal"
        assert again.headers["Cache-Control"] == "private, no-store"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_cache_controls_work_in_every_dialect(anygate: TestGateway, anymodal: AnyModal, dialect: str) -> None:
    missing = say(anygate, dialect, ["x"], headers={"cache-control": "only-if-cached"})
    assert missing.status == 504
    assert "not in the cache" in complaint(missing)
    for _ in range(2):
        assert (
            say(anygate, dialect, ["x"], headers={"cache-control": "no-store"}).headers["X-Cache"] == "MISS"
        )
    say(anygate, dialect, ["x"])
    assert say(anygate, dialect, ["x"], headers={"x-openrouter-cache": "false"}).headers["X-Cache"] == "MISS"
    assert say(anygate, dialect, ["x"]).headers["X-Cache"] == "HIT"
    assert len(anymodal.calls) == 4


OVER_LIMIT = [
    ([(Modality.AUDIO, media.wav(181))], "180", "181", "audio"),
    ([(Modality.VIDEO, media.mp4(121))], "120", "121", "video"),
    ([(Modality.PDF, media.pdf(7))], "6 PDF pages", "7", "pdf"),
]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("parts", "limit", "value", "field"), OVER_LIMIT, ids=["audio", "video", "pdf"])
def test_over_limit_media_are_refused_naming_field_limit_and_value(
    anygate: TestGateway,
    anymodal: AnyModal,
    dialect: str,
    parts: list[tuple[Modality, bytes]],
    limit: str,
    value: str,
    field: str,
) -> None:
    answer = say(anygate, dialect, ["text", *((m, standard(d)) for m, d in parts)])
    assert answer.status == 400
    message = complaint(answer)
    assert {"openai": "input[0]", "segmind": f"input, {field}", "google": "content"}[dialect] in message
    assert limit in message
    assert value in message
    assert anymodal.calls == []


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "data", [b"%PDX-nothing", media.webp(), media.png()[:20]], ids=["unknown", "webp", "truncated"]
)
def test_media_that_are_none_are_refused(
    anygate: TestGateway, anymodal: AnyModal, dialect: str, data: bytes
) -> None:
    answer = say(anygate, dialect, [(Modality.IMAGE, standard(data))])
    assert answer.status == 400
    named = {"openai": "input[0]", "segmind": "image", "google": "content"}
    assert complaint(answer).startswith(named[dialect])
    assert anymodal.calls == []


@pytest.mark.parametrize(
    ("kind", "openai", "segmind", "google"),
    [
        (Kind.REJECTED, 400, 400, (400, "INVALID_ARGUMENT")),
        (Kind.BUSY, 429, 429, (429, "RESOURCE_EXHAUSTED")),
        (Kind.REFUSED, 503, 502, (503, "UNAVAILABLE")),
        (Kind.MISCONFIGURED, 502, 502, (503, "UNAVAILABLE")),
        (Kind.INVALID, 502, 502, (503, "UNAVAILABLE")),
        (Kind.TIMEOUT, 504, 504, (504, "DEADLINE_EXCEEDED")),
    ],
    ids=lambda v: v.value if isinstance(v, Kind) else "",
)
def test_an_upstreams_failures_in_every_dialect(
    anygate: TestGateway,
    anymodal: AnyModal,
    kind: Kind,
    openai: int,
    segmind: int,
    google: tuple[int, str],
) -> None:
    anymodal.fails = lambda: UpstreamFailure(kind, "it failed", retry_after=3)
    retryable = kind not in (Kind.REJECTED, Kind.MISCONFIGURED)
    expected = {"openai": openai, "segmind": segmind, "google": google[0]}
    for dialect in DIALECTS:
        answer = say(anygate, dialect, [f"to {dialect}"])
        assert answer.status == expected[dialect]
        assert complaint(answer) == "it failed"
        assert ("Retry-After" in answer.headers) == retryable
        if dialect == "google":
            assert (answer.error["code"], answer.error["status"]) == google
            delays = [d["retryDelay"] for d in answer.error["details"] if "retryDelay" in d]
            assert delays == ([f"{answer.headers['Retry-After']}s"] if retryable else [])
        elif dialect == "segmind":
            assert answer.body == {"error": "it failed"}


def test_usage_counts_the_same_in_every_dialect(anygate: TestGateway) -> None:
    picture = [(Modality.IMAGE, standard(PICTURE))]
    openai, segmind, google = (say(anygate, dialect, picture).body for dialect in DIALECTS)
    assert openai["usage"]["prompt_tokens_details"] == {"image_tokens": TOKENS, "cached_tokens": 0}
    assert segmind["usage"]["prompt_tokens_details"] == {"image_tokens": TOKENS, "cached_tokens": TOKENS}
    assert segmind["usage"]["cost"] == 0
    counted = [{"modality": "IMAGE", "tokenCount": TOKENS}]
    assert google["usageMetadata"] == {"promptTokenCount": TOKENS, "promptTokenDetails": counted}
    document = [(Modality.PDF, standard(media.pdf()))]
    assert "file_tokens" in say(anygate, "openai", document).usage["prompt_tokens_details"]
    assert (
        say(anygate, "google", document).body["usageMetadata"]["promptTokenDetails"][0]["modality"]
        == "DOCUMENT"
    )


def test_neither_keys_in_urls_nor_inputs_are_logged_or_echoed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the root logger at DEBUG, through answers, refusals, failures and a crash."""
    canary, secret = "canary-58c1e0b7", "AIza-canary-4471"
    upstream = AnyModal()
    nobody = {"authorization": ""}
    answers = []
    with caplog.at_level(logging.DEBUG), gateway(tmp_path, upstreams=[upstream]) as gate:
        for dialect in DIALECTS:
            answers += [say(gate, dialect, [canary]) for _ in range(2)]
            answers.append(say(gate, dialect, [canary, (Modality.IMAGE, canary)]))
            answers.append(say(gate, dialect, [canary, (Modality.IMAGE, f"https://127.0.0.1/{canary}")]))
        body = orjson.dumps({"content": {"parts": [{"text": canary}]}, "taskType": canary})
        for path in (
            f"/v1beta/models/{MODEL}:embedContent",
            "/v1beta/models",
            "/v1/models",
            f"/v1beta/{canary}",
        ):
            method = "POST" if ":" in path else "GET"
            answers.append(gate.request(method, f"{path}?key={secret}", body, nobody))
            answers.append(gate.request(method, f"{path}?key={secret}", body))
        answers.append(gate.request("GET", f"/v1/models?key={secret}&pageToken={canary}"))
        upstream.fails = lambda: UpstreamFailure(Kind.REJECTED, "refused")
        answers += [say(gate, dialect, [f"{canary} refused {dialect}"]) for dialect in DIALECTS]
        upstream.fails = lambda: RuntimeError(canary)
        answers += [say(gate, dialect, [f"{canary} crash {dialect}"]) for dialect in DIALECTS]
    assert {answer.status for answer in answers} >= {200, 400, 404, 500}
    for answer in answers:
        shown = answer.response.body.decode() + str(answer.headers)
        assert canary not in shown
        assert secret not in shown
    assert canary not in caplog.text
    assert secret not in caplog.text
