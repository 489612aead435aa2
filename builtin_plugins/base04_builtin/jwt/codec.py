"""Compact tokens (RFC 7515, section 7.1), signed and verified with a set of keys.

All that surrounds the signature is checked here: the size before anything is decoded, the form, and a header that says
exactly what this issuer writes. Keys and algorithms that a token brings along are never looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import orjson

from base04_builtin.jwt import base64url
from base04_builtin.jwt.claims import ACCESS, REFRESH, IssueClock
from base04_builtin.jwt.key_set import KeySet, StoredKey
from base04_builtin.jwt.signing_key import SigningKey
from base04_builtin.jwt.strict_json import parse_object
from base04_hookspecs.errors import InvalidInput, MalformedToken, MisusedToken, UntrustedToken

MAX_TOKEN: Final = 8192
"""The most characters a token may have: what servers and proxies take as a header."""

_MAX_HEADER: Final = 512
_KINDS: Final = (ACCESS, REFRESH)


class UnknownKey(UntrustedToken):
    """The token names a key that is not in the set."""

    def __init__(self, kid: str) -> None:
        super().__init__("the key is not known")
        self.kid = kid


class _LoadedKey:
    """A key ready to be used, and the headers of the tokens that it signs."""

    def __init__(self, stored: StoredKey) -> None:
        try:
            self.key = SigningKey(stored.jwk)
        except ValueError as error:
            raise ValueError(f"the key {stored.kid} is unusable: {error}") from None
        self.kid = stored.kid
        self.ends_at = stored.ends_at
        self.headers = {
            kind: base64url.encode(_written({"alg": stored.algorithm, "typ": kind, "kid": stored.kid}))
            for kind in _KINDS
        }


class TokenCodec:
    """Turns payloads into signed tokens of a type, and back."""

    def __init__(self, key_set: KeySet, clock: IssueClock) -> None:
        """Load the keys.

        Raises:
            ValueError: one of them cannot be used.
        """
        self._clock = clock
        self._key_set = key_set
        self._keys = {stored.kid: _LoadedKey(stored) for stored in key_set.keys}
        self._known_headers = {
            header: (key, kind) for key in self._keys.values() for kind, header in key.headers.items()
        }
        self._switches = any(stored.signs_from > clock.now() for stored in key_set.keys)
        self._signing = self._keys[key_set.signing(clock.now()).kid]

    def __repr__(self) -> str:
        return f"<TokenCodec version={self._key_set.version}>"

    def encode(self, kind: str, payload: Mapping[str, Any]) -> str:
        """Sign a payload; ``kind`` becomes the header ``typ``.

        Raises:
            InvalidInput: the token would be longer than any that is accepted.
        """
        key = self._signing_now() if self._switches else self._signing
        signed = key.headers[kind] + b"." + base64url.encode(_written(payload))
        if len(signed) < MAX_TOKEN:
            token = signed + b"." + base64url.encode(key.key.sign(signed))
            if len(token) <= MAX_TOKEN:
                return token.decode()
        raise InvalidInput(f"The claims make a token longer than {MAX_TOKEN} characters: give fewer or shorter ones.")

    def decode(self, token: str, kind: str) -> tuple[dict[str, Any], str, float | None]:
        """Return the payload of a token that one of the keys has signed as ``kind``, the key's id and its end.

        The claims are not checked.

        Raises:
            UnknownKey: the token names a key that is not here.
            InvalidToken: for every other token.
        """
        header, payload, signature, signed = split_token(token)
        known = self._known_headers.get(header)
        key, found = known if known is not None else self._choose(header)
        if found != kind:
            raise MisusedToken(f"the type is not {kind}")
        if key.ends_at is not None and key.ends_at <= self._clock.now():
            raise UntrustedToken("the key has ended")
        return parse_payload(verified_content(key.key, signed, payload, signature)), key.kid, key.ends_at

    def _signing_now(self) -> _LoadedKey:
        now = self._clock.now()
        self._signing = self._keys[self._key_set.signing(now).kid]
        self._switches = any(stored.signs_from > now for stored in self._key_set.keys)
        return self._signing

    def _choose(self, segment: bytes) -> tuple[_LoadedKey, str]:
        """Return the key and the type that a header names which is not one of those that this issuer writes."""
        header = parse_header(segment)
        kid, kind = header.get("kid"), header.get("typ")
        if kind not in _KINDS:
            raise MisusedToken("the type is none of a token of this issuer")
        if not isinstance(kid, str):
            raise MalformedToken("the header names no key")
        key = self._keys.get(kid)
        if key is None:
            raise UnknownKey(kid)
        check_header(header, key.key)
        return key, str(kind)


def open_token(token: str, key: SigningKey) -> bytes:
    """Return what a key has signed, whatever the type and the key id that the header names.

    Raises:
        InvalidToken: it has not, or the header says anything that is not understood.
    """
    header, payload, signature, signed = split_token(token)
    check_header(parse_header(header), key)
    return verified_content(key, signed, payload, signature)


def split_token(token: str) -> tuple[bytes, bytes, bytes, bytes]:
    """Return header, payload and signature as they are written, and what is signed."""
    if not isinstance(token, str):
        raise MalformedToken("it is not a string")
    if len(token) > MAX_TOKEN:
        raise MalformedToken(f"it is longer than {MAX_TOKEN} characters")
    try:
        text = token.encode("ascii")
        header, payload, signature = text.split(b".")
    except ValueError:
        header = payload = signature = b""
    if not header or not payload or not signature:
        raise MalformedToken("it is not three base64url segments")
    return header, payload, signature, text[: -1 - len(signature)]


def parse_header(segment: bytes) -> dict[str, Any]:
    """Read a header."""
    content = _decoded(segment)
    if len(content) > _MAX_HEADER:
        raise MalformedToken(f"the header is longer than {_MAX_HEADER} bytes")
    try:
        return parse_object(content)
    except ValueError as error:
        raise MalformedToken("the header is not a JSON object with unique names") from error


def check_header(header: Mapping[str, Any], key: SigningKey) -> None:
    """Refuse a header with another algorithm than the key's, or with anything but ``typ`` and ``kid`` beside it.

    So what this issuer does not understand, ``crit`` included, and every key that is brought along, is refused.
    """
    if header.get("alg") != key.algorithm:
        raise UntrustedToken("the algorithm is not the one of the key")
    if not header.keys() <= {"alg", "typ", "kid"}:
        raise MalformedToken("the header has members that are not understood")


def verified_content(key: SigningKey, signed: bytes, payload: bytes, signature: bytes) -> bytes:
    """Return what a payload segment holds, once the signature is found good."""
    if not key.verify(signed, _decoded(signature)):
        raise UntrustedToken("the signature is not valid")
    return _decoded(payload)


def parse_payload(content: bytes) -> dict[str, Any]:
    """Read a payload."""
    try:
        return parse_object(content)
    except ValueError as error:
        raise MalformedToken("the payload is not a JSON object with unique names") from error


def _written(members: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(members)
    except TypeError:  # integers above 64 bits, and surrogates that stand alone, which JSON has
        return json.dumps(members, separators=(",", ":"), allow_nan=False).encode()


def _decoded(segment: bytes) -> bytes:
    try:
        return base64url.decode(segment)
    except ValueError as error:
        raise MalformedToken(f"a segment cannot be read: {error}") from error
