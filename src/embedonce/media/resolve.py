"""From drafts to contents: media are decoded or fetched, told apart by their bytes and measured.

Everything is bounded by request: number of URLs, bytes of one medium, bytes of all together, and time.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial

from embedonce.core.content import (
    Content,
    Draft,
    InlineMedia,
    MediaPart,
    RemoteMedia,
    TextPart,
    UploadedMedia,
)
from embedonce.core.deadline import Deadline
from embedonce.core.errors import DeadlineExceeded, InvalidRequest, LimitExceeded
from embedonce.core.fingerprint import Namespace
from embedonce.media.decode import inline_bytes
from embedonce.media.inspect import check_expected, inspected
from embedonce.media.remote import RemoteMediaSource
from embedonce.media.turns import Turns
from embedonce.media.uploads import UploadSource
from embedonce.ports import Clock

MAX_URLS = 16
MAX_REQUEST_BYTES = 64 << 20


class Resolver:
    """`ports.MediaResolver`. `max_bytes` bounds one medium that comes inside of the request."""

    def __init__(
        self, remote: RemoteMediaSource, uploads: UploadSource, clock: Clock, *, max_bytes: int
    ) -> None:
        self._remote = remote
        self._uploads = uploads
        self._clock = clock
        self._max_bytes = max_bytes
        self._max_request_bytes = max(max_bytes, MAX_REQUEST_BYTES)
        self._turns = Turns()

    def resolve(
        self,
        drafts: Sequence[Draft],
        *,
        namespace: Namespace,
        owner: str,
        deadline: Deadline,
        whole: bool = False,
        remember: bool = True,
    ) -> tuple[Content, ...]:
        budget = _Budget(self._max_request_bytes)
        futures: dict[str, Future[MediaPart]] = {}
        try:
            for source in _different_urls(drafts):
                fetch = partial(self._fetch, source, namespace, deadline, budget, whole, remember)
                futures[source.url] = self._turns.submit(
                    namespace.owner, self._remote.host(source.url), fetch
                )
            inline = self._decoded(drafts, deadline, budget)
            inline |= self._uploaded(drafts, owner, deadline, whole)
            fetched = {url: self._awaited(future, deadline) for url, future in futures.items()}
        except InvalidRequest:
            self._check(deadline)  # what was not there in time may be no fault of the caller's
            raise
        finally:
            budget.end()
            for future in futures.values():
                future.cancel()
        return tuple(_content(draft, inline, fetched) for draft in drafts)

    def close(self) -> None:
        self._turns.close()
        self._remote.close()

    def _fetch(
        self,
        source: RemoteMedia,
        namespace: Namespace,
        deadline: Deadline,
        budget: _Budget,
        whole: bool,
        remember: bool,
    ) -> MediaPart:
        self._check(deadline)
        return self._remote.part(
            source,
            namespace,
            whole=whole,
            remember=remember,
            left=lambda: deadline.remaining(self._clock.monotonic()),
            take=lambda size: budget.take(size, source.param),
        )

    def _decoded(self, drafts: Sequence[Draft], deadline: Deadline, budget: _Budget) -> dict[str, MediaPart]:
        """By text: what is sent several times is read once."""
        found: dict[str, MediaPart] = {}
        for draft in drafts:
            for part in draft.parts:
                if isinstance(part, InlineMedia) and part.text not in found:
                    self._check(deadline)
                    found[part.text] = self._read(part, deadline, budget)
        return found

    def _uploaded(
        self, drafts: Sequence[Draft], owner: str, deadline: Deadline, whole: bool
    ) -> dict[str, MediaPart]:
        """By handle. They are not part of the request, so its budget of bytes is not theirs: all of them
        together may have what one may have, so that a worker's memory is bounded."""
        found: dict[str, MediaPart] = {}
        budget = _Budget(self._uploads.max_bytes)
        for draft in drafts:
            for part in draft.parts:
                if isinstance(part, UploadedMedia) and part.handle not in found:
                    self._check(deadline)
                    found[part.handle] = self._uploads.part(
                        part,
                        owner,
                        whole=whole,
                        left=lambda: deadline.remaining(self._clock.monotonic()),
                        take=partial(budget.take, param=part.param),
                    )
        return found

    def _read(self, part: InlineMedia, deadline: Deadline, budget: _Budget) -> MediaPart:
        # A quarter more than base64 needs, for line breaks; the exact check follows.
        if len(part.text) > self._max_bytes * 5 // 3 + 1024:
            self._too_large(part.param, f"about {len(part.text) * 3 // 4}")
        data = inline_bytes(part.text, part.param)
        if len(data) > self._max_bytes:
            self._too_large(part.param, str(len(data)))
        budget.take(len(data), part.param)
        left = deadline.remaining(self._clock.monotonic())
        return inspected(data, part.expected, part.param, seconds=left)

    def _too_large(self, param: str, value: str) -> None:
        raise LimitExceeded(param, limit=f"{self._max_bytes} bytes", value=value)

    def _awaited(self, future: Future[MediaPart], deadline: Deadline) -> MediaPart:
        try:
            return future.result(deadline.remaining(self._clock.monotonic()))
        except FutureTimeout:
            raise _too_late() from None

    def _check(self, deadline: Deadline) -> None:
        if deadline.remaining(self._clock.monotonic()) <= 0:
            raise _too_late()


class _Budget:
    """The bytes that all media of one request may have together. Thread-safe."""

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self._size = size
        self._left = size
        self._ended = False

    def take(self, size: int, param: str) -> None:
        """:raises LimitExceeded: they have more
        :raises DeadlineExceeded: nobody waits for them any more
        """
        with self._lock:
            if self._ended:
                raise _too_late()
            self._left -= size
            if self._left < 0:
                limit = f"{self._size} bytes of media in one request"
                raise LimitExceeded(param, limit=limit, value=f"at least {self._size - self._left}")

    def end(self) -> None:
        with self._lock:
            self._ended = True


def _different_urls(drafts: Sequence[Draft]) -> list[RemoteMedia]:
    """:raises LimitExceeded: more than may be fetched for one request"""
    found: dict[str, RemoteMedia] = {}
    for draft in drafts:
        for part in draft.parts:
            if isinstance(part, RemoteMedia):
                found.setdefault(part.url, part)
                if len(found) > MAX_URLS:
                    limit = f"{MAX_URLS} different URLs in one request"
                    raise LimitExceeded(part.param, limit=limit, value=f"at least {len(found)}")
    return list(found.values())


def _content(draft: Draft, inline: Mapping[str, MediaPart], fetched: Mapping[str, MediaPart]) -> Content:
    parts: list[TextPart | MediaPart] = []
    for part in draft.parts:
        if isinstance(part, TextPart):
            parts.append(part)
            continue
        match part:
            case InlineMedia():
                media = inline[part.text]
            case UploadedMedia():
                media = inline[part.handle]
            case RemoteMedia():
                media = fetched[part.url]
        check_expected(media.modality, media.media_type, part.expected, part.param)
        parts.append(media)
    return Content(tuple(parts))


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("the media were not there in time; try again", retry_after=1.0)
