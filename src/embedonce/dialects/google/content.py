"""Google's `Content` and `Part`, in either spelling of their keys, as a draft: one vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from embedonce.core.content import (
    Draft,
    InlineMedia,
    RemoteMedia,
    Source,
    TextPart,
    UploadedMedia,
    text_part,
)
from embedonce.core.errors import InvalidRequest
from embedonce.core.upload import SCHEME

FILES_HOST = "generativelanguage.googleapis.com"

NO_STORAGE = "Cloud Storage cannot be read from here. Send the bytes as inlineData, or an https URL"
NO_FILES = (
    "files of Google's Files API cannot be read from here. Send the bytes as inlineData, or an https URL"
)


def either(fields: Mapping[str, Any], camel: str, where: str) -> tuple[Any, str]:
    """A field's value by its JSON name, else by its proto name, and where it was found.

    Clients mix both spellings in one body; null is the same as absent.
    """
    if fields.get(camel) is None:
        snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in camel)
        if fields.get(snake) is not None:
            return fields[snake], where + snake
    return fields.get(camel), where + camel


def draft(content: Any, param: str) -> Draft:
    """`role` comes and goes for the same text and means nothing here."""
    if content is None:
        raise InvalidRequest(f"{param}: required", param=param)
    parts = content.get("parts") if isinstance(content, dict) else None
    if not isinstance(parts, list) or not parts:
        raise InvalidRequest(f"{param}.parts: must be a list of at least one part", param=f"{param}.parts")
    return Draft(tuple(_part(part, f"{param}.parts[{i}]") for i, part in enumerate(parts)), param)


def _part(part: Any, param: str) -> TextPart | Source:
    if not isinstance(part, dict):
        raise InvalidRequest(f"{param}: must be an object", param=param)
    where = f"{param}."
    for name in ("videoMetadata", "mediaResolution"):
        asked, field = either(part, name, where)
        if asked:  # it would be another vector than the one that is asked for
            raise InvalidRequest(f"{field}: not supported; media are embedded as they are", param=field)
    text = part.get("text")
    inline, inline_field = either(part, "inlineData", where)
    file, file_field = either(part, "fileData", where)
    if sum(kind is not None for kind in (text, inline, file)) != 1:
        raise InvalidRequest(f"{param}: must have one of text, inlineData and fileData", param=param)
    if inline is not None:
        return _inline(inline, inline_field)
    if file is not None:
        return _file(file, file_field)
    if not isinstance(text, str):
        raise InvalidRequest(f"{where}text: must be a string", param=f"{where}text")
    return text_part(text, f"{where}text")


def _inline(blob: Any, param: str) -> InlineMedia:
    """The MIME type that a client declares is not believed: the bytes say what they are."""
    data = blob.get("data") if isinstance(blob, dict) else None
    if not isinstance(data, str) or not data:
        raise InvalidRequest(f"{param}.data: must be base64", param=f"{param}.data")
    return InlineMedia(data, None, f"{param}.data")


def _file(file: Any, param: str) -> RemoteMedia | UploadedMedia:
    if not isinstance(file, dict):
        raise InvalidRequest(f"{param}: must be an object", param=param)
    uri, field = either(file, "fileUri", f"{param}.")
    if isinstance(uri, str) and uri.startswith(SCHEME):
        return UploadedMedia(uri, None, field)
    scheme = uri[:8].lower() if isinstance(uri, str) else ""
    if scheme.startswith("gs://"):
        raise InvalidRequest(f"{field}: {NO_STORAGE}", param=field)
    if scheme.startswith("files/") or _of_files_api(uri):
        raise InvalidRequest(f"{field}: {NO_FILES}", param=field)
    if not scheme.startswith(("https://", "http://")):
        raise InvalidRequest(f"{field}: must be an https URL", param=field)
    return RemoteMedia(uri, None, field)


def _of_files_api(uri: Any) -> bool:
    """Such a URL needs the key of the account that uploaded the file."""
    try:
        return isinstance(uri, str) and urlsplit(uri).hostname == FILES_HOST
    except ValueError:
        return False
