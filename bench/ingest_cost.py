"""What a row of a file costs on AWS: every call of the AWS adapters counted and priced, over moto.

    PYTHONPATH=src:tests python -P bench/ingest_cost.py [--rows 100000]

A JSON Lines file is cut, embedded and published by the handlers of the functions `ingest` and `chunks`: once
with nothing in the cache (a provider that answers at once), then again as a new version with everything in
it; at 3072 dimensions (vectors in S3 Standard) and 768 (DynamoDB). Capacity units are DynamoDB's own by the
sizes of the items, not what moto says. moto takes 3 ms for a call, so vectors and flights are kept by
dictionaries behind the same clients (`Quick`). Fails if a row that is a hit costs 1 µUSD or more.

Lambda's time is the processor's, measured here on fewer rows over a moto of its own process (so HTTP is in
it, TLS is not), by the share of a processor that a function of that memory has, and what its calls wait for,
by `WAITS`, which nobody measured. One message is handled after the other: where chunks finish at one time,
some of their conditional writes fail and are made again, which is not in it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import os
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import numpy as np
from moto import mock_aws

from embedonce.access.keys import Scope, issue
from embedonce.bootstrap.ingest import chunks_of, ingest_of
from embedonce.bootstrap.parts import parts_of
from embedonce.clock import SystemClock
from embedonce.config import load
from embedonce.core.deadline import Deadline
from embedonce.core.manifest import Ended, Manifest, Outcome
from embedonce.core.source import Source
from embedonce.core.task import IngestQueue
from embedonce.ports import UpstreamAnswer, UpstreamCall
from embedonce.stores.aws import clients as aws_clients
from embedonce.stores.aws.access import DynamoAccess
from embedonce.telemetry import LogTelemetry
from support import aws, motoserver
from support.dynamounits import Puts, half_read_units
from support.pipeline import Provider

AIM = 1.0
"""µUSD for a row that is a hit."""

# USD, us-east-1, on 2026-11-20.
PRICED = "2026-11-20"
WRITE_UNIT, READ_UNIT = 0.625e-6, 0.125e-6  # DynamoDB on demand: 1 KB; 4 KB strongly, half eventually
S3_PUT, S3_GET = 5.0e-6, 0.40e-6
SQS_REQUEST = 0.40e-6  # 64 KB
LAMBDA_REQUEST, LAMBDA_GB_SECOND = 0.20e-6, 0.0000133334

MEMORY_MB = {"ingest": 1769, "chunks": 1024}
WHOLE_PROCESSOR_MB = 1769
WAITS = {"dynamodb": 0.005, "s3": 0.020, "sqs": 0.010}
"""Seconds that a call of a function in the same region waits: assumed."""

ROWS = 100_000
MEASURED_ROWS = 2_000
"""Of which the processor's time is measured."""
KEY = "incoming/products.jsonl"


# ---- what calls cost


@dataclass
class Bill:
    """Calls, units of what they are priced by, and USD, by service and operation."""

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    units: Counter[tuple[str, str]] = field(default_factory=Counter)
    usd: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: int = 0
    invocations: Counter[str] = field(default_factory=Counter)
    processor: Counter[str] = field(default_factory=Counter)
    waited: Counter[str] = field(default_factory=Counter)

    def add(self, service: str, operation: str, units: float, usd: float) -> None:
        self.calls[service, operation] += 1
        self.units[service, operation] += units  # type: ignore[assignment]
        self.usd[service, operation] += usd  # type: ignore[assignment]


