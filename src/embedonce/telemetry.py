"""Where counts, measured times and one-line events go: Powertools on Lambda, the standard logger elsewhere.

Fields are names and numbers only; inputs, keys, vectors and upstream text never get here. Libraries that log
what they send are held at WARNING.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aws_lambda_powertools.logging import Logger
    from aws_lambda_powertools.metrics import EphemeralMetrics

TALKATIVE = ("httpx", "httpcore", "httpx2", "httpcore2", "boto3", "botocore", "urllib3", "s3transfer")
KEPT_SAMPLES = 1000
"""The latest measured values of a name that a local process remembers."""

Fields = dict[str, str | float]


def quieten_libraries() -> None:
    """httpx logs whole URLs at INFO, botocore whole requests at DEBUG."""
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


def unit_of_count(name: str) -> str:
    """CloudWatch has no unit for money."""
    return "None" if name.endswith("USD") else "Count"


class Sums(dict[str, float]):
    """By name; 0 where nothing was counted. Whole numbers stay whole."""

    def __missing__(self, name: str) -> float:
        return 0


def _access_fields(
    method: str,
    route: str,
    status: int,
    seconds: float,
    key_id: str | None,
    correlation_id: str | None,
) -> Fields:
    fields: Fields = {"method": method, "route": route, "status": status, "ms": round(1000 * seconds, 1)}
    if key_id is not None:
        fields["key_id"] = key_id
    if correlation_id is not None:
        fields["correlation_id"] = correlation_id
    return fields


class LogTelemetry:
    """Events as log lines; counts and the latest samples in memory, where tests and a status page can read
    them: in all and by upstream."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("embedonce")
        self._lock = threading.Lock()
        self.counts = Sums()
        self.counts_by_upstream: dict[str, Sums] = {}
        self.units: dict[str, str] = {}
        self.samples: dict[str, deque[float]] = {}
        self.samples_by_upstream: dict[str, dict[str, deque[float]]] = {}

    def count(self, name: str, value: float = 1, *, upstream: str | None = None) -> None:
        with self._lock:
            self.counts[name] += value
            if upstream is not None:
                self.counts_by_upstream.setdefault(upstream, Sums())[name] += value

    def measure(self, name: str, value: float, unit: str, *, upstream: str | None = None) -> None:
        with self._lock:
            self.units[name] = unit
            self._samples(self.samples, name).append(value)
            if upstream is not None:
                of_upstream = self.samples_by_upstream.setdefault(upstream, {})
                self._samples(of_upstream, name).append(value)

    @staticmethod
    def _samples(of: dict[str, deque[float]], name: str) -> deque[float]:
        found = of.get(name)
        if found is None:
            found = of[name] = deque(maxlen=KEPT_SAMPLES)
        return found

    def event(self, name: str, **fields: str | float) -> None:
        self._say(logging.WARNING, name, fields)

    def answered(
        self,
        *,
        request_id: str,
        method: str,
        route: str,
        status: int,
        seconds: float,
        key_id: str | None = None,
        correlation_id: str | None = None,
    ) -> None:
        self.count(f"Requests{status // 100}xx")
        self.measure("RequestLatency", 1000 * seconds, "Milliseconds")
        level = logging.INFO if status >= 400 else logging.DEBUG
        if self._logger.isEnabledFor(level):
            fields = _access_fields(method, route, status, seconds, key_id, correlation_id)
            self._say(level, "request", {**fields, "request_id": request_id})

    def _say(self, level: int, name: str, fields: Fields) -> None:
        said = "".join(f" {key}={value}" for key, value in fields.items())
        self._logger.log(level, "%s%s", name, said, extra={"event": name, "fields": fields})


class PowertoolsTelemetry:
    """Structured logs and EMF metrics: `begin` and `flush` once per invocation, all else from any thread.

    `metrics` makes a new, empty line of the embedded metric format.
    """

    def __init__(self, logger: Logger, metrics: Callable[[], EphemeralMetrics]) -> None:
        self.logger = logger
        self._metrics = metrics
        self._lock = threading.Lock()
        self._sums: dict[tuple[str, str | None], float] = {}
        self._samples: dict[tuple[str, str | None], tuple[str, list[float]]] = {}
        self._invocation = ""

    def begin(self, invocation: str, **keys: str | None) -> None:
        """`invocation` is Lambda's id of it. Every line says it, and `keys` that are not None; those of an
        invocation before are said no more if they are among `keys`."""
        self._invocation = invocation
        self.logger.append_keys(function_request_id=invocation, **keys)

    def count(self, name: str, value: float = 1, *, upstream: str | None = None) -> None:
        with self._lock:
            self._sums[name, upstream] = self._sums.get((name, upstream), 0) + value

    def measure(self, name: str, value: float, unit: str, *, upstream: str | None = None) -> None:
        with self._lock:
            self._samples.setdefault((name, upstream), (unit, []))[1].append(value)

    def event(self, name: str, **fields: str | float) -> None:
        self.logger.warning(name, extra=fields)

    def told(self, name: str, **fields: str | float) -> None:
        """An event of the ordinary course."""
        self.logger.info(name, extra=fields)

    def answered(
        self,
        *,
        request_id: str,
        method: str,
        route: str,
        status: int,
        seconds: float,
        key_id: str | None = None,
        correlation_id: str | None = None,
    ) -> None:
        self.count(f"Requests{status // 100}xx")
        self.measure("RequestLatency", 1000 * seconds, "Milliseconds")
        fields = _access_fields(method, route, status, seconds, key_id, correlation_id)
        self.logger.info("request", extra={**fields, "request_id": request_id})

    def flush(self) -> None:
        """One line for what belongs to no upstream, and one for each upstream, which counts for all of them
        too. More than 100 values of a name go on further lines."""
        with self._lock:
            sums, self._sums = self._sums, {}
            samples, self._samples = self._samples, {}
        if ("Misses", None) in sums:
            # Or the share of hits would be no number where there are none at all.
            sums.setdefault(("Hits", None), 0)
        lines: dict[str | None, EphemeralMetrics] = {}
        for (name, upstream), total in sums.items():
            self._line(lines, upstream).add_metric(name=name, unit=unit_of_count(name), value=total)
        for (name, upstream), (unit, values) in samples.items():
            for value in values:
                self._line(lines, upstream).add_metric(name=name, unit=unit, value=round(value, 1))
        for line in lines.values():
            if line.metric_set:
                line.flush_metrics()

    def _line(self, lines: dict[str | None, EphemeralMetrics], upstream: str | None) -> EphemeralMetrics:
        line = lines.get(upstream)
        if line is None:
            line = lines[upstream] = self._metrics()
            line.add_metadata("function_request_id", self._invocation)
            if upstream is not None:
                line.add_dimensions(service=line.service, Upstream=upstream)
        return line
