"""One line of the report. Its texts are ours: no secret, input or vector, nothing that a provider said."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """`remedy` says what to do; empty where there is nothing to be done."""

    name: str
    state: State
    said: str
    remedy: str = ""


def ok(name: str, said: str) -> Check:
    return Check(name, State.OK, said)


def warning(name: str, said: str, remedy: str) -> Check:
    return Check(name, State.WARNING, said, remedy)


def problem(name: str, said: str, remedy: str) -> Check:
    return Check(name, State.PROBLEM, said, remedy)


def skipped(name: str, said: str, remedy: str = "") -> Check:
    return Check(name, State.SKIPPED, said, remedy)


def unless(name: str, found: Iterable[Check], fine: str) -> list[Check]:
    """What was found or, if nothing was, that all is well."""
    return list(found) or [ok(name, fine)]


def guarded(name: str, look: Callable[[], list[Check]]) -> list[Check]:
    """A check that crashes must not keep the others from being made."""
    try:
        return look()
    except OSError as error:
        remedy = "run this as whoever runs the server; check the paths in the settings"
        return [problem(name, f"cannot be looked at: {error.strerror or type(error).__name__}", remedy)]
    except Exception as crash:  # noqa: BLE001  # its text may quote anything: the type alone is shown
        remedy = "report it as an error of embedonce"
        return [problem(name, f"the check itself failed ({type(crash).__name__})", remedy)]


def healthy(checks: Iterable[Check]) -> bool:
    return all(check.state is not State.PROBLEM for check in checks)
