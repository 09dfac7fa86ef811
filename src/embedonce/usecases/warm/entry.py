"""What is read, one input at a time, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields

from embedonce.core.content import Content


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the source; all inputs before it come earlier.

    `files`: how many lie before the one that it is in, `chain` a digest of what those were, `identity` one of
    the file itself. `offset` in bytes and `line` in lines of that file, `size` in bytes of the whole source,
    `inputs` counts the inputs before it.
    """

    files: int = 0
    chain: bytes = b""
    identity: bytes = b""
    offset: int = 0
    line: int = 0
    size: int = 0
    inputs: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One input: `content`, or `error`, why it is none; neither: only `mark` is of use. `mark`: where it
    ends; `where`: a path, or a path and a line, as people read it."""

    mark: Mark
    where: str = ""
    content: Content | None = field(default=None, repr=False)
    error: str | None = None


@dataclass(slots=True)
class Tally:
    """Inputs by what became of them; `spent` and `saved` in pico-dollars. `repeats`: equal to another one of
    their batch. `hits` were there, or bought by somebody else at the same time."""

    hits: int = 0
    derived: int = 0
    repeats: int = 0
    misses: int = 0
    failed: int = 0
    tokens: int = 0
    spent: int = 0
    saved: int = 0

    @property
    def inputs(self) -> int:
        return self.hits + self.derived + self.repeats + self.misses + self.failed

    def add(self, other: Tally) -> None:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass(slots=True)
class Slot:
    """An entry in hand. `tally`: what became of it; None: nothing yet."""

    entry: Entry
    tally: Tally | None = None

    @property
    def given(self) -> Content:
        assert self.entry.content is not None
        return self.entry.content


@dataclass(frozen=True, slots=True)
class Failure:
    """An input that could not be embedded; `code` as in `core.errors`."""

    where: str
    code: str
    why: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Why nothing more is tried. `budget`: money is all that is missing."""

    why: str
    budget: bool = False
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """`why`, and `then` what comes in (or after up to) `seconds`: one after the other they are a line."""

    why: str
    then: str
    seconds: float


class Waits:
    """Passes on what is waited for. `last`: why, where nothing has come since."""

    def __init__(self, told: Callable[[Wait], None]) -> None:
        self._told = told
        self.last: str | None = None

    def __call__(self, wait: Wait) -> None:
        self.last = wait.why
        self._told(wait)

    def over(self) -> None:
        self.last = None


@dataclass(slots=True)
class Outcome:
    """Of a batch. What is in neither list is still to be done."""

    done: list[tuple[Slot, Tally]] = field(default_factory=list)
    failed: list[tuple[Slot, Failure]] = field(default_factory=list)
    spent: int = 0
    """For what is in none of the tallies."""
    stop: Stop | None = None
