"""Media behind URLs: fetched under guard, and asked for again by what their origin said of them.

Bytes are hashed whenever they are sent. A validator only ever stands for "the origin says that these are the
bytes we hashed then", which is good enough to look something up and never to store it: what must be bought is
downloaded again (`whole`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime

from embedonce.core.content import MediaPart, RemoteMedia
from embedonce.core.errors import InvalidRequest, ServiceUnavailable, StoreUnavailable
from embedonce.core.fingerprint import Namespace
from embedonce.media.fetch import Busy, Fetched, Fetcher, Known
from embedonce.media.guard import Refused
from embedonce.media.inspect import check_expected, inspected
from embedonce.ports import Clock, Telemetry, Validator, ValidatorStore

VALIDATOR_SECONDS = 86_400
"""Not renewed by a 304: whatever an origin says, its bytes are seen once a day."""
STRONG_AFTER_SECONDS = 60.0
"""A Last-Modified this much older than the Date beside it is a strong validator (RFC 9110, 8.8.2.2)."""

_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{1,256}"')


class RemoteMediaSource:
    """Thread-safe. `seconds` and `max_bytes` bound one URL with all its redirects."""

    def __init__(
        self,
        fetcher: Fetcher,
        validators: ValidatorStore | None,
        clock: Clock,
        telemetry: Telemetry,
        *,
        seconds: float,
        max_bytes: int,
    ) -> None:
        self._fetcher = fetcher
        self._validators = validators
        self._clock = clock
        self._telemetry = telemetry
        self._seconds = seconds
        self._max_bytes = max_bytes

    def part(
        self,
        source: RemoteMedia,
        namespace: Namespace,
        *,
        whole: bool,
        remember: bool,
        left: Callable[[], float],
        take: Callable[[int], None],
    ) -> MediaPart:
        """Without its bytes where the origin says that they are those of last time, unless `whole`.

        :param remember: whether what its origin says of it may be used and kept
        :param left: seconds until the request's deadline
        :raises InvalidRequest: it cannot be fetched, for whatever reason, or is not what its field is for
        :raises ServiceUnavailable: too much is being fetched from its host
        """
        url = hashlib.sha256(source.url.encode("utf-8", "surrogatepass")).digest()
        validator = None if whole or not remember else self._known(namespace, url)
        try:
            fetched = self._fetcher.get(
                source.url,
                seconds=min(self._seconds, left()),
                max_bytes=self._max_bytes,
                known=Known(validator.source, _conditions(validator)) if validator is not None else None,
                take=take,
            )
        except Refused:
            self._telemetry.count("MediaRefused")
            raise InvalidRequest(f"{source.param}: {self.refusal}", param=source.param) from None
        except Busy:
            self._telemetry.count("MediaHostBusy")
            raise ServiceUnavailable(
                "too many media are being fetched from one host; try again", retry_after=1.0
            ) from None
        if fetched.body is None:
            assert validator is not None
            self._telemetry.count("MediaUnchanged")
            return _unchanged(validator, source)
        self._telemetry.count("MediaFetched")
        part = inspected(fetched.body, source.expected, source.param, seconds=left())
        if remember:
            self._remember(namespace, url, fetched, part, validator)
        return part

    @property
    def refusal(self) -> str:
        """The same for every reason: a caller learns nothing about what is behind a URL."""
        return (
            "the URL cannot be fetched: it must be a public https URL that answers within "
            f"{self._seconds:g} s with at most {self._max_bytes} bytes"
        )

    def host(self, url: str) -> str:
        return self._fetcher.host(url)

    def close(self) -> None:
        self._fetcher.close()

    def _known(self, namespace: Namespace, url: bytes) -> Validator | None:
        if self._validators is None:
            return None
        try:
            return self._validators.get(namespace, url)
        except StoreUnavailable:
            self._failed("get")
            return None

    def _remember(
        self, namespace: Namespace, url: bytes, fetched: Fetched, part: MediaPart, before: Validator | None
    ) -> None:
        etag, modified = strong_validators(fetched.headers)
        if self._validators is None or (etag is None and modified is None):
            return
        if "no-store" in fetched.headers.get("cache-control", "").lower():
            return
        now = self._clock.now()
        validator = Validator(
            source=fetched.source,
            etag=etag,
            modified=modified,
            sha256=part.sha256,
            size=part.size,
            modality=part.modality,
            media_type=part.media_type,
            seconds=part.seconds,
            pages=part.pages,
            expires=int(now) + VALIDATOR_SECONDS,
        )
        if before is not None and replace(validator, expires=before.expires) == before:
            return
        try:
            self._validators.put(namespace, url, validator)
        except StoreUnavailable:
            self._failed("put")

    def _failed(self, during: str) -> None:
        self._telemetry.count("ValidatorStoreErrors")
        self._telemetry.event("validator_store_unavailable", during=during)


def _conditions(validator: Validator) -> Mapping[str, str]:
    if validator.etag is not None:
        return {"if-none-match": validator.etag}
    return {"if-modified-since": validator.modified or ""}


def _unchanged(validator: Validator, source: RemoteMedia) -> MediaPart:
    check_expected(validator.modality, validator.media_type, source.expected, source.param)
    return MediaPart(
        validator.modality,
        validator.media_type,
        validator.sha256,
        validator.size,
        seconds=validator.seconds,
        pages=validator.pages,
    )


def strong_validators(headers: Mapping[str, str]) -> tuple[str | None, str | None]:
    """A strong ETag, and a Last-Modified that is as good as one; a weak ETag says nothing about bytes."""
    etag = headers.get("etag", "").strip()
    modified = headers.get("last-modified", "").strip()
    try:
        age = parsedate_to_datetime(headers.get("date", "")) - parsedate_to_datetime(modified)
        steady = age.total_seconds() >= STRONG_AFTER_SECONDS and len(modified) <= 40 and modified.isascii()
    except (ValueError, TypeError, OverflowError):
        steady = False
    return (etag if _STRONG_ETAG.fullmatch(etag) else None), (modified if steady else None)
