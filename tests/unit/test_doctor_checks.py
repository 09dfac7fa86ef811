"""What doctor makes of settings, numbers and dates. Whole runs: tests/integration/test_doctor.py."""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    ReadTimeoutError,
)

from embedonce.config import load
from embedonce.core import vector
from embedonce.core.catalog import GEMINI_EMBEDDING_2
from embedonce.doctor import agreement, check, clock, configured
from embedonce.doctor.answers import composed
from embedonce.doctor.awscalls import Asked, Aws, Refused, of_code, of_failure
from embedonce.doctor.check import Check, State
from embedonce.doctor.clock import Seen, clock_check
from embedonce.doctor.probes import most_cost, probes_for
from embedonce.local.server import SHORTEST_OPEN_KEY
from embedonce.upstreams.embedded import Embedded
from embedonce.upstreams.segmind import Segmind
from embedonce.upstreams.transport import Transport
from support.clock import START, FakeClock

AWS = {
    "EMBEDONCE_MODE": "aws",
    "EMBEDONCE_VECTORS_TABLE": "v",
    "EMBEDONCE_FLIGHTS_TABLE": "f",
    "EMBEDONCE_ACCESS_TABLE": "a",
    "EMBEDONCE_JOBS_TABLE": "j",
    "EMBEDONCE_USAGE_TABLE": "u",
    "EMBEDONCE_WORK_QUEUE_URL": "https://sqs/1/w",
    "EMBEDONCE_POLL_QUEUE_URL": "https://sqs/1/p",
    "EMBEDONCE_BLOB_BUCKET": "b",
    "EMBEDONCE_CACHE_BUCKET": "c",
    "EMBEDONCE_WEBHOOK_KEY_SECRET": "w",
    "GEMINI_API_KEY_SECRET": "g",
}
CANARY = "canary-0123456789"
GOOGLE = {"GEMINI_API_KEY": f"AIza{CANARY}"}


def looked(**environ: str) -> list[Check]:
    return configured.settings_checks(load(environ), environ)


def trouble(checks: Iterable[Check], state: State | None = None) -> str:
    """All that is not well, as it would be read."""
    bad = [each for each in checks if each.state not in (State.OK, State.SKIPPED)]
    return "\n".join(f"{each.said} -> {each.remedy}" for each in bad if state in (None, each.state))


# ---- settings


def test_a_sound_configuration_has_nothing_to_complain_about() -> None:
    assert trouble(looked(**GOOGLE)) == ""
    assert trouble(looked(**AWS)) == ""


