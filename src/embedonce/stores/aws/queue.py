"""A queue in SQS (standard). Visibility time-out, retention and redrive policy are the queue's own; the dead
letters' queue is in the same account and region, as SQS demands.

Actions: SendMessage (of batches too); ReceiveMessage and DeleteMessage; GetQueueAttributes, on both queues.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Generic

from botocore.exceptions import ClientError

from embedonce.core.errors import StoreUnavailable
from embedonce.ports import Delivery, Depth, Message
from embedonce.stores.aws.calls import calling, code_of
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.messages import Codec

MAX_DELAY_SECONDS = 900
MESSAGES_PER_CALL = 10
BATCH_ATTEMPTS = 2
_READY = "ApproximateNumberOfMessages"
_DELAYED = "ApproximateNumberOfMessagesDelayed"
_IN_FLIGHT = "ApproximateNumberOfMessagesNotVisible"


class SqsQueue(Generic[Message]):
    def __init__(self, clients: AwsClients, queue_url: str, codec: Codec[Message]) -> None:
        self._clients = clients
        self._url = queue_url
        self._codec = codec

    def send(self, message: Message, *, delay: float = 0.0) -> None:
        seconds = min(max(math.ceil(delay), 0), MAX_DELAY_SECONDS)
        body = self._codec.encode(message)
        with calling("sqs"):
            self._clients.sqs().send_message(QueueUrl=self._url, MessageBody=body, DelaySeconds=seconds)

    def send_many(self, messages: Sequence[Message]) -> None:
        bodies = [self._codec.encode(message) for message in messages]
        for at in range(0, len(bodies), MESSAGES_PER_CALL):
            self._send_batch(dict(enumerate(bodies[at : at + MESSAGES_PER_CALL])))

    def _send_batch(self, bodies: dict[int, str]) -> None:
        """:raises StoreUnavailable: of some it says, twice, that they were not sent"""
        code = ""
        for _ in range(BATCH_ATTEMPTS):
            entries = [{"Id": str(n), "MessageBody": body} for n, body in bodies.items()]
            with calling("sqs"):
                answer = self._clients.sqs().send_message_batch(QueueUrl=self._url, Entries=entries)
            failed = answer.get("Failed", [])
            if not failed:
                return
            bodies = {int(each["Id"]): bodies[int(each["Id"])] for each in failed}
            code = failed[0].get("Code", "unknown")
        raise StoreUnavailable(f"sqs: {code}")

    def receive(self, most: int) -> list[Delivery[Message]]:
        with calling("sqs"):
            answer = self._clients.sqs().receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=most,
                WaitTimeSeconds=0,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )
        deliveries = []
        for each in answer.get("Messages", []):
            try:
                message = self._codec.decode(each["Body"])
            except ValueError:
                continue  # unread it stays, and ends among the dead letters
            receives = int(each.get("Attributes", {}).get("ApproximateReceiveCount", 1))
            deliveries.append(Delivery(message, each["ReceiptHandle"], receives))
        return deliveries

    def acknowledge(self, delivery: Delivery[Message]) -> None:
        with calling("sqs"):
            try:
                self._clients.sqs().delete_message(QueueUrl=self._url, ReceiptHandle=delivery.receipt)
            except ClientError as error:
                if code_of(error) != "ReceiptHandleIsInvalid":
                    raise

    def depth(self) -> Depth:
        said = self._attributes(self._url, _READY, _DELAYED, _IN_FLIGHT, "RedrivePolicy")
        dead = 0
        if "RedrivePolicy" in said:
            name = json.loads(said["RedrivePolicy"])["deadLetterTargetArn"].rpartition(":")[2]
            dead = int(self._attributes(f"{self._url.rpartition('/')[0]}/{name}", _READY)[_READY])
        return Depth(int(said[_READY]), int(said[_DELAYED]), int(said[_IN_FLIGHT]), dead)

    def _attributes(self, url: str, *names: str) -> dict[str, Any]:
        with calling("sqs"):
            answer = self._clients.sqs().get_queue_attributes(QueueUrl=url, AttributeNames=list(names))
        attributes: dict[str, Any] = answer["Attributes"]
        return attributes
