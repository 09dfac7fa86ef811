"""Which upstreams answer, in which order, and with whose keys."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import SecretStr

from embedonce import secretsource
from embedonce.config import ConfigError, Settings
from embedonce.core.catalog import Catalog
from embedonce.ports import Clock, Upstream


def upstream_names(settings: Settings) -> tuple[str, ...]:
    """Which upstreams answer, in order. Made-up or offline vectors never stand in for paid ones on AWS."""
    if settings.upstreams:
        return settings.upstreams
    names: list[str] = []
    if settings.mode == "aws" or settings.openrouter_api_key:
        names.append("openrouter")
    if settings.openai_compatible_base_url:
        names.append("openai_compatible")
    if settings.mode == "local" and not settings.openrouter_api_key:
        names.append("embedded")
    return tuple(names)


def upstreams_of(settings: Settings, catalog: Catalog, clock: Clock) -> list[Upstream]:
    """:raises ConfigError: an upstream that is named but cannot be reached as it is set"""
    try:
        return [_upstream(name, settings, catalog, clock) for name in upstream_names(settings)]
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _upstream(name: str, settings: Settings, catalog: Catalog, clock: Clock) -> Upstream:
    from embedonce.upstreams.transport import Transport

    match name:
        case "openrouter":
            from embedonce.upstreams.openrouter import OpenRouter

            key = _key(settings.openrouter_api_key, settings.openrouter_api_key_secret, "OPENROUTER_API_KEY")
            return OpenRouter(
                Transport(clock),
                base_url=settings.openrouter_base_url,
                key=key or secretsource.missing("OPENROUTER_API_KEY"),
                catalog=catalog,
            )
        case "openai_compatible":
            from embedonce.upstreams.openai_compatible import OpenAICompatible

            base_url = settings.openai_compatible_base_url
            if not base_url or not settings.openai_compatible_model:
                raise ConfigError("OPENAI_COMPATIBLE_BASE_URL and OPENAI_COMPATIBLE_MODEL belong together")
            return OpenAICompatible(
                Transport(clock),
                base_url=base_url,
                models={model: model for model in settings.openai_compatible_model},
                key=_key(
                    settings.openai_compatible_api_key,
                    settings.openai_compatible_api_key_secret,
                    "OPENAI_COMPATIBLE_API_KEY",
                ),
                distinct=settings.openai_compatible_distinct,
                catalog=catalog,
            )
        case _ if settings.mode == "aws":
            raise ConfigError("EMBEDONCE_UPSTREAMS: the offline model is not in the Lambda package")
        case _:
            from embedonce.upstreams.embedded import Embedded

            return Embedded()


def _key(value: SecretStr | None, secret_name: str | None, what: str) -> Callable[[], str] | None:
    if value is not None:
        return secretsource.from_value(value)
    if secret_name:
        return secretsource.from_aws(secret_name, what)
    return None
