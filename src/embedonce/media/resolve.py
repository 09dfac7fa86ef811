"""From drafts to contents: media are decoded, told apart by their bytes and checked."""

from __future__ import annotations

from collections.abc import Sequence

from embedonce.core.content import Content, Draft, InlineMedia, Part, Source, TextPart
from embedonce.core.deadline import Deadline
from embedonce.core.errors import InvalidRequest
from embedonce.core.fingerprint import Namespace
from embedonce.media.decode import inline_bytes
from embedonce.media.inspect import inspected


class Resolver:
    """`ports.MediaResolver`."""

    def resolve(
        self, drafts: Sequence[Draft], *, namespace: Namespace, deadline: Deadline, whole: bool = False
    ) -> tuple[Content, ...]:
        return tuple(Content(tuple(self._part(part) for part in draft.parts)) for draft in drafts)

    def _part(self, part: TextPart | Source) -> Part:
        if isinstance(part, TextPart):
            return part
        if isinstance(part, InlineMedia):
            return inspected(inline_bytes(part.text, part.param), part.expected, part.param)
        raise InvalidRequest(f"{part.param}: URLs are not fetched", param=part.param)
