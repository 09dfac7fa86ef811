"""The chunks function: embeds what was cut, and publishes what is complete. Wiring only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics

from embedonce.bootstrap.ingest import build_chunks
from embedonce.config import load
from embedonce.entrypoints.messages import handled
from embedonce.stores.messages import task_of
from embedonce.telemetry import PowertoolsTelemetry

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

telemetry = PowertoolsTelemetry(
    Logger(service="embedonce"), lambda: EphemeralMetrics(namespace="embedonce", service="embedonce")
)
function = build_chunks(load(os.environ), telemetry)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return handled(event, context, function, task_of, telemetry)
