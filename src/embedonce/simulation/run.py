"""Runs a trace through the gateway's own plan and use case, over stores that charge what AWS would."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from typing import Any

from embedonce.access.authenticate import DEVELOPMENT
from embedonce.bootstrap.admission import pays
from embedonce.bootstrap.embedding import embedder_of
from embedonce.bootstrap.parts import Parts, parts_of
from embedonce.bootstrap.stores import Stores, open_stores
from embedonce.config import Settings, env_of, load
from embedonce.core import costgateway, vector
from embedonce.core.answer import EmbedResult, Origin
from embedonce.core.cachecontrol import DEFAULT
from embedonce.core.catalog import GEMINI_EMBEDDING_2, Model, estimated_tokens
from embedonce.core.content import Content, Draft, MediaPart, Modality, TextPart
from embedonce.core.costcalls import Tier
from embedonce.core.costmodel import CACHE
from embedonce.core.costtraffic import RATES, Kind, Traffic
from embedonce.core.costworth import Policy, unit
from embedonce.core.deadline import Deadline
from embedonce.core.options import EmbedOptions
from embedonce.core.prices import Prices
from embedonce.core.sights import Geometric, Sights
from embedonce.ports import Offer, UpstreamAnswer, UpstreamCall
from embedonce.simulation.stores import (
    DAY_SECONDS,
    Bill,
    ChargedFlights,
    ChargedVectors,
    Uncounted,
    Unlimited,
)
from embedonce.simulation.trace import Sight, repeated, spread
from embedonce.telemetry import LogTelemetry
from embedonce.usecases.embed import EmbedContents
from embedonce.usecases.request import EmbedRequest

START = 1_800_000_000.0
SECONDS_OF_REQUEST = 27.0
SHOWN_EVERY = 100
"""Inputs."""


@dataclass(frozen=True, slots=True)
class Setup:
    """`expected`: EMBEDONCE_EXPECTED_HIT_RATIO. `memory_mb`: of stored vectors, and under `pays` as much
    again of first sights, in each process. `lifetime_days`: after which a process is replaced by one that
    knows nothing; None: never."""

    tier: Tier
    prices: Prices
    modality: Modality = Modality.TEXT
    tokens: int = 20
    dimensions: int = 3072
    processes: int = 4
    memory_mb: int = 128
    ttl_days: float = 180.0
    lifetime_days: float | None = None
    expected: float = 0.5
    model: Model = GEMINI_EMBEDDING_2


@dataclass(frozen=True, slots=True)
class Outcome:
    """`lines` in pico-dollars: `provider` and those of `core.costmodel.CACHE`. `gateway`: what one that
    stands there costs a month, cache or not. `direct`: the provider's alone, for the same inputs."""

    policy: Policy
    inputs: int
    repeated: float
    bought: int
    calls: int
    operations: Mapping[str, int]
    lines: Mapping[str, int]
    gateway: int
    direct: int

    @property
    def total(self) -> int:
        """Without the gateway."""
        return sum(self.lines.values())

    @property
    def over_direct(self) -> float:
        """What it costs more than the provider alone, as a share; negative: less."""
        return self.total / self.direct - 1.0


class TraceClock:
    """Follows the trace; nothing waits."""

    def __init__(self) -> None:
        self.day = 0.0

    def now(self) -> float:
        return START + self.day * DAY_SECONDS

    def monotonic(self) -> float:
        return self.day * DAY_SECONDS

    def sleep(self, seconds: float) -> None:
        self.day += seconds / DAY_SECONDS


class MadeUpUpstream:
    """Answers at once, with one vector for everything: what is looked at is what it costs."""

    name = "made-up"

    def __init__(self, model: Model, dimensions: int) -> None:
        self._model = model
        self._dimensions = dimensions
        self._vectors: dict[int, bytes] = {}
        self.calls = 0

    def offer(self, model: Model) -> Offer | None:
        return Offer(
            lineage="made-up:1",
            model=model.id,
            modalities=frozenset(Modality),
            max_inputs=100,
            max_bytes=1 << 30,
            recipe=lambda content, _: content,
            sends=lambda _: {},
            prices=self._model.prices,
            distinct=False,
        )

    def embed(self, call: UpstreamCall, *, timeout: float) -> UpstreamAnswer:  # noqa: ARG002
        self.calls += 1
        size = call.dimensions or self._dimensions
        if size not in self._vectors:
            self._vectors[size] = vector.pack([size**-0.5] * size)
        tokens = sum(estimated_tokens(content) for content in call.contents)
        return UpstreamAnswer((self._vectors[size],) * len(call.contents), tokens=tokens)

    def close(self) -> None:
        pass


