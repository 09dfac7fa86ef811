"""AWS mode: each table, bucket and queue that the settings name is read once, by the calls that the functions
read it by. Writing is not tried.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

from embedonce.config import Settings, env_of
from embedonce.doctor.awscalls import ABSENT, DENIED, Asked, Aws, Refused
from embedonce.doctor.check import Check, ok, problem, skipped, warning
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.duerows import INDEX
from embedonce.stores.aws.s3_vectors import PREFIX as VECTOR_PREFIX

EXPIRY = "e"
MISSING = frozenset({"NoSuchKey"})
VISIBILITY = {"work_queue_url": 300, "ingest_queue_url": 300, "chunk_queue_url": 300, "poll_queue_url": 30}
"""Seconds that a handler may take: with less, another one begins while it is at it."""
_QUEUE = ["ApproximateNumberOfMessages", "VisibilityTimeout", "RedrivePolicy"]
_WAITING = _QUEUE[0]

Look = Callable[[], list[Check]]


def store_looks(settings: Settings, clients: AwsClients, aws: Aws) -> Iterator[tuple[str, Look]]:
    """The lines' names, and what is to be done for them; each may be done in a thread of its own."""
    for name in ("vectors_table", "flights_table", "access_table", "jobs_table", "usage_table"):
        if table := getattr(settings, name):
            yield f"table {table}", partial(_table, name, table, clients, aws)
            yield f"expiry {table}", partial(_expiry, name, table, clients, aws)
    for name, prefixes in _buckets(settings).items():
        bucket = getattr(settings, name)
        yield f"bucket {bucket}", partial(_bucket, name, bucket, prefixes, clients, aws)
    for name in VISIBILITY:
        if url := getattr(settings, name):
            yield f"queue {_named(url)}", partial(_queue, name, url, clients, aws)


def _table(name: str, table: str, clients: AwsClients, aws: Aws) -> list[Check]:
    line, setting = f"table {table}", env_of(name)
    client: Any = clients.dynamodb()
    key = _random_key(name)
    calls = {"dynamodb:GetItem": lambda: client.get_item(TableName=table, Key=key, ConsistentRead=True)}
    if name == "usage_table":
        calls = {
            "dynamodb:Query": lambda: client.query(
                TableName=table,
                KeyConditionExpression="#owner = :owner",
                ExpressionAttributeNames={"#owner": "owner"},
                ExpressionAttributeValues={":owner": key["owner"]},
                Limit=1,
            )
        }
    if name in ("vectors_table", "flights_table"):
        calls["dynamodb:BatchGetItem"] = lambda: client.batch_get_item(
            RequestItems={table: {"Keys": [key], "ConsistentRead": name == "flights_table"}}
        )
    if name == "jobs_table":
        calls[f"dynamodb:Query on the index {INDEX}"] = lambda: client.query(
            TableName=table,
            IndexName=INDEX,
            KeyConditionExpression="ds = :shard AND dt < :before",
            ExpressionAttributeValues={":shard": {"S": "doctor"}, ":before": {"N": "0"}},
            Limit=1,
        )
    for action, call in calls.items():
        try:
            aws.call(Asked(line, setting, action), call)
        except Refused as refused:
            return [refused.check]
    return [ok(line, f"can be read ({', '.join(calls)})")]


def _random_key(name: str) -> dict[str, Any]:
    match name:
        case "access_table":
            return {"pk": {"S": f"doctor#{secrets.token_hex(16)}"}, "sk": {"S": "doctor"}}
        case "jobs_table":
            return {"k": {"S": f"doctor/{secrets.token_hex(16)}"}}
        case "usage_table":
            return {"owner": {"S": f"doctor/{secrets.token_hex(16)}"}, "day": {"S": "doctor"}}
        case _:
            return {"fp": {"B": os.urandom(32)}}


def _expiry(name: str, table: str, clients: AwsClients, aws: Aws) -> list[Check]:
    """No function needs to ask this, so whoever may not is told what to look at."""
    line, wanted = f"expiry {table}", name != "access_table"
    client: Any = clients.dynamodb()
    try:
        answer = aws.call(
            Asked(line, env_of(name), "dynamodb:DescribeTimeToLive"),
            lambda: client.describe_time_to_live(TableName=table),
        )
    except Refused as refused:
        if refused.code in ABSENT:
            return []  # the table's own line says so
        if refused.code not in DENIED:
            return [refused.check]
        hint = f"its TTL attribute has to be `{EXPIRY}`" if wanted else "it must have no TTL"
        return [skipped(line, "dynamodb:DescribeTimeToLive is not allowed here", hint)]
    said = answer.get("TimeToLiveDescription", {})
    on = said.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
    if wanted and not (on and said.get("AttributeName") == EXPIRY):
        remedy = (
            f"aws dynamodb update-time-to-live --table-name {table} "
            f"--time-to-live-specification Enabled=true,AttributeName={EXPIRY}"
        )
        return [warning(line, f"rows are never removed: the TTL attribute is not `{EXPIRY}`", remedy)]
    if on and not wanted:
        remedy = "switch TTL off: keys exist nowhere else"
        return [problem(line, "API keys may be removed by a TTL", remedy)]
    return [ok(line, f"by the attribute `{EXPIRY}`" if wanted else "none, as it has to be")]


