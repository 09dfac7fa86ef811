"""All settings, read once from the environment and validated; nothing else reads it.

`table` is what `embedonce config` prints and what docs/configuration.md is checked against.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, SecretStr, ValidationError

from embedonce import configvalues as values
from embedonce.configvalues import ExtraModel
from embedonce.configvalues import setting as _at
from embedonce.core.content import Modality
from embedonce.ingestsettings import IngestSettings

Upstreams = Literal["google", "openrouter", "segmind", "openai_compatible", "embedded"]
Loop = Literal["worker", "poller", "janitor", "ingest", "none"]


class ConfigError(Exception):
    """The environment holds something that cannot be meant; the text names the variable."""


CommaList = Annotated[tuple[str, ...], BeforeValidator(values.comma_list)]


class Settings(IngestSettings):
    """Times in the unit of their name; sizes in bytes unless named otherwise."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    mode: Literal["local", "aws"] = _at("EMBEDONCE_MODE", "`local` (embedded stores) or `aws`", "local")
    host: str = _at("HOST", "address to serve on; anything but loopback is reachable by others", "127.0.0.1")
    port: int = _at("PORT", "port of the local server", 8787, ge=0, le=65535)
    data_dir: Path = _at("EMBEDONCE_DATA_DIR", "where the local server keeps everything", Path(".embedonce"))
    dev_key: SecretStr | None = _at(
        "EMBEDONCE_DEV_KEY",
        "development key of the local server (default: made once, kept in the data folder)",
    )
    allowed_hosts: CommaList = _at(
        "EMBEDONCE_ALLOWED_HOSTS", "further Host names the local server answers for, comma-separated", ()
    )
    public_base_url: Annotated[str | None, BeforeValidator(values.base_url)] = _at(
        "PUBLIC_BASE_URL",
        "where clients reach this gateway, with a path if there is one: absolute URLs in answers begin so "
        "(default: as the request came in)",
    )
    trusted_proxies: Annotated[tuple[str, ...], BeforeValidator(values.networks)] = _at(
        "TRUSTED_PROXIES",
        "addresses or networks of proxies whose X-Forwarded-Proto and X-Forwarded-Host are believed, "
        "comma-separated (local server only)",
        (),
    )
    limits: Literal["aws", "local"] = _at(
        "LIMITS", "`local` lifts the 5.5 MB limits that Lambda imposes (local server only)", "aws"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _at("EMBEDONCE_LOG_LEVEL", "log level", "INFO")
    log_format: Literal["text", "json"] = _at(
        "EMBEDONCE_LOG_FORMAT", "`json`: one JSON object a line (local server only)", "text"
    )
    upstreams: Annotated[tuple[Upstreams, ...], BeforeValidator(values.comma_list)] = _at(
        "EMBEDONCE_UPSTREAMS",
        "which upstreams answer, in order: `google`, `openrouter`, `segmind`, `openai_compatible`, "
        "`embedded` (default: those that have settings; locally `embedded` where no provider has a key)",
        (),
    )
    routes: Annotated[dict[Modality, tuple[Upstreams, ...]], BeforeValidator(values.routes)] = _at(
        "EMBEDONCE_ROUTES",
        "another order for some modalities (`text`, `image`, `audio`, `video`, `pdf`), "
        "as in `text=openrouter,google;video=segmind`; upstreams left out of a modality do not answer it",
        {},
    )
    openrouter_api_key: SecretStr | None = _at("OPENROUTER_API_KEY", "key for OpenRouter (local mode)")
    openrouter_api_key_secret: str | None = _at(
        "OPENROUTER_API_KEY_SECRET", "Secrets Manager name or ARN, or SSM parameter path, of that key (AWS)"
    )
    openrouter_base_url: str = _at(
        "OPENROUTER_BASE_URL", "OpenRouter's API", "https://openrouter.ai/api/v1", pattern="^https?://"
    )
    openrouter_modalities: Annotated[tuple[Modality, ...], BeforeValidator(values.comma_list)] = _at(
        "OPENROUTER_MODALITIES",
        "what is sent to OpenRouter (`text`, `image`, `audio`, `video`, `pdf`), comma-separated",
        (Modality.TEXT, Modality.IMAGE),
    )
    gemini_api_key: SecretStr | None = _at("GEMINI_API_KEY", "key for Google's Gemini API (local mode)")
    gemini_api_key_secret: str | None = _at(
        "GEMINI_API_KEY_SECRET", "Secrets Manager name or ARN, or SSM parameter path, of that key (AWS)"
    )
    gemini_base_url: str = _at(
        "GEMINI_BASE_URL",
        "Google's Gemini API",
        "https://generativelanguage.googleapis.com",
        pattern="^https?://",
    )
    segmind_api_key: SecretStr | None = _at("SEGMIND_API_KEY", "key for Segmind (local mode)")
    segmind_api_key_secret: str | None = _at(
        "SEGMIND_API_KEY_SECRET", "Secrets Manager name or ARN, or SSM parameter path, of that key (AWS)"
    )
    segmind_base_url: str = _at(
        "SEGMIND_BASE_URL", "Segmind's API", "https://api.segmind.com", pattern="^https?://"
    )
    segmind_space: Literal["own", "google"] = _at(
        "SEGMIND_SPACE",
        "`google` if you know that Segmind's vectors are interchangeable with Google's, else `own`",
        "own",
    )
    segmind_media_input: Literal["omit", "empty", "space"] = _at(
        "SEGMIND_MEDIA_INPUT",
        "what Segmind's field `input` holds beside media without text: `omit` (no field), `empty`, `space`",
        "omit",
    )
    openai_compatible_base_url: str | None = _at(
        "OPENAI_COMPATIBLE_BASE_URL",
        "any OpenAI-compatible embedding server (TEI, Infinity, Ollama, vLLM), up to and including /v1",
        pattern="^https?://",
    )
    openai_compatible_model: CommaList = _at(
        "OPENAI_COMPATIBLE_MODEL", "the model ids it serves, comma-separated", ()
    )
    openai_compatible_dimensions: int | None = _at(
        "OPENAI_COMPATIBLE_DIMENSIONS", "its models' own size, where they share one", ge=1, le=65_536
    )
    openai_compatible_api_key: SecretStr | None = _at("OPENAI_COMPATIBLE_API_KEY", "its key, if it has one")
    openai_compatible_api_key_secret: str | None = _at(
        "OPENAI_COMPATIBLE_API_KEY_SECRET", "Secrets Manager name or ARN, or SSM parameter path, of it (AWS)"
    )
    openai_compatible_distinct: bool = _at(
        "OPENAI_COMPATIBLE_DISTINCT",
        "refuse answers with equal vectors for different inputs (`false` for models that drop unknown words)",
        True,
    )
    upstream_timeout: float = _at(
        "EMBEDONCE_UPSTREAM_TIMEOUT", "seconds one call to a provider may take", 15.0, gt=0, le=600
    )
    job_upstream_timeout: float = _at(
        "EMBEDONCE_JOB_UPSTREAM_TIMEOUT",
        "seconds one call to a provider may take where no caller waits for it (submit + poll, slow media)",
        120.0,
        gt=0,
        le=240,
    )
    job_timeout: float = _at(
        "EMBEDONCE_JOB_TIMEOUT",
        "seconds after which a submitted request that is not done has failed",
        3600.0,
        ge=1,
        le=43_200,
    )
    on_unknown: Annotated[str | None, BeforeValidator(values.on_unknown)] = _at(
        "EMBEDONCE_ON_UNKNOWN",
        "what to do when nobody knows whether a provider accepted (and bills) an input: `fail`, or "
        "`resubmit_below=0.01` to buy again what costs less than that many USD",
    )
    daily_usd: Annotated[str, BeforeValidator(values.usd)] = _at(
        "EMBEDONCE_DAILY_USD",
        "USD that all keys together may spend at providers in a day (UTC); `embedonce limits` sets another "
        "without a restart",
        "50",
    )
    loops: Annotated[tuple[Loop, ...], BeforeValidator(values.comma_list)] = _at(
        "EMBEDONCE_LOOPS",
        "which of `worker`, `poller`, `janitor`, `ingest` (the inbox) the local server runs itself; `none` "
        "for none",
        ("worker", "poller", "janitor", "ingest"),
    )
    workers: int = _at(
        "EMBEDONCE_WORKERS", "requests that the local worker has in hand at a time", 4, ge=1, le=64
    )
    media_mb: int = _at(
        "EMBEDONCE_MEDIA_MB", "MiB that one image, audio, video or PDF may have", 20, ge=1, le=512
    )
    upload_mb: int = _at(
        "EMBEDONCE_UPLOAD_MB", "MiB that one upload may have (`POST /v2/uploads`)", 100, ge=1, le=512
    )
    upload_quota_mb: int = _at(
        "EMBEDONCE_UPLOAD_QUOTA_MB", "MiB that one API key may upload in a day (UTC)", 10_000, ge=1
    )
    media_timeout: float = _at(
        "EMBEDONCE_MEDIA_TIMEOUT", "seconds a media URL may take to answer", 10.0, gt=0, le=60
    )
    media_origins: CommaList = _at(
        "EMBEDONCE_MEDIA_ORIGINS",
        "origins whose URLs are fetched although they are not public https, such as http://127.0.0.1:9000, "
        "comma-separated (local server only)",
        (),
    )
    webhook_key: SecretStr | None = _at(
        "EMBEDONCE_WEBHOOK_KEY",
        "master from which each API key's webhook secret is derived, at least 32 characters (local mode; "
        "default: made once, kept in the data folder)",
        min_length=32,
    )
    webhook_key_secret: str | None = _at(
        "EMBEDONCE_WEBHOOK_KEY_SECRET",
        "Secrets Manager name or ARN, or SSM parameter path, of that master (AWS)",
    )
    webhook_origins: CommaList = _at(
        "EMBEDONCE_WEBHOOK_ORIGINS",
        "origins that webhooks are delivered to although they are not public https, such as "
        "http://127.0.0.1:9000, comma-separated (local server only)",
        (),
    )
    vector_ttl_days: float = _at("EMBEDONCE_VECTOR_TTL_DAYS", "days a vector is kept", 180.0, gt=0, le=36_500)
    admission: Literal["always", "pays"] = _at(
        "EMBEDONCE_ADMISSION",
        "which vectors are kept: `always` all, `pays` those that are expected to save more than keeping them "
        "costs (AWS; locally keeping costs nothing, so all are kept)",
        "always",
    )
    expected_hit_ratio: float = _at(
        "EMBEDONCE_EXPECTED_HIT_RATIO",
        "share of inputs that repeat, which `pays` assumes until it has seen enough",
        0.5,
        ge=0,
        le=0.99,
    )
    memory_mb: int = _at("EMBEDONCE_MEMORY_MB", "MiB of vectors each process keeps in memory", 32, ge=0)
    models: Annotated[tuple[ExtraModel, ...], BeforeValidator(values.json_or_file)] = _at(
        "EMBEDONCE_MODELS",
        "further models or ids: JSON, or the path of a JSON file (docs/configuration.md)",
        (),
    )
    vectors_table: str | None = _at("EMBEDONCE_VECTORS_TABLE", "DynamoDB table of vectors (AWS)")
    flights_table: str | None = _at("EMBEDONCE_FLIGHTS_TABLE", "DynamoDB table of flights (AWS)")
    access_table: str | None = _at("EMBEDONCE_ACCESS_TABLE", "DynamoDB table of API keys (AWS)")
    jobs_table: str | None = _at("EMBEDONCE_JOBS_TABLE", "DynamoDB table of tickets and quotas (AWS)")
    usage_table: str | None = _at("EMBEDONCE_USAGE_TABLE", "DynamoDB table of what keys used and spent (AWS)")
    work_queue_url: str | None = _at("EMBEDONCE_WORK_QUEUE_URL", "SQS queue of tickets to work on (AWS)")
    poll_queue_url: str | None = _at("EMBEDONCE_POLL_QUEUE_URL", "SQS queue of tickets to ask for (AWS)")
    blob_bucket: str | None = _at("EMBEDONCE_BLOB_BUCKET", "S3 bucket of payloads and uploads (AWS)")
    cache_bucket: str | None = _at("EMBEDONCE_CACHE_BUCKET", "S3 bucket of large vectors (AWS)")
    s3_min_dimensions: int = _at(
        "EMBEDONCE_S3_MIN_DIMENSIONS",
        "vectors of at least this size are kept in S3, not DynamoDB",
        1537,
        ge=1,
    )


def env_of(name: str) -> str:
    extra = Settings.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["env"])


