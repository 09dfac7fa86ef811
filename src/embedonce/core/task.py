"""Tasks: what the messages of ingest say. Each names a manifest and a step; the row says the rest."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Step(StrEnum):
    CUT = "cut"
    CHUNK = "chunk"
    ASSEMBLE = "assemble"


class IngestQueue(StrEnum):
    """Who does what: those who cut hold no provider's key, those who embed run no parser."""

    SOURCES = "ingest"
    CHUNKS = "chunks"


QUEUE_OF = {
    Step.CUT: IngestQueue.SOURCES,
    Step.CHUNK: IngestQueue.CHUNKS,
    Step.ASSEMBLE: IngestQueue.CHUNKS,
}


@dataclass(frozen=True, slots=True)
class Task:
    """`chunk` counts from 0, for CHUNK only. `hops`: how often it was sent on; its pauses grow with it."""

    manifest: str
    step: Step
    chunk: int = 0
    hops: int = 0