class Meter:
    """Hears of every call of the clients that are made after it. `function`: whose the next calls are."""

    def __init__(self, quick: Quick | None) -> None:
        self.bill = Bill()
        self.function = "ingest"
        self._quick = quick
        self._puts = Puts()
        self._lock = threading.Lock()
        self._heard: list[Any] = []

    def attach(self, client: Any) -> None:
        """Once, whichever threads bring it."""
        with self._lock:
            if any(client is each for each in self._heard):
                return
            self._heard.append(client)
            client.meta.events.register("before-parameter-build", self._before)
            client.meta.events.register("after-call", self._after)
            if self._quick is not None:
                self._quick.attach(client)

    def _before(self, params: Any, context: Any, **_: Any) -> None:
        context["metered"] = params

    def _after(self, parsed: Any, model: Any, context: Any, **_: Any) -> None:
        service, name = model.service_model.service_name, model.name
        params = context["metered"]
        side_by_side = threading.current_thread().name.startswith("aws")
        with self._lock:
            match service:
                case "dynamodb":
                    self._table(name, params, parsed)
                case "s3":
                    self._bucket(name)
                case "sqs":
                    if name == "ReceiveMessage" and not parsed.get("Messages"):
                        return  # Lambda's own asking, which does not depend on the rows
                    units = max(1, math.ceil(len(json.dumps(params, default=str)) / 65_536))
                    self.bill.add(service, name, units, units * SQS_REQUEST)
            share = aws_clients.THREADS if side_by_side else 1
            if name not in ("ReceiveMessage", "DeleteMessage"):  # done by Lambda itself
                self.bill.waited[self.function] += WAITS[service] / share  # type: ignore[assignment]

    def _bucket(self, name: str) -> None:
        if name.startswith(("Get", "Head")):
            self.bill.add("s3", name, 1, S3_GET)
        elif name.startswith(("Delete", "Abort")):
            self.bill.add("s3", name, 0, 0)
        else:
            self.bill.add("s3", name, 1, S3_PUT)

    def _table(self, name: str, params: Any, parsed: Any) -> None:
        match name:
            case "PutItem":
                self.bill.failed += "Error" in parsed
                units = self._puts.units(params, parsed)
                self.bill.add("dynamodb", name, units, units * WRITE_UNIT)
            case "UpdateItem":  # counters: a few bytes
                self.bill.add("dynamodb", name, 1, WRITE_UNIT)
            case "GetItem":
                strongly = bool(params.get("ConsistentRead"))
                units = half_read_units(parsed.get("Item"), strongly=strongly) / 2
                self.bill.add("dynamodb", name, units, units * READ_UNIT)
            case "BatchGetItem":
                ((table, asked),) = params["RequestItems"].items()
                items = parsed["Responses"][table]
                missing = [None] * (len(asked["Keys"]) - len(items))
                strongly = bool(asked["ConsistentRead"])
                units = sum(half_read_units(item, strongly=strongly) for item in [*items, *missing]) / 2
                self.bill.add("dynamodb", name, units, units * READ_UNIT)
            case _:
                raise SystemExit(f"no price for {name}")


class Quick:
    """Vectors and flights, in place of moto: the calls go through botocore all the same. Only what their
    adapters ask for; conditions are told apart by the attribute that they name."""

    def __init__(self) -> None:
        self._items: dict[tuple[str, bytes], Any] = {}
        self._objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self._lock = threading.Lock()

    def attach(self, client: Any) -> None:
        client.meta.events.register("before-call", self._before)

    def _before(self, model: Any, context: Any, **_: Any) -> Any:
        asked = context["metered"]
        with self._lock:
            match model.name:
                case "PutItem" if "fp" in asked["Item"]:
                    return self._put_item(asked)
                case "BatchGetItem":
                    ((table, keys),) = asked["RequestItems"].items()
                    found = (self._items.get((table, key["fp"]["B"])) for key in keys["Keys"])
                    return _said({"Responses": {table: [item for item in found if item]}})
                case "PutObject" if asked["Bucket"] == aws.BUCKET:
                    if asked["Key"] in self._objects:
                        return _refused("PreconditionFailed")
                    body = asked["Body"]
                    data = body.getvalue() if isinstance(body, io.BytesIO) else body
                    self._objects[asked["Key"]] = (data, asked["Metadata"])
                    return _said({})
                case "GetObject" if asked["Bucket"] == aws.BUCKET:
                    if asked["Key"] not in self._objects:
                        return _refused("NoSuchKey")
                    data, metadata = self._objects[asked["Key"]]
                    return _said({"Body": io.BytesIO(data), "Metadata": metadata, "ETag": "e"})
                case _:
                    return None

    def _put_item(self, asked: Any) -> Any:
        key = (asked["TableName"], asked["Item"]["fp"]["B"])
        standing = self._items.get(key)
        over = asked.get("ExpressionAttributeValues", {}).get(":over")
        wanted = standing is None if over is None else standing is not None and standing["ver"] == over
        if not wanted:
            return (
                _refused("ConditionalCheckFailedException")
                if standing is None
                else _refused("ConditionalCheckFailedException", Item=standing)
            )
        self._items[key] = asked["Item"]
        return _said({})


