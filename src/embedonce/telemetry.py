"""Where counts and one-line events go: Powertools on Lambda, the standard logger elsewhere.

Fields are names and numbers only; inputs, keys, vectors and upstream text never get here. Libraries that log
what they send are held at WARNING.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aws_lambda_powertools.logging import Logger
    from aws_lambda_powertools.metrics import Metrics

TALKATIVE = ("httpx", "httpcore", "httpx2", "httpcore2", "boto3", "botocore", "urllib3", "s3transfer")


def quieten_libraries() -> None:
    """httpx logs whole URLs at INFO, botocore whole requests at DEBUG."""
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


class LogTelemetry:
    """Events as log lines; counts in memory, where tests and a status page can read them."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("embedonce")
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()

    def count(self, name: str, value: float = 1.0) -> None:
        with self._lock:
            self.counts[name] += int(value)

    def event(self, name: str, **fields: str | float) -> None:
        self._logger.warning("%s %s", name, " ".join(f"{k}={v}" for k, v in fields.items()))

    def answered(self, *, request_id: str, method: str, route: str, status: int) -> None:
        level = logging.INFO if status >= 400 else logging.DEBUG
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s %s -> %d %s", method, route, status, request_id)


class PowertoolsTelemetry:
    """Structured logs and EMF metrics. `count` may be called from any thread; `flush` once per invocation."""

    def __init__(self, logger: Logger, metrics: Metrics) -> None:
        self.logger = logger
        self._metrics = metrics
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def count(self, name: str, value: float = 1.0) -> None:
        with self._lock:
            self._counts[name] += int(value)

    def event(self, name: str, **fields: str | float) -> None:
        self.logger.warning(name, extra=fields)

    def answered(self, *, request_id: str, method: str, route: str, status: int) -> None:
        if status >= 400:
            self.logger.info(
                "request_failed", extra={"method": method, "route": route, "status": status, "id": request_id}
            )

    def flush(self) -> None:
        with self._lock:
            counts, self._counts = self._counts, Counter()
        for name, value in counts.items():
            self._metrics.add_metric(name=name, unit="Count", value=value)
        if counts:
            self._metrics.flush_metrics()
