"""Where each process is killed: every transition it can make, and every call that has an effect elsewhere.

Left out are only moments that no fault can tell from another one, such as before a message is received.
"""

from __future__ import annotations

from collections.abc import Iterable

ROLES = ("server", "worker", "poller", "janitor")


def _both(*names: str) -> list[str]:
    return [f"{name}:{moment}" for name in names for moment in ("before", "after")]


def _calls(*names: str) -> list[str]:
    return [f"{name}:{moment}" for name in names for moment in ("before", "during", "after")]


POINTS: dict[str, list[str]] = {
    "server": [
        *_both("blobs.put", "tickets.issue", "work-queue.send"),
        *_both("tickets.complete", "tickets.fail", "blobs.delete_many", "poll-queue.send"),
    ],
    "worker": [
        "work-queue.receive:after",
        *_both("tickets.begin", "flights.submitting", "tickets.board"),
        *_calls("upstream.submit"),
        *_both("flights.submitted", "flights.doubt", "flights.backed-off", "flights.failed"),
        *_both("flights.abandon"),
        *_both("tickets.hop-poll", "poll-queue.send", "tickets.hop-work", "work-queue.send"),
        *_both("tickets.complete", "tickets.fail", "blobs.delete_many"),
        *_both("work-queue.acknowledge"),
    ],
    "poller": [
        "poll-queue.receive:after",
        *_both("flights.asked"),
        *_calls("upstream.poll"),
        *_both("vectors.put_many", "flights.land", "flights.failed"),
        *_both("flights.missed", "flights.lost", "flights.patience"),
        *_both("tickets.hop-poll", "poll-queue.send", "tickets.hop-work", "work-queue.send"),
        *_both("tickets.complete", "tickets.fail", "blobs.delete_many"),
        *_calls("webhook.post"),
        *_both("tickets.announced", "poll-queue.acknowledge"),
    ],
    "janitor": [
        *_both("tickets.nudge", "work-queue.send", "poll-queue.send"),
        *_both("tickets.complete", "tickets.fail", "blobs.delete_many", "blobs.sweep"),
    ],
}

FREQUENT: dict[str, frozenset[str]] = {
    "server": frozenset(_both("blobs.put", "tickets.issue", "work-queue.send")),
    "worker": frozenset(
        {
            "work-queue.receive:after",
            *_both("tickets.begin", "flights.submitting", "tickets.board", "flights.submitted"),
            *_calls("upstream.submit"),
            *_both("tickets.hop-poll", "poll-queue.send", "work-queue.acknowledge"),
        }
    ),
    "poller": frozenset(
        {
            "poll-queue.receive:after",
            *_both("flights.asked", "vectors.put_many", "flights.land", "tickets.complete"),
            *_calls("upstream.poll"),
            *_both("tickets.hop-poll", "poll-queue.send", "poll-queue.acknowledge"),
        }
    ),
    "janitor": frozenset(),
}
"""Reached all the time: a life is ended by one or two of these, at any occurrence. Of the others, half are
armed in every life, as long as they have not been reached often enough."""

SMOKE: dict[str, list[str]] = {
    "server": ["tickets.issue:after", "work-queue.send:before"],
    "worker": ["flights.submitting:after", *_calls("upstream.submit"), "flights.submitted:after"],
    "poller": ["flights.asked:after", "flights.land:before", "flights.land:after", "tickets.complete:after"],
    "janitor": ["blobs.sweep:after"],
}
"""A handful, for a run of seconds."""


def moment_of(point: str) -> str:
    return point.rpartition(":")[2]


def unlisted(role: str, seen: Iterable[str]) -> list[str]:
    """Points that were passed and at which nobody is killed, but for those left out on purpose."""
    harmless = {"work-queue.receive:before", "poll-queue.receive:before"}
    return sorted(p for p in set(seen) - set(POINTS[role]) - harmless if moment_of(p) != "during")
