"""How a task travels to upstreams that ignore it as a parameter: as the text prefix that is documented."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from embedonce.core.content import Content
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
