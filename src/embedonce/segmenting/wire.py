"""What the child says: frames of a JSON header, its length before it in 4 bytes (big-endian), and a payload.

The parent believes nothing of it: a parser that was taken over may say anything.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from embedonce.core.content import Modality
from embedonce.core.segment import Range, Segment, Unit

HEADER_BYTES = 64 << 10
PAYLOAD_BYTES = 64 << 20
COMPLEX = "takes too much time or memory to read"
DAMAGED = "is damaged"


class Malformed(Exception):
    """Not what this module writes."""


@dataclass(frozen=True, slots=True)
class End:
    """The last frame: all is said, or why no more can be, or a library is not installed."""

    lineage: str = ""
    uncuttable: str | None = None
    unavailable: bool = False


def frame(what: Segment | End) -> bytes:
    payload = b""
    if isinstance(what, End):
        header: dict[str, Any] = {"end": True, **asdict(what)}
    else:
        payload = (what.data or b"") if what.text is None else what.text.encode()
        header = {
            "modality": what.modality,
            "range": (what.range.unit, what.range.start, what.range.end),
            "kind": "text" if what.text is not None else "none" if what.data is None else "data",
            "bytes": len(payload),
            "media_type": what.media_type,
            "seconds": what.seconds,
            "pages": what.pages,
            "id": what.id,
            "error": what.error,
        }
    head = json.dumps(header).encode()
    if len(head) > HEADER_BYTES or len(payload) > PAYLOAD_BYTES:
        raise Malformed
    return len(head).to_bytes(4, "big") + head + payload


class Frames:
    """Put together again from what a pipe gives."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._header: dict[str, Any] | None = None
        self._payload = 0

    def feed(self, chunk: bytes) -> None:
        self._held += chunk

    def take(self) -> Segment | End | None:
        """The next frame, if it is here.

        :raises Malformed: nothing sensible can follow
        """
        if self._header is None:
            if len(self._held) < 4:
                return None
            size = int.from_bytes(self._held[:4], "big")
            if size > HEADER_BYTES:
                raise Malformed
            if len(self._held) < 4 + size:
                return None
            self._header, self._payload = _header(bytes(self._held[4 : 4 + size]))
            del self._held[: 4 + size]
        if len(self._held) < self._payload:
            return None
        payload = bytes(self._held[: self._payload])
        del self._held[: self._payload]
        header, self._header = self._header, None
        return _end(header) if header.get("end") is True else _segment(header, payload)


def _header(raw: bytes) -> tuple[dict[str, Any], int]:
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        raise Malformed from None
    if not isinstance(header, dict):
        raise Malformed
    payload = header.get("bytes", 0)
    if type(payload) is not int or not 0 <= payload <= PAYLOAD_BYTES:
        raise Malformed
    return header, payload


def _end(header: dict[str, Any]) -> End:
    why = _string(header.get("uncuttable"))
    return End(_string(header.get("lineage")) or "", why, header.get("unavailable") is True)


def _segment(header: dict[str, Any], payload: bytes) -> Segment:
    try:
        unit, start, end = header["range"]
        kind = header["kind"]
        return Segment(
            Modality(header["modality"]),
            Range(Unit(unit), _number(start), _number(end)),
            text=payload.decode() if kind == "text" else None,
            data=payload if kind == "data" else None,
            media_type=_string(header["media_type"]) or "",
            seconds=_number(header["seconds"]),
            pages=int(_number(header["pages"])),
            id=_string(header["id"]),
            error=_string(header["error"]),
        )
    except (KeyError, TypeError, ValueError):
        raise Malformed from None


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise Malformed
    return value  # type: ignore[no-any-return]  # an int stays one


def _string(value: Any) -> str | None:
    if not isinstance(value, str | None):
        raise Malformed
    return value
