"""template.yaml's environments and `config.Settings` name the same variables and agree about their values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from test_template import FUNCTION, FUNCTIONS, TEMPLATE

from embedonce.bootstrap.catalog import catalog_of
from embedonce.bootstrap.ingest import rules_of
from embedonce.bootstrap.upstreams import upstream_names
from embedonce.config import ConfigError, Settings, env_of, load

VARIABLES: dict[str, dict[str, Any]] = {
    name.removesuffix("Function").lower(): each["Environment"]["Variables"]
    for name, each in FUNCTIONS.items()
}
PARAMETERS: dict[str, Any] = TEMPLATE["Parameters"]

ON_ONE_MACHINE_ONLY = {
    *("host", "port", "data_dir", "dev_key", "allowed_hosts", "limits", "media_origins"),
    *("loops", "workers", "trusted_proxies", "webhook_origins"),
    # Powertools' logger has a variable of its own.
    *("log_level", "log_format"),
    # Keys are read from the secret store, never from a function's environment.
    *("gemini_api_key", "openrouter_api_key", "segmind_api_key", "openai_compatible_api_key", "webhook_key"),
}
SHARED = {
    *("mode", "vectors_table", "flights_table", "access_table", "jobs_table", "usage_table"),
    *("work_queue_url", "poll_queue_url", "blob_bucket", "cache_bucket"),
    *("s3_min_dimensions", "vector_ttl_days"),
}
SEGMIND = {"segmind_api_key_secret", "segmind_base_url", "segmind_space", "segmind_media_input"}
INGEST_NAMES = {"ingest_bucket", "ingest_queue_url", "chunk_queue_url"}
INGEST = INGEST_NAMES | {"ingest_prefix", "results_bucket", "results_prefix"}
FETCHING = {"media_mb", "media_timeout", "upload_mb"}
BUYING = SEGMIND | {
    *("upstreams", "routes", "models", "upstream_timeout"),
    *("gemini_api_key_secret", "gemini_base_url"),
    *("openrouter_api_key_secret", "openrouter_base_url", "openrouter_modalities"),
    *("openai_compatible_base_url", "openai_compatible_model", "openai_compatible_api_key_secret"),
    *("openai_compatible_dimensions", "openai_compatible_distinct"),
}
TOLD = {
    "api": SHARED
    | BUYING
    | FETCHING
    | {"job_timeout", "upload_quota_mb", "webhook_key_secret", "public_base_url", "memory_mb"}
    | {"daily_usd", "admission", "expected_hit_ratio"},
    "worker": SHARED | BUYING | FETCHING | {"job_upstream_timeout", "on_unknown", "daily_usd"},
    "poller": SHARED | SEGMIND | {"models", "upstream_timeout", "on_unknown", "webhook_key_secret"},
    "janitor": SHARED | INGEST_NAMES,
    "ingest": SHARED
    | INGEST
    | {"ingest_rules", "ingest_max_segments", "ingest_spool_mb"}
    | {"models", "openai_compatible_model", "openai_compatible_dimensions"},
    "chunks": SHARED | INGEST | BUYING | {"job_upstream_timeout", "job_timeout", "daily_usd"},
}
"""Which settings each function reads."""
ROUTES = {"text": ("openrouter", "google"), "video": ("segmind",)}
POWERTOOLS = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_LOG_LEVEL"}
NAMED_BY_CLOUDFORMATION = {
    *("VectorsTable", "FlightsTable", "AccessTable", "JobsTable", "UsageTable", "CacheBucket", "BlobBucket"),
    *("WorkQueue", "PollQueue", "IngestQueue", "ChunkQueue", "WebhookKey", "FilesBucket"),
}
FILES = {"Fn::If": ["HasExistingBucket", {"Ref": "ExistingBucket"}, {"Ref": "FilesBucket"}]}
"""Where files are read from: the only value with a condition."""


def deployed(function: str = "api", **parameters: str) -> dict[str, str]:
    """A function's environment as CloudFormation sets it for these parameters."""
    given = {name: str(each["Default"]) for name, each in PARAMETERS.items()} | parameters
    given |= {name: f"stack-{name.lower()}" for name in NAMED_BY_CLOUDFORMATION}
    variables = {
        name: {"Ref": "ExistingBucket" if given["ExistingBucket"] else "FilesBucket"}
        if value == FILES
        else value
        for name, value in VARIABLES[function].items()
    }
    return {
        name: given[value["Ref"]] if isinstance(value, dict) else value for name, value in variables.items()
    }