def load(environ: Mapping[str, str]) -> Settings:
    """:raises ConfigError: naming each variable that is wrong, never its value. Empty variables are unset."""
    given = {name: environ[env_of(name)] for name in Settings.model_fields if environ.get(env_of(name))}
    try:
        return Settings.model_validate(given)
    except ValidationError as errors:
        raise ConfigError("; ".join(_said(e["loc"], e["msg"]) for e in errors.errors())) from None


def _said(where: tuple[int | str, ...], message: str) -> str:
    """Without a variable: of several of them, which the message names."""
    inside = ".".join(map(str, where[1:]))
    variable = [env_of(str(where[0]))] if where else []
    return ": ".join([*variable, *([inside] if inside else []), message.removeprefix("Value error, ")])


def table(settings: Settings) -> list[tuple[str, str, str, str]]:
    """(variable, value as shown, source, meaning) of every setting; secrets are masked."""
    rows = []
    for name, field in Settings.model_fields.items():
        source = "environment" if name in settings.model_fields_set else "default"
        rows.append((env_of(name), _shown(getattr(settings, name)), source, field.description or ""))
    return rows


def _shown(value: Any) -> str:
    match value:
        case None | ():
            return ""
        case StrEnum():
            return value.value
        case SecretStr():
            return "********"
        case dict():
            return ";".join(f"{modality}={_shown(names)}" for modality, names in value.items())
        case tuple():
            return ",".join(each.id if isinstance(each, ExtraModel) else str(each) for each in value)
        case bool():
            return str(value).lower()
        case Path():
            return str(value.expanduser().resolve())
        case _:
            return str(value)
