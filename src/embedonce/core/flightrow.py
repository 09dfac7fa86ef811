"""A flight as a row that every store keeps alike: a JSON text and, where it landed, the vector's bytes."""

from __future__ import annotations

from typing import Any, assert_never

import orjson

from embedonce.core.content import Modality
from embedonce.core.flight import Failed, Flight, Landed, Leading, State, Submitted, Submitting, Waybill
from embedonce.core.record import StoredVector


def encode(flight: Flight) -> tuple[str, bytes | None]:
    state = flight.state
    vector: bytes | None = None
    said: dict[str, Any]
    match state:
        case Leading():
            said = {"s": "leading", "owner": state.owner, "until": state.lease_until}
        case Submitting():
            said = {
                "s": "submitting",
                "owner": state.owner,
                "until": state.lease_until,
                "upstream": state.upstream,
            }
        case Submitted():
            said = {
                "s": "submitted",
                "upstream": state.upstream,
                "handle": state.handle,
                "bill": _written(state.waybill),
                "at": state.since,
                "poll_at": state.poll_at,
                "polls": state.polls,
                "misses": state.misses,
                "missing": state.missing_since,
            }
        case Landed():
            said = {"s": "landed", "record": state.record.metadata()}
            vector = state.record.data
        case Failed():
            said = {
                "s": "failed",
                "code": state.code,
                "message": state.message,
                "permanent": state.permanent,
                "batch": state.batch.hex(),
                "retry_at": state.retry_at,
            }
        case _:
            assert_never(state)
    said |= {"attempts": flight.attempts, "since": flight.window_since, "failures": flight.failures}
    said["expires"] = flight.expires
    return orjson.dumps(said).decode(), vector


def decode(fingerprint: bytes, version: int, text: str, vector: bytes | None) -> Flight:
    """:raises ValueError: a row of another shape (a later version's, or damaged)"""
    said = orjson.loads(text)
    try:
        return Flight(
            fingerprint=fingerprint,
            version=version,
            state=_state(said, vector),
            expires=said["expires"],
            attempts=said["attempts"],
            window_since=said["since"],
            failures=said["failures"],
        )
    except KeyError as missing:
        raise ValueError(f"flight row lacks {missing}") from None


def _state(said: dict[str, Any], vector: bytes | None) -> State:
    match said["s"]:
        case "leading":
            return Leading(said["owner"], said["until"])
        case "submitting":
            return Submitting(said["owner"], said["until"], said["upstream"])
        case "submitted":
            return Submitted(
                said["upstream"],
                said["handle"],
                _waybill(said["bill"]),
                said["at"],
                said["poll_at"],
                said["polls"],
                said["misses"],
                said["missing"],
            )
        case "landed" if vector is not None:
            return Landed(StoredVector.from_metadata(said["record"], vector))
        case "failed":
            return Failed(
                said["code"],
                said["message"],
                said["permanent"],
                bytes.fromhex(said["batch"]),
                said["retry_at"],
            )
        case other:
            raise ValueError(f"unknown flight state {other!r}")


def _written(bill: Waybill) -> dict[str, Any]:
    return {
        "model": bill.model,
        "lineage": bill.lineage,
        "modality": bill.modality.value,
        "dimensions": bill.dimensions,
        "subject": bill.subject.hex(),
        "tokens": bill.tokens,
        "fp": bill.fingerprint.hex(),
        "tier": bill.key_dimensions,
        "keep": bill.keep,
        "overwrite": bill.overwrite,
        **({"claim": bill.claim} if bill.claim else {}),
    }


def _waybill(said: dict[str, Any]) -> Waybill:
    return Waybill(
        model=said["model"],
        lineage=said["lineage"],
        modality=Modality(said["modality"]),
        dimensions=said["dimensions"],
        subject=bytes.fromhex(said["subject"]),
        tokens=said["tokens"],
        fingerprint=bytes.fromhex(said["fp"]),
        key_dimensions=said["tier"],
        keep=said["keep"],
        overwrite=said["overwrite"],
        claim=said.get("claim", ""),
    )
