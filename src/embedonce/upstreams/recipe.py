"""What is sent: how a task travels (upstreams that ignore it as a parameter get the documented text prefix),
which parameters go along, and media as base64 of exactly the bytes that were hashed.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from embedonce.core.content import Content, MediaPart
from embedonce.core.options import EmbedOptions
from embedonce.core.tasks import with_prefix


def prefixed(content: Content, options: EmbedOptions) -> Content:
    """`Offer.recipe` of lineages that name `tasks.PREFIX_RECIPE`."""
    return with_prefix(content, options.task_type, options.title)


def sends(names: frozenset[str]) -> Callable[[EmbedOptions], Mapping[str, Any]]:
    """`Offer.sends` of upstreams that pass the client's own parameters of these names on as they are."""

    def sent(options: EmbedOptions) -> Mapping[str, Any]:
        return {name: value for name, value in options.parameters.items() if name in names}

    return sent


def media_base64(part: MediaPart) -> str:
    """In the standard alphabet."""
    return base64.b64encode(part.sent_bytes).decode("ascii")


def data_url(part: MediaPart) -> str:
    return f"data:{part.media_type};base64,{media_base64(part)}"
