"""The embeddings request and answer of OpenAI, as OpenRouter and OpenAI-compatible servers speak it.

Reading is tolerant in what does not matter (extra fields, absent usage, base64 or numbers) and strict in what
would be stored under a key. Dimension, finiteness, length and distinctness of the vectors are not checked
here but by `core.validation`, in the router.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from embedonce.core import vector
from embedonce.core.catalog import Model
from embedonce.core.content import Content, Modality, Part, TextPart
from embedonce.ports import UpstreamAnswer
from embedonce.upstreams.failure import Kind, UpstreamFailure, of_status
from embedonce.upstreams.modelnames import ModelNames
from embedonce.upstreams.reading import amount, invalid, packed, parsed_object, whole
from embedonce.upstreams.recipe import data_url
from embedonce.upstreams.transport import Reply

_MEDIA_FIELDS = {
    Modality.IMAGE: ("image_url", "url"),
    Modality.AUDIO: ("input_audio", "data"),
    Modality.VIDEO: ("input_video", "data"),
    Modality.PDF: ("input_file", "data"),
}
"""By modality: the part's type, which is also its field, and where in that the medium stands."""


def texts_of(content: Content, upstream: str) -> list[str]:
    """:raises UpstreamFailure: REJECTED, a part that is not text"""
    texts = [part.text for part in content.parts if isinstance(part, TextPart)]
    if len(texts) != len(content.parts):
        raise UpstreamFailure(Kind.REJECTED, f"{upstream} takes text only")
    return texts


def plain_inputs(contents: Sequence[Content], upstream: str) -> list[str]:
    """A list of strings.

    :raises UpstreamFailure: REJECTED, a content of several parts, which this form cannot say
    """
    inputs = []
    for content in contents:
        texts = texts_of(content, upstream)
        if len(texts) != 1:
            message = f"{upstream} takes one text per input: several parts in one input cannot be expressed"
            raise UpstreamFailure(Kind.REJECTED, message)
        inputs += texts
    return inputs


def part_inputs(contents: Sequence[Content]) -> list[Any]:
    """A list of strings or, if any content is more than one text, OpenRouter's list of `{content: [part]}`.

    One vector each. The two forms are not documented to mix in one list.
    """
    alone = [_only_text(content) for content in contents]
    if None not in alone:
        return alone
    return [{"content": [_part(part) for part in content.parts]} for content in contents]


def _only_text(content: Content) -> str | None:
    first, *rest = content.parts
    return first.text if isinstance(first, TextPart) and not rest else None


def _part(part: Part) -> dict[str, Any]:
    """Media as data URLs of the very bytes that were hashed."""
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    kind, name = _MEDIA_FIELDS[part.modality]
    return {"type": kind, kind: {name: data_url(part)}}


def request_body(
    model: str, inputs: Sequence[Any], dimensions: int | None, extras: Mapping[str, Any], upstream: str
) -> bytes:
    """`extras` never override what is asked for.

    :raises UpstreamFailure: REJECTED, extras that JSON cannot say
    """
    asked: dict[str, Any] = {"model": model, "input": inputs, "encoding_format": "float"}
    rest = {name: value for name, value in extras.items() if name not in asked and name != "dimensions"}
    if dimensions is not None:
        asked["dimensions"] = dimensions
    try:
        return orjson.dumps({**rest, **asked})
    except TypeError:
        raise UpstreamFailure(Kind.REJECTED, f"the parameters for {upstream} are not plain JSON") from None


def read_answer(reply: Reply, *, count: int, asked: str, names: ModelNames, upstream: str) -> UpstreamAnswer:
    """The vectors in the order of the inputs.

    :raises UpstreamFailure: an HTTP status or an `error` body (by its code), or INVALID
    """
    if reply.status != 200:
        raise of_status(upstream, reply.status, reply.retry_after)
    body = parsed_object(reply.body, upstream)
    if body.get("error"):
        raise _of_error(body["error"], reply, upstream)
    if names.differ(asked, body.get("model")):
        invalid(upstream, f"it is from another model than {asked}, whose vectors must not be mixed with it")
    items = _in_order(body.get("data"), count, upstream)
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    counts = [whole(usage.get(name)) for name in ("prompt_tokens", "total_tokens")]
    return UpstreamAnswer(
        vectors=tuple(_vector(item.get("embedding"), i, upstream) for i, item in enumerate(items)),
        tokens=max((tokens for tokens in counts if tokens is not None), default=None),
        cost=amount(usage.get("cost")),
    )


def model_names(catalog: Iterable[Model]) -> ModelNames:
    return ModelNames(frozenset((model.id, *model.aliases)) for model in catalog)


def _of_error(error: Any, reply: Reply, upstream: str) -> UpstreamFailure:
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) == 3:
        code = int(code)
    if type(code) is int and 400 <= code < 600:
        return of_status(upstream, code, reply.retry_after)
    return UpstreamFailure(Kind.BROKEN, f"{upstream} answered with an error under HTTP 200")


def _in_order(data: Any, count: int, upstream: str) -> list[dict[str, Any]]:
    """By `index`. Without indexes several vectors cannot be told apart from a shuffled answer: refused."""
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        invalid(upstream, "it has no list of embeddings")
    if len(data) != count:
        invalid(upstream, f"it has {len(data)} vectors for {count} inputs")
    if count == 1 and "index" not in data[0]:
        return data
    placed: dict[int, dict[str, Any]] = {}
    for item in data:
        index = whole(item.get("index"), count - 1)
        if index is not None:
            placed[index] = item
    if len(placed) != count:
        invalid(upstream, "its indexes are not 0 to n-1, each once")
    return [placed[i] for i in range(count)]


def _vector(value: Any, i: int, upstream: str) -> bytes:
    """A list of numbers, or base64 of little-endian float32, as float32 bytes."""
    if isinstance(value, str):
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            invalid(upstream, f"vector {i} is not base64")
        if len(data) % vector.BYTES_PER_DIMENSION:
            invalid(upstream, f"vector {i} is not base64 of float32")
        return data
    return packed(value, i, upstream)
