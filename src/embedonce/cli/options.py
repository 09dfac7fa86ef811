"""How times, namespaces and the like are written on the command line."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import get_args

from rich.console import Console

from embedonce.access.keys import ISOLATED
from embedonce.config import ConfigError, Settings, Upstreams
from embedonce.core.catalog import Catalog
from embedonce.core.errors import NotFound
from embedonce.usecases.transfer import IMPORTED

UPSTREAMS = (*get_args(Upstreams), IMPORTED)
"""What stored vectors can say made them."""
WIDE = 1000


def check_store(settings: Settings) -> None:
    """:raises ConfigError: one would be made, where it is to be read"""
    if settings.mode == "local" and not settings.data_dir.is_dir():
        raise ConfigError(f"there is no store in {settings.data_dir.resolve()} (EMBEDONCE_DATA_DIR)")


def namespace(text: str) -> tuple[str, str | None]:
    """The key's own, and the one inside it that requests ask for; None: it names none.

    :raises ConfigError: neither NAME nor NAME/INNER
    """
    begins, rest = ("", text)
    if text.startswith(ISOLATED):
        begins, rest = ISOLATED, text[len(ISOLATED) :]
    owner, slash, inner = rest.partition("/")
    if not owner or (slash and not inner):
        raise ConfigError("--namespace: must be NAME or NAME/INNER")
    return begins + owner, inner or None


def when(text: str, option: str) -> float:
    """Seconds since 1970 of an ISO 8601 time; UTC where it does not say.

    :raises ConfigError: it is none
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{option}: must be a time such as 2026-05-01 or 2026-05-01T12:30Z") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def model_id(catalog: Catalog, name: str, *, more: str = "") -> str:
    """As stored vectors have it.

    :raises ConfigError: no such model is configured; `more` is said then
    """
    try:
        return catalog.find(name).id
    except NotFound as unknown:
        raise ConfigError(f"--{unknown.message}{more}") from None


def unknown_upstream(name: str | None) -> str | None:
    """What is to be said of a name that no upstream has."""
    if name is None or name in UPSTREAMS:
        return None
    return f"no upstream is called {name}; there are {', '.join(UPSTREAMS)}"


def console() -> Console:
    """On stdout; where that is no terminal, no line is broken or cut."""
    return Console() if sys.stdout.isatty() else Console(width=WIDE)
