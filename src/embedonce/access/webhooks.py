"""Signatures of webhooks, by the Standard Webhooks specification (standardwebhooks.com). Pure.

Every API key has a secret of its own, derived from the operator's master: nothing is stored for it, and who
knows the secret of one key can sign for no other.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping

PREFIX = "whsec_"
_PURPOSE = b"embedonce/webhook/1/"


def secret_of(master: bytes, key_id: str) -> str:
    """What the holder of the key verifies with: `whsec_` and 32 bytes in base64."""
    derived = hmac.digest(master, _PURPOSE + key_id.encode(), hashlib.sha256)
    return PREFIX + base64.b64encode(derived).decode()


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> Mapping[str, str]:
    """The three headers. `timestamp` of the attempt, in seconds since 1970.

    :raises ValueError: not a secret, or a message id with a dot: dots part what is signed
    """
    if not secret.startswith(PREFIX) or "." in message_id:
        raise ValueError("a secret begins with whsec_, and a message id has no dot")
    key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    signed = f"{message_id}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }
