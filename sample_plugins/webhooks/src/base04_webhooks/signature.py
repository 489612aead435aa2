"""Signatures as Standard Webhooks has them (https://www.standardwebhooks.com, HMAC-SHA256)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping

from base04_webhooks.settings import key_of


class InvalidSignature(Exception):
    """A message is not from who holds the secret, or is too old."""


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of a message; ``timestamp`` is in seconds since the epoch."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key_of(secret), signed, hashlib.sha256)).decode()


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, tolerance_s: float = 300.0) -> str:
    """Check a message that was received and return its id, by which a second delivery of it is known.

    Args:
        headers: with lower-case names, or case-insensitive.
        tolerance_s: how old, or how far ahead, its timestamp may be.

    Raises:
        InvalidSignature: it must not be acted on.
    """
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not message_id or not timestamp.isdecimal():
        raise InvalidSignature("The message has no id, or no timestamp.")
    if abs(time.time() - int(timestamp)) > tolerance_s:
        raise InvalidSignature("The message is too old, or from the future.")
    expected = sign(secret, message_id, int(timestamp), body).encode()
    if not any(hmac.compare_digest(expected, each.encode()) for each in headers.get("webhook-signature", "").split()):
        raise InvalidSignature("The signature is another one.")
    return message_id
