"""What every store's rows of manifests and heads have in common; apart from `rows`, as the API has none."""

from __future__ import annotations

from embedonce.core import manifestrow
from embedonce.core.manifest import Head, Manifest
from embedonce.stores.rows import UNREADABLE


def manifest_of(manifest_id: str, version: int, row: str) -> Manifest | None:
    """As `rows.ticket_of`."""
    try:
        return manifestrow.decode(manifest_id, version, row)
    except UNREADABLE:
        return None


def head_of(place: str, version: int, row: str) -> Head | None:
    """As `rows.ticket_of`."""
    try:
        return manifestrow.decode_head(place, version, row)
    except UNREADABLE:
        return None
