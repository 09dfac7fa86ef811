"""Whose vectors a start-up text promises: by model and modality, in which vector space, real or made up."""

from __future__ import annotations

from embedonce.core.catalog import Catalog, Model
from embedonce.core.content import Modality
from embedonce.core.errors import EmbedonceError
from embedonce.upstreams.router import Route, Router

PAID = frozenset({"google", "openrouter", "segmind"})
NOBODY = "nobody: no upstream is configured for it"


def answering(router: Router, catalog: Catalog) -> str:
    """Lines, each with its end: a model, then its modalities grouped by who answers them, then a warning if
    these are not one vector space."""
    lines: list[str] = []
    for model in catalog:
        routes = {
            modality: _route(router, model, modality) for modality in Modality if modality in model.modalities
        }
        groups: dict[str, list[str]] = {}
        for modality, route in routes.items():
            groups.setdefault(_said(route, modality), []).append(modality)
        lines.append(f"    {model.id}")
        lines += [f"      {', '.join(names):<22}  {said}" for said, names in groups.items()]
        spaces: dict[str, list[str]] = {}
        for modality, route in routes.items():
            if route is not None and modality not in route.offer.made_up:
                spaces.setdefault(route.offer.lineage, []).append(modality)
        if len(spaces) > 1:
            apart = " | ".join(", ".join(names) for names in spaces.values())
            lines.append(f"      WARNING: different vector spaces, not comparable with each other: {apart}")
    return "".join(f"{line}\n" for line in lines)


def _route(router: Router, model: Model, modality: Modality) -> Route | None:
    try:
        return router.route(model, frozenset({modality}))
    except EmbedonceError:
        return None


def _said(route: Route | None, modality: Modality) -> str:
    if route is None:
        return NOBODY
    names = [upstream.name for upstream, _ in route.candidates]
    if names[0] == "embedded":
        return _embedded(route, modality)
    return ", else ".join(f"{name} (paid)" if name in PAID else name for name in names)


def _embedded(route: Route, modality: Modality) -> str:
    if modality in route.offer.made_up:
        return "embedded: MADE UP from a hash; deterministic, free, without meaning"
    how = " by the PDF's text" if modality is Modality.PDF else ""
    return f"embedded: a small offline model{how}; free, and a vector space of its own"
