"""Tickets to put into stores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from embedonce.core.ticket import Ticket, TicketRef, issue
from support.clock import START


def ref(n: int, owner: str = "k1") -> TicketRef:
    return TicketRef(owner, f"{n:032x}")


def ticket(n: int, version: int = 1, **changes: Any) -> Ticket:
    new = issue(ref(n), model="google/gemini-embedding-2", job='["ä"]', now=START, patience=600)
    return replace(new, version=version, **changes)
