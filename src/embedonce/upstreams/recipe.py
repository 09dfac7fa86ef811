"""How a task travels to upstreams that ignore it as a parameter: as the text prefix that is documented."""

from __future__ import annotations

from embedonce.core.content import Content
from embedonce.core.options import EmbedOptions
from embedonce.core.tasks import with_prefix


def prefixed(content: Content, options: EmbedOptions) -> Content:
    """`Offer.recipe` of lineages that name `tasks.PREFIX_RECIPE`."""
    return with_prefix(content, options.task_type, options.title)
