"""From contents to what is looked up and bought: routes, keys, each different content once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from embedonce.core.content import Content, Modality
from embedonce.core.fingerprint import Namespace, Space, fingerprinter
from embedonce.core.options import EmbedOptions
from embedonce.core.patience import Patience
from embedonce.core.plan import Item, items_of
from embedonce.core.purge import model_generation, namespace_generation
from embedonce.ports import Deployment
from embedonce.upstreams.router import Route, Router


@dataclass(frozen=True, slots=True)
class Planned:
    routes: Mapping[frozenset[Modality], Route]
    items: tuple[Item, ...]

    @property
    def made_up(self) -> frozenset[Modality]:
        """Modalities whose vectors mean nothing."""
        return frozenset().union(*(route.offer.made_up & m for m, route in self.routes.items()))


class Planner:
    """`deployment`: what was purged, as far as this process knows; may raise `WouldBlock`."""

    def __init__(self, router: Router, deployment: Callable[[Patience], Deployment]) -> None:
        self._router = router
        self._deployment = deployment

    def __call__(
        self,
        contents: Sequence[Content],
        params: Sequence[str],
        options: EmbedOptions,
        namespace: Namespace,
        patience: Patience = Patience.PROVIDERS,
    ) -> Planned:
        """:raises EmbedonceError: no upstream takes one of them; `params[i]` names where content i came from
        :raises WouldBlock: there is not the patience for it
        """
        routes: dict[frozenset[Modality], Route] = {}
        for content, param in zip(contents, params, strict=True):
            if (m := content.modalities) not in routes:
                routes[m] = self._router.route(options.model, m, param).sending(options)
        purged = self._deployment(patience).generations
        if purged:
            namespace = replace(namespace, generation=namespace_generation(purged, namespace))
        generation = model_generation(purged, options.model.id)
        makers = {
            modalities: fingerprinter(
                namespace,
                Space(route.offer.lineage, options.model.id, generation),
                route.offer.sends(options),
            )
            for modalities, route in routes.items()
        }
        sent = [routes[c.modalities].offer.recipe(c, options) for c in contents]
        items = items_of(sent, [makers[c.modalities] for c in sent], options, params)
        return Planned(routes, items)
