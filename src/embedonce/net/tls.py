"""TLS by certificates and rules that come with us: SSL_CERT_FILE and the like are not read."""

from __future__ import annotations

import ssl

import certifi  # comes with httpx


def own_context() -> ssl.SSLContext:
    """Verifies the certificate and that it is for the name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cafile=certifi.where())
    return context
