"""What is in the data folder, and what is left there when all processes have ended: read past the program
under test."""

from __future__ import annotations

import os
import re
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from embedonce.bootstrap.stores import BLOB_FOLDER, DATABASE_FILE
from embedonce.core.ticket import Ticket, TicketRef
from embedonce.stores.rows import ticket_of


@dataclass(frozen=True)
class Remains:
    """`open`: tickets without an end, also those whose callers never heard of them."""

    integrity: str
    tickets: int
    open: list[str]
    dead_letters: int
    blobs: int


def remains(data: Path) -> Remains:
    with closing(sqlite3.connect(data / DATABASE_FILE)) as connection:
        integrity = str(connection.execute("PRAGMA integrity_check").fetchone()[0])
        rows = connection.execute("SELECT k, ver, row FROM tickets").fetchall()
        dead = connection.execute("SELECT count(*) FROM messages WHERE dead OR receives >= 5").fetchone()[0]
    still_open = []
    for key, version, row in rows:
        ticket = ticket_of(TicketRef.of(key), version, row)
        if ticket is None or ticket.open:
            still_open.append(f"{key}: {ticket}")
    blobs = sum(len(files) for _, _, files in os.walk(data / BLOB_FOLDER))
    return Remains(integrity, len(rows), still_open, dead, blobs)


def announced(data: Path) -> dict[str, Ticket]:
    """The tickets with a webhook that have ended and are still kept, by request id; none if they cannot be
    read now."""
    found = {}
    try:
        with closing(sqlite3.connect(f"file:{data / DATABASE_FILE}?mode=rw", uri=True)) as connection:
            rows = connection.execute("SELECT k, ver, row FROM tickets WHERE row LIKE ?", ('%"webhook":%',))
            for key, version, row in rows:
                ticket = ticket_of(TicketRef.of(key), version, row)
                if ticket is not None and not ticket.open:
                    found[ticket.ref.id] = ticket
    except sqlite3.OperationalError:  # not there yet, or whoever wrote was killed and it is being repaired
        return {}
    return found


def complaints(folder: Path) -> Counter[str]:
    """What the processes' logs say that went wrong inside of them, by kind."""
    found: Counter[str] = Counter()
    for log in folder.glob("*.log"):
        text = log.read_text(errors="replace")
        found.update(
            f"{log.stem}: {said}" for said in re.findall(r"embedonce ((?:loop_error|crash) .*)", text)
        )
        found.update(f"{log.stem}: {line}" for line in re.findall(r"^(?:\w+\.)*\w+Error\b.*", text, re.M))
    return found
