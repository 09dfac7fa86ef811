"""Traffic as `embedonce cost` reads it: parameters (JSON), or a sample of real inputs (JSON Lines)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from embedonce.core.catalog import BUILT_IN, BYTES_PER_TOKEN, Catalog
from embedonce.core.content import Modality
from embedonce.core.costtraffic import Kind, Traffic, tokens_of
from embedonce.core.costworth import DAYS_OF_MONTH
from embedonce.core.errors import NotFound
from embedonce.core.sights import Geometric, Sample

SECONDS_OF_DAY = 86_400.0
SHORTEST_SPAN_DAYS = 1 / 24
"""What spans less is not multiplied up to a month."""
DEFAULT_GAP_DAYS = 7.0
GAP_DECIMALS = 3
PAGE = "docs/cost.md"
ERRORS_NAMED = 5


class BadProfile(ValueError):
    """The text says what is wrong and where, in one line."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[float, Field(gt=0, le=1e15)]
Amount = Annotated[float, Field(gt=0, le=1e7)]


class _Sized(_Strict):
    """One of them: `tokens`, or what they are computed from by modality."""

    modality: Modality = Modality.TEXT
    tokens: Amount | None = None
    images: Amount | None = None
    seconds: Amount | None = None
    pages: Amount | None = None

    def size(self) -> float:
        """Tokens.

        :raises ValueError: not said, said twice, or said of another modality
        """
        given = {
            n: v for n in ("tokens", "images", "seconds", "pages") if (v := getattr(self, n)) is not None
        }
        if not given and self.modality is Modality.IMAGE:
            given = {"images": 1.0}
        if len(given) != 1:
            raise ValueError("needs one of tokens, images, seconds, pages")
        ((name, said),) = given.items()
        amount = float(said)
        if name == "tokens":
            return amount
        if self.modality not in _UNITS[name]:
            raise ValueError(f"{name} is no size of {self.modality.value}")
        return tokens_of(self.modality, amount)


_UNITS = {
    "images": {Modality.IMAGE},
    "seconds": {Modality.AUDIO, Modality.VIDEO},
    "pages": {Modality.PDF},
}


class _Part(_Sized):
    share: Share = 1.0
    hit_ratio: Annotated[float | None, Field(ge=0, lt=1)] = None

    @model_validator(mode="after")
    def _has_a_size(self) -> _Part:
        self.size()
        return self


class Parameters(_Strict):
    """traffic.json. Units and meanings: docs/cost.md."""

    requests: Count
    inputs_per_request: Annotated[float, Field(ge=1, le=10_000)] = 1.0
    mix: Annotated[tuple[_Part, ...], Field(min_length=1, max_length=100)]
    hit_ratio: Annotated[float | None, Field(ge=0, lt=1)] = None
    distinct_share: Annotated[float | None, Field(gt=0, le=1)] = None
    gap_days: Annotated[float, Field(ge=0, le=3650)] = DEFAULT_GAP_DAYS
    dimensions: Annotated[int, Field(ge=1, le=4096)] = 3072
    encoding: Literal["base64", "float"] = "base64"
    memory_mb: Annotated[int, Field(ge=128, le=10_240)] = 1024
    ttl_days: Annotated[float, Field(gt=0, le=36_500)] = 180.0
    memory_share: Share = 0.1
    derived_share: Share = 0.0
    followed_share: Share = 0.0
    internet: bool = True
    keys: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    cold_share: Share = 0.01
    provider_ms: Annotated[float, Field(ge=0, le=60_000)] = 500.0
    slow_ms: Annotated[float, Field(ge=0, le=3_600_000)] = 5000.0
    polls: Annotated[int, Field(ge=0, le=1000)] = 0
    model: str = BUILT_IN[0].id

    @model_validator(mode="after")
    def _says_how_it_repeats(self) -> Parameters:
        every = all(part.hit_ratio is not None for part in self.mix)
        said = (self.hit_ratio is not None) + (self.distinct_share is not None)
        if said > 1 or (not said and not every):
            raise ValueError("needs one of hit_ratio, distinct_share")
        if abs(sum(part.share for part in self.mix) - 1.0) > 1e-6:
            raise ValueError("the shares of mix must add up to 1")
        return self

    def traffic(self) -> Traffic:
        ratio = self.hit_ratio if self.distinct_share is None else 1.0 - self.distinct_share
        inputs = self.requests * self.inputs_per_request
        kinds = []
        for part in self.mix:
            repeated = ratio if part.hit_ratio is None else part.hit_ratio
            assert repeated is not None
            if part.share:
                law = Geometric(inputs * part.share, repeated, self.gap_days)
                kinds.append(Kind(part.modality, part.size(), law))
        given = self.model_dump(include=_SHARED)
        return Traffic(tuple(kinds), model=_model(self.model), **given)


_SHARED = set(Traffic.__dataclass_fields__) & set(Parameters.model_fields) - {"model"}


class _Line(_Sized):
    text: str | None = None
    id: str | int | None = None
    sha256: Annotated[str | None, Field(pattern="^[0-9A-Fa-f]{64}$")] = None
    at: datetime | float | None = None

    def identity(self) -> tuple[str, object]:
        """:raises ValueError: nothing says which input it is"""
        if self.text is not None:
            return "text", hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).digest()
        if self.sha256 is not None:
            return "sha256", self.sha256.lower()
        if self.id is None:
            raise ValueError("needs text, id or sha256, to know what repeats")
        return "id", self.id

    def tokens_in_all(self) -> float:
        sized = any(v is not None for v in (self.tokens, self.images, self.seconds, self.pages))
        if self.text is not None and not sized and self.modality is Modality.TEXT:
            return max(1, math.ceil(len(self.text.encode("utf-8", "surrogatepass")) / BYTES_PER_TOKEN))
        return self.size()

    def day(self) -> float | None:
        match self.at:
            case None:
                return None
            case datetime():
                at = self.at if self.at.tzinfo else self.at.replace(tzinfo=UTC)
                return at.timestamp() / SECONDS_OF_DAY
            case _:
                return self.at / SECONDS_OF_DAY


