"""Queues in SQLite: table `messages`, shared by the queues of all names.

A message is ready from `ready` on. Receiving it moves `ready` on by the visibility time-out and gives it a
new `receipt`; once it was received `max_receives` times and is ready again, it is `dead`: kept for 14 days.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Sequence
from typing import Generic

from embedonce.ports import Clock, Delivery, Depth, Message
from embedonce.stores.embedded.database import Database, Sweep
from embedonce.stores.messages import Codec

MAX_DELAY_SECONDS = 900.0
RETENTION_SECONDS = 14 * 86_400.0
MAX_OWED = 16
"""So many of the messages sent while nobody waited let a later `wait` return at once: each received ten."""

_INSERT = "INSERT INTO messages (queue, body, ready, receives, dead, e) VALUES (?, ?, ?, 0, 0, ?)"
_ANY = "SELECT 1 FROM messages WHERE queue = ? AND dead = 0 AND ready <= ? LIMIT 1"
_READY = (
    "SELECT id, body, receives FROM messages WHERE queue = ? AND dead = 0 AND ready <= ? AND e > ? "
    "ORDER BY ready, id LIMIT ?"
)
_HIDE = "UPDATE messages SET ready = ?, receives = receives + 1, receipt = ? WHERE id = ?"
_BURY = (
    "UPDATE messages SET dead = 1, e = ? "
    "WHERE queue = ? AND dead = 0 AND ready <= ? AND e > ? AND receives >= ?"
)
_REVIVE = (
    "UPDATE messages SET dead = 0, ready = ?, receives = 0, receipt = NULL, e = ? "
    "WHERE queue = ? AND dead = 1 AND e > ?"
)
_RELEASE = "UPDATE messages SET ready = ? WHERE queue = ? AND dead = 0 AND receipt IS NOT NULL AND ready > ?"
_POSTPONE = "UPDATE messages SET ready = ? WHERE receipt = ? AND queue = ?"
_ACKNOWLEDGE = "DELETE FROM messages WHERE receipt = ? AND queue = ?"
_DEPTH = """
    SELECT
        coalesce(sum(NOT dead AND ready <= ?2 AND receives < ?3), 0) AS ready,
        coalesce(sum(NOT dead AND ready > ?2 AND receipt IS NULL), 0) AS delayed,
        coalesce(sum(NOT dead AND ready > ?2 AND receipt IS NOT NULL), 0) AS in_flight,
        coalesce(sum(dead OR (ready <= ?2 AND receives >= ?3)), 0) AS dead
    FROM messages WHERE queue = ?1 AND e > ?2
"""


class EmbeddedQueue(Generic[Message]):
    """`visibility`: seconds a received message stays hidden."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        name: str,
        codec: Codec[Message],
        *,
        visibility: float,
        max_receives: int,
    ) -> None:
        self._database = database
        self._clock = clock
        self._name = name
        self._codec = codec
        self._visibility = visibility
        self._max_receives = max_receives
        self._sweep = Sweep("messages", clock)
        self._sent = threading.Condition()
        self._owed = 0

    def send(self, message: Message, *, delay: float = 0.0) -> None:
        self._send([message], min(max(delay, 0.0), MAX_DELAY_SECONDS))

    def send_many(self, messages: Sequence[Message]) -> None:
        """All or none."""
        if messages:
            self._send(messages, 0.0)

    def _send(self, messages: Sequence[Message], delay: float) -> None:
        now = self._clock.now()
        rows = [
            (self._name, self._codec.encode(message), now + delay, now + RETENTION_SECONDS)
            for message in messages
        ]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(_INSERT, rows)
            self._sweep.run(connection)

        self._database.write(work)
        if delay == 0.0:
            self.wake(len(rows))

    def receive(self, most: int) -> list[Delivery[Message]]:
        now = self._clock.now()
        # Most looks find nothing; those need not queue for the write lock.
        if not self._database.read(_ANY, (self._name, now)):
            return []

        def work(connection: sqlite3.Connection) -> list[Delivery[Message]]:
            self._bury(connection, now)
            deliveries = []
            for row in connection.execute(_READY, (self._name, now, now, most)).fetchall():
                receipt = secrets.token_hex(16)
                connection.execute(_HIDE, (now + self._visibility, receipt, row["id"]))
                try:
                    message = self._codec.decode(row["body"])
                except ValueError:
                    continue  # unread it stays, and ends among the dead letters
                deliveries.append(Delivery(message, receipt, row["receives"] + 1))
            self._sweep.run(connection)
            return deliveries

        return self._database.write(work)

    def acknowledge(self, delivery: Delivery[Message]) -> None:
        row = (delivery.receipt, self._name)
        self._database.write(lambda connection: connection.execute(_ACKNOWLEDGE, row).rowcount)

    def postpone(self, delivery: Delivery[Message], seconds: float) -> None:
        """It failed: deliver it again after that time, not only after the visibility time-out."""
        row = (self._clock.now() + seconds, delivery.receipt, self._name)
        self._database.write(lambda connection: connection.execute(_POSTPONE, row).rowcount)

    def depth(self) -> Depth:
        """Counts exactly."""
        asked = (self._name, self._clock.now(), self._max_receives)
        [row] = self._database.read(_DEPTH, asked)
        return Depth(row["ready"], row["delayed"], row["in_flight"], row["dead"])

    def redrive(self) -> int:
        """Dead letters back into the queue, ready at once; answers how many."""
        now = self._clock.now()

        def work(connection: sqlite3.Connection) -> int:
            self._bury(connection, now)
            row = (now, now + RETENTION_SECONDS, self._name, now)
            return connection.execute(_REVIVE, row).rowcount

        revived = self._database.write(work)
        if revived:
            self.wake()
        return revived

    def release(self) -> None:
        """What was received and not acknowledged is ready at once: whoever had it in hand is gone. If it is
        not, the message is delivered twice."""
        now = self._clock.now()
        row = (now, self._name, now)
        self._database.write(lambda connection: connection.execute(_RELEASE, row).rowcount)
        self.wake()

    def wait(self, seconds: float) -> bool:
        """Until this object is sent something that is ready at once, or was before and nobody waited; at most
        `seconds` of real time, whatever the clock. False: nothing was. What other processes send, and what
        becomes ready with time, wakes nobody."""
        with self._sent:
            if not self._sent.wait_for(lambda: self._owed > 0, seconds):
                return False
            self._owed -= 1
            return True

    def wake(self, count: int = 1) -> None:
        """Let so many `wait` return, as at shutdown."""
        with self._sent:
            self._owed = min(self._owed + count, MAX_OWED)
            self._sent.notify(count)

    def _bury(self, connection: sqlite3.Connection, now: float) -> None:
        row = (now + RETENTION_SECONDS, self._name, now, now, self._max_receives)
        connection.execute(_BURY, row)
