"""What an API key looks like: ``b04_``, a public id, a secret, a checksum.

The scheme is GitHub's (https://github.blog/2021-04-05-behind-githubs-new-authentication-token-formats/): a prefix that
scanners find, and the CRC32 of all before it in six base62 characters, so that a typo is refused without a look-up.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from typing import Final

PREFIX: Final = "b04_"

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH: Final = 12  # 71 bits: unique, not secret
_SECRET_LENGTH: Final = 30  # 178 bits
_CHECKSUM_LENGTH: Final = 6

_KEY: Final = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{_ID_LENGTH}}})[0-9A-Za-z]{{{_SECRET_LENGTH + _CHECKSUM_LENGTH}}}")
_ID: Final = re.compile(rf"[0-9A-Za-z]{{{_ID_LENGTH}}}")


def new_key() -> tuple[str, str]:
    """Return a new key and its public id."""
    key_id = _random(_ID_LENGTH)
    body = f"{PREFIX}{key_id}{_random(_SECRET_LENGTH)}"
    return body + _checksum(body), key_id


def id_of(key: object) -> str | None:
    """Return the public id of a key that is well formed and whose checksum is right, else None."""
    form = _KEY.fullmatch(key) if isinstance(key, str) else None
    if form is None:
        return None
    body, checksum = form[0][:-_CHECKSUM_LENGTH], form[0][-_CHECKSUM_LENGTH:]
    return form[1] if checksum == _checksum(body) else None


def is_id(text: object) -> bool:
    """Tell whether a text has the form of a public id."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def digest_of(key: str, pepper: bytes) -> str:
    """Return the keyed hash under which a key is stored.

    A fast hash is enough: the secret has 178 random bits, so there is nothing to guess.
    """
    return hmac.new(pepper, b"base04 api key\0" + key.encode(), hashlib.sha256).hexdigest()


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
