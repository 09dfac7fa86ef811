"""Budgets, caps, rates and pause as a client meets them, and what /v1/usage then says."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from embedonce.access.keys import SHARED, issue
from embedonce.core import usage
from embedonce.core.catalog import GEMINI_EMBEDDING_2
from embedonce.core.content import Content, MediaPart, Modality
from embedonce.core.deadline import Deadline
from embedonce.core.errors import WouldBlock
from embedonce.core.manifest import Embedding, Outcome
from embedonce.core.patience import Patience
from embedonce.core.pricing import PICO
from embedonce.core.ticket import Stage
from embedonce.http.message import Request
from embedonce.ports import KeyLimits
from fakes.answers import USD_PER_TOKEN
from fakes.openrouter import FakeOpenRouter
from support import media
from support.anymodal import AnyModal
from support.clock import FakeClock
from support.gateway import DEV_KEY, Answer, ImpatientClock, TestGateway, gateway
from support.ingestlab import IngestLab, Lines
from support.jobgate import JobGate, jobgate
from support.outage import Outage
from support.pipeline import Provider

TOKEN = round(USD_PER_TOKEN * PICO)
CENT = PICO // 100
GOOGLE = "/v1beta/models/gemini-embedding-2:embedContent"
AUDIO = GEMINI_EMBEDDING_2.price(Modality.AUDIO).per_token
LONGEST = AUDIO * round(GEMINI_EMBEDDING_2.limits.audio_seconds * 24.6)
"""What the longest sound costs that the model takes."""


@dataclass(frozen=True)
class Bench:
    """A gateway on a standing clock, whose stores may fail, and keys with limits."""

    gate: TestGateway
    clock: FakeClock
    outage: Outage

    def key(self, *, scopes: frozenset[str] = frozenset({"embed"}), **limits: int | None) -> tuple[str, str]:
        key, record = issue(
            "test",
            namespace=SHARED,
            scopes=scopes,
            isolated=False,
            now=self.clock.now(),
            limits=KeyLimits(**limits),
        )
        self.gate.app.parts.stores.access.add(record)
        return key, record.id

    def limit(self, key_id: str, **limits: int | None) -> None:
        assert self.gate.app.parts.stores.access.limit(key_id, KeyLimits(**limits))

    def set(self, **changes: Any) -> None:
        access = self.gate.app.parts.stores.access
        assert access.set_deployment(replace(access.deployment(), **changes))

    def embed(self, key: str, inputs: Any, **fields: Any) -> Answer:
        return self.gate.embed(inputs, headers={"authorization": f"Bearer {key}"}, **fields)

    def spoken(self, dialect: str, key: str, text: str) -> Answer:
        if dialect == "openai":
            return self.embed(key, text)
        path = GOOGLE if dialect == "google" else "/v1/gemini-embedding-2"
        body: Any = {"content": {"parts": [{"text": text}]}} if dialect == "google" else {"input": text}
        header = {"google": "x-goog-api-key", "segmind": "x-api-key"}[dialect]
        return self.gate.request("POST", path, orjson.dumps(body), {"authorization": "", header: key})

    def usage(self, key: str, query: str = "") -> Any:
        answer = self.gate.request("GET", f"/v1/usage{query}", headers={"authorization": f"Bearer {key}"})
        assert answer.status == 200, answer.response.body
        return json.loads(answer.response.body, parse_float=Decimal)


@contextmanager
def bench(
    folder: Path, fake: FakeOpenRouter, clock: FakeClock | None = None, **settings: Any
) -> Iterator[Bench]:
    clock, outage = clock or FakeClock(), Outage()
    with gateway(folder, fake, clock=clock, stores=outage.opened(folder, clock), **settings) as gate:
        yield Bench(gate, clock, outage)


@pytest.fixture
def desk(tmp_path: Path, fake: FakeOpenRouter) -> Iterator[Bench]:
    with bench(tmp_path, fake) as running:
        yield running


DIALECTS = ["openai", "segmind", "google"]


def said(answer: Answer) -> str:
    error = answer.error
    return str(error if isinstance(error, str) else error["message"])


# ---- over the budget


@pytest.mark.parametrize("dialect", DIALECTS)
def test_over_budget_is_said_in_the_dialect_and_hits_stay_free(
    desk: Bench, fake: FakeOpenRouter, dialect: str
) -> None:
    key, _ = desk.key(budget=50 * TOKEN)
    assert desk.spoken(dialect, key, "first").status == 200
    calls = fake.calls
    over = desk.spoken(dialect, key, "a text that is too long for what is left of it")
    assert "the budget of this API key is 0.00001 USD a month" in said(over)
    assert "hits are still answered" in said(over)
    match dialect:
        case "openai":
            assert over.status == over.error["code"] == 402
            assert over.error["type"] == "insufficient_credits"
            assert over.error["metadata"] == {"reason": "budget_exceeded"}
        case "segmind":
            assert over.status == 406
            assert over.body.keys() == {"error"}
        case "google":
            assert over.status == over.error["code"] == 429
            assert over.error["status"] == "RESOURCE_EXHAUSTED"
            assert over.error["details"][0]["reason"] == "BUDGET_EXCEEDED"
    assert "Retry-After" not in over.headers
    hit = desk.spoken(dialect, key, "first")
    assert (hit.status, hit.headers["X-Cache"]) == (200, "HIT")
    assert fake.calls == calls


def test_a_batch_with_a_miss_that_is_not_covered_buys_nothing(desk: Bench, fake: FakeOpenRouter) -> None:
    key, _ = desk.key(budget=30 * TOKEN)
    assert desk.embed(key, ["one"]).status == 200
    assert desk.embed(key, ["one", "two", "three", "four"]).status == 402
    assert fake.billed == {"one": 1}
    other, _ = desk.key()
    assert desk.embed(other, ["one", "two", "three", "four"]).status == 200
    assert fake.billed == dict.fromkeys(("one", "two", "three", "four"), 1)


def test_the_next_month_has_its_budget(desk: Bench) -> None:
    key, _ = desk.key(budget=20 * TOKEN)
    assert desk.embed(key, "first").status == 200
    assert desk.embed(key, "second text, longer").status == 402
    desk.clock.advance(31 * 86_400)
    assert desk.embed(key, "second text").status == 200


def test_the_daily_cap_is_everybodys(tmp_path: Path, fake: FakeOpenRouter) -> None:
    with bench(tmp_path, fake, daily_usd="0.000005") as desk:
        (one, _), (other, _) = desk.key(), desk.key()
        assert desk.embed(one, "first").status == 200
        over = desk.embed(other, "second text, longer")
        assert over.status == 402
        assert "this deployment may spend 0.000005 USD a day" in said(over)
        assert desk.embed(other, "first").status == 200
        desk.clock.advance(86_400)
        assert desk.embed(other, "second text").status == 200


@pytest.mark.parametrize("elsewhere", [False, True], ids=["threads", "processes"])
def test_a_leader_over_budget_does_not_condemn_its_followers(
    tmp_path: Path, fake: FakeOpenRouter, elsewhere: bool
) -> None:
    with bench(tmp_path, fake) as first, bench(tmp_path, fake, first.clock) as second:
        poor, poor_id = first.key(budget=1)
        rich, _ = first.key(budget=CENT)
        follower = second if elsewhere else first
        assert follower.embed(rich, "warm").status == 200
        here = threading.Event()
        answers: list[Answer] = []
        ask = threading.Thread(target=lambda: answers.append(follower.embed(rich, "the same")))

        def leading(name: str, arguments: tuple[Any, ...]) -> None:
            if name == "quotas.take" and f"budget/{poor_id}" in arguments[0]:
                ask.start()
                assert here.wait(10), "the follower came by"

        def following(name: str, arguments: tuple[Any, ...]) -> None:
            if threading.current_thread() is ask and name == "vectors.get_many":
                here.set()

        first.outage.hook = leading
        if elsewhere:
            second.outage.hook = following
        else:
            first.outage.hook = lambda name, arguments: (
                leading(name, arguments),
                following(name, arguments),
            )[0]
        assert first.embed(poor, "the same").status == 402
        ask.join(20)
        assert [answer.status for answer in answers] == [200]
        assert fake.billed == {"warm": 1, "the same": 1}


# ---- requests and tokens a minute


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("limit", ["requests_per_minute", "tokens_per_minute"])
def test_too_many_a_minute(desk: Bench, fake: FakeOpenRouter, dialect: str, limit: str) -> None:
    desk.clock.advance(60 - desk.clock.now() % 60 + 18)
    key, _ = desk.key(**{limit: 3 if limit == "requests_per_minute" else 60})
    text = "fifteen tokens or so, whoever may count them: sixty bytes....."
    answers = [desk.spoken(dialect, key, text) for _ in range(5)]
    allowed = [answer for answer in answers if answer.status == 200]
    assert 1 <= len(allowed) <= 4
    refused = answers[-1]
    assert refused.status == 429
    assert refused.headers["Retry-After"] == "42"
    what = limit.partition("_")[0]
    assert f"this API key may send {3 if what == 'requests' else 60} {what} a minute" in said(refused)
    if dialect == "google":
        assert refused.error["status"] == "RESOURCE_EXHAUSTED"
        assert {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "42s"} in refused.error[
            "details"
        ]
    if dialect == "openai":
        assert refused.error["type"] == "rate_limit_error"
    desk.clock.advance(41)
    assert desk.spoken(dialect, key, text).status == 429
    desk.clock.advance(1)
    assert desk.spoken(dialect, key, text).status == 200
    assert fake.calls == 1


def test_what_no_minute_holds_is_400(desk: Bench) -> None:
    key, _ = desk.key(tokens_per_minute=10)
    assert desk.embed(key, "word " * 100).status == 400


def test_rates_do_not_stand_in_the_way_when_their_store_fails(desk: Bench) -> None:
    key, _ = desk.key(requests_per_minute=1)
    assert desk.embed(key, "x").status == 200
    desk.outage.down = {"quotas"}
    desk.clock.advance(60)
    assert {desk.embed(key, "x").status for _ in range(5)} == {200}


# ---- what an operator changes


@pytest.mark.parametrize(("dialect", "status"), [("openai", 503), ("segmind", 502), ("google", 503)])
def test_paused(desk: Bench, fake: FakeOpenRouter, dialect: str, status: int) -> None:
    key, _ = desk.key()
    assert desk.spoken(dialect, key, "bought before").status == 200
    desk.set(paused=True)
    desk.clock.advance(60)
    refused = desk.spoken(dialect, key, "new")
    assert refused.status == status
    assert "paused" in said(refused)
    assert refused.headers["Retry-After"] == "60"
    assert desk.spoken(dialect, key, "bought before").status == 200
    assert fake.calls == 1
    desk.set(paused=False)
    desk.clock.advance(60)
    assert desk.spoken(dialect, key, "new").status == 200


def test_changes_take_effect_within_a_minute(desk: Bench) -> None:
    key, key_id = desk.key(budget=CENT)
    texts = iter(f"text {n}" for n in range(100))
    for _ in range(3):
        assert desk.embed(key, next(texts)).status == 200

    def after_a_minute(*expected: int) -> None:
        desk.clock.advance(60)
        assert tuple(desk.embed(key, next(texts)).status for _ in expected) == expected

    desk.limit(key_id, budget=TOKEN)
    after_a_minute(402, 402)
    desk.limit(key_id, budget=CENT)
    after_a_minute(200)
    desk.set(daily=TOKEN)
    after_a_minute(402)
    desk.set(daily=None)
    after_a_minute(200)
    desk.limit(key_id, budget=None, requests_per_minute=1)
    after_a_minute(200, 429)
    desk.limit(key_id)
    after_a_minute(200, 200)


# ---- failing stores


def test_a_key_with_a_budget_stops_when_keys_cannot_be_read(desk: Bench) -> None:
    budgeted, _ = desk.key(budget=CENT)
    free, _ = desk.key()
    assert desk.embed(budgeted, "x").status == desk.embed(free, "x").status == 200
    desk.outage.down = {"access"}
    assert desk.embed(budgeted, "x").status == 200, "what is known is believed for a minute"
    desk.clock.advance(61)
    refused = desk.embed(budgeted, "x")
    assert refused.status == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert desk.embed(free, "y").status == 200


@pytest.mark.parametrize("store", ["quotas", "usage"])
@pytest.mark.parametrize("budget", [None, CENT])
def test_where_money_cannot_be_counted_nothing_is_bought(
    desk: Bench, fake: FakeOpenRouter, store: str, budget: int | None
) -> None:
    key, _ = desk.key(budget=budget)
    assert desk.embed(key, "x").status == 200
    desk.clock.advance(60)
    desk.gate.app.parts.accounts.settle_up()
    desk.outage.down = {store}
    refused = desk.embed(key, "y")
    assert refused.status == 503
    assert "nothing is bought" in said(refused)
    assert desk.embed(key, "x").headers["X-Cache"] == "HIT"
    assert fake.billed == {"x": 1}
    desk.outage.down = set()
    desk.clock.advance(5)
    assert desk.embed(key, "y").status == 200


# ---- jobs


def job_key(gate: JobGate, **limits: int | None) -> tuple[str, str]:
    key, record = issue(
        "t", namespace=SHARED, scopes=frozenset({"embed"}), isolated=False, now=1, limits=KeyLimits(**limits)
    )
    gate.pipeline.stores.access.add(record)
    return key, record.id


def submitted(gate: JobGate, key: str, **fields: Any) -> str:
    answer = gate.request("POST", "/v2/gemini-embedding-2", fields, key=key)
    assert answer.status == 200, answer.response.body
    return str(answer.body["request_id"])


def test_a_job_over_budget_fails_and_hits_complete(tmp_path: Path) -> None:
    provider = Provider(submits=True)
    with jobgate(tmp_path, provider) as gate:
        key, _ = job_key(gate, budget=20 * TOKEN)
        first = submitted(gate, key, input="first")
        gate.pipeline.run()
        over = submitted(gate, key, input="another text that is longer")
        hit = submitted(gate, key, input="first")
        gate.pipeline.run()
        states = [gate.status(each, key=key).body["status"] for each in (first, over, hit)]
        assert states == ["COMPLETED", "FAILED", "COMPLETED"]
        result = gate.result(over, key=key)
        assert "the budget of this API key is 0.000004 USD a month" in said(result)
        assert provider.submissions.total() == 1


def test_a_key_revoked_between_submission_and_work_buys_nothing(tmp_path: Path) -> None:
    provider = Provider(submits=True)
    with jobgate(tmp_path, provider) as gate:
        key, key_id = job_key(gate)
        other, _ = job_key(gate)
        refused, fine = submitted(gate, key, input="one"), submitted(gate, other, input="two")
        assert gate.pipeline.stores.access.revoke(key_id, 1)
        gate.pipeline.run()
        assert gate.status(fine, key=other).body["status"] == "COMPLETED"
        assert provider.submissions.total() == 1
        pipeline = gate.pipeline
        spent = pipeline.stores.usage.read(key_id, "0", "9")
        assert not any("settled" in day or "unknown" in day for day in spent.values())
        assert refused != fine


def test_a_limit_lowered_between_submission_and_work_holds(tmp_path: Path) -> None:
    provider = Provider(submits=True)
    with jobgate(tmp_path, provider) as gate:
        key, key_id = job_key(gate, budget=CENT)
        request = submitted(gate, key, input="one")
        gate.pipeline.stores.access.limit(key_id, KeyLimits(budget=0))
        gate.pipeline.run()
        assert gate.status(request, key=key).body["status"] == "FAILED"
        assert not provider.submissions


@pytest.mark.parametrize("submits", [True, False])
def test_whatever_a_file_claims_the_most_is_reserved(tmp_path: Path, submits: bool) -> None:
    """SECURITY 6: headers lie."""
    provider = Provider(submits=submits)
    with jobgate(tmp_path, provider) as gate:
        sound = base64.b64encode(media.wav(1.0, claimed=1.0)).decode()
        key, _ = job_key(gate, budget=LONGEST - 1)
        request = submitted(gate, key, input="", audio=f"data:audio/wav;base64,{sound}")
        gate.pipeline.run()
        assert gate.status(request, key=key).body["status"] == "FAILED"
        assert not provider.submissions
        enough, enough_id = job_key(gate, budget=LONGEST * 2)
        held: list[int] = []

        def while_it_is_bought(_: Any) -> None:
            day = gate.pipeline.stores.usage.read(enough_id, "0", "9")
            held.extend(
                n
                for counts in day.values()
                for name, n in counts.items()
                if name.startswith("r1") or name[1:].isdigit()
            )

        provider.on_submit = while_it_is_bought
        request = submitted(gate, enough, input="", audio=f"data:audio/wav;base64,{sound}")
        gate.pipeline.run()
        assert gate.status(request, key=enough).body["status"] == "COMPLETED"
        assert held
        assert held[0] >= LONGEST
        gate.pipeline.parts.accounts.settle_up()
        counts = gate.pipeline.stores.usage.read(enough_id, "0", "9")
        (day,) = counts.values()
        assert 0 < day["settled"] < LONGEST
        assert usage.spent(day, gate.clock.now()).reserved == 0, "the rest is given back"


def test_a_sound_over_budget_on_a_route_whose_caller_waits(tmp_path: Path) -> None:
    upstream = AnyModal()
    with gateway(tmp_path, clock=ImpatientClock(), upstreams=[upstream]) as gate:
        desk = Bench(gate, FakeClock(), Outage())
        key, _ = desk.key(budget=TOKEN)
        sound = base64.b64encode(media.wav(1.0)).decode()
        answer = desk.embed(
            key, [{"content": [{"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}}]}]
        )
        assert answer.status == 402, answer.response.body
        assert not upstream.calls


# ---- ingest


def ingest_lab(folder: Path, provider: Provider, clock: FakeClock, budget: int) -> tuple[IngestLab, str]:
    rule = {"dimensions": 128, "key": "payer"}
    lab = IngestLab(folder, provider, clock, ingest_rules=json.dumps([rule]), segmenter=Lines())
    _, record = issue(
        "p",
        namespace=SHARED,
        scopes=frozenset({"embed"}),
        isolated=False,
        now=1,
        limits=KeyLimits(budget=budget),
    )
    lab.stores.access.add(replace(record, id="payer"))
    return lab, "payer"


def paused(lab: IngestLab, manifest_id: str) -> str | None:
    state = lab.manifest(manifest_id).state
    return state.paused if isinstance(state, Embedding) else None


@pytest.mark.parametrize("at_once", [False, True], ids=["next day", "asked for again"])
@pytest.mark.parametrize("sounds", [False, True], ids=["texts", "sounds"])
def test_a_source_over_budget_pauses_and_goes_on_when_it_is_raised(
    tmp_path: Path, at_once: bool, sounds: bool
) -> None:
    clock = FakeClock()
    provider = Provider(submits=sounds, max_inputs=32)
    rows = 6 if sounds else 200
    lab, payer = ingest_lab(tmp_path, provider, clock, budget=3 * LONGEST if sounds else 500 * TOKEN)
    try:
        lab.drop("a.txt", "".join(f"!sound {n}\n" if sounds else f"row {n}\n" for n in range(rows)))
        [manifest] = lab.look()
        lab.work(until=lambda: paused(lab, manifest.id) is not None)
        assert "the budget of this API key is" in str(paused(lab, manifest.id))
        assert 0 < provider.submissions.total() < rows
        if not at_once:
            lab.work(seconds=3600, until=lambda: False)  # what was on its way fails meanwhile
        lab.stores.access.limit(payer, KeyLimits(budget=CENT * 1000))
        if at_once:
            lab.ingest.arrivals.arrived(manifest.source, afresh=True)
        began = clock.now()
        lab.work(until=lambda: lab.outcome(manifest) is not None)
        assert lab.outcome(manifest) is Outcome.PUBLISHED
        assert clock.now() - began < (7_200 if at_once else 86_400 + 7_200), "it pauses once, and no more"
        assert set(provider.submissions.values()) == {1}
        assert provider.submissions.total() == rows
        assert lab.result("a.txt")[-1]["failed"] == 0
    finally:
        lab.pool.shutdown()
        lab.parts.close()


# ---- GET /v1/usage


def test_who_may_see_whose(desk: Bench) -> None:
    own, own_id = desk.key(budget=CENT)
    _, other_id = desk.key()
    admin, admin_id = desk.key(scopes=frozenset({"embed", "admin"}))
    desk.embed(own, "x")

    def asked(key: str, query: str) -> Answer:
        return desk.gate.request("GET", f"/v1/usage{query}", headers={"authorization": f"Bearer {key}"})

    for query in ("", "?key=self", f"?key={own_id}"):
        mine = desk.usage(own, query)
        assert (mine["scope"], mine["key"]["id"], mine["total"]["inputs"]) == ("key", own_id, 1)
        assert "keys" not in mine
        assert "deployment" not in mine
        assert mine["key"]["name"] == desk.gate.app.parts.stores.access.find_by_id(own_id).name != own_id
    for query in (f"?key={other_id}", "?key=all", "?key=nobody"):
        assert asked(own, query).status == 403
    assert asked(admin, "?key=nobody").status == 404
    assert desk.usage(admin, "?key=self")["key"]["id"] == admin_id
    assert desk.usage(admin, f"?key={own_id}")["total"]["inputs"] == 1
    everything = desk.usage(admin)
    assert everything == desk.usage(admin, "?key=all")
    assert {each["id"] for each in everything["keys"]} == {own_id, other_id, admin_id}
    assert everything["total"]["inputs"] == 1
    assert everything["deployment"]["paused"] is False
    assert asked("", "").status == 401
    assert desk.usage(DEV_KEY, "?key=self")["key"]["name"] == "development"


@pytest.mark.parametrize(
    "query",
    [
        "?from=yesterday",
        "?to=2026-13-01",
        "?from=2026-11-20&to=2026-11-01",
        "?from=2024-01-01&to=2026-01-01",
        "?to=0001-01-05",
        "?from=2100-01-01",
        "?key=",
        "?form=2026-11-01",
    ],
)
def test_parameters_that_mean_nothing(desk: Bench, query: str) -> None:
    key, _ = desk.key()
    refused = desk.gate.request("GET", f"/v1/usage{query}", headers={"authorization": f"Bearer {key}"})
    assert refused.status == 400
    assert refused.error["param"] in query
    assert refused.error["param"] in ("from", "to", "key", "form")


def test_a_report_never_waits_on_the_event_loop(desk: Bench) -> None:
    key, _ = desk.key()
    headers, deadline = {"authorization": f"Bearer {key}"}, Deadline.after(9, desk.clock.monotonic())
    asked = Request("GET", "/v1/usage", headers, {}, b"", "id", deadline)
    for patience in (Patience.MEMORY, Patience.STORES):
        with pytest.raises(WouldBlock):
            desk.gate.app.gateway.handle(replace(asked, patience=patience))
    assert desk.gate.app.gateway.handle(asked).status == 200


def test_a_key_that_only_administers_sees_all(desk: Bench) -> None:
    key, _ = desk.key(scopes=frozenset({"admin"}))
    assert desk.usage(key)["scope"] == "all"


def test_a_budget_that_comes_in_the_middle_of_the_month_knows_what_was_spent(desk: Bench) -> None:
    key, key_id = desk.key()
    for number in range(20):
        assert desk.embed(key, f"text number {number}").status == 200
    spent = desk.usage(key)["total"]["usd"]["settled"]
    desk.limit(key_id, budget=200 * TOKEN)
    desk.clock.advance(61)
    assert desk.usage(key)["budget"]["committed_usd"] == spent > 0
    assert desk.embed(key, "text " * 40).status == 402


def test_what_is_submitted_by_url_counts_its_tokens_when_it_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 s of sound are 246 tokens."""
    provider = Provider(submits=True)
    numbers = iter(range(100))

    def load(*_: object) -> Content:
        data = media.wav(10.0 + next(numbers) / 100)
        return Content((MediaPart.of(Modality.AUDIO, "audio/wav", data, seconds=10.0),))

    with jobgate(tmp_path, provider) as gate:
        key, _ = job_key(gate, tokens_per_minute=600)
        monkeypatch.setattr(gate.pipeline.worker._loader, "load", load)
        for number in range(4):
            submitted(gate, key, input="", audio=f"https://origin.example/{number}.wav")
        gate.pipeline.step(Stage.WORK, 4)
        assert provider.submissions.total() == 2
        gate.pipeline.run()
        assert provider.submissions.total() == 4


