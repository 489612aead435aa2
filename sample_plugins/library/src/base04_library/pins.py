"""PINs of cards, kept as salted hashes alone."""

from __future__ import annotations

import hashlib
import hmac
import os


def hashed(pin: str, salt: bytes | None = None) -> tuple[bytes, bytes]:
    """Return a salt and the hash of a PIN with it. Takes a while on purpose: not for the event loop."""
    salt = os.urandom(16) if salt is None else salt
    return salt, hashlib.scrypt(pin.encode(), salt=salt, n=2**14, r=8, p=1)


def is_right(pin: str, salt: bytes, expected: bytes) -> bool:
    """Tell whether a PIN has this hash, without telling by the time it takes. Not for the event loop."""
    return hmac.compare_digest(hashed(pin, salt)[1], expected)
