"""Which models, upstreams, routes and rules come of the settings, and who answers what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from embedonce.bootstrap.catalog import catalog_of
from embedonce.bootstrap.ingest import rules_of
from embedonce.bootstrap.upstreams import order_of, upstreams_of
from embedonce.bootstrap.webhooks import webhooks_of
from embedonce.config import ConfigError, Settings
from embedonce.core.catalog import Catalog, Model
from embedonce.core.content import Modality
from embedonce.core.errors import EmbedonceError
from embedonce.core.rule import Rule
from embedonce.doctor.check import Check, ok, problem, skipped, warning
from embedonce.media.guard import Guard
from embedonce.ports import Clock, Upstream
from embedonce.telemetry import LogTelemetry
from embedonce.upstreams.router import Route, Router

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Composed:
    catalog: Catalog
    upstreams: tuple[Upstream, ...]
    router: Router
    rules: tuple[Rule, ...]


def composed(settings: Settings, clock: Clock) -> tuple[Composed | None, list[Check]]:
    """What the server would be made of; None where it would not start."""
    found: list[Check] = []

    def made(name: str, make: Callable[[], Made]) -> Made | None:
        try:
            return make()
        except ConfigError as error:  # it names the variable, never its value
            found.append(problem(name, str(error), "nothing starts with it: change that setting"))
            return None

    catalog = made("models", lambda: catalog_of(settings))
    _guards(settings, clock, made)
    if catalog is None:
        return None, found
    rules = made("ingest rules", lambda: rules_of(settings, catalog))
    upstreams = made("upstreams", lambda: upstreams_of(settings, catalog, clock))
    if upstreams is None:
        return None, found
    order = made("routes", lambda: order_of(settings, upstreams, catalog))
    router = Router(
        upstreams, clock, LogTelemetry(), attempt_timeout=settings.upstream_timeout, order=order or {}
    )
    if order is not None:
        found += _who_answers(router, catalog)
    if rules:
        found.append(ok("ingest rules", f"{len(rules)} in force"))
    return Composed(catalog, tuple(upstreams), router, rules or ()), found


def _guards(settings: Settings, clock: Clock, made: Callable[[str, Callable[[], object]], object]) -> None:
    def media() -> None:
        if settings.media_origins and settings.mode == "aws":
            raise ConfigError("EMBEDONCE_MEDIA_ORIGINS: local mode only")
        try:
            Guard(settings.media_origins)
        except ValueError as error:
            raise ConfigError(f"EMBEDONCE_MEDIA_ORIGINS: {error}") from None

    made("media", media)
    made("webhooks", lambda: webhooks_of(settings, clock, LogTelemetry()).close())


def _who_answers(router: Router, catalog: Catalog) -> Iterator[Check]:
    """A line for all models of which the same is to be said."""
    models: dict[str, list[Model]] = {}
    for model in catalog:
        models.setdefault(_described(router, model), []).append(model)
    first = True
    name = "who answers"
    for described, alike in models.items():
        said = f"{', '.join(model.id for model in alike)}: {described}"
        routes = _routes(router, alike[0])
        missing = [modality.value for modality, route in routes.items() if route is None]
        if len(missing) == len(routes) and not first:
            yield skipped(name, said)
        elif missing:
            what = ", ".join(missing)
            yield warning(name, said, f"{what} get 400 or 503: set a key of an upstream that takes them")
        else:
            yield ok(name, said)
        yield from _spaces(alike, routes)
        first = False


def _routes(router: Router, model: Model) -> dict[Modality, Route | None]:
    routes: dict[Modality, Route | None] = {}
    for modality in (each for each in Modality if each in model.modalities):
        try:
            routes[modality] = router.route(model, frozenset({modality}))
        except EmbedonceError:
            routes[modality] = None
    return routes


def _described(router: Router, model: Model) -> str:
    groups: dict[str, list[str]] = {}
    for modality, route in _routes(router, model).items():
        who = "nobody"
        if route is not None:
            who = ", else ".join(upstream.name for upstream, _ in route.candidates)
            who += " (MADE UP)" if modality in route.offer.made_up else ""
        groups.setdefault(who, []).append(modality.value)
    return "; ".join(f"{', '.join(names)} by {who}" for who, names in groups.items())


def _spaces(models: list[Model], routes: dict[Modality, Route | None]) -> Iterator[Check]:
    spaces: dict[str, list[str]] = {}
    for modality, route in routes.items():
        if route is not None and modality not in route.offer.made_up:
            spaces.setdefault(route.offer.lineage, []).append(modality.value)
    if len(spaces) > 1:
        apart = " | ".join(", ".join(names) for names in spaces.values())
        yield warning(
            "vector spaces",
            f"{', '.join(model.id for model in models)}: not comparable with each other: {apart}",
            "let upstreams of one space answer (EMBEDONCE_UPSTREAMS, EMBEDONCE_ROUTES), or do not compare "
            "across them; `embedonce doctor upstreams` measures whether two upstreams agree",
        )
