"""The body of a queue's message, whatever queue carries it: `{"v":1,"ticket":"<owner>/<id>"}`."""

from __future__ import annotations

import orjson

from embedonce.core.ticket import TicketRef

VERSION = 1


def body_of(ref: TicketRef) -> str:
    return orjson.dumps({"v": VERSION, "ticket": ref.key}).decode()


def ref_of(body: str) -> TicketRef:
    """:raises ValueError: anything else than what `body_of` makes (a later version's, or not ours)"""
    match orjson.loads(body):
        case {"v": int(version), "ticket": str(key), **others} if version == VERSION and not others:
            return TicketRef.of(key)
    raise ValueError("no message of ours")