@pytest.mark.parametrize(
    ("environ", "state", "said", "remedy"),
    [
        ({"EMBEDONCE_DATADIR": CANARY}, "warning", "EMBEDONCE_DATADIR is no setting", "EMBEDONCE_DATA_DIR"),
        ({"EMBEDONCE_UPSTREAMS": "google"}, "problem", "google is to answer and has no", "GEMINI_API_KEY"),
        (
            {**AWS, "GEMINI_API_KEY_SECRET": ""},
            "problem",
            "openrouter is to answer",
            "OPENROUTER_API_KEY_SEC",
        ),
        (
            {"EMBEDONCE_UPSTREAMS": "google", "SEGMIND_API_KEY": CANARY},
            "warning",
            "SEGMIND_API_KEY is set, but segmind never answers",
            "EMBEDONCE_UPSTREAMS",
        ),
        ({"GEMINI_API_KEY_SECRET": "x"}, "warning", "both set", "unset one"),
        ({**AWS, **GOOGLE}, "warning", "in the clear", "Secrets Manager"),
        ({"OPENROUTER_API_KEY": f"a {CANARY}"}, "problem", "no header can", "without quotes"),
        ({"OPENROUTER_API_KEY": f"AIza{CANARY}"}, "problem", "like a key for GEMINI_API_KEY", "exchanged"),
        ({"GEMINI_BASE_URL": "http://10.0.0.1"}, "warning", "GEMINI_BASE_URL is http", "https"),
        ({"SEGMIND_SPACE": "google"}, "warning", "segmind never answers", "unset SEGMIND_SPACE"),
        ({"EMBEDONCE_UPSTREAMS": "google,embedded"}, "warning", "among paid upstreams", "take embedded out"),
        ({"GEMINI_API_KEY": ""}, "warning", "no provider has a key", "GEMINI_API_KEY"),
        ({"OPENAI_COMPATIBLE_API_KEY": CANARY}, "warning", "without a server", "OPENAI_COMPATIBLE_BASE_URL"),
        (
            {"OPENAI_COMPATIBLE_BASE_URL": "http://127.0.0.1:1/v1", "OPENAI_COMPATIBLE_MODEL": "m"},
            "warning",
            "size of that server's vectors",
            "OPENAI_COMPATIBLE_DIMENSIONS",
        ),
        ({"PUBLIC_BASE_URL": "http://embed.example.com"}, "warning", "PUBLIC_BASE_URL is http", "https"),
        ({"TRUSTED_PROXIES": "0.0.0.0/0"}, "problem", "holds every address", "alone"),
        ({"TRUSTED_PROXIES": "10.0.0.0/8"}, "warning", "no loopback address", "127.0.0.1"),
        ({"HOST": "0.0.0.0"}, "warning", "other machines can reach", "TLS"),
        ({"HOST": "0.0.0.0"}, "warning", "get 421", "name the hosts"),
        ({"HOST": "::", "EMBEDONCE_DEV_KEY": "short"}, "problem", "short enough", f"{SHORTEST_OPEN_KEY} "),
        ({"HOST": "10.1.2.3", "LIMITS": "local"}, "warning", "1 GiB", "unset LIMITS"),
        ({"EMBEDONCE_MEDIA_ORIGINS": "http://127.0.0.1:9"}, "warning", "read everything", "development"),
        ({**AWS, "LIMITS": "local"}, "warning", "does nothing on AWS", "unset LIMITS"),
        ({**AWS, "TRUSTED_PROXIES": "10.0.0.1"}, "warning", "TRUSTED_PROXIES counts in local mode", "unset"),
        ({**AWS, "EMBEDONCE_JOBS_TABLE": ""}, "problem", "EMBEDONCE_JOBS_TABLE is required", "deploy.md"),
        ({"EMBEDONCE_JOBS_TABLE": "j"}, "warning", "counts in AWS mode only", "EMBEDONCE_MODE"),
        ({"EMBEDONCE_UPSTREAM_TIMEOUT": "60"}, "warning", "more than the 27 s", "13"),
        ({"EMBEDONCE_JOB_TIMEOUT": "60"}, "warning", "as long as a submitted", "raise EMBEDONCE_JOB_TIMEOUT"),
        ({"EMBEDONCE_LOOPS": "none"}, "warning", "worker, poller, janitor", "embedonce worker"),
        ({**AWS, "EMBEDONCE_INGEST_BUCKET": "i"}, "warning", "no rule says how", "EMBEDONCE_INGEST_RULES"),
        ({**AWS, "EMBEDONCE_INGEST_BUCKET": "i"}, "problem", "EMBEDONCE_CHUNK_QUEUE_URL is req", "set EMBED"),
        (
            {**AWS, "EMBEDONCE_WEBHOOK_KEY_SECRET": ""},
            "warning",
            "webhooks are refused",
            "if they are wanted",
        ),
    ],
)
def test_what_cannot_be_meant_is_found_with_its_remedy(
    environ: dict[str, str], state: str, said: str, remedy: str
) -> None:
    given = environ if environ.get("EMBEDONCE_MODE") else {**GOOGLE, **environ}
    if environ == {"EMBEDONCE_UPSTREAMS": "google"}:
        given = environ
    found = looked(**given)
    line = [one for one in trouble(found, State(state)).splitlines() if said in one]
    assert len(line) == 1, trouble(found)
    assert remedy in line[0].partition(" -> ")[2]
    assert CANARY not in "".join(str(each) for each in found)


