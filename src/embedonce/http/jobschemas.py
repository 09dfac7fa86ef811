"""The bodies of submit and poll, of uploads, and of the webhook secret."""

from __future__ import annotations

from typing import Any

from embedonce.dialects.segmind.jobs import COMPLETED, FAILED, PROCESSING, QUEUED
from embedonce.dialects.segmind.uploads import ANY_TYPE, URL_SECONDS
from embedonce.http.schemas import STRING, object_of, ref


def job_schemas() -> dict[str, Any]:
    return {**_jobs(), **_uploads()}


def _jobs() -> dict[str, Any]:
    seconds = {"type": "number", "description": "Seconds; only where it is over."}
    names = ("queue_time", "inference_time", "total_time")
    url = {"type": "string", "format": "uri"}
    about = {"request_id": STRING, "metrics": object_of(dict.fromkeys(names, seconds), [])}
    return {
        "SegmindSubmitted": object_of(
            {
                "request_id": STRING,
                "status": {"const": QUEUED},
                "status_url": url,
                "response_url": url,
                "poll_url": url,
            }
        ),
        "SegmindStatus": object_of({**about, "status": {"enum": [QUEUED, PROCESSING, COMPLETED]}}),
        "SegmindResult": object_of(
            {
                **about,
                "status": {"enum": [QUEUED, PROCESSING, COMPLETED]},
                "output": ref("SegmindResponse"),
                "usage": ref("Usage"),
            },
            [*about, "status"],
        ),
        "SegmindFailed": object_of({**about, "status": {"const": FAILED}, "error": STRING}),
        "WebhookSecret": object_of({"secret": {"type": "string", "description": "whsec_ and base64."}}),
    }


def _uploads() -> dict[str, Any]:
    return {
        "UploadRequest": object_of(
            {
                "size": {"type": "integer", "minimum": 1, "description": "Bytes."},
                "sha256": {"type": "string", "description": "Of the bytes, in hex or base64."},
                "content_type": {"type": "string", "examples": ["video/mp4", ANY_TYPE]},
            }
        ),
        "UploadAnswer": object_of(
            {
                "upload_url": {"type": "string", "format": "uri"},
                "method": {"const": "PUT"},
                "headers": {"type": "object", "additionalProperties": STRING},
                "handle": {
                    "type": "string",
                    "description": "upload://…, in place of media; for this key only, for a day at most.",
                },
                "expires_in": {"const": URL_SECONDS},
            }
        ),
    }
