"""A manifest and a head as rows that every store keeps alike: a JSON text, apart from key and version."""

from __future__ import annotations

import base64
from dataclasses import asdict
from typing import Any, assert_never

import orjson

from embedonce.core.manifest import (
    Assembling,
    Cutting,
    Embedding,
    Ended,
    Head,
    Manifest,
    Outcome,
    Published,
    State,
    Totals,
)
from embedonce.core.rule import Output, Sink, Terms
from embedonce.core.segment import CutOptions, Format
from embedonce.core.source import Source
from embedonce.core.tasks import TaskType

FORMAT = 1


def encode(manifest: Manifest) -> str:
    m = manifest
    return orjson.dumps(
        {
            "format": FORMAT,
            "source": asdict(m.source),
            "rule": m.rule,
            "terms": asdict(m.terms),
            "state": _state_said(m.state),
            "created": m.created,
            "due": m.due,
            "nudges": m.nudges,
            "totals": asdict(m.totals),
            "sha256": m.sha256,
            "cutter": m.cutter,
            "error": m.error,
            "note": m.note,
        }
    ).decode()


def decode(manifest_id: str, version: int, text: str) -> Manifest:
    """:raises ValueError: a row of another shape (a later version's, or damaged)"""
    said = orjson.loads(text)
    try:
        if said["format"] != FORMAT:
            raise ValueError(f"unknown manifest format {said['format']}")
        return Manifest(
            id=manifest_id,
            version=version,
            source=Source(**said["source"]),
            rule=said["rule"],
            terms=_terms(said["terms"]),
            state=_state(said["state"]),
            created=said["created"],
            due=said["due"],
            nudges=said["nudges"],
            totals=Totals(**said["totals"]),
            sha256=said["sha256"],
            cutter=said["cutter"],
            error=None if said["error"] is None else (said["error"][0], said["error"][1]),
            note=said["note"],
        )
    except (KeyError, TypeError) as missing:
        raise ValueError(f"manifest row lacks {missing}") from None


def encode_head(head: Head) -> str:
    return orjson.dumps(
        {
            "format": FORMAT,
            "newest": head.newest,
            "sequencer": head.sequencer,
            "publishing": head.publishing,
            "published": None if head.published is None else asdict(head.published),
            "sink": None if head.sink is None else asdict(head.sink),
            "reach": head.reach,
            "filled": head.filled,
        }
    ).decode()


def decode_head(place: str, version: int, text: str) -> Head:
    """:raises ValueError: a row of another shape (a later version's, or damaged)"""
    said = orjson.loads(text)
    try:
        if said["format"] != FORMAT:
            raise ValueError(f"unknown head format {said['format']}")
        stands, at_it, sink = said["published"], said["publishing"], said["sink"]
        return Head(
            place,
            version,
            said["newest"],
            said["sequencer"],
            None if at_it is None else (at_it[0], at_it[1]),
            None if stands is None else Published(**stands),
            None if sink is None else Sink(**sink),
            said["reach"],
            None if (filled := said.get("filled")) is None else (filled[0], filled[1]),
        )
    except (KeyError, TypeError) as missing:
        raise ValueError(f"head row lacks {missing}") from None


def _terms(said: dict[str, Any]) -> Terms:
    return Terms(
        **{
            **said,
            "task_type": None if said["task_type"] is None else TaskType(said["task_type"]),
            "format": None if said["format"] is None else Format(said["format"]),
            "cut": CutOptions(**said["cut"]),
            "output": Output(said["output"]),
            "sink": None if said["sink"] is None else Sink(**said["sink"]),
        }
    )


def _state_said(state: State) -> list[Any]:
    match state:
        case Cutting(attempts, until):
            return ["cutting", attempts, until]
        case Embedding(chunks, done, paused):
            return ["embedding", chunks, base64.b64encode(done).decode(), paused]
        case Assembling(chunks, until):
            return ["assembling", chunks, until]
        case Ended(outcome, at):
            return ["ended", outcome.value, at]
        case _:
            assert_never(state)


def _state(said: list[Any]) -> State:
    match said:
        case ["cutting", attempts, until]:
            return Cutting(attempts, until)
        case ["embedding", chunks, done, paused]:
            return Embedding(chunks, base64.b64decode(done, validate=True), paused)
        case ["assembling", chunks, until]:
            return Assembling(chunks, until)
        case ["ended", outcome, at]:
            return Ended(Outcome(outcome), at)
        case _:
            raise ValueError(f"unknown manifest state {said[:1]}")