def test_the_shortest_open_key_is_the_servers() -> None:
    assert configured.SHORTEST_OPEN_KEY == SHORTEST_OPEN_KEY


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"EMBEDONCE_ROUTES": "text=openrouter"}, "EMBEDONCE_ROUTES: openrouter is not among the upstreams"),
        ({"EMBEDONCE_UPSTREAMS": "google,google"}, "names an upstream twice"),
        ({"EMBEDONCE_UPSTREAMS": "openai_compatible"}, "belong together"),
        ({"EMBEDONCE_MODELS": '[{"id": "x", "like": "nobody"}]'}, "is like an unknown model"),
        ({"EMBEDONCE_INGEST_RULES": '[{"model": "nobody"}]'}, "unknown model"),
        (
            {**AWS, "EMBEDONCE_MEDIA_ORIGINS": "http://127.0.0.1:9"},
            "EMBEDONCE_MEDIA_ORIGINS: local mode only",
        ),
        ({**AWS, "EMBEDONCE_WEBHOOK_ORIGINS": "http://127.0.0.1:9"}, "WEBHOOK_ORIGINS: local mode only"),
    ],
)
def test_what_would_stop_the_start_is_a_problem(environ: dict[str, str], said: str) -> None:
    _, found = composed(load({**GOOGLE, **environ}), FakeClock())
    assert said in trouble(found, State.PROBLEM)


def test_spaces_that_are_mixed_and_modalities_that_nobody_takes_are_warned_of() -> None:
    keys = {"OPENROUTER_API_KEY": "k", "SEGMIND_API_KEY": "k"}
    _, mixed = composed(load(keys), FakeClock())
    assert "not comparable with each other: text, image | audio, video, pdf" in trouble(mixed, State.WARNING)
    _, partly = composed(load({"OPENROUTER_API_KEY": "k"}), FakeClock())
    assert "audio, video, pdf by nobody" in trouble(partly, State.WARNING)
    _, whole = composed(load({**GOOGLE, **keys}), FakeClock())
    assert trouble(whole) == ""
    said = [each.said for each in whole if each.name == "who answers"]
    assert "text, image by google, else openrouter; audio, video, pdf by google" in said[0]


def test_a_check_that_crashes_is_a_problem_without_its_text() -> None:
    def crash() -> list[Check]:
        raise RuntimeError(CANARY)

    (found,) = check.guarded("x", crash)
    assert found.state is State.PROBLEM
    assert CANARY not in str(found)
    assert not check.healthy([found])

    def forbidden() -> list[Check]:
        raise PermissionError(13, "Permission denied", CANARY)

    (found,) = check.guarded("x", forbidden)
    assert (found.said, CANARY in str(found)) == ("cannot be looked at: Permission denied", False)


# ---- the clock


@pytest.mark.parametrize(
    ("offsets", "state"),
    [([0], "ok"), ([-29], "ok"), ([40], "problem"), ([-400], "problem"), ([400, 3], "ok"), ([], "skipped")],
)
def test_a_clock_is_off_if_everybody_says_so(offsets: list[int], state: str) -> None:
    seen = [Seen("AWS", formatdate(START, usegmt=True), START + offset) for offset in offsets]
    found = clock_check(seen)
    assert found.state == state
    assert clock_check([Seen("AWS", CANARY, START)]).state == "skipped"
    assert clock.MOST_SECONDS == 30


# ---- AWS


ASKED = Asked("table t", "EMBEDONCE_JOBS_TABLE", "dynamodb:GetItem")


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("AccessDeniedException", "allow dynamodb:GetItem on what EMBEDONCE_JOBS_TABLE names"),
        ("ResourceNotFoundException", "correct EMBEDONCE_JOBS_TABLE, AWS_REGION or the account"),
        ("ExpiredTokenException", "AWS_PROFILE"),
        ("RequestTimeTooSkewed", "clock"),
        ("ThrottlingException", "MaxReadUnits"),
        ("PermanentRedirect", "AWS_REGION"),
        ("ValidationException", "seems to name something else"),
        ("SomethingNew", "AWS's documentation"),
    ],
)
def test_every_code_of_aws_has_a_remedy(code: str, remedy: str) -> None:
    found = of_code(ASKED, code)
    assert remedy in found.remedy
    assert code in found.said


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (NoCredentialsError(), "AWS_PROFILE"),
        (NoRegionError(), "AWS_REGION"),
        (ParamValidationError(report=CANARY), "correct EMBEDONCE_JOBS_TABLE"),
        (EndpointConnectionError(endpoint_url=f"https://{CANARY}"), "AWS_ENDPOINT_URL"),
        (ReadTimeoutError(endpoint_url=f"https://{CANARY}"), "AWS_ENDPOINT_URL"),
        (BotoCoreError(), "AWS_REGION"),
    ],
)
def test_no_answer_of_aws_has_one_too(error: Any, remedy: str) -> None:
    found = of_failure(ASKED, error)
    assert remedy in found.remedy
    assert CANARY not in str(found)


