"""base64url without padding, one text for each content (RFC 7515, section 2; RFC 4648, section 3.5)."""

from __future__ import annotations

from binascii import Error, a2b_base64, b2a_base64
from typing import Final

_FROM_URL: Final = bytes.maketrans(b"-_", b"+/")
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_PADDING: Final = (b"", b"===", b"==", b"=")


def encode(content: bytes) -> bytes:
    """Return the text of a content."""
    return b2a_base64(content, newline=False).rstrip(b"=").translate(_TO_URL)


def decode(text: bytes) -> bytes:
    """Return the content of a text.

    Raises:
        ValueError: it has other characters, padding, an impossible length, or unused bits that are not zero.
    """
    try:
        content = a2b_base64(text.translate(_FROM_URL) + _PADDING[len(text) % 4])
    except Error:
        raise ValueError("it is not base64url") from None
    if encode(content) != text:
        raise ValueError("it is not canonical base64url")
    return content
