"""Who is to be asked for which probes, and for how much at most. Nobody is asked yet."""

from __future__ import annotations

from dataclasses import dataclass

from embedonce.bootstrap.catalog import catalog_of
from embedonce.bootstrap.upstreams import upstreams_of
from embedonce.config import Settings
from embedonce.core.catalog import Model
from embedonce.doctor import probes
from embedonce.doctor.probes import Probe
from embedonce.ports import Clock, Offer, Upstream
from embedonce.telemetry import quieten_libraries


@dataclass(frozen=True, slots=True)
class Asked:
    upstream: Upstream
    offer: Offer
    probes: list[Probe]

    @property
    def name(self) -> str:
        return self.upstream.name

    @property
    def most(self) -> int:
        """Pico-dollars."""
        return probes.most_cost(self.probes, self.offer)

    @property
    def priced(self) -> bool:
        """Whether `most` is to be believed: of an OpenAI-compatible server no price may be known here."""
        return self.most > 0 or self.name == "embedded"

    @property
    def calls(self) -> int:
        return sum(-(-len(probe.contents) // self.offer.max_inputs) for probe in self.probes)


@dataclass(frozen=True, slots=True)
class Plan:
    """`most`: pico-dollars, over all upstreams, by our prices."""

    model: Model
    asked: tuple[Asked, ...]
    timeout: float

    @property
    def most(self) -> int:
        return sum(each.most for each in self.asked)

    def close(self) -> None:
        for each in self.asked:
            each.upstream.close()


def plan_of(settings: Settings, model_name: str, clock: Clock, *, media: bool) -> Plan:
    """:raises ConfigError: settings that cannot work
    :raises NotFound: no such model
    """
    quieten_libraries()
    catalog = catalog_of(settings)
    model = catalog.find(model_name, "--model")
    asked = []
    for upstream in upstreams_of(settings, catalog, clock):
        if (offer := upstream.offer(model)) is not None:
            made = probes.probes_for(upstream, offer, model, media=media)
            asked.append(Asked(upstream, offer, made))
        else:
            upstream.close()
    return Plan(model, tuple(asked), settings.upstream_timeout)
