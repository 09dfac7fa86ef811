"""Where clients put an API key."""

from __future__ import annotations

from embedonce.http.message import Request


def bearer(request: Request) -> str | None:
    """`Authorization: Bearer <key>`"""
    scheme, _, key = request.headers.get("authorization", "").strip().partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def header(request: Request, name: str) -> str | None:
    return request.headers.get(name, "").strip() or None
