"""What is done with the vector of one input."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """`looks`: the stores are asked for it. `keep`: it is written at its first sight, else held in the
    process; there its second sight finds it, and writes it if the stores are asked for its kind at all.
    `flies`: it is bought with a flight's row. `ttl_seconds`: for which it is written, now or then.

    `sampled`: it is one of those that show how often its kind repeats.
    """

    looks: bool
    keep: bool
    flies: bool
    ttl_seconds: int
    sampled: bool = False
