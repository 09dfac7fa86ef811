"""How rules are written in JSON (`EMBEDONCE_INGEST_RULES`, docs/ingest.md), and read from there."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from embedonce.core.pricing import from_usd
from embedonce.core.rule import MAX_TITLE, Choosable, Output, Rule, Sink, Terms
from embedonce.core.segment import CutOptions, Format
from embedonce.core.tasks import TaskType

USD = r"^\d{1,6}(\.\d{1,9})?$"


class SinkSetting(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    bucket: str = Field(min_length=3, max_length=63)
    index: str = Field(min_length=3, max_length=63)


class RuleSetting(BaseModel):
    """One rule; what is left out has the default that is shown here."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    prefix: str = Field(default="", max_length=500)
    suffix: str = Field(default="", max_length=100)
    key: str = Field(default="", max_length=100, description="id of the access key that pays")
    model: str = Field(default="google/gemini-embedding-2", min_length=1, max_length=200)
    dimensions: int | None = Field(default=None, ge=1, le=65_536)
    task_type: TaskType | None = None
    title: str | None = Field(default=None, min_length=1, max_length=MAX_TITLE)
    namespace: str = Field(default="", max_length=200)
    format: Format | None = None
    segment_bytes: int = Field(default=CutOptions().segment_bytes, ge=256, le=32_768)
    overlap_bytes: int = Field(default=0, ge=0, le=8192)
    field: str = Field(default=CutOptions().field, min_length=1, max_length=200)
    id_field: str | None = Field(default=None, min_length=1, max_length=200)
    pages: int = Field(default=1, ge=1, le=6)
    audio_seconds: float = Field(default=180.0, ge=5, le=180)
    video_seconds: float = Field(default=120.0, ge=5, le=120)
    media_mb: float = Field(default=14.0, ge=1, le=64)
    output: Literal["base64", "float"] = "base64"
    sink: SinkSetting | None = None
    max_usd: str | None = Field(default=None, pattern=USD)
    daily_usd: str | None = Field(default=None, pattern=USD)
    metadata: dict[Choosable, Literal[True] | tuple[str, ...]] = Field(default_factory=dict)

    @field_validator("max_usd", "daily_usd", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """Also as a number."""
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        return (
            f"{value:f}".rstrip("0").rstrip(".")
            if plain and isinstance(value, float)
            else (str(value) if plain else value)
        )

    @field_validator("overlap_bytes")
    @classmethod
    def _half_at_most(cls, value: int, info: Any) -> int:
        if value * 2 > info.data.get("segment_bytes", 0):
            raise ValueError("must be at most half of segment_bytes")
        return value

    def __str__(self) -> str:
        return f"{self.prefix}*{self.suffix}"

    def rule(self, payer: str) -> Rule:
        """:param payer: who pays where the rule names no key"""
        cut = CutOptions(
            segment_bytes=self.segment_bytes,
            overlap_bytes=self.overlap_bytes,
            field=self.field,
            id_field=self.id_field,
            pages=self.pages,
            audio_seconds=self.audio_seconds,
            video_seconds=self.video_seconds,
            media_bytes=int(self.media_mb * 1_000_000),
        )
        terms = Terms(
            payer=self.key or payer,
            model=self.model,
            dimensions=self.dimensions,
            task_type=self.task_type,
            title=self.title,
            namespace=self.namespace,
            format=self.format,
            cut=cut,
            output=Output(self.output),
            sink=Sink(self.sink.bucket, self.sink.index) if self.sink else None,
            most=None if self.max_usd is None else from_usd(self.max_usd),
            daily=None if self.daily_usd is None else from_usd(self.daily_usd),
        )
        may = {name: None if values is True else frozenset(values) for name, values in self.metadata.items()}
        return Rule(self.prefix, self.suffix, terms, may)


def rules_said(value: Any) -> tuple[RuleSetting, ...]:
    """:raises ValueError: naming what is wrong in which rule, never its value"""
    try:
        return TypeAdapter(tuple[RuleSetting, ...]).validate_python(value)
    except ValidationError as errors:
        said = (": ".join((".".join(map(str, e["loc"])), e["msg"])) for e in errors.errors())
        raise ValueError("; ".join(each.removeprefix(": ") for each in said)) from None
