"""The API function: one HTTP request an invocation. Wiring only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics

from embedonce.bootstrap import build
from embedonce.config import load
from embedonce.http.lambda_event import to_event, to_request
from embedonce.telemetry import PowertoolsTelemetry

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

telemetry = PowertoolsTelemetry(
    Logger(service="embedonce"), lambda: EphemeralMetrics(namespace="embedonce", service="embedonce")
)
app = build(load(os.environ), telemetry)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    request = to_request(
        event,
        context.get_remaining_time_in_millis() / 1000,
        app.clock.monotonic(),
        public_base_url=app.parts.settings.public_base_url,
    )
    telemetry.begin(
        context.aws_request_id, request_id=request.request_id, correlation_id=request.correlation_id
    )
    try:
        with app.parts.accounts.beside(app.pool):
            return to_event(app.gateway.handle(request))
    finally:
        telemetry.flush()