def told_to(field: str) -> list[str]:
    return [function for function, fields in TOLD.items() if field in fields]


def accepts(parameter: str, value: str) -> bool:
    rules = PARAMETERS[parameter]
    if "AllowedValues" in rules:
        return value in rules["AllowedValues"]
    return re.fullmatch(rules["AllowedPattern"], value) is not None


@pytest.mark.parametrize("function", TOLD)
def test_each_function_is_told_exactly_the_settings_that_it_reads(function: str) -> None:
    assert set(VARIABLES[function]) == {env_of(name) for name in TOLD[function]} | POWERTOOLS


def test_every_setting_that_means_something_on_aws_is_told_to_some_function() -> None:
    assert set(Settings.model_fields) > ON_ONE_MACHINE_ONLY
    assert set().union(*TOLD.values()) == set(Settings.model_fields) - ON_ONE_MACHINE_ONLY


def test_a_setting_that_two_functions_read_has_one_value() -> None:
    for name in set().union(*VARIABLES.values()):
        given = [str(variables[name]) for variables in VARIABLES.values() if name in variables]
        assert len(set(given)) == 1, name


@pytest.mark.parametrize("function", TOLD)
def test_every_value_is_text_or_one_parameter_or_resource(function: str) -> None:
    for name, value in VARIABLES[function].items():
        if isinstance(value, dict) and value != FILES:
            assert set(value) == {"Ref"}, name
            assert value["Ref"] in PARAMETERS.keys() | NAMED_BY_CLOUDFORMATION
        elif value != FILES:
            assert isinstance(value, str), f"{name}: CloudFormation would turn it into text by its own rules"


def test_every_parameter_is_used_and_shown_in_one_group() -> None:
    used = re.findall(
        r"'Ref': '(\w+)'", str({k: TEMPLATE[k] for k in ("Globals", "Resources", "Conditions")})
    )
    assert set(PARAMETERS) <= set(used)
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(PARAMETERS)


def test_the_default_deployment_has_the_default_settings() -> None:
    settings = load(deployed())
    assert settings.mode == "aws"
    assert upstream_names(settings) == ("openrouter",)
    arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:key-AbCdEf"
    both = load(deployed(GeminiSecretArn=arn, SegmindSecretArn=arn))
    assert upstream_names(both) == ("google", "segmind")
    shared = {name for name in SHARED if name.endswith(("_table", "_bucket", "_url"))}
    of_ingest = {"ingest_bucket": "filesbucket", "results_bucket": "filesbucket"}
    of_ingest |= {"ingest_queue_url": "ingestqueue", "chunk_queue_url": "chunkqueue"}
    named = shared | of_ingest.keys() | {"webhook_key_secret"}
    defaults = Settings()
    for function, told in TOLD.items():
        settings = load(deployed(function))
        for name in Settings.model_fields.keys() - named - {"mode", "memory_mb"}:
            assert getattr(settings, name) == getattr(defaults, name), (function, name)
        for name in shared:
            expected = name.removesuffix("_url").replace("_", "")
            assert getattr(settings, name) == f"stack-{expected}"
        for name, expected in of_ingest.items():
            assert getattr(settings, name) == (f"stack-{expected}" if name in told else None)


def test_files_of_an_existing_bucket_are_read_there_and_their_results_put_into_ours() -> None:
    for function in told_to("ingest_bucket"):
        settings = load(deployed(function, ExistingBucket="team.files"))
        assert settings.ingest_bucket == "team.files"
        assert settings.results_bucket == (
            "stack-filesbucket" if "results_bucket" in TOLD[function] else None
        )


@pytest.mark.parametrize("function", ["ingest", "chunks"])
@pytest.mark.parametrize(("incoming", "results"), [("a/", "a/"), ("a/", "a/b/"), ("a/b/", "a/")])
def test_prefixes_of_which_one_holds_the_other_keep_the_functions_from_starting(
    incoming: str, results: str, function: str
) -> None:
    given = {"IncomingPrefix": incoming, "ResultsPrefix": results}
    with pytest.raises(ConfigError, match="overlap"):
        load(deployed(function, **given))
    load(deployed(function, **given, ExistingBucket="team.files"))


