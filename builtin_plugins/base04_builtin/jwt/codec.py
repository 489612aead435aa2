"""Signing and verifying compact tokens (RFC 7515), with one algorithm pinned to one key (RFC 8725, section 3.1).

The signature is joserfc's work. What surrounds it is checked here, before the library sees it: the size, the form, and
a header that says exactly what this issuer writes. Importing this module imports joserfc, which takes 0.1 s.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from base04_builtin.jwt.strict_json import parse_object
from base04_hookspecs.errors import InvalidInput, InvalidToken

ALGORITHM: Final = "HS256"
MAX_TOKEN: Final = 8192
"""The most characters a token may have: what servers and proxies take as a header."""

_MAX_HEADER: Final = 512
_FORM: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)


class TokenCodec:
    """Turns payloads into signed tokens of a type, and back."""

    def __init__(self, secret: bytes) -> None:
        self.kid = hmac.new(secret, b"base04 jwt key id", hashlib.sha256).hexdigest()[:16]
        self._key = OctKey.import_key(secret)
        self._registry = jws.JWSRegistry(algorithms=[ALGORITHM])

    def __repr__(self) -> str:
        return f"<TokenCodec kid={self.kid!r}>"

    def encode(self, kind: str, payload: Mapping[str, Any]) -> str:
        """Sign a payload; ``kind`` becomes the header ``typ``. Equal payloads make equal tokens.

        Raises:
            InvalidInput: the token would be longer than any that is accepted.
        """
        header = {"alg": ALGORITHM, "typ": kind, "kid": self.kid}
        content = json.dumps(payload, separators=(",", ":"), allow_nan=False).encode()
        if len(content) < MAX_TOKEN:
            token = jws.serialize_compact(header, content, self._key, registry=self._registry)
            if len(token) <= MAX_TOKEN:
                return token
        raise InvalidInput(f"The claims make a token longer than {MAX_TOKEN} characters: give fewer or shorter ones.")

    def decode(self, token: str, kind: str) -> dict[str, Any]:
        """Return the payload of a token that this key has signed as ``kind``. Its claims are not checked.

        Raises:
            InvalidToken: for every other token.
        """
        self._check_header(_header_of(token), kind)
        try:
            content = jws.deserialize_compact(token, self._key, registry=self._registry).payload
        except (JoseError, ValueError) as error:
            raise InvalidToken("the signature is not valid") from error
        try:
            return parse_object(content or b"")
        except ValueError as error:
            raise InvalidToken("the payload is not a JSON object with unique names") from error

    def _check_header(self, header: Mapping[str, Any], kind: str) -> None:
        if header.get("alg") != ALGORITHM:
            raise InvalidToken("the algorithm is not the one of the key")
        if header.get("typ") != kind:
            raise InvalidToken(f"the type is not {kind}")
        if header.get("kid") != self.kid:
            raise InvalidToken("the key is not known")
        if len(header) != 3:
            raise InvalidToken("the header has members that are not understood")


def _header_of(token: str) -> dict[str, Any]:
    if not isinstance(token, str):
        raise InvalidToken("it is not a string")
    if len(token) > MAX_TOKEN:
        raise InvalidToken(f"it is longer than {MAX_TOKEN} characters")
    form = _FORM.fullmatch(token)
    if form is None:
        raise InvalidToken("it is not three base64url segments")
    header, *_ = [_decoded_segment(segment) for segment in form.groups()]
    if len(header) > _MAX_HEADER:
        raise InvalidToken(f"the header is longer than {_MAX_HEADER} bytes")
    try:
        return parse_object(header)
    except ValueError as error:
        raise InvalidToken("the header is not a JSON object with unique names") from error


def _decoded_segment(segment: str) -> bytes:
    encoded = segment.encode()
    try:
        decoded = base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
    except ValueError as error:
        raise InvalidToken("a segment is not base64url") from error
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != encoded:
        raise InvalidToken("a segment is not canonical base64url")
    return decoded
