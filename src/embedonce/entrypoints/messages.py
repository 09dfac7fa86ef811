"""What the functions behind a queue share: each message by itself, and only those that failed come again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response

from embedonce.core.deadline import Deadline
from embedonce.ports import Message

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
        left = context.get_remaining_time_in_millis() / 1000 - MARGIN_SECONDS
        deadline = Deadline.after(max(0.0, left), function.clock.monotonic())
        function.handle(decode(record.body), deadline)

    try:
        processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)
        answer = process_partial_response(
            event=event, record_handler=one, processor=processor, context=context
        )
        if answer["batchItemFailures"]:
            telemetry.count("MessagesFailed", len(answer["batchItemFailures"]))
        return dict(answer)
    finally:
        telemetry.flush()