def test_the_numbers_are_the_providers_and_the_headers(desk: Bench, fake: FakeOpenRouter) -> None:
    key, _ = desk.key(budget=CENT)
    asked: list[tuple[Any, Mapping[str, Any]]] = [
        ("alpha beta gamma", {}),
        (["alpha beta gamma", "delta", "delta"], {}),
        ("delta", {"dimensions": 3072}),
        ("delta", {"dimensions": 768}),
        (["epsilon zeta", "alpha beta gamma"], {}),
    ]
    answers = [desk.embed(key, inputs, **fields) for inputs, fields in asked]
    tokens = {"alpha beta gamma": 4, "delta": 2, "epsilon zeta": 3}
    for (inputs, _), answer in zip(asked, answers, strict=True):
        each = [inputs] if isinstance(inputs, str) else inputs
        assert answer.usage["prompt_tokens"] == sum(tokens[text] for text in each), "hits as misses"
    billed = sum(tokens[text] * times for text, times in fake.billed.items()) * Decimal(TOKEN) / PICO
    total = desk.usage(key)["total"]
    assert total["usd"]["settled"] == billed
    assert sum(Decimal(answer.headers["X-Cost-USD"]) for answer in answers) == billed
    assert sum(Decimal(str(answer.usage["cost"])) for answer in answers) == billed
    assert (total["usd"]["reserved"], total["usd"]["unknown"]) == (0, 0)
    assert (total["requests"], total["inputs"]) == (5, 8)
    assert total["hits"] + total["derived"] + total["collapsed"] + total["misses"] == 8
    assert total["misses"] == fake.inputs_billed
    assert total["tokens"]["text"] == sum(answer.usage["prompt_tokens"] for answer in answers)
    saved = total["cached_tokens"] * Decimal(TOKEN) / PICO
    assert total["usd"]["saved"] == total["usd"]["net_saved"] == saved
    cached = sum(answer.usage["prompt_tokens_details"]["cached_tokens"] for answer in answers)
    assert total["cached_tokens"] == cached
    budget = desk.usage(key)["budget"]
    assert (budget["limit_usd"], budget["committed_usd"]) == (Decimal("0.01"), billed)


