"""Base64 as clients send it: either alphabet, padded or not, wrapped or not, or inside a data URL."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote_to_bytes

from embedonce.core.errors import InvalidRequest, LimitExceeded

MAX_PERCENT_ENCODED = 64 * 1024
"""Characters of a data URL without base64: decoding those takes 70 times their memory."""

_TO_STANDARD = str.maketrans("-_", "+/", " \t\r\n")
_ESCAPES = (("%2B", "+"), ("%2F", "/"), ("%3D", "="), ("%0A", ""), ("%0D", ""))
"""All that base64 has any reason to escape."""


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
    if len(rest) > MAX_PERCENT_ENCODED:
        limit = f"{MAX_PERCENT_ENCODED} characters in a data URL without base64"
        raise LimitExceeded(param, limit=limit, value=str(len(rest)))
    try:
        return unquote_to_bytes(rest)
    except UnicodeEncodeError:  # a lone surrogate
        raise InvalidRequest(f"{param}: is no data URL", param=param) from None


def _base64(text: str, param: str) -> bytes:
    if "%" in text:
        for escape, character in _ESCAPES:
            text = text.replace(escape, character).replace(escape.lower(), character)
    standard = text.translate(_TO_STANDARD).rstrip("=")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(
            f"{param}: is neither an https URL, a data URL nor base64", param=param
        ) from None
