"""The rules, and the table that is printed at the end."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from chaos.client import Callers
from chaos.hooks import Hooks
from chaos.patches import cursed
from chaos.points import unlisted
from chaos.stores import Remains
from chaos.torment import Torment
from embedonce.core.ticket import WEBHOOK_PAUSES, Ticket

MOST_SHOWN = 10
ATTEMPTS = len(WEBHOOK_PAUSES) + 1
"""To deliver a webhook; those count in which the poller was killed."""
STORE = "kind=StoreUnavailable"


@dataclass
class Findings:
    given: argparse.Namespace
    torment: Torment
    callers: Callers
    hooks: Hooks
    rows: Mapping[str, Ticket]
    counted: Mapping[str, Any]
    left: Remains
    stopped: bool
    blobs: int
    said: Counter[str]
    seconds: float

    @cached_property
    def undelivered(self) -> dict[str, int]:
        """Attempts begun of each webhook that never came, also where no caller heard of the ticket; but for
        tickets that lose every message to the poller."""
        heard = {request for request, _ in self.hooks.delivered}
        hooked = [h.id for h in self.callers.held.values() if h.hooked]
        missed = [i for i in dict.fromkeys([*hooked, *self.rows]) if i not in heard and not cursed(i)]
        return {i: _attempts(self.rows.get(i)) for i in missed}

    @cached_property
    def rules(self) -> list[tuple[str, list[str]]]:
        """What must not be, and where it was."""
        held = list(self.callers.held.values())
        tally = self.callers.tally
        told = list(self.hooks.delivered)
        submissions: dict[str, int] = self.counted["submissions"]
        ends = {h.id: h.state for h in held}
        return [
            ("inputs submitted more than once", [f"{k[:60]}: {n}" for k, n in submissions.items() if n > 1]),
            ("accepted tickets without an end", [str(h) for h in held if h.state == "open"]),
            ("accepted tickets that are gone", tally.gone),
            ("FAILED without a reason", [h.id for h in held if h.state == "FAILED" and not h.reason]),
            ("ends that changed later", tally.changed),
            ("wrong vectors", tally.wrong_vectors),
            ("tickets open in the database", self.left.open),
            ("database integrity", [] if self.left.integrity == "ok" else [self.left.integrity]),
            (
                "webhooks neither delivered nor given up",
                [f"{i}: {n} attempts" for i, n in self.undelivered.items() if n < ATTEMPTS],
            ),
            (
                f"webhooks tried more than {ATTEMPTS} times",
                [f"{i}: {n} attempts" for i, row in self.rows.items() if (n := _attempts(row)) > ATTEMPTS],
            ),
            ("webhooks that say another end", [f"{i}: {s}" for i, s in told if ends.get(i, s) != s]),
            ("payloads left after two days", [f"{self.blobs} files"] if self.blobs else []),
            ("errors that no store's failure explains", _unexplained(self.said)),
            ("processes that ended by themselves", [f for r in self.torment.roles for f in r.faults]),
            ("processes that did not stop when asked", [] if self.stopped else ["see above"]),
            ("points not reached often enough", _short(self.torment)),
        ]

    @property
    def broken(self) -> bool:
        return any(found for _, found in self.rules)


def printed(findings: Findings) -> str:
    return "\n".join([*_kills(findings), "", *_totals(findings), "", *_rules(findings)])


def _kills(findings: Findings) -> list[str]:
    given = findings.given
    lines = [f"seed {given.seed}, clock x{given.factor:g}, {findings.seconds:.0f} s", ""]
    lines.append(f"{'killed at':<38}{'before':>8}{'during':>8}{'after':>8}")
    points = given.points
    for role in findings.torment.roles:
        lines.append(f"{role.name}: {role.kills.total()} kills, {role.starts} starts")
        names = dict.fromkeys(point.rpartition(":")[0] for point in points[role.name])
        for name in names:
            row = [f"{name}:{moment}" for moment in ("before", "during", "after")]
            cells = [str(role.kills[p]) if p in points[role.name] else "" for p in row]
            lines.append(f"  {name:<36}" + "".join(f"{cell:>8}" for cell in cells))
        elsewhere = sum(n for point, n in role.kills.items() if point not in points[role.name])
        lines.append(f"  {'anywhere':<36}{elsewhere:>8}")
        if others := unlisted(role.name, role.seen):
            lines.append(f"  passed, but nobody is killed there: {', '.join(others)}")
    return lines


def _totals(findings: Findings) -> list[str]:
    callers, counted = findings.callers, findings.counted
    held = list(callers.held.values())
    states = Counter(h.state for h in held)
    reasons = Counter(_kind(h.reason) for h in held if h.state == "FAILED")
    hooked = [h for h in held if h.hooked]
    attempts = max(map(_attempts, findings.rows.values()), default=0)
    given_up = [n for n in findings.undelivered.values() if n >= ATTEMPTS]
    return [
        f"asked for a ticket                     {_counts(callers.tally.answers)}",
        f"asked for a sound, and waited          {_counts(callers.tally.waited)}",
        f"accepted                               {len(held)}, of {callers.inputs.count} distinct inputs",
        f"tickets in the database                {findings.left.tickets} (expired ones are dropped)",
        *(f"{state:<39}{count}" for state, count in sorted(states.items())),
        *(f"  {count:>6}  {reason}" for reason, count in reasons.most_common()),
        f"inputs accepted by the provider        {len(counted['submissions'])}",
        f"submissions of each, at most           {max(counted['submissions'].values(), default=0)}",
        f"questions to the provider              {counted['polls']}",
        f"webhooks asked for                     {len(hooked)}",
        f"webhooks delivered                     {findings.hooks.delivered.total()}"
        f" (of {len(findings.hooks.delivered)} tickets), {findings.hooks.refused} refused by the receiver",
        f"webhooks given up                      {len(given_up)}, after {ATTEMPTS} attempts",
        f"attempts at one webhook, at most       {attempts}",
        f"times a store failed within a loop     {sum(n for s, n in findings.said.items() if STORE in s)}",
        f"dead letters                           {findings.left.dead_letters}",
        f"payloads at the end, and 2 days later  {findings.left.blobs}, {findings.blobs}",
    ]


def _rules(findings: Findings) -> list[str]:
    lines = []
    for rule, found in findings.rules:
        lines.append(f"{rule:<40}{len(found):>6}{'  <-- BROKEN' if found else ''}")
        lines += [f"    {one}" for one in found[:MOST_SHOWN]]
    return lines


def _attempts(ticket: Ticket | None) -> int:
    return 0 if ticket is None or ticket.webhook is None else ticket.webhook.attempts


def _kind(reason: str) -> str:
    return re.sub(r"\d+(\.\d+)?", "N", reason) or "(none)"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))


def _short(torment: Torment) -> list[str]:
    return [f"{r.name} {p}: {n} short" for r in torment.roles for p, n in r.left.items()]


def _unexplained(said: Counter[str]) -> list[str]:
    return [f"{n} x {what}" for what, n in said.items() if STORE not in what]
