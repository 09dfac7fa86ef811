"""What the functions behind a queue share: each message by itself, and only those that failed come again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response

from embedonce.core.deadline import Deadline
from embedonce.ports import Message
from embedonce.stores.messages import about

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from embedonce.bootstrap.jobs import Handler
    from embedonce.telemetry import PowertoolsTelemetry

MARGIN_SECONDS = 5.0
"""Of Lambda's own time, kept for writing down what came of it."""


def handled(
    event: dict[str, Any],
    context: LambdaContext,
    function: Handler[Message],
    decode: Callable[[str], Message],
    telemetry: PowertoolsTelemetry,
) -> dict[str, Any]:
    """SQS's answer: the messages that are to be delivered again."""

    def one(record: SQSRecord) -> None:
        clock, started = function.clock, function.clock.monotonic()
        told: dict[str, str | float] = {"receives": int(record.attributes.approximate_receive_count)}
        telemetry.begin(context.aws_request_id, message_id=record.message_id, correlation_id=None)
        try:
            message = decode(record.body)
            telemetry.begin(context.aws_request_id, correlation_id=about(message))
            left = context.get_remaining_time_in_millis() / 1000 - MARGIN_SECONDS
            function.handle(message, Deadline.after(max(0.0, left), clock.monotonic()))
        except Exception as failure:  # its kind only: an exception's text may quote an input
            telemetry.event("message_failed", kind=type(failure).__name__, **told)
            raise
        telemetry.told("message", ms=round(1000 * (clock.monotonic() - started), 1), **told)

    telemetry.begin(context.aws_request_id, message_id=None, correlation_id=None)
    try:
        processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)
        answer = process_partial_response(
            event=event, record_handler=one, processor=processor, context=context
        )
        if answer["batchItemFailures"]:
            telemetry.count("MessagesFailed", len(answer["batchItemFailures"]))
        return dict(answer)
    finally:
        function.done()
        telemetry.flush()