def test_the_documentation_names_every_parameter_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text()
    rows = dict(re.findall(r"^\| `([A-Z]\w+)` \| (?:`([^`]*)`)? ?\| ", page, re.M))
    told = {name: rows.get(name) for name in PARAMETERS}
    assert told == {name: str(each["Default"]) for name, each in PARAMETERS.items()}


def test_rules_are_given_as_json() -> None:
    rules = '[{"prefix": "docs/", "suffix": ".md", "key": "key_0123456789abcdef", "max_usd": 1.5}]'
    assert accepts("IngestRules", rules)
    settings = load(deployed("ingest", IngestRules=rules))
    (rule,) = rules_of(settings, catalog_of(settings))
    assert (rule.name, rule.terms.payer) == ("docs/*.md", "key_0123456789abcdef")
    assert rule.terms.most == 1_500_000_000_000
    settings = load(deployed("ingest"))
    assert rules_of(settings, catalog_of(settings)) == ()


def test_rules_name_models_that_only_the_stack_knows() -> None:
    given = {
        "ExtraModels": '[{"id": "team/small", "like": "google/gemini-embedding-2", "dimensions": 768}]',
        "OpenAiCompatibleModel": "bge-m3",
        "OpenAiCompatibleDimensions": "1024",
    }
    for model in ("team/small", "bge-m3"):
        rules = f'[{{"key": "key_0123456789abcdef", "model": "{model}"}}]'
        settings = load(deployed("ingest", IngestRules=rules, **given))
        assert [rule.terms.model for rule in rules_of(settings, catalog_of(settings))] == [model]


def test_the_longest_rules_fit_into_a_functions_environment() -> None:
    """Lambda takes 4 KB of names and values. What CloudFormation names is longer than `stack-…`."""
    longest = PARAMETERS["IngestRules"]["MaxLength"]
    variables = deployed("ingest", IngestRules="x" * longest)
    size = sum(
        len(name) + max(len(value), 90 if value.startswith("stack-") else 0)
        for name, value in variables.items()
    )
    assert size < 4096 - 240, "and some for ExtraModels"


def test_the_functions_behind_the_queues_answer_with_the_upstreams_of_the_api() -> None:
    arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:key-AbCdEf"
    given = {"GeminiSecretArn": arn, "SegmindSecretArn": arn, "Routes": "video=segmind"}
    assert upstream_names(load(deployed("worker", **given))) == ("google", "segmind")
    poller = load(deployed("poller", **given))
    assert upstream_names(poller) == ("segmind",), "the only one that takes jobs"
    assert poller.routes == {}, "or it would miss Google"


def test_the_memory_cache_leaves_the_function_most_of_its_memory() -> None:
    assert load(deployed()).memory_mb <= FUNCTION["MemorySize"] / 4


@pytest.mark.parametrize("usd", ["0", "0.01", "123456.000000001"])
def test_what_may_be_bought_again_is_a_price(usd: str) -> None:
    assert accepts("OnUnknown", f"resubmit_below={usd}")
    for function in told_to("on_unknown"):
        assert load(deployed(function, OnUnknown=f"resubmit_below={usd}")).on_unknown == usd
        assert load(deployed(function, OnUnknown="fail")).on_unknown is None


def test_one_upstream_call_fits_into_a_request() -> None:
    rules = PARAMETERS["UpstreamTimeout"]
    assert rules["MinValue"] > 0
    assert rules["Default"] < rules["MaxValue"] < 27, "the handler's deadline"