def read(path: Path, given: Mapping[str, Any]) -> Traffic:
    """:param given: fields that are said on the command line, over those of the file

    :raises BadProfile: it cannot be read, or says what cannot be meant
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    try:
        if path.suffix.lower() in (".jsonl", ".ndjson"):
            with path.open(encoding="utf-8") as lines:
                return _sampled(lines, chosen, path)
        said = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        why = error.strerror or "cannot be read"
        raise BadProfile(f"{path}: {why}; what it has to hold is in {PAGE}") from None
    except UnicodeDecodeError:
        raise BadProfile(f"{path}: not UTF-8") from None
    except ValueError as error:
        if isinstance(error, BadProfile):
            raise
        raise BadProfile(f"{path}: not JSON: {error}") from None
    if not isinstance(said, dict):
        raise BadProfile(f"{path}: must be an object")
    try:
        return Parameters.model_validate(said | chosen).traffic()
    except ValidationError as errors:
        raise _bad(errors, chosen, path) from None


def _sampled(lines: Iterable[str], chosen: Mapping[str, Any], path: Path) -> Traffic:
    seen: dict[tuple[str, Modality, object], list[float]] = {}
    sizes: dict[tuple[str, Modality, object], float] = {}
    timed = 0
    number = 0
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = _Line.model_validate_json(text)
            name = (line.identity()[0], line.modality, line.identity()[1])
            tokens = line.tokens_in_all()
        except ValidationError as errors:
            raise BadProfile(f"{path}: line {number}: {_of_line(errors)}") from None
        except ValueError as error:
            raise BadProfile(f"{path}: line {number}: {error}") from None
        if sizes.setdefault(name, tokens) != tokens:
            raise BadProfile(f"{path}: line {number}: the same input as before with another size")
        day = line.day()
        timed += day is not None
        seen.setdefault(name, []).append(day or 0.0)
    total = sum(map(len, seen.values()))
    if not total:
        raise BadProfile(f"{path}: no lines")
    if timed not in (0, total):
        raise BadProfile(f"{path}: {timed} of {total} lines have at; all or none must")
    for days in seen.values():
        days.sort()
    scale, gap = _scale(seen.values()), _gap(seen.values()) if timed else DEFAULT_GAP_DAYS
    groups: dict[tuple[Modality, float], list[tuple[float, ...]]] = {}
    for name, days in seen.items():
        groups.setdefault((name[1], sizes[name]), []).append(tuple(days))
    kinds = tuple(
        Kind(modality, tokens, Sample(contents, scale, gap))
        for (modality, tokens), contents in groups.items()
    )
    neutral = {"requests": 1, "mix": [{"tokens": 1}], "hit_ratio": 0}
    try:
        parameters = Parameters.model_validate(neutral | dict(chosen))
    except ValidationError as errors:
        raise _bad(errors, chosen, path) from None
    return replace(parameters.traffic(), kinds=kinds)


def _scale(seen: Iterable[list[float]]) -> float:
    """Of the sample to a month."""
    days = [day for each in seen for day in (each[0], each[-1])]
    span = max(days) - min(days)
    return DAYS_OF_MONTH / span if span >= SHORTEST_SPAN_DAYS else 1.0


def _gap(seen: Iterable[list[float]]) -> float:
    """Mean days between two sights of the same."""
    gaps = [(each[-1] - each[0], len(each) - 1) for each in seen if len(each) > 1]
    return (
        round(sum(g for g, _ in gaps) / sum(n for _, n in gaps), GAP_DECIMALS) if gaps else DEFAULT_GAP_DAYS
    )


def _model(name: str) -> Any:
    try:
        return Catalog(BUILT_IN).find(name)
    except NotFound as unknown:
        raise BadProfile(unknown.message) from None


def _bad(errors: ValidationError, chosen: Mapping[str, Any], path: Path) -> BadProfile:
    """Of an option by its name if there is one at fault, else of the file."""
    for each in errors.errors():
        name = str(each["loc"][0]) if each["loc"] else ""
        if name in chosen:
            return BadProfile(f"--{name.replace('_', '-')}: {_why(each)}")
    return BadProfile(f"{path}: {_all(errors)} (its fields: {PAGE})")


def _of_line(errors: ValidationError) -> str:
    if not any(each["type"] == "extra_forbidden" for each in errors.errors()):
        return _all(errors)
    return f"{_all(errors)}; a line may have {', '.join(_Line.model_fields)} ({PAGE})"


def _all(errors: ValidationError) -> str:
    said = [
        ": ".join(filter(None, (".".join(str(name) for name in each["loc"]), _why(each))))
        for each in errors.errors()
    ]
    more = [f"and {len(said) - ERRORS_NAMED} more"] if len(said) > ERRORS_NAMED else []
    return "; ".join([*said[:ERRORS_NAMED], *more])


def _why(error: ErrorDetails) -> str:
    match error["type"]:
        case "extra_forbidden":
            return "no such field"
        case "missing":
            return "is missing"
        case "too_short":
            return "needs at least one entry"
        case _:
            return error["msg"].removeprefix("Value error, ")
