"""What the AWS adapters share: translated errors, bounded parallel calls, batch reads, conditional puts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING, Any, TypeVar, cast

from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, EndpointConnectionError

from embedonce.core.errors import StoreUnavailable
from embedonce.ports import Clock

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient

Work = TypeVar("Work")
Result = TypeVar("Result")
Item = dict[str, Any]
"""A DynamoDB item in the low-level form: {"name": {"S": "text"}}."""

KEYS_PER_READ = 100
READ_ATTEMPTS = 5
ONCE_ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.05

REFUSED = frozenset({"ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"})
"""Of DynamoDB: too much was asked of it, and it did nothing."""

_random = SystemRandom()


BUDGET_SECONDS = 6.0
"""For many calls side by side: a store that hangs must leave a request time to be answered without it."""


@contextmanager
def calling(service: str) -> Iterator[None]:
    """Whatever goes wrong in a call becomes `StoreUnavailable`, with AWS's error code and no data."""
    try:
        yield
    except ClientError as error:
        raise StoreUnavailable(f"{service}: {code_of(error)}") from None
    except BotoCoreError as error:
        raise StoreUnavailable(f"{service}: {type(error).__name__}") from None


def code_of(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "unknown")


def pause(clock: Clock, attempt: int) -> None:
    """Before the attempt after `attempt` (0 is the first): full jitter, doubling."""
    clock.sleep(_random.random() * FIRST_PAUSE_SECONDS * 2.0**attempt)


def sent_once(call: Callable[[], Result], clock: Clock) -> Result:
    """A call of DynamoDB that must not be done twice, by a client that does not retry: made again only where
    it certainly was not done (throttled, or never connected).

    :raises StoreUnavailable: whatever else went wrong; it may have been done
    """
    return refused_again(call, clock, ONCE_ATTEMPTS)


def refused_again(call: Callable[[], Result], clock: Clock, attempts: int) -> Result:
    """:raises StoreUnavailable: the last attempt's failure, or the first that says more than "not now" """
    with calling("dynamodb"):
        for attempt in range(attempts - 1):
            try:
                return call()
            except (ConnectTimeoutError, EndpointConnectionError):
                pass
            except ClientError as error:
                if code_of(error) not in REFUSED:
                    raise
            pause(clock, attempt)
        return call()


def in_parallel(
    pool: Executor, call: Callable[[Work], Result], works: Sequence[Work]
) -> list[Result | StoreUnavailable]:
    """Outcomes in order; what has not begun within `BUDGET_SECONDS` is given up as unavailable. A single one
    is done right here, without a thread.

    :raises StoreUnavailable: every single call failed
    """

    def outcome(work: Work) -> Result | StoreUnavailable:
        try:
            return call(work)
        except StoreUnavailable as failure:
            return failure

    if len(works) == 1:
        outcomes = [outcome(works[0])]
    else:
        futures = [pool.submit(outcome, work) for work in works]
        wait(futures, timeout=BUDGET_SECONDS)
        for future in futures:
            future.cancel()
        outcomes = [StoreUnavailable("too slow") if f.cancelled() else f.result() for f in futures]
    failures = [outcome for outcome in outcomes if isinstance(outcome, StoreUnavailable)]
    if failures and len(failures) == len(outcomes):
        raise failures[0]
    return outcomes


@dataclass(frozen=True, slots=True)
class BatchRead:
    """`unread`: how many keys DynamoDB kept returning as unprocessed; nothing is known about them."""

    items: list[Item]
    unread: int


def batch_get(
    client: DynamoDBClient, table: str, keys: Sequence[Item], *, consistent: bool, clock: Clock
) -> BatchRead:
    """Up to 100 different keys. Keys come back unprocessed when the table throttles, and where an answer
    would exceed 16 MB: they are asked for again, a bounded number of times.

    :raises StoreUnavailable: not one key was read
    """
    items: list[Item] = []
    pending: Sequence[Any] = keys
    for attempt in range(READ_ATTEMPTS):
        try:
            with calling("dynamodb"):
                response = client.batch_get_item(
                    RequestItems={table: {"Keys": pending, "ConsistentRead": consistent}}
                )
        except StoreUnavailable:
            if len(pending) < len(keys):
                break
            raise
        items += response["Responses"].get(table, [])
        unprocessed = response.get("UnprocessedKeys", {})
        pending = unprocessed[table]["Keys"] if table in unprocessed else []
        if not pending:
            break
        if attempt < READ_ATTEMPTS - 1:
            pause(clock, attempt)
    if pending and len(pending) == len(keys):
        raise StoreUnavailable("dynamodb: UnprocessedKeys")
    return BatchRead(items, len(pending))


def put_unless(
    client: DynamoDBClient,
    table: str,
    item: Item,
    *,
    key: str,
    condition: str,
    values: Item,
    names: dict[str, str] | None = None,
) -> Item | None:
    """PutItem under `condition`: None if it was written, else the item that stood in the way (empty: it was
    gone again when it was read)."""
    # DynamoDB refuses empty ones.
    parts = {"ExpressionAttributeValues": values, "ExpressionAttributeNames": names}
    expression: dict[str, Any] = {name: part for name, part in parts.items() if part}
    with calling("dynamodb"):
        try:
            client.put_item(
                TableName=table,
                Item=item,
                ConditionExpression=condition,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **expression,
            )
        except ClientError as error:
            if code_of(error) != "ConditionalCheckFailedException":
                raise
            standing = cast("Item | None", error.response.get("Item"))
            if standing:
                return standing
            read = client.get_item(TableName=table, Key={key: item[key]}, ConsistentRead=True)
            return read.get("Item", {})
    return None