@pytest.mark.parametrize(
    ("parameter", "value", "field", "expected"),
    [
        ("Upstreams", "openai_compatible,openrouter", "upstreams", ("openai_compatible", "openrouter")),
        ("Upstreams", "google,segmind", "upstreams", ("google", "segmind")),
        ("Routes", "text=openrouter,google;video=segmind", "routes", ROUTES),
        ("GeminiBaseUrl", "https://eu.example/gemini", "gemini_base_url", None),
        ("SegmindBaseUrl", "https://eu.example", "segmind_base_url", None),
        ("SegmindSpace", "google", "segmind_space", None),
        ("SegmindMediaInput", "space", "segmind_media_input", None),
        ("OpenRouterModalities", "text,pdf", "openrouter_modalities", ("text", "pdf")),
        ("OpenRouterBaseUrl", "https://eu.openrouter.ai/api/v1", "openrouter_base_url", None),
        ("OpenAiCompatibleBaseUrl", "http://10.0.0.7:8080/v1", "openai_compatible_base_url", None),
        ("OpenAiCompatibleDimensions", "1024", "openai_compatible_dimensions", 1024),
        ("OpenAiCompatibleDistinct", "false", "openai_compatible_distinct", False),
        ("OpenAiCompatibleDistinct", "true", "openai_compatible_distinct", True),
        ("PublicBaseUrl", "https://embed.example/team", "public_base_url", None),
        ("DailyUsd", "0", "daily_usd", None),
        ("DailyUsd", "999999.000000001", "daily_usd", None),
        ("Admission", "always", "admission", None),
        ("Admission", "pays", "admission", None),
    ],
)
def test_what_a_parameter_accepts_the_settings_take(
    parameter: str, value: str, field: str, expected: object
) -> None:
    assert accepts(parameter, value)
    assert getattr(load(deployed(**{parameter: value})), field) == (value if expected is None else expected)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("IngestRules", "rules.json"),
        ("IngestRules", '{"key": "key_0123456789abcdef"}'),
        ("ExistingBucket", "*"),
        ("ExistingBucket", "Files"),
        ("SinkIndexArn", "*"),
        ("SinkIndexArn", "arn:aws:s3vectors:us-east-1:123456789012:bucket/team/index/*"),
        ("SinkIndexArn", "arn:aws:s3vectors:us-east-1:123456789012:bucket/team"),
        # Made-up vectors never stand in for paid ones on AWS; their code is not in the package either.
        ("Upstreams", "embedded"),
        ("Upstreams", "openrouter,"),
        ("Routes", "text"),
        ("Routes", "smell=google"),
        ("SegmindSpace", ""),
        ("OpenRouterModalities", "texts"),
        ("OpenRouterBaseUrl", "http://openrouter.ai/api/v1"),
        ("OpenAiCompatibleDimensions", "0"),
        ("OpenAiCompatibleDimensions", "100000"),
        ("OpenAiCompatibleDistinct", ""),
        ("OnUnknown", ""),
        ("OnUnknown", "resubmit"),
        ("OnUnknown", "resubmit_below="),
        ("OnUnknown", "resubmit_below=-1"),
        ("OnUnknown", "resubmit_below=1e-3"),
        ("PublicBaseUrl", "http://embed.example"),
        ("DailyUsd", ""),
        ("DailyUsd", "-1"),
        ("DailyUsd", "1e3"),
        ("DailyUsd", "inf"),
        ("ExtraModels", "models.json"),
        ("ExtraModels", '{"id": "mine"}'),
    ],
)
def test_what_the_settings_would_refuse_is_refused_before_it_is_deployed(parameter: str, value: str) -> None:
    assert not accepts(parameter, value)


def test_extra_models_are_given_as_json() -> None:
    models = '[{"id": "team/small", "like": "google/gemini-embedding-2", "dimensions": 768}]'
    assert accepts("ExtraModels", models)
    catalog = catalog_of(load(deployed(ExtraModels=models)))
    assert catalog.find("team/small").dimensions.default == 768


def test_numbers_are_bounded_as_the_settings_bound_them() -> None:
    for parameter, field in (
        ("VectorTtlDays", "vector_ttl_days"),
        ("S3MinDimensions", "s3_min_dimensions"),
        ("ExpectedHitRatio", "expected_hit_ratio"),
        ("UpstreamTimeout", "upstream_timeout"),
        ("JobUpstreamTimeout", "job_upstream_timeout"),
        ("JobTimeout", "job_timeout"),
        ("UploadMb", "upload_mb"),
        ("UploadQuotaMb", "upload_quota_mb"),
        ("IngestMaxSegments", "ingest_max_segments"),
        ("IngestSpoolMb", "ingest_spool_mb"),
    ):
        rules = PARAMETERS[parameter]
        (function, *_) = told_to(field)
        assert rules["Type"] == "Number"
        for bound in ("MinValue", "MaxValue"):
            if bound in rules:
                value = rules[bound]
                assert getattr(load(deployed(function, **{parameter: str(value)})), field) == value
