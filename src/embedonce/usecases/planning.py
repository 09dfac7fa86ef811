"""From contents to what is looked up and bought: routes, keys, each different content once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embedonce.core.content import Content, Modality
from embedonce.core.fingerprint import Namespace, Space, fingerprinter
from embedonce.core.options import EmbedOptions
from embedonce.core.plan import Item, items_of
from embedonce.upstreams.router import Route, Router


@dataclass(frozen=True, slots=True)
class Planned:
    routes: Mapping[frozenset[Modality], Route]
    items: tuple[Item, ...]

    @property
    def made_up(self) -> frozenset[Modality]:
        """Modalities whose vectors mean nothing."""
        return frozenset().union(*(route.offer.made_up & m for m, route in self.routes.items()))


def planned(
    router: Router,
    contents: Sequence[Content],
    params: Sequence[str],
    options: EmbedOptions,
    namespace: Namespace,
) -> Planned:
    """:raises EmbedonceError: no upstream takes one of them; `params[i]` names where content i came from"""
    routes: dict[frozenset[Modality], Route] = {}
    for content, param in zip(contents, params, strict=True):
        if (m := content.modalities) not in routes:
            routes[m] = router.route(options.model, m, param).sending(options)
    makers = {
        modalities: fingerprinter(
            namespace, Space(route.offer.lineage, options.model.id), route.offer.sends(options)
        )
        for modalities, route in routes.items()
    }
    sent = [routes[c.modalities].offer.recipe(c, options) for c in contents]
    items = items_of(sent, [makers[c.modalities] for c in sent], options, params)
    return Planned(routes, items)
