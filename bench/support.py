"""What the bench programs share: timing, tables, a gateway over stores in a folder that goes away."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import orjson

from embedonce.bootstrap import App, build
from embedonce.config import Settings
from embedonce.core import vector
from embedonce.core.catalog import Model
from embedonce.core.content import Modality
from embedonce.core.deadline import Deadline
from embedonce.http.message import Request
from embedonce.ports import Offer, UpstreamAnswer, UpstreamCall
from embedonce.telemetry import LogTelemetry
from embedonce.upstreams.recipe import prefixed, sends

KEY = "bench-key"
MODEL = "google/gemini-embedding-2"


class MadeUp:
    """Random vectors at once: what is measured is everything but a provider."""

    name = "made_up"

    def offer(self, model: Model) -> Offer:
        text = frozenset({Modality.TEXT})
        return Offer("bench", model.id, text, 100, 1 << 24, prefixed, sends(frozenset()), {})

    def close(self) -> None:
        pass

    def embed(self, call: UpstreamCall, *, timeout: float) -> UpstreamAnswer:  # noqa: ARG002
        import numpy as np

        generator = np.random.default_rng(hash(call.contents) & 0xFFFFFFFF)
        values = generator.standard_normal((len(call.contents), call.dimensions or 3072))
        unit = values / np.linalg.norm(values, axis=1, keepdims=True)
        return UpstreamAnswer(tuple(vector.pack(row) for row in unit), tokens=20 * len(call.contents))


@contextmanager
def gateway(memory_mb: int = 64) -> Iterator[App]:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), memory_mb=memory_mb)
        app = build(settings, LogTelemetry(), development_key=KEY, upstreams=[MadeUp()])
        yield app
        app.close()


def request(inputs: Sequence[str] | str, encoding: str) -> Request:
    body = orjson.dumps({"model": MODEL, "input": inputs, "encoding_format": encoding})
    return Request(
        method="POST",
        path="/v1/embeddings",
        headers={"authorization": f"Bearer {KEY}", "content-type": "application/json"},
        query={},
        body=body,
        request_id="bench",
        deadline=Deadline.after(3600, time.monotonic()),
    )


def timed(work: Callable[[], object], runs: int) -> list[float]:
    """Milliseconds of each run, sorted."""
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) * 1000)
    return sorted(taken)


def row(name: str, taken: Sequence[float], note: str = "") -> str:
    p99 = taken[min(len(taken) - 1, int(len(taken) * 0.99))]
    return f"{name:<44}{statistics.median(taken):>10.3f}{min(taken):>10.3f}{p99:>10.3f}  {note}"


HEADER = f"{'':<44}{'median':>10}{'min':>10}{'p99':>10}  (ms)"
