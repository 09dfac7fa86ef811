"""Ways in which a provider answers wrongly, late or not at all; what a `FakeProvider` can be told to do."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Item = dict[str, Any]


@dataclass(frozen=True)
class Behaviour:
    """One answer's misbehaviour. Made by the functions below, or `parse`d from a command line.

    `kind` is a name in `EDITS`, `BODIES` or `WIRE`; "ok" is none of them.
    """

    kind: str = "ok"
    delay: float = 0.0
    code: int = 0
    retry_after: str | None = None
    text: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no such behaviour: {self.kind}. There are {', '.join(sorted(KINDS))}")

    @classmethod
    def parse(cls, spec: str) -> Behaviour:
        """`kind`, `status:503`, `error_under_200:429`, `delay:0.5`, `other_model:name`"""
        kind, _, value = spec.partition(":")
        if kind == "delay":
            return cls(delay=float(value))
        return cls(kind, code=int(value)) if value.isdigit() else cls(kind, text=value)


def _in_reverse(items: list[Item]) -> list[Item]:
    """A rotation for 3 and more, so that no index is where it belongs."""
    return items[1:] + items[:1]


def _each(change: Callable[[Item], Any]) -> Callable[[list[Item]], list[Item]]:
    def edit(items: list[Item]) -> list[Item]:
        for item in items:
            change(item)
        return items

    return edit


def _last(change: Callable[[Item], Any]) -> Callable[[list[Item]], list[Item]]:
    def edit(items: list[Item]) -> list[Item]:
        change(items[-1])
        return items

    return edit


def _repeat(items: list[Item]) -> list[Item]:
    return [{**item, "embedding": items[0]["embedding"]} for item in items]


def _constant(items: list[Item]) -> list[Item]:
    """The same vector for every input of every call."""
    numbers = random.Random(1)
    vector = [numbers.uniform(-1, 1) for _ in items[0]["embedding"]]
    return [{**item, "embedding": vector} for item in items]


def _rotated_space(items: list[Item]) -> list[Item]:
    """Plausible vectors of another space: every vector's numbers, moved by one place."""
    return [{**item, "embedding": item["embedding"][1:] + item["embedding"][:1]} for item in items]


EDITS: dict[str, Callable[[list[Item]], list[Item]]] = {
    "ok": lambda items: items,
    "shuffle": _in_reverse,
    "shuffle_without_index": lambda items: _each(lambda item: item.pop("index"))(_in_reverse(items)),
    "no_index": _each(lambda item: item.pop("index")),
    "float_index": _each(lambda item: item.update(index=float(item["index"]))),
    "fraction_index": _each(lambda item: item.update(index=item["index"] + 0.5)),
    "one_index_missing": _last(lambda item: item.pop("index")),
    "duplicate_index": _last(lambda item: item.update(index=0)),
    "null_index": _last(lambda item: item.update(index=None)),
    "bool_index": _each(lambda item: item.update(index=bool(item["index"]))),
    "text_index": _each(lambda item: item.update(index=str(item["index"]))),
    "index_out_of_range": _each(lambda item: item.update(index=item["index"] + 1)),
    "shorten": lambda items: items[:-1],
    "lengthen": lambda items: [*items, {**items[-1], "index": len(items)}],
    "no_vectors": lambda items: [],
    "zero": _last(lambda item: item.update(embedding=[0.0] * len(item["embedding"]))),
    "nan_null": _last(lambda item: item["embedding"].__setitem__(1, None)),
    "nan_literal": _last(lambda item: item["embedding"].__setitem__(1, float("nan"))),
    "infinite": _last(lambda item: item["embedding"].__setitem__(1, 1e300)),
    "text_number": _last(lambda item: item["embedding"].__setitem__(1, "0.5")),
    "bool_number": _last(lambda item: item["embedding"].__setitem__(1, True)),
    "nested": _last(lambda item: item.update(embedding=[item["embedding"]])),
    "null_vector": _last(lambda item: item.update(embedding=None)),
    "bad_base64": _last(lambda item: item.update(embedding="?not base64?")),
    "odd_base64": _last(lambda item: item.update(embedding="AAAA")),
    "repeat": _repeat,
    "constant": _constant,
    "rotated_space": _rotated_space,
    "wrong_dims": _each(lambda item: item.update(embedding=item["embedding"][:-1])),
    "one_wrong_dims": _last(lambda item: item.update(embedding=item["embedding"][:-1])),
    "no_usage": lambda items: items,
    "null_usage": lambda items: items,
    "garbage_usage": lambda items: items,
    "float_usage": lambda items: items,
    "base64": lambda items: items,
    "other_model": lambda items: items,
}
"""Answers under HTTP 200 whose `data` (or, in the last ones, another field) is not as it should be."""

BODIES = {
    "html": b"<!doctype html><html><body><h1>It works!</h1></body></html>",
    "invalid_json": b'{"object": "list", "data": [{"index": 0, "embedding": [0.1, 0.2',
    "empty": b"",
    "null": b"null",
    "list": b"[[0.1, 0.2]]",
    "not_utf8": b'{"data": "\xff\xfe"}',
    "deep": b"[" * 100_000,
    "blocked": b'{"promptFeedback": {"blockReason": "SAFETY"}}',
    "unknown_shape": b'{"vector_b64": "AAAA", "not an identifier": 1, "meta": {"ok": true}}',
    "queued": b'{"request_id": "r1", "status": "QUEUED", "status_url": "http://127.0.0.1/s"}',
}

WIRE = frozenset(
    {
        "status",
        "error_under_200",
        "redirect",
        "hang",
        "disconnect",
        "truncate",
        "trickle",
        "trickle_headers",
        "endless",
        "endless_headers",
        "garbage",
        "gzip_bomb",
        "gzip_error",
        "hang_after_error",
    }
)
KINDS = frozenset({*EDITS, *BODIES, *WIRE})

OF_INDEXES = frozenset(kind for kind in EDITS if "index" in kind or kind == "shuffle")
"""What an answer cannot do whose vectors carry no index: there, position is the order."""

NOT_BILLED = frozenset({"status", "error_under_200", "redirect", "gzip_error", "hang_after_error"})


def status(code: int, *, retry_after: str | None = None, text: str = "") -> Behaviour:
    return Behaviour("status", code=code, retry_after=retry_after, text=text)


def error_under_200(code: int | str = 0, *, text: str = "") -> Behaviour:
    """`code` as int or, if given as text, as a JSON string; 0: an error without one."""
    if isinstance(code, str):
        return Behaviour("error_under_200", text=code)
    return Behaviour("error_under_200", code=code, text=text)


def delay(seconds: float) -> Behaviour:
    return Behaviour(delay=seconds)


def other_model(name: str) -> Behaviour:
    return Behaviour("other_model", text=name)