def _buckets(settings: Settings) -> dict[str, tuple[str, ...]]:
    """By setting: below which prefixes objects are read; none where they are only written."""
    buckets: dict[str, tuple[str, ...]] = {}
    if settings.cache_bucket:
        buckets["cache_bucket"] = (f"{VECTOR_PREFIX}/",)
    if settings.blob_bucket:
        buckets["blob_bucket"] = ("payloads/", "uploads/", "ingest/")
    if settings.ingest_bucket:
        buckets["ingest_bucket"] = (settings.ingest_prefix,)
    if settings.results_bucket and settings.results_bucket != settings.ingest_bucket:
        buckets["results_bucket"] = ()
    return buckets


def _bucket(name: str, bucket: str, prefixes: tuple[str, ...], clients: AwsClients, aws: Aws) -> list[Check]:
    """A missing object is 404 only for who may list the bucket; without that, every miss looks forbidden."""
    line, setting = f"bucket {bucket}", env_of(name)
    client: Any = clients.s3() if name == "cache_bucket" else clients.transfers()
    refused = None
    for prefix in prefixes:
        key = f"{prefix}doctor/{secrets.token_hex(16)}"
        try:
            answer = aws.call(
                Asked(line, setting, f"s3:GetObject below {prefix}"),
                partial(client.get_object, Bucket=bucket, Key=key),
            )
            with closing(answer["Body"]):
                return [problem(line, "it answers what nobody put there", f"correct {setting}")]
        except Refused as trouble:
            if trouble.code not in MISSING | DENIED:
                return [trouble.check]
            refused = refused or (trouble if trouble.code in DENIED else None)
    if prefixes and refused is None:
        return [ok(line, "can be read (s3:GetObject, s3:ListBucket)")]
    try:
        aws.call(Asked(line, setting, "s3:ListBucket"), lambda: client.head_bucket(Bucket=bucket))
    except Refused as trouble:
        if not prefixes and trouble.code in DENIED:
            hint = "the functions only write there, and that is not tried"
            return [skipped(line, "s3:ListBucket is not allowed here", hint)]
        if prefixes and trouble.code in DENIED:
            remedy = (
                f"allow s3:ListBucket on the bucket that {setting} names, and s3:GetObject on its objects: "
                "without the first, what is not there yet looks forbidden, and is bought without being kept"
            )
            return [problem(line, "s3:ListBucket or s3:GetObject is refused", remedy)]
        return [trouble.check]
    if refused is not None:
        return [refused.check]
    return [ok(line, "is there; writing is not tried")]


def _queue(name: str, url: str, clients: AwsClients, aws: Aws) -> list[Check]:
    line, setting = f"queue {_named(url)}", env_of(name)

    def attributes(which: str, names: list[str]) -> dict[str, str]:
        asked = Asked(line, setting, "sqs:GetQueueAttributes")
        client = clients.sqs()
        call = partial(client.get_queue_attributes, QueueUrl=which, AttributeNames=names)
        found: dict[str, str] = aws.call(asked, call)["Attributes"]
        return found

    try:
        said = attributes(url, _QUEUE)
    except Refused as refused:
        return [refused.check]
    checks = []
    if int(said.get("VisibilityTimeout", 0)) < VISIBILITY[name]:
        remedy = f"set its visibility time-out to {VISIBILITY[name]} s or more, as template.yaml does"
        checks.append(warning(line, "messages come again while they are being handled", remedy))
    if "RedrivePolicy" not in said:
        remedy = "give it a redrive policy (template.yaml: five receives)"
        return [*checks, warning(line, "it has no dead letters: what fails comes again for days", remedy)]
    target = json.loads(said["RedrivePolicy"])["deadLetterTargetArn"].rpartition(":")[2]
    try:
        dead = int(attributes(f"{url.rpartition('/')[0]}/{target}", [_WAITING])[_WAITING])
    except Refused:
        remedy = f"allow sqs:GetQueueAttributes on {target}; its alarm tells of them too"
        return [*checks, skipped(line, "its dead letters cannot be counted", remedy)]
    if dead:
        remedy = "look at the function's log, repair, redrive (docs/operations.md)"
        checks.append(warning(line, f"about {dead} dead letters in {target}", remedy))
    return checks or [ok(line, f"about {said[_WAITING]} messages wait, no dead letters")]


def _named(url: str) -> str:
    return url.rpartition("/")[2]
