"""The body of a queue's message, whatever queue carries it, one codec for each kind.

TICKETS   {"v":1,"ticket":"<owner>/<id>"}
TASKS     {"v":1,"task":{"manifest":"<32 hex>","step":"cut|chunk|assemble","chunk":0,"hops":0}}
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic

import orjson

from embedonce.core.task import Step, Task
from embedonce.core.ticket import TicketRef
from embedonce.ports import Message

VERSION = 1
MAX_COUNT = 1_000_000
"""Of a task's `chunk` and `hops`: beyond what any source has."""

_MANIFEST = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Codec(Generic[Message]):
    """`decode` raises ValueError for anything else than what `encode` makes (a later version's, or not
    ours)."""

    encode: Callable[[Message], str]
    decode: Callable[[str], Message]


def body_of(ref: TicketRef) -> str:
    return orjson.dumps({"v": VERSION, "ticket": ref.key}).decode()


def ref_of(body: str) -> TicketRef:
    """:raises ValueError: see `Codec`"""
    match _said(body):
        case {"ticket": str(key), **others} if not others:
            return TicketRef.of(key)
    raise ValueError("no message of ours")


def task_body(task: Task) -> str:
    """:raises ValueError: a task that could not be read again"""
    fields = {"manifest": task.manifest, "step": task.step, "chunk": task.chunk, "hops": task.hops}
    _checked(fields)
    return orjson.dumps({"v": VERSION, "task": fields}).decode()


def task_of(body: str) -> Task:
    """:raises ValueError: see `Codec`"""
    match _said(body):
        case {"task": dict(fields), **others} if not others:
            return _checked(fields)
    raise ValueError("no message of ours")


TICKETS = Codec(body_of, ref_of)
TASKS = Codec(task_body, task_of)


def _said(body: str) -> dict[str, Any]:
    """What it says beside its version."""
    said = orjson.loads(body)
    if not isinstance(said, dict) or not _is(said.pop("v", None), VERSION, VERSION):
        raise ValueError("no message of ours")
    return said


def _checked(fields: dict[str, Any]) -> Task:
    match fields:
        case {"manifest": str(manifest), "step": str(step), "chunk": chunk, "hops": hops, **others} if (
            not others
            and _MANIFEST.fullmatch(manifest)
            and _is(chunk, 0, MAX_COUNT)
            and _is(hops, 0, MAX_COUNT)
        ):
            return Task(manifest, Step(step), chunk, hops)
    raise ValueError("no task of ours")


def _is(number: object, least: int, most: int) -> bool:
    """A JSON `true` is no number, though Python says so."""
    return type(number) is int and least <= number <= most


def about(message: object) -> str | None:
    """What a message is about: a ticket's or a manifest's id. An event of S3 may be about several."""
    match message:
        case TicketRef():
            return message.id
        case Task():
            return message.manifest
        case _:
            return None
