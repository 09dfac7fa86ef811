"""A job: one content and how it is to be embedded, as text that waits for a worker.

Media never stand in it: they lie as blobs (`BlobMedia`), behind an upload handle, or behind a URL that the
worker fetches. Texts do, so a job is as secret as an input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, assert_never

import orjson

from embedonce.core.cachecontrol import CacheControls
from embedonce.core.catalog import Model
from embedonce.core.content import MediaPart, Modality, RemoteMedia, TextPart, UploadedMedia
from embedonce.core.options import EmbedOptions
from embedonce.core.tasks import TaskType

FORMAT = 1


@dataclass(frozen=True, slots=True)
class BlobMedia:
    """Media as they were inspected; their bytes lie as a blob called `name`, below the ticket's prefix."""

    part: MediaPart
    name: str
    param: str


JobPart = TextPart | BlobMedia | UploadedMedia | RemoteMedia


@dataclass(frozen=True, slots=True)
class Job:
    """`param` names where the client sent it; `namespace` is the one it asked for inside of its key's."""

    parts: tuple[JobPart, ...]
    param: str
    options: EmbedOptions
    controls: CacheControls
    namespace: str


def encode(job: Job) -> str:
    options = job.options
    return orjson.dumps(
        {
            "format": FORMAT,
            "parts": [_part_said(part) for part in job.parts],
            "param": job.param,
            "model": options.model.id,
            "dimensions": options.dimensions,
            "task_type": None if options.task_type is None else options.task_type.value,
            "title": options.title,
            "parameters": dict(options.parameters),
            "passthrough": dict(options.passthrough),
            "headers": dict(options.headers),
            "controls": asdict(job.controls),
            "namespace": job.namespace,
        }
    ).decode()


def decode(text: str, find: Callable[[str], Model]) -> Job:
    """:raises ValueError: another shape (a later version's, or damaged)
    :raises NotFound: `find` does not know the model any more
    """
    said = orjson.loads(text)
    try:
        if said["format"] != FORMAT:
            raise ValueError(f"unknown job format {said['format']}")
        return Job(
            parts=tuple(_part(each) for each in said["parts"]),
            param=said["param"],
            options=EmbedOptions(
                model=find(said["model"]),
                dimensions=said["dimensions"],
                task_type=None if said["task_type"] is None else TaskType(said["task_type"]),
                title=said["title"],
                parameters=said["parameters"],
                passthrough=said["passthrough"],
                headers=said["headers"],
            ),
            controls=CacheControls(**said["controls"]),
            namespace=said["namespace"],
        )
    except (KeyError, TypeError) as wrong:
        raise ValueError(f"the job cannot be read: {wrong}") from None


def _part_said(part: JobPart) -> dict[str, Any]:
    match part:
        case TextPart():
            return {"text": part.text}
        case BlobMedia(media, name, param):
            return {
                "blob": name,
                "param": param,
                "modality": media.modality.value,
                "media_type": media.media_type,
                "sha256": media.sha256.hex(),
                "size": media.size,
                "seconds": media.seconds,
                "pages": media.pages,
            }
        case UploadedMedia(handle, expected, param):
            return {"upload": handle, "expected": expected, "param": param}
        case RemoteMedia(url, expected, param):
            return {"url": url, "expected": expected, "param": param}
        case _:
            assert_never(part)


def _part(said: dict[str, Any]) -> JobPart:
    if "text" in said:
        return TextPart(said["text"])
    if "blob" in said:
        media = MediaPart(
            Modality(said["modality"]),
            said["media_type"],
            bytes.fromhex(said["sha256"]),
            said["size"],
            seconds=said["seconds"],
            pages=said["pages"],
        )
        return BlobMedia(media, said["blob"], said["param"])
    expected = None if said["expected"] is None else Modality(said["expected"])
    if "upload" in said:
        return UploadedMedia(said["upload"], expected, said["param"])
    return RemoteMedia(said["url"], expected, said["param"])
