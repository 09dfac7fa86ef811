"""What the gateway itself costs, cache or not: HTTP API, Lambda, egress, keys, and being there. Pico-dollars.

Constants say where they are from; those that nobody measured say so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from embedonce.core import costcalls as calls
from embedonce.core.costcalls import Place, Tier
from embedonce.core.costtraffic import Traffic
from embedonce.core.costworth import Unit
from embedonce.core.prices import Prices
from embedonce.core.sights import Sights

# ---- time, in ms

WHOLE_PROCESSOR_MB = 1769
"""Memory at which a Lambda function has a whole processor."""
OWN_MS = {"base64": (0.035, 0.0153), "float": (0.0, 0.104)}
"""Our own time for a request and for each of its vectors (docs/performance.md, a warm hit of 1 and of
100)."""
STORE_MS = {Place.DYNAMODB: 5.0, Place.S3: 20.0, Place.EXPRESS: 5.0}
"""What a call of a store waits: assumed, as in bench/ingest_cost.py."""
COLD_MS = 483.0
"""A cold start with a first miss (docs/performance.md)."""
WORKER_MB = 1536
WORKER_MS = 200.0
"""The worker's memory (template.yaml), and its time besides the provider's: assumed."""

# ---- bytes

ANSWER_BYTES = 600
"""Head and frame of an answer, about."""
VECTOR_FRAME_BYTES = 60
FLOAT_TEXT_BYTES = 12.66
"""A dimension as the shortest text of its float32: 38.9 KB for 3072."""
GATEWAY_BYTES = 512 * 1024
"""HTTP API counts an answer by this much as one request."""

# ---- at rest (template.yaml): queues that Lambda polls, and the janitor

QUEUES, POLLERS, POLL_SECONDS = 4, 5, 20
JANITOR_MB, JANITOR_MS, JANITOR_QUERIES = 256, 200, 16
MINUTES_OF_MONTH = 43_200


def request_ms(
    traffic: Traffic, tier: Tier, one: Unit, seen: Sights, *, flights: float, looks: bool
) -> float:
    """Of one request, on average: it waits for a provider if any of its inputs is bought.

    :param looks: whether the stores are asked
    """
    n, size = traffic.inputs_per_request, one.size
    base, per_vector = OWN_MS[traffic.encoding]
    own = (base + per_vector * n) * max(1.0, WHOLE_PROCESSOR_MB / traffic.memory_mb)
    if not seen.inputs:
        return own
    wait = STORE_MS[tier.place(size.kept)]
    second = STORE_MS[tier.place(size.source)] if size.source is not None else 0.0
    missed = 1.0 - math.pow(max(0.0, 1.0 - seen.bought / seen.inputs), n)
    asked = 1.0 - math.pow(seen.memory / seen.inputs, n)
    provider = traffic.slow_ms if one.always_flown else traffic.provider_ms
    # Take-off, the vector's write and the landing, one after the other.
    writes = (2 * STORE_MS[Place.DYNAMODB] + wait) * (flights / seen.bought if seen.bought else 0.0)
    looking = asked * wait + missed * second if looks else 0.0
    return own + looking + missed * (provider + writes)


def lines(
    traffic: Traffic, prices: Prices, *, requests: float, busy_ms: float
) -> Iterator[tuple[str, float]]:
    """By name. `busy_ms`: of all requests together."""
    n = traffic.inputs_per_request
    answer = ANSWER_BYTES + n * (VECTOR_FRAME_BYTES + text_bytes(traffic.dimensions, traffic.encoding))
    yield ("HTTP API", requests * math.ceil(answer / GATEWAY_BYTES) * prices.pico["http_api_million"])
    busy_ms += requests * traffic.cold_share * COLD_MS
    gb_seconds = busy_ms / 1000 * traffic.memory_mb / 1024
    yield ("Lambda", requests * prices.pico["lambda_million"] + gb_seconds * prices.pico["lambda_gb_second"])
    if traffic.internet:
        yield ("egress", requests * answer * prices.pico["egress_gb"])
    processes = max(1, math.ceil(busy_ms / 60_000 / MINUTES_OF_MONTH))
    reads = min(requests, traffic.keys * processes * MINUTES_OF_MONTH)
    yield ("keys", reads * calls.key_found().cost(prices))
    yield ("at rest", at_rest(prices))


def text_bytes(dimensions: int, encoding: str) -> float:
    """Of one vector in an answer."""
    return 4.0 * -(-dimensions * 4 // 3) if encoding == "base64" else FLOAT_TEXT_BYTES * dimensions


def at_rest(prices: Prices) -> int:
    """A month in which nobody asks: Lambda's long polls of the queues, the janitor and its look-ups. Not
    counted: alarms, metrics, logs, secrets."""
    polls = QUEUES * POLLERS * MINUTES_OF_MONTH * 60 // POLL_SECONDS
    gb_seconds = MINUTES_OF_MONTH * JANITOR_MS * JANITOR_MB / 1024 / 1000
    return (
        prices.of("sqs_million", polls)
        + prices.of("lambda_million", MINUTES_OF_MONTH)
        + round(prices.pico["lambda_gb_second"] * gb_seconds)
        + round(prices.pico["dynamodb_read_unit_million"] * MINUTES_OF_MONTH * JANITOR_QUERIES / 2)
    )
