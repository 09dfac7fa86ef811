"""The settings of ingest: what is picked up where, and what becomes of it (docs/ingest.md)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from embedonce.configvalues import json_or_file, setting

INCOMING = "incoming/"
RESULTS = "results/"


def _rules(value: Any) -> Any:
    """As `ingestrules.RuleSetting`, which is imported only where there is one: the API has none."""
    said = json_or_file(value)
    if said in ((), []):
        return ()
    from embedonce.ingestrules import rules_said

    return rules_said(said)


class IngestSettings(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    ingest_rules: Annotated[tuple[Any, ...], BeforeValidator(_rules)] = setting(
        "EMBEDONCE_INGEST_RULES",
        "how files are embedded, by prefix and suffix: JSON, or the path of a JSON file (docs/ingest.md; "
        "locally the default is one rule for all files, paid by the development key)",
        (),
    )
    ingest_bucket: str | None = setting("EMBEDONCE_INGEST_BUCKET", "S3 bucket that files are put in (AWS)")
    ingest_prefix: str = setting(
        "EMBEDONCE_INGEST_PREFIX", "prefix of that bucket below which files are picked up (AWS)", INCOMING
    )
    results_bucket: str | None = setting(
        "EMBEDONCE_RESULTS_BUCKET", "S3 bucket of results (AWS; default: the one files are dropped in)"
    )
    results_prefix: str = setting("EMBEDONCE_RESULTS_PREFIX", "prefix of results in it (AWS)", RESULTS)
    ingest_queue_url: str | None = setting("EMBEDONCE_INGEST_QUEUE_URL", "SQS queue of files to cut (AWS)")
    chunk_queue_url: str | None = setting(
        "EMBEDONCE_CHUNK_QUEUE_URL", "SQS queue of chunks to embed and results to publish (AWS)"
    )
    ingest_max_segments: int = setting(
        "EMBEDONCE_INGEST_MAX_SEGMENTS", "segments that one file may have", 200_000, ge=1, le=1_000_000
    )
    ingest_spool_mb: int = setting(
        "EMBEDONCE_INGEST_SPOOL_MB",
        "MiB that one PDF, audio or video from S3 may have: it is copied to /tmp to be cut (AWS)",
        1024,
        ge=1,
        le=10_240,
    )

    @model_validator(mode="after")
    def _apart(self) -> IngestSettings:
        """A result below the prefix that triggers would be picked up again."""
        if self.results_bucket in (None, self.ingest_bucket):
            one, other = self.ingest_prefix, self.results_prefix
            if one.startswith(other) or other.startswith(one):
                raise ValueError(
                    "EMBEDONCE_INGEST_PREFIX and EMBEDONCE_RESULTS_PREFIX overlap in one bucket: results "
                    "would be picked up as files"
                )
        return self