def test_the_date_of_any_answer_of_aws_is_kept() -> None:
    aws = Aws(FakeClock())
    said = {"ResponseMetadata": {"HTTPHeaders": {"date": formatdate(START - 60, usegmt=True)}}}

    def refuse() -> Any:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": CANARY}, **said}, "GetItem")

    assert aws.call(ASKED, lambda: said) == said
    with pytest.raises(Refused) as refused:
        aws.call(ASKED, refuse)
    assert (refused.value.code, CANARY in str(refused.value.check)) == ("AccessDenied", False)
    assert [each.who for each in aws.seen] == ["AWS", "AWS"]
    assert "ahead of AWS's" in clock_check(aws.seen).said


# ---- numbers


def rows(count: int, dimensions: int = 3072) -> list[bytes]:
    made = np.random.default_rng(7).standard_normal((count, dimensions))
    return [vector.pack(each / np.linalg.norm(each)) for each in made]


def test_equal_vectors_agree_and_others_do_not() -> None:
    one = rows(4)
    near = agreement.nearness(one, one)
    assert near is not None
    assert (near.same, near.equal, near.count) == (True, 4, 4)
    noisy = [vector.pack(vector.unpack(each) * 2 + 1e-5) for each in one]
    near = agreement.nearness(one, noisy)
    assert near is not None
    assert near.same
    assert near.equal == 0
    near = agreement.nearness(one, one[1:] + one[:1])
    assert near is not None
    assert not near.same
    assert agreement.nearness(one, rows(4, 768)) is None
    assert agreement.alike(one) < 0.2
    assert agreement.alike([one[0], one[0]]) > agreement.SAME


def test_a_truncation_is_ours_or_not() -> None:
    full = rows(3)
    cut = [vector.cut(each, 768) for each in full]
    same = agreement.truncation(full, cut, 768)
    assert (same.close, same.equal, same.furthest) == (True, 3, 0.0)
    assert same.length == pytest.approx(1)
    raw = agreement.truncation(full, [each[: 768 * 4] for each in full], 768)
    assert not raw.close
    assert raw.close_scaled
    assert raw.length < 0.6
    other = agreement.truncation(full, [vector.pack(vector.unpack(each)[-768:]) for each in full], 768)
    assert not other.close
    assert not other.close_scaled


# ---- probes


def test_the_most_that_probes_cost_is_little_and_nothing_offline() -> None:
    upstream = Segmind(Transport(FakeClock()), lambda: "k", FakeClock())
    offer = upstream.offer(GEMINI_EMBEDDING_2)
    assert offer is not None
    text = most_cost(probes_for(upstream, offer, GEMINI_EMBEDDING_2, media=False), offer)
    both = most_cost(probes_for(upstream, offer, GEMINI_EMBEDDING_2, media=True), offer)
    assert 0 < text < 10**9, "a tenth of a cent"
    assert both - text == 267 * 450_000
    offline = Embedded()
    free = offline.offer(GEMINI_EMBEDDING_2)
    assert free is not None
    assert most_cost(probes_for(offline, free, GEMINI_EMBEDDING_2, media=True), free) == 0


def test_the_page_names_what_there_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()
    for word in ("--json", "--model", "--media", "--yes", "exit code", "doctor upstreams"):
        assert word in page
    assert re.search(r"0\.999", page)
