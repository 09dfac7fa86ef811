"""From a job to the content that is sent: blobs read and hashed again, URLs fetched, uploads verified."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

from embedonce.access.authenticate import Caller
from embedonce.core.catalog import check_content
from embedonce.core.content import LINK_SECONDS, Content, Draft, MediaPart, Part, TextPart
from embedonce.core.deadline import Deadline
from embedonce.core.errors import InvalidRequest
from embedonce.core.fingerprint import Namespace
from embedonce.core.job import BlobMedia, Job
from embedonce.core.ticket import Ticket
from embedonce.ports import MediaResolver
from embedonce.usecases.jobs.tickets import Tickets


class Loader:
    def __init__(self, media: MediaResolver, tickets: Tickets) -> None:
        self._media = media
        self._tickets = tickets

    def load(self, job: Job, ticket: Ticket, caller: Caller, deadline: Deadline) -> Content:
        """With all its bytes, within the model's limits.

        :raises InvalidRequest: media that are not there any more, or cannot be embedded
        :raises EmbedonceError: it can be tried again
        :raises StoreUnavailable: as well
        """
        away = [part for part in job.parts if not isinstance(part, TextPart | BlobMedia)]
        fetched: Iterator[Content] = iter(
            self._media.resolve(
                [Draft((source,), source.param) for source in away],
                namespace=Namespace(caller.namespace, job.namespace),
                owner=caller.key_id,
                deadline=deadline,
                whole=True,
                remember=not job.controls.no_store,
            )
            if away
            else ()
        )
        parts: list[Part] = []
        for part in job.parts:
            match part:
                case TextPart():
                    parts.append(part)
                case BlobMedia():
                    parts.append(self._blob(part, ticket))
                case _:
                    parts += next(fetched).parts
        content = Content(tuple(parts))
        check_content(job.options.model, content, job.param)
        return content

    def _blob(self, blob: BlobMedia, ticket: Ticket) -> MediaPart:
        part = blob.part
        try:
            data = self._tickets.media_of(ticket, blob.name, most=part.size)
        except ValueError:
            data = None
        if data is None or hashlib.sha256(data).digest() != part.sha256:
            raise InvalidRequest(
                f"{blob.param}: what was sent is not there any more; send it again", param=blob.param
            )
        link = self._tickets.link_of(ticket, blob.name, seconds=LINK_SECONDS)
        return replace(part, data=data, link=link)
