"""Models as Google names and lists them: `models/gemini-embedding-2`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from embedonce.core.catalog import Catalog, Model
from embedonce.core.errors import InvalidRequest, NotFound

DEFAULT_PAGE = 50
MAX_PAGE = 1000
"""As Google's own models.list."""
METHODS = ("embedContent", "batchEmbedContents")

_PREFIX = re.compile(r"(?:projects/[^/]+/locations/[^/]+/)?(?:publishers/google/)?models/")


def find(catalog: Catalog, name: str) -> Model:
    """By Google's name, with or without its prefixes, or by any other of the catalogue's names.

    :raises NotFound: no such model; the message lists those there are
    """
    prefix = _PREFIX.match(name)
    bare = name[prefix.end() :] if prefix else name
    try:
        return catalog.find(bare)
    except NotFound:
        try:
            return catalog.find(f"google/{bare}")
        except NotFound:
            pass
        raise


def described(catalog: Catalog, model: Model) -> dict[str, Any]:
    """A Model resource. `version` is the end of the id; an embedding model puts out one vector."""
    base = _base_id(catalog, model)
    return {
        "name": f"models/{base}",
        "baseModelId": base,
        "version": base.rpartition("-")[2],
        "displayName": model.name,
        "description": model.description,
        "inputTokenLimit": model.limits.tokens,
        "outputTokenLimit": 1,
        "supportedGenerationMethods": list(METHODS),
    }


def listed(catalog: Catalog, query: Mapping[str, str]) -> dict[str, Any]:
    """:raises InvalidRequest: a pageSize or pageToken that is no whole number"""
    models = list(catalog)
    size = min(_whole(query, "pageSize") or DEFAULT_PAGE, MAX_PAGE)
    start = _whole(query, "pageToken")
    page = {"models": [described(catalog, model) for model in models[start : start + size]]}
    return {**page, "nextPageToken": str(start + size)} if start + size < len(models) else page


def _base_id(catalog: Catalog, model: Model) -> str:
    """Without `google/`, unless another model has that name."""
    base = model.id.removeprefix("google/")
    return base if find(catalog, base) is model else model.id


def _whole(query: Mapping[str, str], param: str) -> int:
    value = query.get(param, "")
    if not value:
        return 0
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise InvalidRequest(f"{param}: must be a whole number", param=param)
    return int(value)
