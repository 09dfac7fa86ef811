"""What a dialect asks for, whoever answers it."""

from __future__ import annotations

from dataclasses import dataclass

from embedonce.access.authenticate import Caller
from embedonce.core.cachecontrol import CacheControls
from embedonce.core.content import Content, Draft
from embedonce.core.deadline import Deadline
from embedonce.core.options import EmbedOptions
from embedonce.core.patience import Patience


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """`contents`: what the drafts stand for, where that is at hand already, loaded and inspected. `bought` is
    told what is paid for (pico-dollars by fingerprint), also where the request as a whole fails."""

    drafts: tuple[Draft, ...]
    options: EmbedOptions
    controls: CacheControls
    caller: Caller
    namespace: str
    deadline: Deadline
    patience: Patience = Patience.PROVIDERS
    contents: tuple[Content, ...] | None = None
    bought: dict[bytes, int] | None = None
