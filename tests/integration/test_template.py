"""template.yaml: what the functions may do, how stores and queues are kept, and the events that come.

The functions' environments are compared with the settings in test_config_matches_template.py.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cfnlint.api import ManualArgs, lint
from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.translator.transform import transform

from embedonce.bootstrap.webhooks import SHORTEST_KEY
from embedonce.core import manifest as manifests
from embedonce.core.source import Source
from embedonce.core.task import Step, Task
from embedonce.core.ticket import RETENTION_SECONDS, TicketRef
from embedonce.segmenting import run
from embedonce.stores.aws import duerows
from embedonce.stores.aws.s3events import Told, news_of
from embedonce.stores.messages import body_of, ref_of, task_body
from embedonce.usecases.ingest import chunk, tend
from support import aws

ROOT = Path(__file__).resolve().parents[2]


class CloudFormationLoader(yaml.SafeLoader):
    """Short forms as the long ones: `!Ref X` is {"Ref": "X"}, `!GetAtt A.B` is {"Fn::GetAtt": "A.B"}."""


def _tagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


CloudFormationLoader.add_multi_constructor("!", _tagged)
TEMPLATE: dict[str, Any] = yaml.load((ROOT / "template.yaml").read_text(), CloudFormationLoader)
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]


def of_type(kind: str) -> dict[str, Any]:
    return {name: each["Properties"] for name, each in RESOURCES.items() if each["Type"] == kind}


def arn(name: str) -> dict[str, str]:
    return {"Fn::GetAtt": f"{name}.Arn"}


def sub(text: str) -> dict[str, str]:
    return {"Fn::Sub": text}


def merged(function: dict[str, Any]) -> dict[str, Any]:
    """A function's properties with those of Globals, as SAM merges them."""
    shared: dict[str, Any] = TEMPLATE["Globals"]["Function"]
    variables = shared["Environment"]["Variables"] | function.get("Environment", {}).get("Variables", {})
    return shared | function | {"Environment": {"Variables": variables}}


FUNCTIONS: dict[str, dict[str, Any]] = {
    name: merged(each) for name, each in of_type("AWS::Serverless::Function").items()
}
FUNCTION = FUNCTIONS["ApiFunction"]

LOGS = ["logs:CreateLogStream", "logs:PutLogEvents"]
READ_AND_WRITE = ["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:PutItem"]
GET_AND_PUT = ["dynamodb:GetItem", "dynamodb:PutItem"]
RECEIVE = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
SEND = (None, ["sqs:SendMessage"], [arn("WorkQueue"), arn("PollQueue")])
SECRET = ["secretsmanager:GetSecretValue"]
LARGE_VECTORS = (None, ["s3:GetObject", "s3:PutObject"], sub("${CacheBucket.Arn}/vectors/*"))
PAYLOADS = sub("${BlobBucket.Arn}/payloads/*")
UPLOADS = sub("${BlobBucket.Arn}/uploads/*")
WEBHOOK_KEY = (None, SECRET, {"Ref": "WebhookKey"})
SEGMIND_KEY = ("HasSegmindSecret", SECRET, {"Ref": "SegmindSecretArn"})
PROVIDERS_KEYS = [
    ("HasOpenRouterSecret", SECRET, {"Ref": "OpenRouterSecretArn"}),
    ("HasGeminiSecret", SECRET, {"Ref": "GeminiSecretArn"}),
    SEGMIND_KEY,
    ("HasOpenAiCompatibleSecret", SECRET, {"Ref": "OpenAiCompatibleSecretArn"}),
]
SEGMENTS = sub("${BlobBucket.Arn}/ingest/*")
FILES = sub("${FilesBucket.Arn}/${IncomingPrefix}*")
RESULTS = sub("${FilesBucket.Arn}/${ResultsPrefix}*")
EXISTING = "arn:${AWS::Partition}:s3:::${ExistingBucket}"
USAGE = (None, ["dynamodb:UpdateItem", "dynamodb:Query"], arn("UsageTable"))
READ_VERSIONS = ["s3:GetObject", "s3:GetObjectVersion"]

