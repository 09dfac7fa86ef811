"""The ingest function: what S3 tells of objects, and the cutting of them. Wiring only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics

from embedonce.bootstrap.ingest import build_ingest
from embedonce.config import load
from embedonce.entrypoints.messages import handled
from embedonce.stores.aws.s3events import news_of
from embedonce.telemetry import PowertoolsTelemetry

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

telemetry = PowertoolsTelemetry(
    Logger(service="embedonce"), lambda: EphemeralMetrics(namespace="embedonce", service="embedonce")
)
function = build_ingest(load(os.environ), telemetry)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return handled(event, context, function, news_of, telemetry)