class AtOnce(Executor):
    """Runs what it is given in the caller's thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  # whoever asks for the result gets it
            future.set_exception(error)
        return future


def content_of(modality: Modality, tokens: int, number: int) -> Content:
    """A content of that many tokens, a different one for each number."""
    name = f"{number:x}"
    if modality is Modality.TEXT:
        return Content.of_text(name.rjust(4 * tokens, "_"))
    data = name.encode()
    match modality:
        case Modality.IMAGE:
            part = MediaPart.of(modality, "image/png", data)
        case Modality.AUDIO:
            part = MediaPart.of(modality, "audio/wav", data, seconds=tokens / RATES.audio_second)
        case Modality.VIDEO:
            part = MediaPart.of(modality, "video/mp4", data, seconds=tokens // RATES.video_frame)
        case _:
            part = MediaPart.of(modality, "application/pdf", data, pages=tokens // RATES.pdf_page)
    return Content((part,))


def run(
    trace: Sequence[Sight],
    policy: Policy,
    setup: Setup,
    *,
    seed: int = 0,
    show: Callable[[int], None] = lambda _inputs: None,
) -> Outcome:
    """`show` is told now and then how many inputs are done."""
    bill = Bill(setup.prices)
    clock = TraceClock()
    upstream = MadeUpUpstream(setup.model, setup.dimensions)
    with tempfile.TemporaryDirectory() as folder:
        settings = load(
            {
                env_of("data_dir"): folder,
                env_of("upstreams"): "embedded",
                env_of("vector_ttl_days"): str(setup.ttl_days),
                env_of("memory_mb"): str(setup.memory_mb),
                env_of("expected_hit_ratio"): str(setup.expected),
                env_of("daily_usd"): "100000",
            }
        )
        stores = open_stores(settings, clock)
        charged = replace(
            stores,
            vectors=ChargedVectors(setup.tier, bill, clock, lifecycle_days=setup.ttl_days),
            flights=ChargedFlights(bill, clock),
            quotas=Unlimited(),
            usage=Uncounted(),
        )
        try:
            processes = [
                _Process(lambda: _embedder(settings, charged, clock, upstream, policy, setup), clock, setup)
                for _ in range(setup.processes)
            ]
            found = _drive(trace, processes, clock, setup, random.Random(seed), show)  # noqa: S311
        finally:
            stores.close()
    each = content_of(setup.modality, setup.tokens, 0)
    direct = sum(setup.model.price(setup.modality).of(estimated_tokens(each)) for _ in trace)
    lines = {"provider": found.paid} | {name: bill.cost[name] for name in CACHE}
    return Outcome(
        policy=policy,
        inputs=len(trace),
        repeated=repeated(list(trace)),
        bought=found.bought,
        calls=upstream.calls,
        operations=dict(sorted(bill.operations.items())),
        lines=lines,
        gateway=_gateway(setup, bill, found, len(trace)),
        direct=direct,
    )


def _embedder(
    settings: Settings,
    stores: Stores,
    clock: TraceClock,
    upstream: MadeUpUpstream,
    policy: Policy,
    setup: Setup,
) -> EmbedContents:
    parts: Parts = parts_of(settings, LogTelemetry(), clock=clock, stores=stores, upstreams=[upstream])
    admission = pays(parts, setup.tier, setup.prices) if policy is Policy.PAYS else None
    return embedder_of(parts, AtOnce(), lane=None, admission=admission)


class _Process:
    def __init__(self, start: Callable[[], EmbedContents], clock: TraceClock, setup: Setup) -> None:
        self._start = start
        self._clock = clock
        self._lifetime = setup.lifetime_days
        self._born = clock.day
        self._embed = start()

    def __call__(self, request: EmbedRequest) -> EmbedResult:
        if self._lifetime is not None and self._clock.day - self._born >= self._lifetime:
            self._born = self._clock.day
            self._embed = self._start()
        return self._embed(request)


@dataclass
class _Found:
    bought: int = 0
    paid: int = 0


def _drive(
    trace: Sequence[Sight],
    processes: Sequence[_Process],
    clock: TraceClock,
    setup: Setup,
    chance: random.Random,
    show: Callable[[int], None],
) -> _Found:
    found = _Found()
    options = EmbedOptions(setup.model, setup.dimensions)
    draft = (Draft((TextPart(""),), "input"),)
    for number, (sight, process) in enumerate(spread(list(trace), len(processes), chance)):
        if number % SHOWN_EVERY == 0:
            show(number)
        clock.day = max(clock.day, sight.day)
        request = EmbedRequest(
            drafts=draft,
            options=options,
            controls=DEFAULT,
            caller=DEVELOPMENT,
            namespace="",
            deadline=Deadline.after(SECONDS_OF_REQUEST, clock.monotonic()),
            contents=(content_of(setup.modality, setup.tokens, sight.content),),
        )
        (answered,) = processes[process](request).answers
        found.bought += answered.origin is Origin.MISS
        found.paid += answered.cost
    return found


def _gateway(setup: Setup, bill: Bill, found: _Found, inputs: int) -> int:
    """As `core.costmodel` counts it for a month, one input to a request."""
    kind = Kind(setup.modality, setup.tokens, Geometric(inputs, 0.0, 0.0))
    traffic = Traffic((kind,), dimensions=setup.dimensions, model=setup.model, ttl_days=setup.ttl_days)
    one = unit(setup.modality, setup.tokens, setup.dimensions, setup.tier, setup.prices, model=setup.model)
    stored = bill.operations["look-ups: found"]
    written = bill.operations["vector writes: written"]
    seen = Sights(inputs, found.bought, max(0, inputs - found.bought - stored), stored, written)
    flights = bill.operations["flights: written"] / 2
    looks = stored + bill.operations["look-ups: nothing found"] > inputs / 2
    busy = inputs * costgateway.request_ms(traffic, setup.tier, one, seen, flights=flights, looks=looks)
    lines = costgateway.lines(traffic, setup.prices, requests=inputs, busy_ms=busy)
    return round(sum(pico for _, pico in lines))
