"""template.yaml's environment and `config.Settings` name the same variables and agree about their values."""

from __future__ import annotations

import re
from typing import Any

import pytest
from test_template import FUNCTION, TEMPLATE

from embedonce.bootstrap.catalog import catalog_of
from embedonce.bootstrap.upstreams import upstream_names
from embedonce.config import Settings, env_of, load

VARIABLES: dict[str, Any] = FUNCTION["Environment"]["Variables"]
PARAMETERS: dict[str, Any] = TEMPLATE["Parameters"]

ON_ONE_MACHINE_ONLY = {
    *("host", "port", "data_dir", "dev_key", "allowed_hosts", "limits", "media_origins"),
    # Powertools' logger has a variable of its own.
    "log_level",
    # Keys are read from the secret store, never from the function's environment.
    *("gemini_api_key", "openrouter_api_key", "segmind_api_key", "openai_compatible_api_key"),
}
ROUTES = {"text": ("openrouter", "google"), "video": ("segmind",)}
POWERTOOLS = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_LOG_LEVEL"}
NAMED_BY_CLOUDFORMATION = {"VectorsTable", "FlightsTable", "AccessTable", "CacheBucket"}


def deployed(**parameters: str) -> dict[str, str]:
    """The function's environment as CloudFormation sets it for these parameters."""
    given = {name: str(each["Default"]) for name, each in PARAMETERS.items()} | parameters
    given |= {name: f"stack-{name.lower()}" for name in NAMED_BY_CLOUDFORMATION}
    return {
        name: given[value["Ref"]] if isinstance(value, dict) else value for name, value in VARIABLES.items()
    }


def accepts(parameter: str, value: str) -> bool:
    rules = PARAMETERS[parameter]
    if "AllowedValues" in rules:
        return value in rules["AllowedValues"]
    return re.fullmatch(rules["AllowedPattern"], value) is not None


def test_the_function_is_told_exactly_the_settings_that_mean_something_on_aws() -> None:
    assert set(Settings.model_fields) > ON_ONE_MACHINE_ONLY
    on_aws = {env_of(name) for name in Settings.model_fields if name not in ON_ONE_MACHINE_ONLY}
    assert set(VARIABLES) == on_aws | POWERTOOLS


def test_every_value_is_text_or_one_parameter_or_resource() -> None:
    for name, value in VARIABLES.items():
        if isinstance(value, dict):
            assert set(value) == {"Ref"}, name
            assert value["Ref"] in PARAMETERS.keys() | NAMED_BY_CLOUDFORMATION
        else:
            assert isinstance(value, str), f"{name}: CloudFormation would turn it into text by its own rules"


def test_every_parameter_is_used_and_shown_in_one_group() -> None:
    used = re.findall(r"'Ref': '(\w+)'", str({k: TEMPLATE[k] for k in ("Resources", "Conditions")}))
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
    own = {"mode", "vectors_table", "flights_table", "access_table", "cache_bucket", "memory_mb"}
    defaults = Settings()
    for name in Settings.model_fields.keys() - own:
        assert getattr(settings, name) == getattr(defaults, name), name
    assert settings.vectors_table == "stack-vectorstable"
    assert settings.cache_bucket == "stack-cachebucket"


def test_the_memory_cache_leaves_the_function_most_of_its_memory() -> None:
    assert load(deployed()).memory_mb <= FUNCTION["MemorySize"] / 4


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
        ("UpstreamTimeout", "upstream_timeout"),
    ):
        rules = PARAMETERS[parameter]
        assert rules["Type"] == "Number"
        for bound in ("MinValue", "MaxValue"):
            if bound in rules:
                value = rules[bound]
                assert getattr(load(deployed(**{parameter: str(value)})), field) == value
