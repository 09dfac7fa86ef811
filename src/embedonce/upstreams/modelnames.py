"""Whether the model that answered is the one that was asked: vectors of two models must never mix.

Providers answer with or without a vendor prefix (`google/`, `models/`), with a routing variant (`:free`) or
with the version they run (`-001`, `-2026-04-22`, `@v2`), and self-hosted servers with whatever they please.
So an answered name is refused only if it is known to mean something else:

- the longest known name (ids and aliases of the catalogue, and the name asked for) that it equals, or extends
  by a version or variant, belongs to another model; or
- it is in the same `FAMILIES` entry as the name asked for, and is not that name or a version of it. This
  catches relatives that are not in the catalogue, such as gemini-embedding-001.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from typing import Any

FAMILIES = ("gemini-embedding",)

_VERSION = re.compile(r":[\w.\-]+|[-@]v?\d[\d.\-]*|[-@:]latest")


class ModelNames:
    """`models`: per model, all names it has."""

    def __init__(self, models: Iterable[Set[str]]) -> None:
        self._models = tuple(frozenset(_bare(name) for name in names) for names in models)

    def differ(self, asked: str, answered: Any) -> bool:
        """True only if `answered` surely is another model; False for None and all that is not a name."""
        if not isinstance(answered, str) or not answered:
            return False
        asked, answered = _bare(asked), _bare(answered)
        own = {asked}.union(*(names for names in self._models if asked in names))
        known = own.union(*self._models)
        meant = [name for name in known if _is_version_of(answered, name)]
        if meant:
            return max(meant, key=len) not in own
        return any(asked.startswith(family) and answered.startswith(family) for family in FAMILIES)


def _bare(name: str) -> str:
    return name.strip().casefold().rpartition("/")[2]


def _is_version_of(name: str, known: str) -> bool:
    return name == known or (name.startswith(known) and bool(_VERSION.fullmatch(name[len(known) :])))
