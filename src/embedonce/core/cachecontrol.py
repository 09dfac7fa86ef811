"""What a caller asks of the cache. It acts on the caller alone, but for an authorised refresh."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheControls:
    """`max_age` (seconds) bounds the age that is accepted. `refresh` replaces live ones (a scope)."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    refresh: bool = False
    max_age: int | None = None

    @property
    def reads(self) -> bool:
        return not self.no_cache and not self.refresh

    def accepts(self, created: int, now: float) -> bool:
        return self.max_age is None or now - created <= self.max_age


DEFAULT = CacheControls()


def parse_header(value: str) -> CacheControls:
    """The request directives of RFC 9111 that matter here; unknown ones and bad numbers are ignored."""
    no_cache = no_store = only = False
    max_age: int | None = None
    for directive in value.split(","):
        name, _, argument = directive.strip().partition("=")
        match name.strip().lower():
            case "no-cache":
                no_cache = True
            case "no-store":
                no_store = True
            case "only-if-cached":
                only = True
            case "max-age":
                max_age = tighter(max_age, seconds(argument.strip().strip('"')))
            case _:
                pass
    return CacheControls(no_cache, no_store, only, False, max_age)


def seconds(text: str) -> int | None:
    """A whole number of seconds, at most 2**31 (RFC 9111 lets a cache stop there); None for anything else."""
    if not (text.isascii() and text.isdigit()):
        return None
    return min(int(text[:12]), 2**31) if len(text) <= 12 else 2**31


def tighter(one: int | None, other: int | None) -> int | None:
    """The smaller of two bounds, where None is no bound."""
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)


def merge(one: CacheControls, other: CacheControls) -> CacheControls:
    return CacheControls(
        no_cache=one.no_cache or other.no_cache,
        no_store=one.no_store or other.no_store,
        only_if_cached=one.only_if_cached or other.only_if_cached,
        refresh=one.refresh or other.refresh,
        max_age=tighter(one.max_age, other.max_age),
    )
