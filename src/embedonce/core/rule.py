"""Rules: how the sources below a prefix are embedded, and who pays. An object's metadata may choose only what
its rule lists."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

import orjson

from embedonce.core.errors import InvalidRequest
from embedonce.core.segment import CutOptions, Format
from embedonce.core.tasks import TaskType


class Output(StrEnum):
    """How vectors are written in results."""

    BASE64 = "base64"
    FLOAT = "float"


@dataclass(frozen=True, slots=True)
class Sink:
    """An index of Amazon S3 Vectors."""

    bucket: str
    index: str


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a source is embedded. `payer` is the id of an access key; `namespace` is one inside of
    that key's. `model` and `dimensions` as in a request; `format` None: told by bytes and name.

    `most` and `daily` (pico-dollars) are ceilings: of what one source, and all sources of a rule in a day
    (UTC), may cost at the very most.
    """

    payer: str
    model: str
    dimensions: int | None = None
    task_type: TaskType | None = None
    title: str | None = None
    namespace: str = ""
    format: Format | None = None
    cut: CutOptions = field(default=CutOptions())
    output: Output = Output.BASE64
    sink: Sink | None = None
    most: int | None = None
    daily: int | None = None

    @property
    def hash(self) -> str:
        """32 hexadecimal digits over all of it that is not as by default, so that later versions with further
        fields agree."""
        return _hash(_told(self))


class Choosable(StrEnum):
    """What metadata may choose, by the name it has there (`x-amz-meta-task-type`)."""

    TASK_TYPE = "task-type"
    DIMENSIONS = "output-dimensionality"
    TITLE = "title"
    FIELD = "field"
    ID_FIELD = "id-field"
    FORMAT = "format"


@dataclass(frozen=True, slots=True)
class Rule:
    """`may`: what metadata may choose; a set of values where only those, None where any."""

    prefix: str
    suffix: str
    terms: Terms
    may: Mapping[Choosable, frozenset[str] | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.prefix}*{self.suffix}"

    @property
    def hash(self) -> str:
        """32 hexadecimal digits over everything that the rule says."""
        may = {name.value: None if values is None else sorted(values) for name, values in self.may.items()}
        said = {"prefix": self.prefix, "suffix": self.suffix, "terms": _told(self.terms), "may": may}
        return _hash(said)

    def chosen(self, metadata: Mapping[str, str]) -> Terms:
        """The terms with what an object's metadata choose.

        :raises InvalidRequest: they choose what the rule does not let them, or what is no such value
        """
        terms = self.terms
        for name in Choosable:
            value = metadata.get(name.value, "").strip()
            if not value:
                continue
            where = f"metadata {name.value}"
            if name not in self.may:
                raise InvalidRequest(
                    f"{where}: the rule for {self.name} does not let objects choose it", param=where
                )
            allowed = self.may[name]
            if allowed is not None and value not in allowed:
                raise InvalidRequest(
                    f"{where}: the rule for {self.name} allows {', '.join(sorted(allowed))}", param=where
                )
            terms = _with(terms, name, value, where)
        return terms


def _told(value: Terms | CutOptions) -> dict[str, Any]:
    said = {}
    for each in fields(value):
        found = getattr(value, each.name)
        if found != each.default:
            said[each.name] = _told(found) if isinstance(found, CutOptions) else found
    return said


def _hash(said: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def matching(rules: Iterable[Rule], key: str) -> Rule | None:
    """The rule of the longest prefix, and of those the one of the longest suffix, that `key` has."""
    fitting = [rule for rule in rules if key.startswith(rule.prefix) and key.endswith(rule.suffix)]
    return max(fitting, key=lambda rule: (len(rule.prefix), len(rule.suffix)), default=None)


MAX_TITLE = 500
"""Characters."""


def _with(terms: Terms, name: Choosable, value: str, where: str) -> Terms:
    try:
        match name:
            case Choosable.TASK_TYPE:
                return replace(terms, task_type=TaskType(value))
            case Choosable.DIMENSIONS:
                return replace(terms, dimensions=int(value))
            case Choosable.TITLE:
                if len(value) > MAX_TITLE:
                    raise InvalidRequest(f"{where}: more than {MAX_TITLE} characters", param=where)
                return replace(terms, title=value)
            case Choosable.FIELD:
                return replace(terms, cut=replace(terms.cut, field=value))
            case Choosable.ID_FIELD:
                return replace(terms, cut=replace(terms.cut, id_field=value))
            case Choosable.FORMAT:
                return replace(terms, format=Format(value))
    except ValueError:
        raise InvalidRequest(f"{where}: is no such value", param=where) from None
