"""From a Segmind body to one content: text and media together are one vector.

Unknown keys are ignored: the client forwards its keyword arguments as they are, `timeout` and `interval`
among them. An empty string in a field is no value, as in forms that send every field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from embedonce.core.catalog import Catalog, Model, checked_dimensions
from embedonce.core.content import Draft, Modality, Source, TextPart, text_part
from embedonce.core.errors import InvalidRequest, LimitExceeded
from embedonce.core.options import EmbedOptions
from embedonce.core.tasks import TaskType
from embedonce.dialects.fields import (
    MAX_TITLE_CHARS,
    integer,
    json_object,
    mapping,
    media_source,
    string,
    task_type,
)

DEFAULT_TASK = TaskType.RETRIEVAL_DOCUMENT
DEFAULT_DIMENSIONS = 768
"""Segmind's own; Google's default for the same model is 3072."""

TEXT_FIELDS = ("input", "text")
SINGLE_MEDIA = (("audio", Modality.AUDIO), ("video", Modality.VIDEO), ("pdf", Modality.PDF))


@dataclass(frozen=True, slots=True)
class InferenceBody:
    draft: Draft
    options: EmbedOptions
    cache: Mapping[str, Any]


def parse(body: bytes, model_name: str, catalog: Catalog) -> InferenceBody:
    """:raises EmbedonceError: no such model, or the body cannot be embedded as it stands"""
    model = catalog.find(model_name)
    return of_fields(json_object(body), model)


def of_fields(fields: Mapping[str, Any], model: Model) -> InferenceBody:
    """:raises EmbedonceError: they cannot be embedded as they stand"""
    asked = integer(fields.get("output_dimensionality"), "output_dimensionality")
    options = EmbedOptions(
        model=model,
        dimensions=checked_dimensions(model, _or_default(model, asked), "output_dimensionality"),
        task_type=task_type(fields.get("task_type"), "task_type") or DEFAULT_TASK,
        title=string(fields.get("title"), "title", MAX_TITLE_CHARS),
    )
    return InferenceBody(_draft(fields, model), options, mapping(fields.get("cache"), "cache"))


def _or_default(model: Model, asked: int | None) -> int | None:
    """768 where the model has such vectors; a model of one size has its own."""
    fits = model.dimensions.smallest <= DEFAULT_DIMENSIONS <= model.dimensions.largest
    return DEFAULT_DIMENSIONS if asked is None and model.derivable and fits else asked


def _draft(fields: Mapping[str, Any], model: Model) -> Draft:
    """The parts in a fixed order, whatever the order of the JSON: text, image, images, audio, video, pdf."""
    parts: list[TextPart | Source] = []
    given: list[str] = []
    for name in TEXT_FIELDS:
        value = fields.get(name)
        if value is not None and not isinstance(value, str):
            raise InvalidRequest(f"{name}: must be a string", param=name)
        if value and not parts:
            parts.append(text_part(value, name))
            given.append(name)
    images = _images(fields, model)
    parts += [source for _, source in images]
    given += [name for name, _ in images]
    for name, modality in SINGLE_MEDIA:
        value = fields.get(name)
        if value is not None and value != "":
            parts.append(media_source(value, modality, name))
            given.append(name)
    if not parts:
        raise InvalidRequest(
            "input: required, unless there is image, images, audio, video or pdf", param="input"
        )
    return Draft(tuple(parts), ", ".join(dict.fromkeys(given)))


def _images(fields: Mapping[str, Any], model: Model) -> list[tuple[str, Source]]:
    """By the field they came in; `images` may be one image without a list around it."""
    one, many = fields.get("image"), fields.get("images")
    found: list[tuple[str, Source]] = []
    if one is not None and one != "":
        found.append(("image", media_source(one, Modality.IMAGE, "image")))
    if isinstance(many, str) and many:
        many = [many]
    if many is None or many == "":
        return found
    if not isinstance(many, list):
        raise InvalidRequest("images: must be a list", param="images")
    count = len(found) + len(many)
    if count > model.limits.images:
        raise LimitExceeded("images", limit=f"{model.limits.images} images in one request", value=str(count))
    for i, value in enumerate(many):
        found.append(("images", media_source(value, Modality.IMAGE, f"images[{i}]")))
    return found