# The whole of what each role may do, under which condition. A change here is a change of who can do what.
ALLOWED: dict[str, list[tuple[str | None, list[str], Any]]] = {
    "ApiRole": [
        (None, LOGS, arn("ApiLogGroup")),
        (None, READ_AND_WRITE, [arn("VectorsTable"), arn("FlightsTable")]),
        (None, ["dynamodb:GetItem", "dynamodb:Query", "dynamodb:BatchGetItem"], arn("AccessTable")),
        (None, GET_AND_PUT, arn("JobsTable")),
        (None, ["dynamodb:UpdateItem"], arn("JobsTable")),
        USAGE,
        SEND,
        (
            None,
            ["sqs:GetQueueAttributes"],
            [arn(f"{kind}{what}") for kind in ("Work", "Poll") for what in ("Queue", "DeadLetters")],
        ),
        LARGE_VECTORS,
        (None, ["s3:PutObject", "s3:DeleteObject"], PAYLOADS),
        (None, ["s3:GetObject", "s3:PutObject"], UPLOADS),
        (None, ["s3:ListBucket"], [arn("CacheBucket"), arn("BlobBucket")]),
        WEBHOOK_KEY,
        *PROVIDERS_KEYS,
    ],
    "WorkerRole": [
        (None, LOGS, arn("WorkerLogGroup")),
        (None, RECEIVE, arn("WorkQueue")),
        SEND,
        (None, READ_AND_WRITE, [arn("VectorsTable"), arn("FlightsTable")]),
        (None, ["dynamodb:GetItem"], arn("AccessTable")),
        (None, GET_AND_PUT, arn("JobsTable")),
        (None, ["dynamodb:UpdateItem"], arn("JobsTable")),
        USAGE,
        LARGE_VECTORS,
        (None, ["s3:GetObject", "s3:DeleteObject"], PAYLOADS),
        (None, ["s3:GetObject"], UPLOADS),
        (None, ["s3:ListBucket"], [arn("CacheBucket"), arn("BlobBucket")]),
        *PROVIDERS_KEYS,
    ],
    "PollerRole": [
        (None, LOGS, arn("PollerLogGroup")),
        (None, RECEIVE, arn("PollQueue")),
        SEND,
        (None, READ_AND_WRITE, arn("FlightsTable")),
        (None, GET_AND_PUT, [arn("VectorsTable"), arn("JobsTable")]),
        (None, ["dynamodb:UpdateItem"], arn("JobsTable")),
        USAGE,
        (None, ["s3:DeleteObject"], PAYLOADS),
        LARGE_VECTORS,
        (None, ["s3:ListBucket"], arn("CacheBucket")),
        WEBHOOK_KEY,
        SEGMIND_KEY,
    ],
    "JanitorRole": [
        (None, LOGS, arn("JanitorLogGroup")),
        (None, GET_AND_PUT, arn("JobsTable")),
        (None, ["dynamodb:Query"], sub("${JobsTable.Arn}/index/due")),
        (None, ["dynamodb:BatchGetItem"], arn("FlightsTable")),
        SEND,
        (None, ["sqs:SendMessage"], [arn("IngestQueue"), arn("ChunkQueue")]),
        (None, ["s3:DeleteObject"], [PAYLOADS, SEGMENTS]),
    ],
    "IngestRole": [
        (None, LOGS, arn("IngestLogGroup")),
        (None, RECEIVE, arn("IngestQueue")),
        (None, ["sqs:SendMessage"], [arn("IngestQueue"), arn("ChunkQueue")]),
        (None, GET_AND_PUT, arn("JobsTable")),
        (None, READ_VERSIONS, FILES),
        (None, ["s3:PutObject", "s3:DeleteObject"], SEGMENTS),
        (None, ["s3:ListBucket"], arn("FilesBucket")),
        ("HasExistingBucket", READ_VERSIONS, sub(f"{EXISTING}/${{IncomingPrefix}}*")),
        ("HasExistingBucket", ["s3:ListBucket"], sub(EXISTING)),
    ],
    "ChunksRole": [
        (None, LOGS, arn("ChunksLogGroup")),
        (None, RECEIVE, arn("ChunkQueue")),
        (None, ["sqs:SendMessage"], [arn("ChunkQueue"), arn("IngestQueue"), arn("WorkQueue")]),
        (None, READ_AND_WRITE, [arn("VectorsTable"), arn("FlightsTable")]),
        (None, ["dynamodb:GetItem"], arn("AccessTable")),
        (None, GET_AND_PUT, arn("JobsTable")),
        (None, ["dynamodb:UpdateItem"], arn("JobsTable")),
        USAGE,
        LARGE_VECTORS,
        (None, ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], SEGMENTS),
        (None, ["s3:PutObject", "s3:DeleteObject"], PAYLOADS),
        (None, ["s3:PutObject", "s3:AbortMultipartUpload", "s3:DeleteObject"], RESULTS),
        (None, ["s3:ListBucket"], [arn("CacheBucket"), arn("BlobBucket")]),
        ("HasSinkIndex", ["s3vectors:PutVectors", "s3vectors:DeleteVectors"], {"Ref": "SinkIndexArn"}),
        *PROVIDERS_KEYS,
    ],
}


def statements(role: dict[str, Any]) -> list[tuple[str | None, dict[str, Any]]]:
    """(condition, statement) of the one inline policy."""
    (policy,) = role["Policies"]
    found = []
    for entry in policy["PolicyDocument"]["Statement"]:
        condition, statement = None, entry
        if "Fn::If" in entry:
            condition, statement, otherwise = entry["Fn::If"]
            assert otherwise == {"Ref": "AWS::NoValue"}
        found.append((condition, statement))
    return found


def resources_of(statement: dict[str, Any]) -> list[str]:
    """`Name.Arn`, a parameter's name, or the text of a Sub."""
    given = statement["Resource"]
    return [value for each in (given if isinstance(given, list) else [given]) for value in each.values()]


def test_every_role_may_do_exactly_what_is_listed() -> None:
    roles = of_type("AWS::IAM::Role")
    assert roles.keys() == ALLOWED.keys()
    for name, role in roles.items():
        assert set(role) == {"AssumeRolePolicyDocument", "Policies"}, "no managed policies"
        granted = []
        for condition, statement in statements(role):
            assert set(statement) == {"Sid", "Effect", "Action", "Resource"}
            assert statement["Effect"] == "Allow"
            granted.append((condition, statement["Action"], statement["Resource"]))
        assert granted == ALLOWED[name]


def test_no_statement_has_a_wildcard_resource_or_action() -> None:
    # The stars stand for the names of objects below prefixes of our own buckets.
    objects = {
        *("${CacheBucket.Arn}/vectors/*", "${BlobBucket.Arn}/payloads/*", "${BlobBucket.Arn}/uploads/*"),
        *(each["Fn::Sub"] for each in (SEGMENTS, FILES, RESULTS)),
        f"{EXISTING}/${{IncomingPrefix}}*",
    }
    for role in of_type("AWS::IAM::Role").values():
        for _, statement in statements(role):
            assert not any("*" in action for action in statement["Action"])
            for resource in resources_of(statement):
                assert "*" not in resource or resource in objects


def reach(role: str, service: str) -> set[str]:
    """What a role touches of a service, by resource."""
    return {
        resource
        for _, statement in statements(RESOURCES[role]["Properties"])
        if any(action.startswith(f"{service}:") for action in statement["Action"])
        for resource in resources_of(statement)
    }


def test_the_janitor_has_no_secret_and_does_not_reach_where_vectors_and_media_are_kept() -> None:
    assert reach("JanitorRole", "secretsmanager") == set()
    assert reach("JanitorRole", "dynamodb") == {
        "JobsTable.Arn",
        "FlightsTable.Arn",
        "${JobsTable.Arn}/index/due",
    }
    blobs = {"${BlobBucket.Arn}/payloads/*", "${BlobBucket.Arn}/ingest/*"}
    assert reach("JanitorRole", "s3") == blobs, "to delete, by the list above"
    variables = FUNCTIONS["JanitorFunction"]["Environment"]["Variables"]
    shared = TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]
    queues = {"EMBEDONCE_INGEST_QUEUE_URL", "EMBEDONCE_CHUNK_QUEUE_URL"}
    assert variables.keys() - shared.keys() == {"EMBEDONCE_INGEST_BUCKET", *queues}
    assert not any("SECRET" in name or "KEY" in name for name in variables)