def _said(answer: dict[str, Any]) -> Any:
    return SimpleNamespace(status_code=200), answer


def _refused(code: str, **more: Any) -> Any:
    return SimpleNamespace(status_code=400), {"Error": {"Code": code, "Message": ""}, **more}


# ---- the functions


class Instant(Provider):
    """Answers at once; what it needs of the processor for that is not ours."""

    def __init__(self) -> None:
        super().__init__(submits=False, max_inputs=100)
        self.processor = 0.0

    def embed(self, call: UpstreamCall, *, timeout: float) -> UpstreamAnswer:  # noqa: ARG002
        began = time.thread_time()
        vectors = tuple(
            np.random.default_rng(list(hashlib.sha256(content.parts[0].sent_bytes).digest()))
            .standard_normal(call.dimensions or 3072, dtype=np.float32)
            .tobytes()
            for content in call.contents
        )
        self.processor += time.thread_time() - began
        return UpstreamAnswer(vectors)


class Functions:
    """`ingest` and `chunks` after a cold start."""

    def __init__(self, environment: dict[str, str]) -> None:
        settings = load(environment)
        telemetry = LogTelemetry()
        self.provider = Instant()
        self.parts = parts_of(settings, telemetry, upstreams=[self.provider])
        assert self.parts.stores.ingest is not None
        self._stores = self.parts.stores.ingest
        self._pool = ThreadPoolExecutor(16, thread_name_prefix="purchase")
        self._ingest = ingest_of(settings, self._stores, self.parts.catalog, self.parts.clock, telemetry)
        self._chunks = chunks_of(self.parts, self._stores, self._pool)

    def run(self, source: Source, meter: Meter) -> Manifest:
        with self._lambda("ingest", meter):
            manifest = self._ingest.arrivals.arrived(source)
        assert manifest is not None
        while True:
            idle = True
            for name in IngestQueue:
                function = "ingest" if name is IngestQueue.SOURCES else "chunks"
                queue = self._stores.queues[name]
                for delivery in queue.receive(1):
                    idle = False
                    handle = self._ingest.cut if name is IngestQueue.SOURCES else self._chunks
                    deadline = Deadline.after(840, self.parts.clock.monotonic())
                    with self._lambda(function, meter):
                        handle(delivery.message, deadline)
                    queue.acknowledge(delivery)
            stands = self._ingest.manifests.read(manifest.id)
            meter.bill.calls["dynamodb", "GetItem"] -= 1  # that was ours
            meter.bill.units["dynamodb", "GetItem"] -= 1
            meter.bill.usd["dynamodb", "GetItem"] -= READ_UNIT  # type: ignore[assignment]
            assert stands is not None
            if isinstance(stands.state, Ended):
                assert stands.state.outcome is Outcome.PUBLISHED, stands
                return stands
            if idle:
                time.sleep(0.1)

    @contextmanager
    def _lambda(self, function: str, meter: Meter) -> Iterator[None]:
        meter.function = function
        meter.bill.invocations[function] += 1
        began, others = _processor(), self.provider.processor
        yield
        used = _processor() - began - (self.provider.processor - others)
        meter.bill.processor[function] += used  # type: ignore[assignment]

    def close(self) -> None:
        self._pool.shutdown()
        self.parts.close()