def test_days_are_apart_and_the_sum_is_their_sum(desk: Bench) -> None:
    key, _ = desk.key()
    for n in range(3):
        desk.embed(key, [f"day {n}", f"other {n}"][: 1 + n % 2])
        desk.clock.advance(86_400)
    report = desk.usage(key)
    assert [day["inputs"] for day in report["days"]] == [1, 2, 1]
    assert report["total"]["inputs"] == 4
    last = report["days"][-1]["date"]
    assert desk.usage(key, f"?from={last}&to={last}")["total"]["inputs"] == 1
    assert desk.usage(key, "?from=2020-01-01&to=2020-01-02")["days"] == []


def test_what_nobody_knows_is_unknown(desk: Bench, fake: FakeOpenRouter) -> None:
    key, _ = desk.key(budget=CENT)
    fake.next("zero")
    assert desk.embed(key, "x").status == 502
    usd = desk.usage(key)["total"]["usd"]
    assert usd["settled"] == 0
    assert usd["unknown"] * PICO == 9 * TOKEN
    assert desk.usage(key)["budget"]["committed_usd"] == usd["unknown"]


def test_a_call_that_is_not_made_after_all_is_not_unknown(
    desk: Bench, fake: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first was perhaps billed; for the second one it was set aside, and the lead was lost."""
    key, _ = desk.key(budget=CENT)
    monkeypatch.setattr(desk.gate.app.parts.flights, "renew", lambda *_, **__: False)
    fake.next("disconnect")
    assert desk.embed(key, "x").status == 503
    assert fake.calls == 1
    assert desk.usage(key)["total"]["usd"]["unknown"] * PICO == 9 * TOKEN


def test_jobs_are_counted_once(tmp_path: Path) -> None:
    provider = Provider(submits=True)
    with jobgate(tmp_path, provider) as gate:
        key, key_id = job_key(gate)
        for text in ("one", "one", "two"):
            submitted(gate, key, input=text)
        gate.pipeline.run()
        gate.pipeline.parts.accounts.settle_up()
        ((_, day),) = gate.pipeline.stores.usage.read(key_id, "0", "9").items()
        assert (day["jobs_submitted"], day["jobs_completed"], day["inputs"]) == (3, 3, 3)
        assert (day["misses"], day["collapsed"]) == (2, 1)
        assert day["settled"] == 2 * TOKEN
