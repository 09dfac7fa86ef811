"""A queue in SQS (standard). Visibility time-out, retention and redrive policy are the queue's own; the dead
letters' queue is in the same account and region, as SQS demands.

Actions: SendMessage; ReceiveMessage and DeleteMessage; GetQueueAttributes, on both queues.
"""

from __future__ import annotations

import json
import math
from typing import Any

from botocore.exceptions import ClientError

from embedonce.core.ticket import TicketRef
from embedonce.ports import Delivery, Depth
from embedonce.stores.aws.calls import calling, code_of
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.messages import body_of, ref_of

MAX_DELAY_SECONDS = 900
_READY = "ApproximateNumberOfMessages"
_DELAYED = "ApproximateNumberOfMessagesDelayed"
_IN_FLIGHT = "ApproximateNumberOfMessagesNotVisible"


class SqsQueue:
    def __init__(self, clients: AwsClients, queue_url: str) -> None:
        self._clients = clients
        self._url = queue_url

    def send(self, ref: TicketRef, *, delay: float = 0.0) -> None:
        seconds = min(max(math.ceil(delay), 0), MAX_DELAY_SECONDS)
        with calling("sqs"):
            self._clients.sqs().send_message(
                QueueUrl=self._url, MessageBody=body_of(ref), DelaySeconds=seconds
            )

    def receive(self, most: int) -> list[Delivery]:
        with calling("sqs"):
            answer = self._clients.sqs().receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=most,
                WaitTimeSeconds=0,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )
        deliveries = []
        for message in answer.get("Messages", []):
            try:
                ref = ref_of(message["Body"])
            except ValueError:
                continue  # unread it stays, and ends among the dead letters
            receives = int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1))
            deliveries.append(Delivery(ref, message["ReceiptHandle"], receives))
        return deliveries

    def acknowledge(self, delivery: Delivery) -> None:
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
