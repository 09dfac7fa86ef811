"""From a request to a ticket: what is in the cache is there at the first poll, the rest is work for later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from embedonce.access.authenticate import Caller
from embedonce.accounting.accounts import Accounts
from embedonce.core import job as jobs
from embedonce.core import ticket as machine
from embedonce.core.answer import Origin
from embedonce.core.catalog import check_content, estimated_tokens
from embedonce.core.content import Content, Draft, InlineMedia, MediaPart, RemoteMedia, TextPart
from embedonce.core.errors import NotCached, ServiceUnavailable, StoreUnavailable, WouldBlock
from embedonce.core.fingerprint import Namespace
from embedonce.core.job import BlobMedia, Job, JobPart
from embedonce.core.patience import Patience
from embedonce.core.plan import Item
from embedonce.core.record import StoredVector
from embedonce.core.ticket import Passage, Ticket, Webhook
from embedonce.ports import Clock, MediaResolver, Telemetry, VectorStore
from embedonce.usecases.jobs.tickets import Tickets, new_ref
from embedonce.usecases.jobs.work import passage_to
from embedonce.usecases.lookup import Found, look_up
from embedonce.usecases.planning import Planner
from embedonce.usecases.request import EmbedRequest


@dataclass(frozen=True, slots=True)
class Parcel:
    """A job and the bytes that go with it, by name."""

    job: Job
    media: dict[str, bytes]


def parcel(draft: Draft, content: Content | None, request: EmbedRequest) -> Parcel:
    """`content`: the draft as resolved, if it is; what has its bytes there travels as a blob."""
    resolved: Sequence[object] = content.parts if content is not None else [None] * len(draft.parts)
    parts: list[JobPart] = []
    media: dict[str, bytes] = {}
    for part, found in zip(draft.parts, resolved, strict=True):
        if isinstance(part, TextPart):
            parts.append(part)
        elif isinstance(found, MediaPart) and found.data is not None:
            name = f"{len(media)}"
            media[name] = found.sent_bytes
            parts.append(BlobMedia(found.without_data(), name, part.param))
        else:
            assert not isinstance(part, InlineMedia)
            parts.append(part)
    job = Job(tuple(parts), draft.param, request.options, request.controls, request.namespace)
    return Parcel(job, media)


class Submit:
    """`patience`: seconds within which a ticket is completed or failed."""

    def __init__(
        self,
        tickets: Tickets,
        planner: Planner,
        vectors: VectorStore,
        media: MediaResolver,
        clock: Clock,
        telemetry: Telemetry,
        accounts: Accounts,
        *,
        patience: float,
    ) -> None:
        self._tickets = tickets
        self._planner = planner
        self._rates = accounts.rates
        self._meter = accounts.meter
        self._vectors = vectors
        self._media = media
        self._clock = clock
        self._telemetry = telemetry
        self._patience = patience

    def __call__(self, request: EmbedRequest, webhook: str | None = None) -> Ticket:
        """A ticket for the one content of the request, accepted for good.

        :raises EmbedonceError: it is not accepted, and nothing was paid
        :raises WouldBlock: the request has not the patience
        """
        if request.patience < Patience.PROVIDERS:
            raise WouldBlock
        self._rates.admit(request.caller, 0)
        (draft,) = request.drafts
        hook = Webhook(webhook) if webhook else None
        content: Content | None = None
        if not any(isinstance(part, RemoteMedia) for part in draft.parts):
            content = self._resolved(draft, request)
            self._rates.admit(request.caller, estimated_tokens(content), requests=0)
            item = self._item(content, draft, request)
            found = self._look_up(item, request)
            if found is not None:
                return self._completed(request, passage_to(found, item), found.record, hook)
        if request.controls.only_if_cached:
            raise NotCached("the input is not known to be in the cache")
        ticket = self.open(parcel(draft, content, request), request.caller, hook)
        self._meter.requested(request.caller.key_id)
        return ticket

    def open(self, parcel: Parcel, caller: Caller, hook: Webhook | None = None) -> Ticket:
        """:raises ServiceUnavailable: it was not accepted"""
        ticket = machine.issue(
            new_ref(caller.key_id),
            model=parcel.job.options.model.id,
            job=None,
            now=self._clock.now(),
            patience=self._patience,
            webhook=hook,
        )
        try:
            self._tickets.open(ticket, jobs.encode(parcel.job), parcel.media)
        except StoreUnavailable:
            self._telemetry.event("job_not_accepted")
            raise ServiceUnavailable(
                "the request cannot be queued right now; try again", retry_after=2
            ) from None
        self._telemetry.count("JobsAccepted")
        self._meter.submitted(caller.key_id)
        return ticket

    def _completed(
        self, request: EmbedRequest, passage: Passage, record: StoredVector, hook: Webhook | None
    ) -> Ticket:
        now = self._clock.now()
        ticket = machine.issue(
            new_ref(request.caller.key_id),
            model=request.options.model.id,
            job=None,
            now=now,
            patience=self._patience,
            webhook=hook,
        )
        settled = machine.complete(ticket, passage, cost=record.cost, now=now)
        try:
            self._tickets.add_settled(settled)
        except StoreUnavailable:
            raise ServiceUnavailable("requests cannot be kept right now; try again", retry_after=2) from None
        self._telemetry.count("Hits")
        owner = request.caller.key_id
        self._meter.requested(owner)
        self._meter.submitted(owner)
        self._meter.ticket(owner, record, Origin.HIT)
        return settled

    def _resolved(self, draft: Draft, request: EmbedRequest) -> Content:
        if draft.is_text:
            content = Content(tuple(part for part in draft.parts if isinstance(part, TextPart)))
        else:
            (content,) = self._media.resolve(
                (draft,),
                namespace=self._namespace(request),
                owner=request.caller.key_id,
                deadline=request.deadline,
            )
        check_content(request.options.model, content, draft.param)
        return content

    @staticmethod
    def _namespace(request: EmbedRequest) -> Namespace:
        return Namespace(request.caller.namespace, request.namespace)

    def _item(self, content: Content, draft: Draft, request: EmbedRequest) -> Item:
        namespace = self._namespace(request)
        (item,) = self._planner((content,), (draft.param,), request.options, namespace).items
        return item

    def _look_up(self, item: Item, request: EmbedRequest) -> Found | None:
        if not request.controls.reads:
            return None
        found = look_up(self._vectors, item, self._telemetry)
        young = found is not None and request.controls.accepts(found.record.created, self._clock.now())
        return found if young else None
