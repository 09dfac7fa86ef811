"""The embeddings request and answer of OpenAI, as OpenRouter and OpenAI-compatible servers speak it.

Reading is tolerant in what does not matter (extra fields, absent usage, base64 or numbers) and strict in what
would be stored under a key. Dimension, finiteness, length and distinctness of the vectors are not checked
here but by `core.validation`, in the router.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import orjson

from embedonce.core import vector
from embedonce.core.catalog import Model
from embedonce.core.content import Content, TextPart
from embedonce.core.pricing import from_usd
from embedonce.ports import UpstreamAnswer
from embedonce.upstreams.failure import Kind, UpstreamFailure, of_status
from embedonce.upstreams.modelnames import ModelNames
from embedonce.upstreams.transport import Reply

MOST_TOKENS = 10**9
MOST_USD = 10_000.0
_NUMBERS = frozenset({int, float})


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


def part_inputs(contents: Sequence[Content], upstream: str) -> list[Any]:
    """A list of strings or, if any content has several parts, OpenRouter's list of `{content: [part, …]}`.

    One vector each. The two forms are not documented to mix in one list.
    """
    texts = [texts_of(content, upstream) for content in contents]
    if all(len(parts) == 1 for parts in texts):
        return [parts[0] for parts in texts]
    return [{"content": [{"type": "text", "text": text} for text in parts]} for parts in texts]


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


def answer_limit(count: int, dimensions: int) -> int:
    """Bytes that no honest answer exceeds: 64 to a number leave room for indented float64."""
    return 65_536 + count * (1024 + dimensions * 64)


def read_answer(reply: Reply, *, count: int, asked: str, names: ModelNames, upstream: str) -> UpstreamAnswer:
    """The vectors in the order of the inputs.

    :raises UpstreamFailure: an HTTP status or an `error` body (by its code), or INVALID
    """
    if reply.status != 200:
        raise of_status(upstream, reply.status, reply.retry_after)
    try:
        body = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        _invalid(upstream, "its body is not JSON (NaN and Infinity are not JSON either)")
    if not isinstance(body, dict):
        _invalid(upstream, "its body is not a JSON object")
    if body.get("error"):
        raise _of_error(body["error"], reply, upstream)
    if names.differ(asked, body.get("model")):
        _invalid(upstream, f"it is from another model than {asked}, whose vectors must not be mixed with it")
    items = _in_order(body.get("data"), count, upstream)
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    counts = [_whole(usage.get(name), MOST_TOKENS) for name in ("prompt_tokens", "total_tokens")]
    return UpstreamAnswer(
        vectors=tuple(_vector(item.get("embedding"), i, upstream) for i, item in enumerate(items)),
        tokens=max((tokens for tokens in counts if tokens is not None), default=None),
        cost=_cost(usage.get("cost")),
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
        _invalid(upstream, "it has no list of embeddings")
    if len(data) != count:
        _invalid(upstream, f"it has {len(data)} vectors for {count} inputs")
    if count == 1 and "index" not in data[0]:
        return data
    placed: dict[int, dict[str, Any]] = {}
    for item in data:
        index = _whole(item.get("index"), count - 1)
        if index is not None:
            placed[index] = item
    if len(placed) != count:
        _invalid(upstream, "its indexes are not 0 to n-1, each once")
    return [placed[i] for i in range(count)]


def _vector(value: Any, i: int, upstream: str) -> bytes:
    """A list of numbers, or base64 of little-endian float32, as float32 bytes."""
    if isinstance(value, str):
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            _invalid(upstream, f"vector {i} is not base64")
        if len(data) % vector.BYTES_PER_DIMENSION:
            _invalid(upstream, f"vector {i} is not base64 of float32")
        return data
    # numpy would take null for NaN, true for 1.0 and "1" for 1.0.
    if not isinstance(value, list) or not _NUMBERS.issuperset(map(type, value)):
        _invalid(upstream, f"vector {i} is not a list of numbers")
    return vector.pack(value)


def _whole(value: Any, most: int) -> int | None:
    """0 to `most`; a float that is whole (4.0) counts, true does not."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= most else None


def _cost(value: Any) -> int | None:
    """Pico-dollars; None for what is no amount that a batch can cost."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if type(value) not in _NUMBERS or not 0 <= value <= MOST_USD:
        return None
    return from_usd(value)


def _invalid(upstream: str, what: str) -> NoReturn:
    raise UpstreamFailure(Kind.INVALID, f"{upstream} gave an answer that cannot be used: {what}")
