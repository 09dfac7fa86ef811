"""From `embedContent` and `batchEmbedContents` bodies to groups of contents with equal options.

`taskType` and `title` are not the gateway's task types: they are kept as the parameters they are, for an
upstream that forwards them (Google, which has its own idea of what they do). Others do not send them, so they
are not in their keys, and no prefix is put before a text here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from embedonce.core.catalog import Catalog, Model, checked_dimensions
from embedonce.core.content import Draft
from embedonce.core.errors import InvalidRequest, NotFound
from embedonce.core.options import EmbedOptions
from embedonce.core.tasks import TaskType
from embedonce.dialects.embedding import Group
from embedonce.dialects.fields import MAX_TITLE_CHARS, integer, json_object, mapping, string
from embedonce.dialects.google import models
from embedonce.dialects.google.content import draft, either

MAX_REQUESTS = 100
TOO_MANY = f"BatchEmbedContentsRequest.requests: at most {MAX_REQUESTS} requests can be in one batch"

UNSPECIFIED = "TASK_TYPE_UNSPECIFIED"
CHANGE_THE_VECTOR = ("documentOcr", "audioTrackExtraction")
"""Of Vertex' settings those that no upstream here can be asked for."""

_Options = tuple[int | None, str | None, str | None]


@dataclass(frozen=True, slots=True)
class GoogleBody:
    groups: tuple[Group, ...]
    cache: Mapping[str, Any]


def parse_one(body: bytes, model_name: str, catalog: Catalog) -> GoogleBody:
    """:raises EmbedonceError: no such model, or the body cannot be embedded as it stands"""
    model = models.find(catalog, model_name)
    fields = json_object(body)
    content, options = _request(fields, "", model, catalog)
    group = Group((content,), _embed_options(model, options), (0,))
    return GoogleBody((group,), mapping(fields.get("cache"), "cache"))


def parse_batch(body: bytes, model_name: str, catalog: Catalog) -> GoogleBody:
    """:raises EmbedonceError: as above; one bad request refuses the batch"""
    model = models.find(catalog, model_name)
    fields = json_object(body)
    requests = fields.get("requests")
    if not isinstance(requests, list) or not requests:
        raise InvalidRequest("requests: must be a list of at least one request", param="requests")
    if len(requests) > MAX_REQUESTS:
        raise InvalidRequest(TOO_MANY, param="requests")
    grouped: dict[_Options, list[tuple[int, Draft]]] = {}
    for i, one in enumerate(requests):
        param = f"requests[{i}]"
        if not isinstance(one, dict):
            raise InvalidRequest(f"{param}: must be an object", param=param)
        content, options = _request(one, f"{param}.", model, catalog)
        grouped.setdefault(options, []).append((i, content))
    # Largest first: what is bought at full size is not bought again for a smaller one of the same batch.
    ordered = sorted(grouped.items(), key=lambda entry: -(entry[0][0] or 0))
    groups = tuple(
        Group(tuple(d for _, d in members), _embed_options(model, options), tuple(i for i, _ in members))
        for options, members in ordered
    )
    return GoogleBody(groups, mapping(fields.get("cache"), "cache"))


def _embed_options(model: Model, options: _Options) -> EmbedOptions:
    dimensions, task_type, title = options
    parameters = {name: value for name, value in (("taskType", task_type), ("title", title)) if value}
    return EmbedOptions(model=model, dimensions=dimensions, parameters=parameters)


def _request(fields: Mapping[str, Any], where: str, model: Model, catalog: Catalog) -> tuple[Draft, _Options]:
    _check_model(fields.get("model"), f"{where}model", model, catalog)
    value, field = either(fields, "embedContentConfig", where)
    config = mapping(value, field)
    for name in CHANGE_THE_VECTOR:
        value, asked = either(config, name, f"{field}.")
        if value:
            raise InvalidRequest(f"{asked}: not supported", param=asked)

    def setting(name: str) -> tuple[Any, str]:
        """In the config where it is there, else beside it."""
        inside = either(config, name, f"{field}.")
        return inside if inside[0] is not None else either(fields, name, where)

    dimensions = checked_dimensions(model, *_dimensions(*setting("outputDimensionality")))
    options = (
        dimensions,
        _task_type(*setting("taskType")),
        string(*setting("title"), MAX_TITLE_CHARS) or None,
    )
    return draft(fields.get("content"), f"{where}content"), options


def _dimensions(value: Any, param: str) -> tuple[int | None, str]:
    """JSON of protocol buffers may write a number as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    return integer(value, param), param


def _task_type(value: Any, param: str) -> str | None:
    name = string(value, param, 64)
    if not name or name == UNSPECIFIED:
        return None
    if name not in TaskType.__members__:
        known = ", ".join((UNSPECIFIED, *TaskType))
        raise InvalidRequest(f"{param}: must be one of {known}", param=param)
    return name


def _check_model(value: Any, param: str, model: Model, catalog: Catalog) -> None:
    """The SDKs repeat the model in every request of a batch."""
    name = string(value, param, 256)
    if not name:
        return
    try:
        same = models.find(catalog, name) is model
    except NotFound:
        same = False
    if not same:
        raise InvalidRequest(f"{param}: must be the model of the path, {model.id}", param=param)