def test_what_runs_native_parsers_reaches_no_secret_no_vector_and_no_key() -> None:
    """And puts nothing below the prefix that triggers it, nor results."""
    assert reach("IngestRole", "secretsmanager") == set()
    assert reach("IngestRole", "s3vectors") == set()
    assert reach("IngestRole", "dynamodb") == {"JobsTable.Arn"}
    assert reach("IngestRole", "sqs") == {"IngestQueue.Arn", "ChunkQueue.Arn"}
    variables = FUNCTIONS["IngestFunction"]["Environment"]["Variables"]
    assert not any("SECRET" in name or "_KEY" in name for name in variables)
    for _, statement in statements(RESOURCES["IngestRole"]["Properties"]):
        if {"s3:PutObject", "s3:DeleteObject"} & set(statement["Action"]):
            assert resources_of(statement) == [SEGMENTS["Fn::Sub"]]


def test_what_embeds_chunks_reads_no_file() -> None:
    assert reach("ChunksRole", "s3") == {
        *(
            "CacheBucket.Arn",
            "BlobBucket.Arn",
            "${CacheBucket.Arn}/vectors/*",
            "${BlobBucket.Arn}/payloads/*",
        ),
        *(SEGMENTS["Fn::Sub"], RESULTS["Fn::Sub"]),
    }
    assert not any(
        "s3:GetObject" in statement["Action"] and RESULTS["Fn::Sub"] in resources_of(statement)
        for _, statement in statements(RESOURCES["ChunksRole"]["Properties"])
    )


def test_the_poller_reaches_no_blob_and_no_api_key() -> None:
    payloads = "${BlobBucket.Arn}/payloads/*"
    assert reach("PollerRole", "s3") == {"${CacheBucket.Arn}/vectors/*", "CacheBucket.Arn", payloads}
    assert "AccessTable.Arn" not in reach("PollerRole", "dynamodb")
    assert reach("PollerRole", "secretsmanager") == {"WebhookKey", "SegmindSecretArn"}


def test_only_lambda_may_take_the_roles_on_and_each_function_has_its_own() -> None:
    assert [each["Role"] for each in FUNCTIONS.values()] == [arn(name) for name in ALLOWED]
    for name, each in FUNCTIONS.items():
        assert "Policies" not in each
        assert each["Role"] == arn(name.replace("Function", "Role"))
        assert each["LoggingConfig"] == {"LogGroup": {"Ref": name.replace("Function", "LogGroup")}}
    for role in of_type("AWS::IAM::Role").values():
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Principal"] == {"Service": "lambda.amazonaws.com"}
        assert trust["Action"] == "sts:AssumeRole"


def test_the_functions_run_what_is_built() -> None:
    for name, each in FUNCTIONS.items():
        assert each["Runtime"] == "python3.13"
        assert each["Architectures"] == ["arm64"]
        assert each["Handler"] == f"embedonce.entrypoints.{name.removesuffix('Function').lower()}.handler"
        package = "build/ingest" if name == "IngestFunction" else "build/lambda"
        assert RESOURCES[name]["Properties"]["CodeUri"] == package, "in Globals `package` overlooks it"
    assert 27 < FUNCTION["Timeout"] < 30


def test_the_functions_are_told_names_and_no_secrets() -> None:
    assert not any(parameter.get("NoEcho") for parameter in TEMPLATE["Parameters"].values())
    for function in FUNCTIONS.values():
        variables = function["Environment"]["Variables"]
        for name in (name for name in variables if name.endswith("_SECRET")):
            given = variables[name]["Ref"]
            if given != "WebhookKey":
                assert ":secretsmanager:" in TEMPLATE["Parameters"][given]["AllowedPattern"]
        assert not any(name.endswith("_KEY") for name in variables)


def test_the_webhook_key_is_made_here_and_long_enough() -> None:
    (key,) = of_type("AWS::SecretsManager::Secret").values()
    assert "SecretString" not in key
    assert key["GenerateSecretString"]["PasswordLength"] >= SHORTEST_KEY
    users = [name for name, each in FUNCTIONS.items() if {"Ref": "WebhookKey"} in _values(each)]
    assert users == ["ApiFunction", "PollerFunction"]


def _values(function: dict[str, Any]) -> list[Any]:
    return list(function["Environment"]["Variables"].values())


def test_tables_are_on_demand_capped_encrypted_and_age_out() -> None:
    tables = of_type("AWS::DynamoDB::Table")
    assert tables.keys() == {"VectorsTable", "FlightsTable", "AccessTable", "JobsTable", "UsageTable"}
    for name, table in tables.items():
        assert table["BillingMode"] == "PAY_PER_REQUEST"
        assert set(table["OnDemandThroughput"]) == {"MaxReadRequestUnits", "MaxWriteRequestUnits"}
        assert table["SSESpecification"] == {"SSEEnabled": True}
        keys = {key["AttributeName"]: key["KeyType"] for key in table["KeySchema"]}
        if name == "AccessTable":
            assert keys == {"pk": "HASH", "sk": "RANGE"}
            assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
            assert "TimeToLiveSpecification" not in table, "keys are revoked, they do not expire"
        elif name == "UsageTable":
            assert keys == {"owner": "HASH", "day": "RANGE"}
            assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
            assert table["TimeToLiveSpecification"] == {"AttributeName": "e", "Enabled": True}
        else:
            assert keys == ({"k": "HASH"} if name == "JobsTable" else {"fp": "HASH"})
            assert table["TimeToLiveSpecification"] == {"AttributeName": "e", "Enabled": True}
            assert "PointInTimeRecoverySpecification" not in table
            if name != "JobsTable":
                assert table["AttributeDefinitions"] == [{"AttributeName": "fp", "AttributeType": "B"}]


