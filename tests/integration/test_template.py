"""template.yaml: what the function may do, how the stores are kept, and the events that come through it.

Its environment is compared with the settings in test_config_matches_template.py.
"""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cfnlint.api import ManualArgs, lint
from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.translator.transform import transform

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


FUNCTION = RESOURCES["ApiFunction"]["Properties"]

# The whole of what each role may do, under which condition. A change here is a change of who can do what.
ALLOWED: dict[str, list[tuple[str | None, list[str], Any]]] = {
    "ApiRole": [
        (None, ["logs:CreateLogStream", "logs:PutLogEvents"], arn("ApiLogGroup")),
        (
            None,
            ["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:PutItem"],
            [arn("VectorsTable"), arn("FlightsTable")],
        ),
        (None, ["dynamodb:GetItem"], arn("AccessTable")),
        (None, ["s3:GetObject", "s3:PutObject"], {"Fn::Sub": "${CacheBucket.Arn}/vectors/*"}),
        (None, ["s3:ListBucket"], arn("CacheBucket")),
        ("HasOpenRouterSecret", ["secretsmanager:GetSecretValue"], {"Ref": "OpenRouterSecretArn"}),
        ("HasGeminiSecret", ["secretsmanager:GetSecretValue"], {"Ref": "GeminiSecretArn"}),
        ("HasSegmindSecret", ["secretsmanager:GetSecretValue"], {"Ref": "SegmindSecretArn"}),
        (
            "HasOpenAiCompatibleSecret",
            ["secretsmanager:GetSecretValue"],
            {"Ref": "OpenAiCompatibleSecretArn"},
        ),
    ],
}


def statements(role: dict[str, Any]) -> list[tuple[str | None, dict[str, Any]]]:
    """(condition, statement) of every inline policy."""
    found = []
    for entry in role["Policies"]:
        condition, policy = None, entry
        if "Fn::If" in entry:
            condition, policy, otherwise = entry["Fn::If"]
            assert otherwise == {"Ref": "AWS::NoValue"}
        found += [(condition, each) for each in policy["PolicyDocument"]["Statement"]]
    return found


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
    for role in of_type("AWS::IAM::Role").values():
        for _, statement in statements(role):
            assert not any("*" in action for action in statement["Action"])
            resources = statement["Resource"]
            for resource in resources if isinstance(resources, list) else [resources]:
                (value,) = resource.values()
                # The one star stands for the names of objects below a prefix of our own bucket.
                assert "*" not in value or value == "${CacheBucket.Arn}/vectors/*"


def test_only_lambda_may_take_the_roles_on_and_each_function_has_its_own() -> None:
    functions = of_type("AWS::Serverless::Function")
    assert [each["Role"] for each in functions.values()] == [arn(name) for name in ALLOWED]
    for each in functions.values():
        assert "Policies" not in each
    for role in of_type("AWS::IAM::Role").values():
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Principal"] == {"Service": "lambda.amazonaws.com"}
        assert trust["Action"] == "sts:AssumeRole"


def test_the_function_runs_what_is_built() -> None:
    assert FUNCTION["Runtime"] == "python3.13"
    assert FUNCTION["Architectures"] == ["arm64"]
    assert FUNCTION["Handler"] == "embedonce.entrypoints.api.handler"
    assert FUNCTION["CodeUri"] == "build/lambda"
    assert 27 < FUNCTION["Timeout"] < 30
    assert FUNCTION["LoggingConfig"]["LogGroup"] == {"Ref": "ApiLogGroup"}


def test_the_function_is_told_names_and_no_secrets() -> None:
    variables = FUNCTION["Environment"]["Variables"]
    assert not any(parameter.get("NoEcho") for parameter in TEMPLATE["Parameters"].values())
    for name in (
        *("GEMINI_API_KEY_SECRET", "OPENROUTER_API_KEY_SECRET", "SEGMIND_API_KEY_SECRET"),
        "OPENAI_COMPATIBLE_API_KEY_SECRET",
    ):
        pattern = TEMPLATE["Parameters"][variables[name]["Ref"]]["AllowedPattern"]
        assert ":secretsmanager:" in pattern


def test_tables_are_on_demand_capped_encrypted_and_age_out() -> None:
    tables = of_type("AWS::DynamoDB::Table")
    assert tables.keys() == {"VectorsTable", "FlightsTable", "AccessTable"}
    for name, table in tables.items():
        assert table["BillingMode"] == "PAY_PER_REQUEST"
        assert set(table["OnDemandThroughput"]) == {"MaxReadRequestUnits", "MaxWriteRequestUnits"}
        assert table["SSESpecification"] == {"SSEEnabled": True}
        keys = {key["AttributeName"]: key["KeyType"] for key in table["KeySchema"]}
        if name == "AccessTable":
            assert keys == {"pk": "HASH", "sk": "RANGE"}
            assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
            assert "TimeToLiveSpecification" not in table, "keys are revoked, they do not expire"
        else:
            assert keys == {"fp": "HASH"}
            assert table["AttributeDefinitions"] == [{"AttributeName": "fp", "AttributeType": "B"}]
            assert table["TimeToLiveSpecification"] == {"AttributeName": "e", "Enabled": True}
            assert "PointInTimeRecoverySpecification" not in table


