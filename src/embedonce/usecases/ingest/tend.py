"""What the janitor does for manifests: those that stand still are nudged, those past their deadline fail."""

from __future__ import annotations

from embedonce.core import manifest as machine
from embedonce.core.deadline import Deadline
from embedonce.core.errors import DeadlineExceeded, StoreUnavailable
from embedonce.ports import BlobStore, Clock, Telemetry
from embedonce.usecases.ingest.manifests import Manifests

PAGE = 200
BLOB_SECONDS = 14 * 86_400.0
"""Segments older than that belong to nobody any more: twice a manifest's own deadline."""


class Tend:
    def __init__(self, manifests: Manifests, blobs: BlobStore, clock: Clock, telemetry: Telemetry) -> None:
        self._manifests = manifests
        self._blobs = blobs
        self._clock = clock
        self._telemetry = telemetry

    def tick(self, deadline: Deadline) -> int:
        """How many were nudged or failed; the rest waits for the next time."""
        try:
            self._blobs.sweep(self._clock.now() - BLOB_SECONDS)
            due = self._manifests.due(PAGE)
        except StoreUnavailable:
            self._telemetry.count("JanitorErrors")
            return 0
        done = 0
        for manifest_id in due:
            if deadline.remaining(self._clock.monotonic()) <= 0:
                break
            try:
                done += self._look_after(manifest_id)
            except StoreUnavailable:
                self._telemetry.count("JanitorErrors")
        return done

    def _look_after(self, manifest_id: str) -> bool:
        manifest = self._manifests.read(manifest_id)
        now = self._clock.now()
        if manifest is None or not manifest.open or manifest.due is None or now < manifest.due:
            return False
        if now >= manifest.deadline and manifest.error is None:
            days = machine.DEADLINE_SECONDS / 86_400
            self._manifests.failed(manifest, DeadlineExceeded(f"it was not done within {days:g} days"))
            return True
        changed = machine.nudged(manifest, now=now)
        if not self._manifests.change(manifest, changed):
            return False
        self._telemetry.count("Nudges")
        self._manifests.send_all(changed)
        return True
