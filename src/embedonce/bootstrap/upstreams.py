"""Which upstreams answer, in which order, and with whose keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import SecretStr

from embedonce import secretsource
from embedonce.config import ConfigError, Settings, env_of
from embedonce.core.catalog import Catalog
from embedonce.core.content import Modality
from embedonce.ports import Clock, Upstream

PAID = {"google": "gemini", "openrouter": "openrouter", "segmind": "segmind"}
"""Providers with a key, in the default order, and what their settings' names begin with.

Google's space first, by whoever can answer most of it, OpenRouter to stand in for text and images; Segmind,
whose space is its own, for what no other takes. So one space answers as much as possible, and adding a key
never moves to another space what was answered before (but for what Segmind alone had answered).
"""


def upstream_names(settings: Settings) -> tuple[str, ...]:
    """Which upstreams answer, in order. Made-up or offline vectors never stand in for paid ones on AWS."""
    if settings.upstreams:
        return settings.upstreams
    names = [name for name, prefix in PAID.items() if _has_key(settings, prefix)]
    keyless = not names
    if settings.openai_compatible_base_url:
        names.append("openai_compatible")
    if keyless and settings.mode == "aws":
        names.insert(0, "openrouter")  # it answers what is new with a 503 that names its key
    if keyless and settings.mode == "local":
        names.append("embedded")
    return tuple(names)


def _has_key(settings: Settings, prefix: str) -> bool:
    return bool(getattr(settings, f"{prefix}_api_key") or getattr(settings, f"{prefix}_api_key_secret"))


def upstreams_of(settings: Settings, catalog: Catalog, clock: Clock) -> list[Upstream]:
    """:raises ConfigError: an upstream that is named but cannot be reached as it is set, or twice"""
    names = upstream_names(settings)
    if len(set(names)) < len(names):
        raise ConfigError(f"{env_of('upstreams')}: names an upstream twice")
    try:
        return [_upstream(name, settings, catalog, clock) for name in names]
    except ValueError as error:
        raise ConfigError(str(error)) from None


def order_of(
    settings: Settings, upstreams: Sequence[Upstream], catalog: Catalog
) -> dict[Modality, tuple[str, ...]]:
    """The operator's order by modality, checked against what there is.

    :raises ConfigError: an upstream that is not among those that answer, or does not take the modality
    """
    by_name = {upstream.name: upstream for upstream in upstreams}
    for modality, names in settings.routes.items():
        for name in names:
            if name not in by_name:
                there = ", ".join(by_name) or "none"
                raise ConfigError(f"{env_of('routes')}: {name} is not among the upstreams ({there})")
            offers = [by_name[name].offer(model) for model in catalog]
            if not any(offer is not None and modality in offer.modalities for offer in offers):
                raise ConfigError(f"{env_of('routes')}: {name} does not take {modality}")
    return dict(settings.routes)


def _upstream(name: str, settings: Settings, catalog: Catalog, clock: Clock) -> Upstream:
    from embedonce.upstreams.transport import Transport

    match name:
        case "google":
            from embedonce.upstreams.google import Google

            return Google(Transport(clock), _paid_key(settings, "gemini"), base_url=settings.gemini_base_url)
        case "openrouter":
            from embedonce.upstreams.openrouter import OpenRouter

            return OpenRouter(
                Transport(clock),
                _paid_key(settings, "openrouter"),
                base_url=settings.openrouter_base_url,
                catalog=catalog,
                modalities=frozenset(settings.openrouter_modalities),
            )
        case "segmind":
            if settings.segmind_space == "google" and settings.segmind_media_input != "omit":
                raise ConfigError(
                    "SEGMIND_MEDIA_INPUT: SEGMIND_SPACE=google allows nothing that Google is not sent"
                )
            from embedonce.upstreams.segmind import Segmind

            return Segmind(
                Transport(clock),
                _paid_key(settings, "segmind"),
                clock,
                base_url=settings.segmind_base_url,
                googles_space=settings.segmind_space == "google",
                media_input=settings.segmind_media_input,
            )
        case "openai_compatible":
            return _openai_compatible(settings, catalog, clock)
        case _ if settings.mode == "aws":
            raise ConfigError("EMBEDONCE_UPSTREAMS: the offline model is not in the Lambda package")
        case _:
            from embedonce.upstreams.embedded import Embedded

            return Embedded()


def _openai_compatible(settings: Settings, catalog: Catalog, clock: Clock) -> Upstream:
    from embedonce.upstreams.openai_compatible import OpenAICompatible
    from embedonce.upstreams.transport import Transport

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


def _paid_key(settings: Settings, prefix: str) -> Callable[[], str]:
    """Without one, a function that says which variable is missing."""
    value, secret = getattr(settings, f"{prefix}_api_key"), getattr(settings, f"{prefix}_api_key_secret")
    variable = env_of(f"{prefix}_api_key")
    return _key(value, secret, variable) or secretsource.missing(variable)


def _key(value: SecretStr | None, secret_name: str | None, what: str) -> Callable[[], str] | None:
    if value is not None:
        return secretsource.from_value(value)
    if secret_name:
        return secretsource.from_aws(secret_name, what)
    return None