def test_the_jobs_table_finds_what_is_due_by_an_index_of_keys() -> None:
    table = RESOURCES["JobsTable"]["Properties"]
    types = {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]}
    assert types == {"k": "S", "ds": "S", "dt": "N"}
    (index,) = table["GlobalSecondaryIndexes"]
    assert index["IndexName"] == duerows.INDEX
    assert {key["AttributeName"]: key["KeyType"] for key in index["KeySchema"]} == {
        "ds": "HASH",
        "dt": "RANGE",
    }
    assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}
    assert index["OnDemandThroughput"] == table["OnDemandThroughput"], "a slower index holds up the table"


def test_the_tests_have_the_tables_of_the_template() -> None:
    """tests/support/aws.py makes them for moto."""
    made: dict[str, Any] = {}

    class Recorder:
        def __getattr__(self, name: str) -> Any:
            def call(**given: Any) -> Any:
                if name == "create_table":
                    made[given["TableName"]] = given
                return {"QueueUrl": "q", "Attributes": {"QueueArn": "a"}}

            return call

        def dynamodb(self) -> Any:
            return self

        s3 = sqs = blobs = dynamodb

    recorder: Any = Recorder()
    aws.create(recorder)
    for name, resource in (
        ("JobsTable", aws.JOBS),
        ("AccessTable", aws.ACCESS),
        ("VectorsTable", aws.VECTORS),
        ("UsageTable", aws.USAGE),
    ):
        table, theirs = RESOURCES[name]["Properties"], made[resource]
        assert theirs["KeySchema"] == table["KeySchema"]
        assert theirs["AttributeDefinitions"] == table["AttributeDefinitions"]
    (index,) = made[aws.JOBS]["GlobalSecondaryIndexes"]
    (deployed,) = RESOURCES["JobsTable"]["Properties"]["GlobalSecondaryIndexes"]
    assert index.items() <= deployed.items()


def test_what_lives_for_hours_goes_with_the_stack() -> None:
    names = [
        *of_type("AWS::SQS::Queue"),
        *of_type("AWS::Logs::LogGroup"),
        "JobsTable",
        "FlightsTable",
        "WebhookKey",
    ]
    for name in names:
        assert RESOURCES[name]["DeletionPolicy"] == "Delete"
        assert RESOURCES[name]["UpdateReplacePolicy"] == "Delete"


QUEUES = {
    "Work": "WorkerFunction",
    "Poll": "PollerFunction",
    "Ingest": "IngestFunction",
    "Chunk": "ChunksFunction",
}
QUEUE_NAMES = {"Work": "work", "Poll": "poll", "Ingest": "ingest", "Chunk": "chunks"}
SOURCE_NAMES = {"Work": "Tickets", "Poll": "Tickets", "Ingest": "Files", "Chunk": "Chunks"}


@pytest.mark.parametrize("name", QUEUES)
def test_queues_wait_for_their_function_and_then_give_up(name: str) -> None:
    queue = RESOURCES[f"{name}Queue"]["Properties"]
    assert queue["VisibilityTimeout"] >= 6 * FUNCTIONS[QUEUES[name]]["Timeout"]
    assert queue["RedrivePolicy"] == {"deadLetterTargetArn": arn(f"{name}DeadLetters"), "maxReceiveCount": 5}
    assert queue["VisibilityTimeout"] <= 12 * 3600, "SQS's limit"
    assert queue["QueueName"] == sub(f"${{AWS::StackName}}-{QUEUE_NAMES[name]}")
    longest = TEMPLATE["Parameters"]["JobTimeout"]["MaxValue"] + RETENTION_SECONDS
    kept = queue["MessageRetentionPeriod"]
    if name in ("Ingest", "Chunk"):
        assert kept >= manifests.DEADLINE_SECONDS
    assert kept > max(longest, queue["VisibilityTimeout"] * queue["RedrivePolicy"]["maxReceiveCount"])
    dead = RESOURCES[f"{name}DeadLetters"]["Properties"]
    assert dead["MessageRetentionPeriod"] == 14 * 86_400
    assert dead["RedriveAllowPolicy"] == {
        "redrivePermission": "byQueue",
        "sourceQueueArns": [
            sub(
                f"arn:${{AWS::Partition}}:sqs:${{AWS::Region}}:${{AWS::AccountId}}:{queue['QueueName']['Fn::Sub']}"
            )
        ],
    }


def test_queues_are_encrypted_tls_only_and_take_only_small_messages() -> None:
    queues = of_type("AWS::SQS::Queue")
    assert queues.keys() == {f"{name}{kind}" for name in QUEUES for kind in ("Queue", "DeadLetters")}
    ticket = body_of(TicketRef("key_0123456789abcdef", "0" * 32))
    task = task_body(Task("0" * 32, Step.ASSEMBLE, 999_999, 999_999))
    for name, queue in queues.items():
        assert queue["SqsManagedSseEnabled"] is True
        if name.startswith("Ingest"):
            assert queue["MaximumMessageSize"] == 256 << 10, (
                "what others may send: events of S3, in envelopes"
            )
        else:
            assert 10 * max(len(ticket), len(task)) < queue["MaximumMessageSize"] <= 4096
    policies = of_type("AWS::SQS::QueuePolicy")
    named = [each["Ref"] for policy in policies.values() for each in policy["Queues"]]
    assert sorted(named) == sorted(queues), "each once: a queue has one policy"
    for policy in policies.values():
        deny, *_ = policy["PolicyDocument"]["Statement"]
        assert (deny["Effect"], deny["Principal"], deny["Action"]) == ("Deny", "*", "sqs:*")
        assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert len(policies["QueuesPolicy"]["PolicyDocument"]["Statement"]) == 1


