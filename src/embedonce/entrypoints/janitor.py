"""The janitor function: once a minute. Wiring only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics

from embedonce.bootstrap.jobs import build_janitor
from embedonce.config import load
from embedonce.core.deadline import Deadline
from embedonce.telemetry import PowertoolsTelemetry

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

MARGIN_SECONDS = 10.0

telemetry = PowertoolsTelemetry(
    Logger(service="embedonce"), lambda: EphemeralMetrics(namespace="embedonce", service="embedonce")
)
function = build_janitor(load(os.environ), telemetry)


def handler(_event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    telemetry.begin(context.aws_request_id)
    left = context.get_remaining_time_in_millis() / 1000 - MARGIN_SECONDS
    try:
        rounds = function.tick(Deadline.after(max(0.0, left), function.clock.monotonic()))
        telemetry.told("round", nudged=rounds.nudged, settled=rounds.settled)
    finally:
        telemetry.flush()
    return {"nudged": rounds.nudged, "settled": rounds.settled}