def _processor() -> float:
    """Of this process and the children that it waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _rows(count: int) -> bytes:
    lines = []
    for n in range(count):
        text = f"Product {n}: a bicycle of {n % 97} kg in {n % 31} colours, for {n % 13} riders, " * 3
        lines.append(json.dumps({"sku": f"A{n}", "text": text.strip()}))
    return "\n".join(lines).encode()


def _environment(clients: aws_clients.AwsClients, dimensions: int, payer: str) -> dict[str, str]:
    rule = {"key": payer, "dimensions": dimensions, "id_field": "sku"}
    return {
        "EMBEDONCE_MODE": "aws",
        "EMBEDONCE_VECTORS_TABLE": aws.VECTORS,
        "EMBEDONCE_FLIGHTS_TABLE": aws.FLIGHTS,
        "EMBEDONCE_ACCESS_TABLE": aws.ACCESS,
        "EMBEDONCE_JOBS_TABLE": aws.JOBS,
        "EMBEDONCE_CACHE_BUCKET": aws.BUCKET,
        "EMBEDONCE_BLOB_BUCKET": aws.BLOBS,
        "EMBEDONCE_WORK_QUEUE_URL": aws.queue_url(clients, "work"),
        "EMBEDONCE_POLL_QUEUE_URL": aws.queue_url(clients, "poll"),
        "EMBEDONCE_INGEST_QUEUE_URL": aws.queue_url(clients, "ingest"),
        "EMBEDONCE_CHUNK_QUEUE_URL": aws.queue_url(clients, "chunks"),
        "EMBEDONCE_INGEST_BUCKET": aws.VERSIONED,
        "EMBEDONCE_RESULTS_BUCKET": aws.RESULTS,
        "EMBEDONCE_INGEST_RULES": json.dumps([rule]),
    }


def measure(dimensions: int, rows: int, quick: Quick | None) -> list[tuple[str, Bill, float]]:
    """In a process of its own: a run of misses and one of hits; what each was, its bill and its seconds."""
    meter = Meter(quick)
    make = aws_clients.AwsClients._client

    def metered(self: aws_clients.AwsClients, name: str, service: str, config: Any) -> Any:
        client = make(self, name, service, config)
        meter.attach(client)
        return client

    clients = aws_clients.AwsClients()
    aws.create(clients)
    _, record = issue("bench", namespace="", scopes=frozenset(Scope), isolated=False, now=time.time())
    DynamoAccess(clients, aws.ACCESS, SystemClock()).add(record)
    environment = _environment(clients, dimensions, record.id)
    data = _rows(rows)
    aws_clients.AwsClients._client = metered  # type: ignore[method-assign]
    done = []
    for number, name in enumerate(("misses", "hits")):
        put = clients.s3().put_object(Bucket=aws.VERSIONED, Key=KEY, Body=data)
        source = Source(
            aws.VERSIONED, KEY, put["VersionId"], put["ETag"].strip('"'), len(data), f"{number:018X}"
        )
        meter.bill = Bill()
        # S3's own message about the object.
        for operation in ("SendMessage", "ReceiveMessage", "DeleteMessage"):
            meter.bill.add("sqs", operation, 1, SQS_REQUEST)
        functions = Functions(environment)
        began = time.monotonic()
        manifest = functions.run(source, meter)
        seconds = time.monotonic() - began
        functions.close()
        totals = manifest.totals
        assert (totals.misses, totals.hits)[number] == totals.segments == rows, totals
        done.append((name, meter.bill, seconds))
        print(f"{dimensions} dimensions, {rows} rows, {name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    return done


def measure_counts(dimensions: int, rows: int) -> list[tuple[str, Bill, float]]:
    os.environ.update(motoserver.ENVIRONMENT)
    motoserver.be_patient()
    with mock_aws():
        return measure(dimensions, rows, Quick())


def measure_processor(dimensions: int, rows: int) -> list[tuple[str, Bill, float]]:
    os.environ.update(motoserver.ENVIRONMENT)
    motoserver.be_patient()
    with ExitStack() as stack:
        pipe: Connection = stack.enter_context(motoserver.process(motoserver.serve_aws))
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{motoserver.received(pipe)}"
        return measure(dimensions, rows, None)


# ---- what is printed


def _lambda_usd(bill: Bill, timed: Bill, rows: int, timed_rows: int) -> tuple[float, float]:
    """Of computing and of waiting; requests are with computing."""
    computing = waiting = 0.0
    for function, memory in MEMORY_MB.items():
        gigabytes = memory / 1024
        seconds = timed.processor[function] / timed_rows * rows / min(1.0, memory / WHOLE_PROCESSOR_MB)
        computing += seconds * gigabytes * LAMBDA_GB_SECOND + bill.invocations[function] * LAMBDA_REQUEST
        waiting += bill.waited[function] * gigabytes * LAMBDA_GB_SECOND
    return computing, waiting


def shown(dimensions: int, name: str, bill: Bill, timed: Bill, rows: int, timed_rows: int) -> float:
    """µUSD per row, after printing of what."""
    print(f"\n{dimensions} dimensions, {rows:,} rows, all {name}; µUSD per row:\n")
    print(f"{'':<10}{'operation':<26}{'calls':>10}{'per row':>10}{'units':>12}{'µUSD':>10}")
    per_service: Counter[str] = Counter()
    for (service, operation), calls in sorted(bill.calls.items()):
        usd = bill.usd[service, operation] / rows * 1e6
        per_service[service] += usd  # type: ignore[assignment]
        print(
            f"{service:<10}{operation:<26}{calls:>10,}{calls / rows:>10.4f}"
            f"{bill.units[service, operation]:>12,.0f}{usd:>10.4f}"
        )
    computing, waiting = (each / rows * 1e6 for each in _lambda_usd(bill, timed, rows, timed_rows))
    for function in MEMORY_MB:
        print(
            f"{'lambda':<10}{function:<26}{bill.invocations[function]:>10,}"
            f"{bill.invocations[function] / rows:>10.4f}   "
            f"processor {timed.processor[function] / timed_rows * 1e6:.0f} µs, "
            f"waits {bill.waited[function] / rows * 1e6:.0f} µs per row"
        )
    per_service["lambda, computing"] = computing  # type: ignore[assignment]
    per_service["lambda, waiting"] = waiting  # type: ignore[assignment]
    whole = sum(per_service.values())
    print("  ".join(f"{service} {usd:.3f}" for service, usd in per_service.items()) + f"  = {whole:.3f} µUSD")
    if bill.failed:
        print(f"{bill.failed} conditional writes failed")
    return whole


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[3072, 768])
    options = parser.parse_args()
    rows, timed_rows = options.rows, min(options.rows, MEASURED_ROWS)
    print(f"{os.cpu_count()} cores; prices of {PRICED}", flush=True)
    with ProcessPoolExecutor(2, mp_context=motoserver.SPAWN, max_tasks_per_child=1) as pool:
        counts = {size: pool.submit(measure_counts, size, rows) for size in options.dimensions}
        counted = {size: future.result() for size, future in counts.items()}
    with ProcessPoolExecutor(1, mp_context=motoserver.SPAWN, max_tasks_per_child=1) as pool:
        timed = {
            size: pool.submit(measure_processor, size, timed_rows).result() for size in options.dimensions
        }
    dear = []
    for size in options.dimensions:
        for (name, bill, _), (_, processor, _) in zip(counted[size], timed[size], strict=True):
            whole = shown(size, name, bill, processor, rows, timed_rows)
            if name == "hits" and whole >= AIM:
                dear.append(f"{size} dimensions: {whole:.3f} µUSD")
    if dear:
        raise SystemExit(f"a row that is a hit costs {AIM} µUSD or more: {', '.join(dear)}")


if __name__ == "__main__":
    main()
