"""Base64 as clients send it: either alphabet, padded or not, wrapped or not, or inside a data URL."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote_to_bytes

from embedonce.core.errors import InvalidRequest

_TO_STANDARD = str.maketrans("-_", "+/", " \t\r\n")


def inline_bytes(text: str, param: str) -> bytes:
    """:raises InvalidRequest: neither base64 nor a data URL, or nothing in it"""
    data = _data_url(text, param) if text[:5].lower() == "data:" else _base64(text, param)
    if not data:
        raise InvalidRequest(f"{param}: is empty", param=param)
    return data


def _data_url(text: str, param: str) -> bytes:
    head, comma, rest = text[5:].partition(",")
    if not comma:
        raise InvalidRequest(f"{param}: a data URL needs a comma before its data", param=param)
    if head.lower().endswith(";base64"):
        return _base64(rest, param)
    return unquote_to_bytes(rest)


def _base64(text: str, param: str) -> bytes:
    if "%" in text:
        text = unquote_to_bytes(text).decode("latin-1")
    standard = text.translate(_TO_STANDARD).rstrip("=")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(
            f"{param}: is neither an https URL, a data URL nor base64", param=param
        ) from None
