"""What results are called: the source's key with a suffix that says what is in them.

Names that are too long for where they go are cut: one part (between slashes) has at most 255 bytes of UTF-8,
as files have, and the whole name at most 1024, as S3's keys have. What is cut ends in `~` and 16 hexadecimal
digits of the SHA-256 of what it was, before the suffix; it is never cut within a character.

    reports/2026/<300 bytes>.pdf  ─▶  reports/2026/<the first of them>~0123456789abcdef.embedding.json
"""

from __future__ import annotations

import hashlib

ONE = ".embedding.json"
"""One document: of a source that is one segment."""
MANY = ".embedding.jsonl"
"""A line for each segment."""
ERROR = ".error.json"
"""Why the source as a whole could not be embedded."""
SUFFIXES = (ONE, MANY, ERROR)

MAX_PART = 255
MAX_NAME = 1024
"""Bytes of UTF-8."""


def result_name(key: str, suffix: str) -> str:
    return fitted(key + suffix)


def fitted(name: str, most: int = MAX_NAME) -> str:
    """Itself, unless one of its parts, or all of it, is too long. To `most` bytes the whole name is cut.

    :param most: at least 255
    """
    suffix = next((each for each in SUFFIXES if name.endswith(each)), "")
    *folders, last = name.removesuffix(suffix).split("/")
    parts = [*(_cut(folder, "", MAX_PART) for folder in folders), _cut(last, suffix, MAX_PART)]
    if _size("/".join(parts)) <= most:
        return "/".join(parts)
    end = _mark(name.removesuffix(suffix)) + suffix
    *folders, last = _start("/".join(parts).removesuffix(suffix), most - _size(end)).split("/")
    return "/".join([*folders, _start(last, MAX_PART - _size(end)) + end])


def _cut(text: str, suffix: str, most: int) -> str:
    if _size(text + suffix) <= most:
        return text + suffix
    end = _mark(text) + suffix
    return _start(text, most - _size(end)) + end


def _mark(text: str) -> str:
    return "~" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _start(text: str, most: int) -> str:
    return text.encode("utf-8", "surrogatepass")[:most].decode("utf-8", "ignore")


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
