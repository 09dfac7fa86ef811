"""Every key under which a content may lie, as far as it can be computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from embedonce.core.catalog import Model
from embedonce.core.content import Content
from embedonce.core.fingerprint import Fingerprinter, Namespace, Space, canonical_json, fingerprinter
from embedonce.core.options import EmbedOptions
from embedonce.core.plan import VectorKey
from embedonce.core.purge import model_generation, namespace_generation
from embedonce.core.tasks import TaskType
from embedonce.ports import Upstream

TASKS: tuple[TaskType | None, ...] = (None, *TaskType)


@dataclass(frozen=True, slots=True)
class Reach:
    """How the content may have been asked for. `sizes` None: every one that the model has. `parameters`: the
    client's own, besides none."""

    models: Sequence[Model]
    namespaces: Sequence[Namespace]
    sizes: Sequence[int] | None = None
    tasks: Sequence[TaskType | None] = TASKS
    titles: Sequence[str] = ()
    parameters: Sequence[Mapping[str, Any]] = ()


def keys_of(
    content: Content, reach: Reach, upstreams: Sequence[Upstream], generations: Mapping[str, int]
) -> Iterator[VectorKey]:
    """Each once; through every upstream that takes it, whoever is preferred now."""
    for model in reach.models:
        sizes = _sizes(model, content, reach.sizes)
        for sent, fingerprints in _ways(model, content, reach, upstreams, generations):
            for size in sizes:
                yield VectorKey(fingerprints.of(sent, size), size)


def _ways(
    model: Model,
    content: Content,
    reach: Reach,
    upstreams: Sequence[Upstream],
    generations: Mapping[str, int],
) -> Iterator[tuple[Content, Fingerprinter]]:
    """What is sent, and what makes its keys: different in each."""
    offers = [offer for upstream in upstreams if (offer := upstream.offer(model)) is not None]
    namespaces = [replace(n, generation=namespace_generation(generations, n)) for n in reach.namespaces]
    generation = model_generation(generations, model.id)
    known: set[object] = set()
    for offer in offers:
        if not content.modalities <= offer.modalities:
            continue
        for options in _options(model, reach):
            sent, sends = offer.recipe(content, options), offer.sends(options)
            for namespace in namespaces:
                way = (sent, canonical_json(sends), namespace, offer.lineage)
                if way not in known:
                    known.add(way)
                    yield sent, fingerprinter(namespace, Space(offer.lineage, model.id, generation), sends)


def _options(model: Model, reach: Reach) -> Iterator[EmbedOptions]:
    for parameters in ({}, *reach.parameters):
        for task in reach.tasks:
            for title in (None, *reach.titles):
                yield EmbedOptions(model, None, task_type=task, title=title, parameters=parameters)


def _sizes(model: Model, content: Content, asked: Sequence[int] | None) -> list[int | None]:
    own = model.dimensions
    if not content.is_text and model.derivable and own.default is not None:
        return [own.default]  # smaller ones are cut from it and never stored
    if asked is not None:
        return list(dict.fromkeys(asked))
    sizes: list[int | None] = list(range(own.smallest, own.largest + 1))
    return [None, *sizes] if own.default is None else sizes
