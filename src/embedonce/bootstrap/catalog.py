"""The models there are: built in, configured, and served by the OpenAI-compatible upstream."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from embedonce.config import ConfigError, Settings, env_of
from embedonce.configvalues import ExtraModel
from embedonce.core.catalog import BUILT_IN, Catalog, Dimensions, Limits, Model
from embedonce.core.content import Modality
from embedonce.core.errors import NotFound
from embedonce.core.pricing import Price

UNKNOWN_TEXT_BYTES = 1_000_000
"""For models whose limit is not known here: what one call to an OpenAI-compatible server carries."""


def catalog_of(settings: Settings) -> Catalog:
    """The built-in models, the configured ones, and what the OpenAI-compatible server was said to serve."""
    models = {model.id: model for model in BUILT_IN}
    for extra in settings.models:
        models[extra.id] = _extra_model(extra, Catalog(models.values()))
    for model_id in settings.openai_compatible_model:
        if model_id not in models:
            models[model_id] = _plain_model(model_id, settings.openai_compatible_dimensions)
    _check_names(models.values())
    return Catalog(models.values())


def _check_names(models: Iterable[Model]) -> None:
    """:raises ConfigError: two models answer to one name"""
    owner: dict[str, str] = {}
    for model in models:
        for name in (model.id, *model.aliases):
            if owner.setdefault(name, model.id) != model.id:
                raise ConfigError(f"{env_of('models')}: both {owner[name]} and {model.id} are named {name}")


def _plain_model(model_id: str, dimensions: int | None) -> Model:
    return Model(
        id=model_id,
        name=model_id,
        created=0,
        dimensions=Dimensions(default=dimensions, largest=max(4096, dimensions or 0)),
        modalities=frozenset({Modality.TEXT}),
        derivable=False,
        limits=Limits(tokens=0, text_bytes=UNKNOWN_TEXT_BYTES),
    )


def _extra_model(extra: ExtraModel, known: Catalog) -> Model:
    """:raises ConfigError: `like` names no known model"""
    if extra.like is not None:
        try:
            base = known.find(extra.like)
        except NotFound:
            raise ConfigError(f"{env_of('models')}: {extra.id} is like an unknown model") from None
    else:
        base = _plain_model(extra.id, extra.dimensions)
    model = replace(base, id=extra.id, name=extra.id, aliases=extra.aliases)
    if extra.dimensions is not None:
        largest = max(model.dimensions.largest, extra.dimensions)
        smallest = min(model.dimensions.smallest, extra.dimensions)
        model = replace(model, dimensions=Dimensions(extra.dimensions, smallest, largest))
    if extra.derivable is not None:
        model = replace(model, derivable=extra.derivable)
    if extra.usd_per_million_tokens is not None:
        price = Price.per_million(extra.usd_per_million_tokens)
        model = replace(model, prices={**model.prices, Modality.TEXT: price})
    return model
