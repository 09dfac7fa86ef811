"""What has arrived: the newest version of each key is kept in mind, and its cutting is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from embedonce.core import manifest as machine
from embedonce.core.errors import InvalidRequest, StoreUnavailable
from embedonce.core.manifest import Embedding, Ended, Manifest, Outcome
from embedonce.core.rule import Rule, Terms, matching
from embedonce.core.source import Source, newer
from embedonce.ports import Clock, Telemetry
from embedonce.usecases.ingest.manifests import ATTEMPTS, CONTENTION_SECONDS, Manifests

NOBODY = Terms(payer="", model="")
"""Of a source that no rule is for."""


class Arrivals:
    """`prefix` is what all keys have before what rules and results go by."""

    def __init__(
        self, manifests: Manifests, rules: Sequence[Rule], clock: Clock, telemetry: Telemetry, *, prefix: str
    ) -> None:
        self._manifests = manifests
        self._rules = rules
        self._clock = clock
        self._telemetry = telemetry
        self._prefix = prefix

    def arrived(self, source: Source, *, afresh: bool = False) -> Manifest | None:
        """Its manifest; None: a newer version was here before. As often as it likes to be told.

        :param afresh: one that is over is begun again

        :raises StoreUnavailable: it has to be told again
        """
        rule = matching(self._rules, source.key.removeprefix(self._prefix))
        manifest_id = source.manifest_id(rule.hash if rule else "")
        for attempt in range(ATTEMPTS):
            head = self._manifests.head(source.place)
            if head is not None and head.newest == manifest_id:
                return self._again(manifest_id, source, rule, afresh=afresh)
            changed = machine.arrived(head, source, manifest_id)
            if changed is None:
                self._telemetry.count("SourcesOlder")
                return None
            manifest = self._announced(manifest_id, source, rule)
            if self._manifests.change_head(head, changed):
                self._telemetry.count("SourcesArrived")
                self._manifests.send_all(manifest)
                return manifest
            self._clock.sleep(CONTENTION_SECONDS * (1 + attempt % 4))
        raise StoreUnavailable("others change the head again and again")

    def seen(self, source: Source) -> Source | None:
        """The source as it has to be told, where it is found by looking and not by an event; None: it was
        told before. Under another rule than before it counts as newer.

        :raises StoreUnavailable:
        """
        rule = matching(self._rules, source.key.removeprefix(self._prefix))
        head = self._manifests.head(source.place)
        if head is None:
            return source
        if rule is None:  # a rule that was narrowed takes nothing away
            return None
        if head.newest == source.manifest_id(rule.hash):
            return source if self._was_away(head.newest) else None
        if newer(source.sequencer, head.sequencer):
            return source
        later = head.sequencer + "1"
        return Source(source.bucket, source.key, source.version, source.etag, source.size, later)

    def _was_away(self, manifest_id: str) -> bool:
        """The newest version was not there when it was to be cut; it is told of again, so it is back."""
        manifest = self._manifests.read(manifest_id)
        state = manifest.state if manifest is not None else None
        return isinstance(state, Ended) and state.outcome is Outcome.SUPERSEDED

    def _announced(self, manifest_id: str, source: Source, rule: Rule | None) -> Manifest:
        now = self._clock.now()
        terms = rule.terms if rule else NOBODY
        manifest = machine.announced(manifest_id, source, rule.hash if rule else "", terms, now=now)
        if rule is None:
            manifest = machine.failed(
                manifest, InvalidRequest("there is no rule for this prefix", param="key"), now=now
            )
        before = self._manifests.read(manifest_id)
        if before is not None and before.open:
            return before
        if not self._manifests.watched:
            manifest = machine.unwatched(manifest)
        return self._manifests.add(manifest, before)

    def _again(self, manifest_id: str, source: Source, rule: Rule | None, *, afresh: bool) -> Manifest | None:
        """Told before. If the one who told it died before it sent a message, that is made up for."""
        manifest = self._manifests.read(manifest_id)
        afresh = afresh or self._was_away(manifest_id)
        if afresh and (manifest is None or not manifest.open):
            manifest = self._announced(manifest_id, source, rule)
        if afresh and manifest is not None and _paused(manifest):  # whoever asks for it again, asks now
            resumed = machine.nudged(manifest, now=self._clock.now())
            manifest = resumed if self._manifests.change(manifest, resumed) else manifest
        if manifest is not None and manifest.open:
            self._telemetry.count("SourcesRepeated")
            self._manifests.send_all(manifest)
        return manifest


def _paused(manifest: Manifest) -> bool:
    return isinstance(manifest.state, Embedding) and manifest.state.paused is not None
