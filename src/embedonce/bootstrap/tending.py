"""What looks after manifests, for those who have nothing else of ingest."""

from __future__ import annotations

from embedonce.bootstrap.stores import IngestStores
from embedonce.core.task import QUEUE_OF, Step
from embedonce.ports import Clock, Telemetry
from embedonce.usecases.ingest.manifests import Manifests
from embedonce.usecases.ingest.tend import Tend


def manifests_of(stores: IngestStores, clock: Clock, telemetry: Telemetry, *, watched: bool) -> Manifests:
    queues = {step: stores.queues[QUEUE_OF[step]] for step in Step}
    return Manifests(stores.manifests, queues, stores.blobs, clock, telemetry, watched=watched)


def tend_of(stores: IngestStores, clock: Clock, telemetry: Telemetry) -> Tend:
    manifests = manifests_of(stores, clock, telemetry, watched=True)
    return Tend(manifests, stores.blobs, clock, telemetry)
