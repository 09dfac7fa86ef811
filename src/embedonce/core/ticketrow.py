"""A ticket as a row that every store keeps alike: a JSON text, apart from its key and version."""

from __future__ import annotations

from typing import Any, assert_never

import orjson

from embedonce.core.ticket import Completed, Failed, Open, Passage, Stage, State, Ticket, TicketRef, Webhook


def encode(ticket: Ticket) -> str:
    said: dict[str, Any] = {
        "state": _state_said(ticket.state),
        "created": ticket.created,
        "deadline": ticket.deadline,
        "expires": ticket.expires,
        "model": ticket.model,
        "job": ticket.job,
        "stage": ticket.stage.value,
        "due": ticket.due,
        "hops": ticket.hops,
        "nudges": ticket.nudges,
        "blobs": list(ticket.blobs),
    }
    if ticket.passage is not None:
        p = ticket.passage
        said["passage"] = [p.fingerprint.hex(), p.flight.hex(), p.key_dimensions, p.dimensions, p.leads]
    if ticket.webhook is not None:
        hook = ticket.webhook
        said["webhook"] = [hook.url, hook.attempts, hook.done, hook.at]
    return orjson.dumps(said).decode()


def decode(ref: TicketRef, version: int, text: str) -> Ticket:
    """:raises ValueError: a row of another shape (a later version's, or damaged)"""
    said = orjson.loads(text)
    try:
        return Ticket(
            ref=ref,
            version=version,
            state=_state(said["state"]),
            created=said["created"],
            deadline=said["deadline"],
            expires=said["expires"],
            model=said["model"],
            job=said["job"],
            stage=Stage(said["stage"]),
            due=said["due"],
            passage=_passage(said.get("passage")),
            hops=said["hops"],
            nudges=said["nudges"],
            webhook=Webhook(*hook) if (hook := said.get("webhook")) else None,
            blobs=tuple(said["blobs"]),
        )
    except (KeyError, TypeError) as missing:
        raise ValueError(f"ticket row lacks {missing}") from None


def _state_said(state: State) -> list[Any]:
    match state:
        case Open():
            return ["open", state.started]
        case Completed():
            return ["completed", state.at, state.paid, state.cost, state.started]
        case Failed():
            return ["failed", state.at, state.code, state.message, state.started]
        case _:
            assert_never(state)


def _state(said: list[Any]) -> State:
    match said:
        case ["open", started]:
            return Open(started)
        case ["completed", at, paid, cost, started]:
            return Completed(at, paid, cost, started)
        case ["failed", at, code, message, started]:
            return Failed(at, code, message, started)
        case _:
            raise ValueError("unknown ticket state")


def _passage(said: list[Any] | None) -> Passage | None:
    if said is None:
        return None
    fingerprint, flight, key_dimensions, dimensions, leads = said
    return Passage(bytes.fromhex(fingerprint), bytes.fromhex(flight), key_dimensions, dimensions, leads)
