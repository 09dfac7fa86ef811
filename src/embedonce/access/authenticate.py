"""Who is calling: from a presented key to a `Caller`, with a cache that outlives a failing store."""

from __future__ import annotations

import hmac
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

from embedonce.access.keys import SHARED, Scope, hash_of, well_formed
from embedonce.core.errors import (
    PermissionDenied,
    ServiceUnavailable,
    StoreUnavailable,
    Unauthenticated,
    WouldBlock,
)
from embedonce.core.patience import Patience
from embedonce.ports import AccessKey, AccessStore, Clock, KeyLimits, Telemetry

FRESH_SECONDS = 60.0
"""How long a key's record is believed: a revocation takes effect everywhere within this."""
GRACE_SECONDS = 600.0
"""How long a verified key without a budget goes on while the access store cannot be read."""
UNKNOWN_SECONDS = 5.0
"""How long a well-formed but unknown key is remembered as such: a new key works within this."""
MAX_CACHED = 10_000


UNLIMITED = KeyLimits()


@dataclass(frozen=True, slots=True)
class Caller:
    key_id: str
    namespace: str
    scopes: frozenset[str]
    isolated: bool
    limits: KeyLimits = UNLIMITED

    def require(self, scope: Scope) -> None:
        """:raises PermissionDenied: the key has not that scope"""
        if scope.value not in self.scopes:
            raise PermissionDenied(f"this API key lacks the scope {scope.value}")

    @property
    def unhurried(self) -> Caller:
        """The same for bulk work, which is not limited by the minute."""
        return replace(self, limits=KeyLimits(self.limits.budget))

    def may(self, scope: Scope) -> bool:
        return scope.value in self.scopes


DEVELOPMENT = Caller("development", SHARED, frozenset(scope.value for scope in Scope), isolated=False)


@dataclass(frozen=True, slots=True)
class _Seen:
    key: AccessKey | None
    at: float


class Authenticator:
    """Looks keys up by hash. `development_key` (local mode only) has every scope and needs no store."""

    def __init__(
        self, store: AccessStore, clock: Clock, telemetry: Telemetry, *, development_key: str | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._development_hash = hash_of(development_key) if development_key else None
        self._known: OrderedDict[str, _Seen] = OrderedDict()
        self._unknown: OrderedDict[str, _Seen] = OrderedDict()
        self._lock = threading.Lock()

    def identify(self, presented: str | None, *, patience: Patience = Patience.PROVIDERS) -> Caller:
        """:raises Unauthenticated: no key, or one that is malformed, unknown or revoked (one text for all)
        :raises ServiceUnavailable: the access store cannot be read and the key was not verified lately
        :raises WouldBlock: the store has to be read, and there is no patience for it
        """
        if not presented:
            raise Unauthenticated("no API key: send 'Authorization: Bearer <key>' or 'x-api-key: <key>'")
        secret_hash = hash_of(presented)
        if self._development_hash and hmac.compare_digest(secret_hash, self._development_hash):
            return DEVELOPMENT
        key = self._find(secret_hash, patience) if well_formed(presented) else None
        if key is None or not key.live or not hmac.compare_digest(key.secret_hash, secret_hash):
            raise Unauthenticated("the API key is not valid")
        return Caller(key.id, key.namespace, key.scopes, key.isolated, key.limits)

    def recall(self, key_id: str) -> Caller:
        """Who asked for work that is done later, as the key is now.

        :raises Unauthenticated: it is unknown or revoked
        :raises ServiceUnavailable: the access store cannot be read
        """
        if key_id == DEVELOPMENT.key_id:
            if self._development_hash is None:
                raise Unauthenticated("the API key is not valid any more")
            return DEVELOPMENT
        try:
            key = self._store.find_by_id(key_id)
        except StoreUnavailable:
            self._telemetry.count("AccessStoreErrors")
            raise ServiceUnavailable("API keys cannot be verified right now", retry_after=2) from None
        if key is None or not key.live:
            raise Unauthenticated("the API key is not valid any more")
        return Caller(key.id, key.namespace, key.scopes, key.isolated, key.limits)

    def _find(self, secret_hash: str, patience: Patience) -> AccessKey | None:
        now = self._clock.monotonic()
        seen = self._known.get(secret_hash) or self._unknown.get(secret_hash)
        if seen is not None and now - seen.at < (FRESH_SECONDS if seen.key else UNKNOWN_SECONDS):
            return seen.key
        if patience < Patience.STORES:
            raise WouldBlock
        try:
            key = self._store.find(secret_hash)
        except StoreUnavailable:
            self._telemetry.count("AccessStoreErrors")
            # What a budget says now is not known: a key with one does not go on.
            verified = seen is not None and seen.key is not None and seen.key.limits.budget is None
            if seen is not None and verified and now - seen.at < GRACE_SECONDS:
                return seen.key
            raise ServiceUnavailable("API keys cannot be verified right now", retry_after=2) from None
        # Made-up keys must not push verified ones out: those outlive a failing store.
        cache, other = (self._known, self._unknown) if key else (self._unknown, self._known)
        with self._lock:
            other.pop(secret_hash, None)
            cache[secret_hash] = _Seen(key, now)
            cache.move_to_end(secret_hash)
            while len(cache) > MAX_CACHED:
                cache.popitem(last=False)
        return key
