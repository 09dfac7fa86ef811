"""How a content is written in Segmind's fields, the same ones in v1 and v2.

Two things are not settled by its documentation, so they are chosen here and named in docs/configuration.md:
how media are written (`MEDIA_FORM`), and what stands in the required `input` where there is no text
(`MediaInput`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from embedonce.core.content import Content, MediaPart, Modality, TextPart
from embedonce.upstreams.body import Base64Text
from embedonce.upstreams.failure import Kind, UpstreamFailure

MAX_BYTES = 15_000_000
LINK_FROM_BYTES = MAX_BYTES
"""A larger medium is sent as the link to our own copy of it, if there is one."""
MEDIA_FORM: Literal["base64", "data_url"] = "base64"
"""The documentation says "URL or base64" of a field of type "string (uri)"; bare base64 is what it names."""

MediaInput = Literal["omit", "empty", "space"]
"""What is sent as `input` with media and no text."""

INPUTS: Mapping[MediaInput, Mapping[str, str]] = {
    "omit": {},
    "empty": {"input": ""},
    "space": {"input": " "},
}
_FIELDS = {Modality.AUDIO: "audio", Modality.VIDEO: "video", Modality.PDF: "pdf"}
_ORDER = tuple(Modality)


def in_order(content: Content) -> bool:
    """Text, images, audio, video, PDF: as the fields are taken to be read."""
    ranks = [_ORDER.index(part.modality) for part in content.parts]
    return ranks == sorted(ranks)


def content_fields(content: Content, without_text: Mapping[str, str], upstream: str) -> dict[str, Any]:
    """One text at most, images, and at most one each of audio, video and PDF; their order cannot be said.

    A medium is a `Base64Text` or its link.

    :raises UpstreamFailure: REJECTED
    """
    counts = Counter(part.modality for part in content.parts)
    for modality, count in counts.items():
        if count > 1 and modality is not Modality.IMAGE:
            what = f"{count} parts of {modality} in one input cannot be expressed"
            raise UpstreamFailure(Kind.REJECTED, f"{upstream} takes one: {what}", unsaid=True)
    texts = [part.text for part in content.parts if isinstance(part, TextPart)]
    fields: dict[str, Any] = {"input": texts[0]} if texts else dict(without_text)
    images = []
    for part in content.parts:
        if not isinstance(part, MediaPart):
            continue
        if part.modality is Modality.IMAGE:
            images.append(_written(part))
        else:
            fields[_FIELDS[part.modality]] = _written(part)
    if images:
        fields |= {"image": images[0]} if len(images) == 1 else {"images": images}
    return fields


def _written(part: MediaPart) -> Base64Text | str:
    if part.link is not None and part.size > LINK_FROM_BYTES:
        return part.link
    head = "" if MEDIA_FORM == "base64" else f"data:{part.media_type};base64,"
    return Base64Text(part.sent_bytes, head)