@pytest.mark.parametrize("name", ["VectorsTable", "AccessTable", "CacheBucket"])
def test_what_was_paid_for_and_who_may_use_it_outlives_the_stack(name: str) -> None:
    assert RESOURCES[name]["DeletionPolicy"] == "RetainExceptOnCreate"
    assert RESOURCES[name]["UpdateReplacePolicy"] == "Retain"


def test_the_bucket_is_private_encrypted_tls_only_and_empties_itself() -> None:
    bucket = RESOURCES["CacheBucket"]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    expire, abort = bucket["LifecycleConfiguration"]["Rules"]
    assert (expire["Prefix"], expire["ExpirationInDays"]) == ("vectors/", {"Ref": "VectorTtlDays"})
    assert abort["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert {expire["Status"], abort["Status"]} == {"Enabled"}
    (deny,) = RESOURCES["CacheBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (deny["Effect"], deny["Principal"], deny["Action"]) == ("Deny", "*", "s3:*")
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert deny["Resource"] == [arn("CacheBucket"), {"Fn::Sub": "${CacheBucket.Arn}/*"}]


def test_logs_end_and_name_nothing_a_caller_sent() -> None:
    groups = of_type("AWS::Logs::LogGroup")
    assert groups.keys() == {"ApiLogGroup", "AccessLogGroup"}
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
    assert watched == {"Errors", "Throttles", "Duration", "5xx", "SystemErrors", "ReadThrottleEvents"}
    assert alarms["DurationAlarm"]["Threshold"] == 0.8 * 1000 * FUNCTION["Timeout"]
    for each in alarms.values():
        assert each["AlarmActions"]["Fn::If"][0] == "HasAlarmTopic"
        assert each["TreatMissingData"] == "notBreaching"


# ---- what AWS makes of it: cfn-lint does not look into SAM resources, so they are translated first


class NoManagedPolicies:
    def load(self) -> dict[str, str]:
        raise AssertionError("SAM would ask IAM for a managed policy; the template names none")


def translated(template: dict[str, Any]) -> dict[str, Any]:
    """As `sam deploy` and CloudFormation do it, after the upload of the package. Needs no network."""
    template = copy.deepcopy(template)
    for each in template["Resources"].values():
        if each["Type"] == "AWS::Serverless::Function":
            each["Properties"]["CodeUri"] = "s3://uploads/embedonce-api.zip"
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
    "HttpApi": "AWS::ApiGatewayV2::Api",
    "HttpApiApiGatewayDefaultStage": "AWS::ApiGatewayV2::Stage",
}


@pytest.mark.usefixtures("region")
def test_sam_makes_one_function_one_api_and_no_role_of_its_own() -> None:
    result = translated(TEMPLATE)
    resources = result["Resources"]
    assert "Transform" not in result
    assert {
        name: each["Type"] for name, each in resources.items() if each != RESOURCES.get(name)
    } == MADE_BY_SAM
    assert resources.keys() - MADE_BY_SAM.keys() == RESOURCES.keys() - MADE_BY_SAM.keys()

    function = resources["ApiFunction"]["Properties"]
    assert function.pop("Code") == {"S3Bucket": "uploads", "S3Key": "embedonce-api.zip"}
    assert function.pop("Tags") == [{"Key": "lambda:createdBy", "Value": "SAM"}]
    given = {name: value for name, value in FUNCTION.items() if name not in ("CodeUri", "Events")}
    assert function == given
    assert function["Role"] == arn("ApiRole")
    assert function["LoggingConfig"] == {"LogGroup": {"Ref": "ApiLogGroup"}}

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
        *(("ApiFunction", "Properties", name) for name in FUNCTION),
        *(("HttpApi", "Properties", name) for name in RESOURCES["HttpApi"]["Properties"]),
        *(
            ("ApiFunction", "Properties", "Events", "Everything", "Properties", name)
            for name in FUNCTION["Events"]["Everything"]["Properties"]
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


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
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


def test_there_is_an_event_of_each_kind() -> None:
    assert [path.stem for path in EVENTS] == [
        "embeddings",
        "embeddings_base64_body",
        "health",
        "models",
        "openrouter_embeddings",
        "unauthorized",
    ]