def test_only_the_files_bucket_of_this_account_tells_of_files() -> None:
    _, own, *others = RESOURCES["IngestQueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    bucket = RESOURCES["FilesBucket"]["Properties"]["BucketName"]
    text, names = bucket["Fn::Sub"]
    account = {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    assert own == {
        "Sid": "FilesBucketTells",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn("IngestQueue"),
        "Condition": {
            "ArnEquals": {"aws:SourceArn": {"Fn::Sub": [f"arn:${{AWS::Partition}}:s3:::{text}", names]}},
            "StringEquals": account,
        },
    }
    assert [each["Fn::If"][0] for each in others] == ["HasExistingBucket", "HasExistingBucketTeller"]
    theirs, through = (each["Fn::If"][1] for each in others)
    for each in (theirs, through):
        assert (each["Effect"], each["Action"], each["Resource"]) == (
            "Allow",
            "sqs:SendMessage",
            arn("IngestQueue"),
        )
    assert theirs["Condition"] == {"ArnEquals": {"aws:SourceArn": sub(EXISTING)}, "StringEquals": account}
    assert through["Condition"] == {"ArnEquals": {"aws:SourceArn": {"Ref": "ExistingBucketTeller"}}}
    pattern = TEMPLATE["Parameters"]["ExistingBucketTeller"]["AllowedPattern"]
    for name, fits in {
        "": True,
        "arn:aws:sns:eu-central-1:123456789012:files": True,
        "arn:aws:events:eu-central-1:123456789012:rule/files": True,
        "arn:aws:events:eu-central-1:123456789012:rule/bus/files": True,
        "arn:aws:sns:eu-central-1:*:files": False,
        "arn:aws:sns:eu-central-1:123456789012:*": False,
        "arn:aws:s3:::files": False,
    }.items():
        assert bool(re.fullmatch(pattern, name)) is fits, "one topic or rule, whose ARN holds its account"


def test_the_files_bucket_tells_the_ingest_queue_of_what_is_put_below_one_prefix() -> None:
    """Its name is known before it: the queue's policy names it, and has to be there first."""
    bucket = RESOURCES["FilesBucket"]
    assert bucket["DependsOn"] == "IngestQueuePolicy"
    (told,) = bucket["Properties"]["NotificationConfiguration"]["QueueConfigurations"]
    assert told == {
        "Event": "s3:ObjectCreated:*",
        "Queue": arn("IngestQueue"),
        "Filter": {"S3Key": {"Rules": [{"Name": "prefix", "Value": {"Ref": "IncomingPrefix"}}]}},
    }
    assert bucket["Properties"]["VersioningConfiguration"] == {"Status": "Enabled"}
    text, names = bucket["Properties"]["BucketName"]["Fn::Sub"]
    stack = (
        "arn:aws:cloudformation:us-east-1:123456789012:stack/Embedonce/0a1b2c3d-4e5f-11f0-8a9b-0123456789ab"
    )
    index, split = names["Id"]["Fn::Select"]
    assert split == {"Fn::Split": ["/", {"Ref": "AWS::StackId"}]}
    name = text.replace("${Id}", stack.split("/")[index])
    assert re.fullmatch("[a-z0-9-]{3,63}", name), name


@pytest.mark.parametrize(
    ("prefix", "fits"),
    [
        *(("incoming/", True), ("a/b-2/c.d/", True), ("incoming", False), ("", False), ("/", False)),
        *(("/incoming/", False), ("a//", False), ("*/", False), ("in coming/", False), ("${x}/", False)),
    ],
)
def test_prefixes_are_folders_whose_names_mean_nothing_to_iam(prefix: str, fits: bool) -> None:
    for name in ("IncomingPrefix", "ResultsPrefix"):
        rules = TEMPLATE["Parameters"][name]
        assert bool(re.fullmatch(rules["AllowedPattern"], prefix)) is fits
        assert rules["MaxLength"] <= 200, "results need room for names"


def test_one_cut_fits_into_the_memory_and_the_disk_of_its_function() -> None:
    function, parameters = FUNCTIONS["IngestFunction"], TEMPLATE["Parameters"]
    most = max(run.MEMORY_BYTES, run.MEDIA_MEMORY_BYTES)
    assert function["MemorySize"] << 20 >= most + (3 * 64 << 20) + (256 << 20)
    assert parameters["IngestSpoolMb"]["MaxValue"] < function["EphemeralStorage"]["Size"] <= 10_240
    assert function["Timeout"] == 900


def test_one_attempt_at_a_chunk_fits_into_the_time_of_its_function() -> None:
    function = FUNCTIONS["ChunksFunction"]
    assert function["Timeout"] > 2 * chunk.SEND_SECONDS
    assert TEMPLATE["Parameters"]["JobUpstreamTimeout"]["MaxValue"] <= function["Timeout"] - 60


@pytest.mark.parametrize(("name", "batch"), [("Work", 1), ("Poll", 10), ("Ingest", 1), ("Chunk", 1)])
def test_functions_take_messages_in_batches_of_which_only_failures_come_again(name: str, batch: int) -> None:
    (source,) = FUNCTIONS[QUEUES[name]]["Events"].values()
    parameter = f"{QUEUES[name].removesuffix('Function').replace('Chunks', 'Chunk')}Concurrency"
    assert source == {
        "Type": "SQS",
        "Properties": {
            "Queue": arn(f"{name}Queue"),
            "BatchSize": batch,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "ScalingConfig": {"MaximumConcurrency": {"Ref": parameter}},
        },
    }
    rules = TEMPLATE["Parameters"][parameter]
    assert 2 <= rules["MinValue"] <= rules["Default"] <= 10, "AWS allows 2 to 1000"
    assert rules["MaxValue"] == 1000


def test_tickets_may_come_back_as_often_as_it_takes() -> None:
    """Lambda stops what it takes for a loop through a queue after 16 rounds, unless told otherwise."""
    allowed = {name for name, each in FUNCTIONS.items() if each.get("RecursiveLoop") == "Allow"}
    assert allowed == set(QUEUES.values())


def test_one_call_of_the_worker_fits_into_its_time_and_one_upload_into_its_memory() -> None:
    worker, parameters = FUNCTIONS["WorkerFunction"], TEMPLATE["Parameters"]
    assert parameters["JobUpstreamTimeout"]["MaxValue"] <= worker["Timeout"] - 60
    assert 4 * parameters["UploadMb"]["MaxValue"] < worker["MemorySize"] / 3


def test_the_janitor_comes_every_minute_and_alone() -> None:
    janitor = FUNCTIONS["JanitorFunction"]
    (event,) = janitor["Events"].values()
    assert event == {"Type": "Schedule", "Properties": {"Schedule": "rate(1 minute)"}}
    assert janitor["Timeout"] == 60
    assert janitor["EventInvokeConfig"] == {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0}
    reserved = janitor["ReservedConcurrentExecutions"]
    assert reserved == {"Fn::If": ["HasReservedConcurrency", 1, {"Ref": "AWS::NoValue"}]}


@pytest.mark.parametrize("name", ["VectorsTable", "AccessTable", "CacheBucket", "BlobBucket", "FilesBucket"])
def test_what_was_paid_for_and_who_may_use_it_outlives_the_stack(name: str) -> None:
    """And the bucket that cannot be deleted while anything is in it."""
    assert RESOURCES[name]["DeletionPolicy"] == "RetainExceptOnCreate"
    assert RESOURCES[name]["UpdateReplacePolicy"] == "Retain"


@pytest.mark.parametrize("name", ["CacheBucket", "BlobBucket", "FilesBucket"])
def test_the_buckets_are_private_encrypted_tls_only_and_empty_themselves(name: str) -> None:
    bucket = RESOURCES[name]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    *expire, abort = bucket["LifecycleConfiguration"]["Rules"]
    if name == "FilesBucket":  # only what was replaced
        (replaced,) = expire
        assert replaced.keys() == {"Id", "Status", "NoncurrentVersionExpiration", "ExpiredObjectDeleteMarker"}
        assert replaced["NoncurrentVersionExpiration"] == {"NoncurrentDays": 7}
    else:
        days = tend.BLOB_SECONDS / 86_400
        assert {rule["Prefix"]: rule["ExpirationInDays"] for rule in expire} == {
            "CacheBucket": {"vectors/": {"Ref": "VectorTtlDays"}},
            "BlobBucket": {"payloads/": 1, "uploads/": 1, "ingest/": days},
        }[name]
    assert abort["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert {rule["Status"] for rule in (*expire, abort)} == {"Enabled"}
    assert "CorsConfiguration" not in bucket
    (deny,) = RESOURCES[f"{name}Policy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (deny["Effect"], deny["Principal"], deny["Action"]) == ("Deny", "*", "s3:*")
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert deny["Resource"] == [arn(name), {"Fn::Sub": f"${{{name}.Arn}}/*"}]


def test_logs_end_and_name_nothing_a_caller_sent() -> None:
    groups = of_type("AWS::Logs::LogGroup")
    assert groups.keys() == {"AccessLogGroup", *(name.replace("Function", "LogGroup") for name in FUNCTIONS)}
    for group in groups.values():
        assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    written = json.loads(RESOURCES["HttpApi"]["Properties"]["AccessLogSettings"]["Format"])
    assert set(written.values()) == {
        "$context.requestId",
        "$context.routeKey",
        "$context.status",
        "$context.responseLatency",
        "$context.integrationLatency",
        "$context.integrationStatus",
        "$context.integrationErrorMessage",
    }


def test_the_api_is_throttled_and_every_request_reaches_the_function() -> None:
    settings = RESOURCES["HttpApi"]["Properties"]["DefaultRouteSettings"]
    assert set(settings) == {"ThrottlingRateLimit", "ThrottlingBurstLimit"}
    (route,) = FUNCTION["Events"].values()
    assert route["Properties"] == {"ApiId": {"Ref": "HttpApi"}, "PayloadFormatVersion": "2.0"}


def test_alarms() -> None:
    alarms = of_type("AWS::CloudWatch::Alarm")
    watched = {
        each.get("MetricName") or each["Metrics"][1]["MetricStat"]["Metric"]["MetricName"]
        for each in alarms.values()
    }
    assert watched == {
        *("Errors", "Throttles", "Duration", "Invocations", "5xx", "SystemErrors", "ReadThrottleEvents"),
        *("ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"),
        *("JobsNotWrittenDown", "JobsUnknownUpstream", "Hits", "UpstreamRateLimited"),
        *("BudgetAlarms", "DailyCapReached"),
    }
    for name, each in alarms.items():
        assert each["AlarmActions"]["Fn::If"][0] == "HasAlarmTopic"
        breaching = "breaching" if name == "JanitorMissingAlarm" else "notBreaching"
        assert each["TreatMissingData"] == breaching
        assert len(each.get("Metrics", [])) <= 11, "CloudWatch takes ten metrics beside the expression"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_alarms_for_errors_throttles_and_time(name: str) -> None:
    alarms = of_type("AWS::CloudWatch::Alarm")
    prefix = "" if name == "ApiFunction" else name.removesuffix("Function")
    for metric in ("Errors", "Throttles", "Duration"):
        alarm = alarms[f"{prefix}{metric}Alarm"]
        assert alarm["MetricName"] == metric
        assert alarm["Dimensions"] == [{"Name": "FunctionName", "Value": {"Ref": name}}]
    assert alarms[f"{prefix}DurationAlarm"]["Threshold"] == 0.8 * 1000 * FUNCTIONS[name]["Timeout"]


@pytest.mark.parametrize(("name", "age"), [("Work", 900), ("Poll", 1200), ("Ingest", 3600), ("Chunk", 1800)])
def test_queues_have_alarms_for_dead_letters_and_age(name: str, age: int) -> None:
    alarms = of_type("AWS::CloudWatch::Alarm")
    dead, old = alarms[f"{name}DeadLettersAlarm"], alarms[f"{name}AgeAlarm"]
    assert dead["Dimensions"][0]["Value"] == {"Fn::GetAtt": f"{name}DeadLetters.QueueName"}
    assert (dead["Threshold"], dead["ComparisonOperator"]) == (0, "GreaterThanThreshold")
    assert old["Dimensions"][0]["Value"] == {"Fn::GetAtt": f"{name}Queue.QueueName"}
    assert (old["Threshold"], old["ComparisonOperator"]) == (age, "GreaterThanThreshold")


# ---- what AWS makes of it: cfn-lint does not look into SAM resources, so they are translated first


class NoManagedPolicies:
    def load(self) -> dict[str, str]:
        raise AssertionError("SAM would ask IAM for a managed policy; the template names none")


def translated(template: dict[str, Any]) -> dict[str, Any]:
    """As `sam deploy` and CloudFormation do it, after the upload of the package. Needs no network."""
    template = copy.deepcopy(template)
    for each in template["Resources"].values():
        if each["Type"] == "AWS::Serverless::Function":
            each["Properties"]["CodeUri"] = "s3://uploads/embedonce.zip"
    result: dict[str, Any] = transform(template, {}, NoManagedPolicies())
    return result


def complaints(template: dict[str, Any]) -> list[str]:
    found = lint(json.dumps(template), config=ManualArgs(regions=["us-east-1"]))
    return [f"{each.rule.id} {each.message}" for each in found]


@pytest.fixture
def region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


MADE_BY_SAM = {
    "ApiFunction": "AWS::Lambda::Function",
    "ApiFunctionEverythingPermission": "AWS::Lambda::Permission",
    "WorkerFunction": "AWS::Lambda::Function",
    "WorkerFunctionTickets": "AWS::Lambda::EventSourceMapping",
    "PollerFunction": "AWS::Lambda::Function",
    "PollerFunctionTickets": "AWS::Lambda::EventSourceMapping",
    "IngestFunction": "AWS::Lambda::Function",
    "IngestFunctionFiles": "AWS::Lambda::EventSourceMapping",
    "ChunksFunction": "AWS::Lambda::Function",
    "ChunksFunctionChunks": "AWS::Lambda::EventSourceMapping",
    "JanitorFunction": "AWS::Lambda::Function",
    "JanitorFunctionEventInvokeConfig": "AWS::Lambda::EventInvokeConfig",
    "JanitorFunctionEveryMinute": "AWS::Events::Rule",
    "JanitorFunctionEveryMinutePermission": "AWS::Lambda::Permission",
    "HttpApi": "AWS::ApiGatewayV2::Api",
    "HttpApiApiGatewayDefaultStage": "AWS::ApiGatewayV2::Stage",
}


@pytest.mark.usefixtures("region")
def test_sam_makes_the_functions_their_sources_one_api_and_no_role_of_its_own() -> None:
    result = translated(TEMPLATE)
    resources = result["Resources"]
    assert "Transform" not in result
    assert {
        name: each["Type"] for name, each in resources.items() if each != RESOURCES.get(name)
    } == MADE_BY_SAM
    assert resources.keys() - MADE_BY_SAM.keys() == RESOURCES.keys() - MADE_BY_SAM.keys()

    for name, given in FUNCTIONS.items():
        function = resources[name]["Properties"]
        assert function.pop("Code") == {"S3Bucket": "uploads", "S3Key": "embedonce.zip"}
        assert function.pop("Tags") == [{"Key": "lambda:createdBy", "Value": "SAM"}]
        of_sam = ("CodeUri", "Events", "EventInvokeConfig")
        assert function == {key: value for key, value in given.items() if key not in of_sam}

    permission = resources["ApiFunctionEverythingPermission"]["Properties"]
    assert permission["Action"] == "lambda:InvokeFunction"
    assert permission["FunctionName"] == {"Ref": "ApiFunction"}
    assert permission["Principal"] == "apigateway.amazonaws.com"
    source, names = permission["SourceArn"]["Fn::Sub"]
    assert source.endswith(":${AWS::AccountId}:${__ApiId__}/${__Stage__}/*"), "this API only"
    assert names["__ApiId__"] == {"Ref": "HttpApi"}


@pytest.mark.usefixtures("region")
def test_sam_routes_every_request_to_the_function_throttled_and_logged() -> None:
    resources = translated(TEMPLATE)["Resources"]
    ((path, methods),) = resources["HttpApi"]["Properties"]["Body"]["paths"].items()
    assert (path, set(methods)) == ("$default", {"x-amazon-apigateway-any-method"})
    integration = methods["x-amazon-apigateway-any-method"]["x-amazon-apigateway-integration"]
    assert integration["payloadFormatVersion"] == "2.0"
    assert "${ApiFunction.Arn}/invocations" in integration["uri"]["Fn::Sub"]
    stage = resources["HttpApiApiGatewayDefaultStage"]["Properties"]
    assert stage["StageName"] == "$default"
    assert stage["ApiId"] == {"Ref": "HttpApi"}
    assert stage["DefaultRouteSettings"] == {
        "ThrottlingRateLimit": {"Ref": "ThrottleRate"},
        "ThrottlingBurstLimit": {"Ref": "ThrottleBurst"},
    }
    assert stage["AccessLogSettings"]["DestinationArn"] == arn("AccessLogGroup")


@pytest.mark.usefixtures("region")
def test_sam_feeds_the_functions_from_their_queues_and_wakes_the_janitor() -> None:
    resources = translated(TEMPLATE)["Resources"]
    for name, function in QUEUES.items():
        mapping = resources[f"{function}{SOURCE_NAMES[name]}"]["Properties"]
        given = FUNCTIONS[function]["Events"][SOURCE_NAMES[name]]["Properties"]
        assert mapping["FunctionName"] == {"Ref": function}
        assert mapping["EventSourceArn"] == arn(f"{name}Queue")
        for key in ("BatchSize", "FunctionResponseTypes", "ScalingConfig"):
            assert mapping[key] == given[key]
    rule = resources["JanitorFunctionEveryMinute"]["Properties"]
    assert rule["ScheduleExpression"] == "rate(1 minute)"
    assert [target["Arn"] for target in rule["Targets"]] == [{"Fn::GetAtt": ["JanitorFunction", "Arn"]}]
    permission = resources["JanitorFunctionEveryMinutePermission"]["Properties"]
    assert permission["SourceArn"] == {"Fn::GetAtt": ["JanitorFunctionEveryMinute", "Arn"]}, "this rule only"
    retries = resources["JanitorFunctionEventInvokeConfig"]["Properties"]
    assert retries["MaximumRetryAttempts"] == 0


@pytest.mark.usefixtures("region")
def test_what_sam_makes_of_it_is_valid_cloudformation() -> None:
    assert complaints(translated(TEMPLATE)) == []


def misspelt(*path: str) -> dict[str, Any]:
    """The template with an `x` behind the last name of `path`."""
    template = copy.deepcopy(TEMPLATE)
    place = template["Resources"]
    for name in path[:-1]:
        place = place[name]
    place[f"{path[-1]}x"] = place.pop(path[-1])
    return template


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize(
    "path",
    [
        *((name, "Properties", each) for name in FUNCTIONS for each in RESOURCES[name]["Properties"]),
        *(("HttpApi", "Properties", name) for name in RESOURCES["HttpApi"]["Properties"]),
        *(
            (name, "Properties", "Events", event, "Properties", each)
            for name, function in FUNCTIONS.items()
            for event, source in function["Events"].items()
            for each in source["Properties"]
        ),
    ],
    ids=lambda path: ".".join(each for each in path if each != "Properties"),
)
def test_a_misspelt_sam_property_is_refused(path: tuple[str, ...]) -> None:
    with pytest.raises(InvalidDocumentException) as refused:
        translated(misspelt(*path))
    assert f"{path[-1]}x" in str([each.message for each in refused.value.causes])


@pytest.mark.usefixtures("region")
def test_what_sam_passes_on_misspelt_is_found_behind_it() -> None:
    template = misspelt("ApiFunction", "Properties", "LoggingConfig", "LogGroup")
    settings = template["Resources"]["HttpApi"]["Properties"]["DefaultRouteSettings"]
    settings["ThrottlingRateLimitx"] = settings.pop("ThrottlingRateLimit")
    found = " ".join(complaints(translated(template)))
    assert "LogGroupx" in found
    assert "ThrottlingRateLimitx" in found


# ---- the sample events


EVENTS = sorted((ROOT / "events").glob("*.json"))
FROM_QUEUES = {
    "chunks_sqs": "ChunkQueue",
    "ingest_eventbridge": "IngestQueue",
    "ingest_s3": "IngestQueue",
    "ingest_sns": "IngestQueue",
    "ingest_task": "IngestQueue",
    "ingest_test_event": "IngestQueue",
    "poller_sqs": "PollQueue",
    "worker_sqs": "WorkQueue",
}
SCHEDULED = "janitor_schedule"
THROUGH_THE_API = [path for path in EVENTS if path.stem not in {*FROM_QUEUES, SCHEDULED}]


@pytest.mark.parametrize("path", THROUGH_THE_API, ids=lambda path: path.stem)
def test_sample_events_are_what_the_api_sends(path: Path) -> None:
    event = json.loads(path.read_text())
    context, headers = event["requestContext"], event["headers"]
    assert event["version"] == "2.0"
    assert event["routeKey"] == context["routeKey"] == context["stage"] == "$default"
    assert event["rawPath"] == context["http"]["path"]
    assert headers == {name.lower(): value for name, value in headers.items()}
    assert headers["host"] == context["domainName"]
    assert headers["user-agent"] == context["http"]["userAgent"]
    assert headers["x-forwarded-for"] == context["http"]["sourceIp"]
    body = event.get("body", "").encode()
    body = base64.b64decode(body, validate=True) if event["isBase64Encoded"] else body
    assert len(body) == int(headers["content-length"])
    assert not body or json.loads(body)["input"]
    assert headers.get("authorization", "Bearer REPLACED-BY-TEST") == "Bearer REPLACED-BY-TEST"
    assert headers.get("x-api-key", "REPLACED-BY-TEST") == "REPLACED-BY-TEST"


@pytest.mark.parametrize(("name", "queue"), FROM_QUEUES.items())
def test_sample_batches_are_what_lambda_makes_of_messages(name: str, queue: str) -> None:
    event = json.loads((ROOT / "events" / f"{name}.json").read_text())
    named = RESOURCES[queue]["Properties"]["QueueName"]["Fn::Sub"].replace("${AWS::StackName}", "embedonce")
    ids = [record["messageId"] for record in event["Records"]]
    assert len(set(ids)) == len(ids)
    for record in event["Records"]:
        assert record["eventSource"] == "aws:sqs"
        assert record["eventSourceARN"] == f"arn:aws:sqs:{record['awsRegion']}:123456789012:{named}"
        assert record["md5OfBody"] == hashlib.md5(record["body"].encode(), usedforsecurity=False).hexdigest()
        assert {"ApproximateReceiveCount", "SentTimestamp"} <= record["attributes"].keys()
        if name in ("poller_sqs", "worker_sqs"):
            assert body_of(ref_of(record["body"])) == record["body"]
            continue
        news = news_of(record["body"])
        if isinstance(news, Task):
            assert task_body(news) == record["body"]
        else:
            assert [source.key for source in news.sources] == TOLD_OF[name]


FILE = "incoming/docs/Größen + Preise 2026.md"
TOLD_OF = {
    "ingest_eventbridge": [FILE],
    "ingest_s3": [FILE, "incoming/docs/faq.jsonl"],
    "ingest_sns": [FILE],
    "ingest_test_event": [],
}
"""Keys as they are, whatever form the event gives them."""


def test_the_samples_tell_the_same_of_a_file_whoever_passed_it_on() -> None:
    told = []
    for name in ("ingest_s3", "ingest_sns", "ingest_eventbridge"):
        (record,) = json.loads((ROOT / "events" / f"{name}.json").read_text())["Records"]
        news = news_of(record["body"])
        assert isinstance(news, Told)
        told.append(news.sources[0])
    assert isinstance(told[0], Source)
    assert told == told[:1] * 3
    assert len(told[0].bucket) == len("embedonce-files-") + 36


def test_the_sample_schedule_is_what_the_rule_sends() -> None:
    event = json.loads((ROOT / "events" / f"{SCHEDULED}.json").read_text())
    assert (event["source"], event["detail-type"], event["detail"]) == ("aws.events", "Scheduled Event", {})
    assert ":rule/embedonce-JanitorFunctionEveryMinute" in event["resources"][0]


def test_there_is_an_event_of_each_kind() -> None:
    assert [path.stem for path in EVENTS] == [
        "chunks_sqs",
        "embeddings",
        "embeddings_base64_body",
        "health",
        "ingest_eventbridge",
        "ingest_s3",
        "ingest_sns",
        "ingest_task",
        "ingest_test_event",
        "janitor_schedule",
        "models",
        "openrouter_embeddings",
        "poller_sqs",
        "request_status",
        "submit",
        "unauthorized",
        "worker_sqs",
    ]
