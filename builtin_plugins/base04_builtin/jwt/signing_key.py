"""Keys that are ready to sign and verify."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from typing import Any, Final

from base04_builtin.jwt.key_rules import check_key, is_public, new_secret, secret_of

_PROBE: Final = b"base04 probes a key pair"

Sign = Callable[[bytes], bytes]
"""Returns the signature of a text."""

Verify = Callable[[bytes, bytes], bool]
"""Tells whether the second is a signature of the first, a text."""


class SigningKey:
    """One key, with the one algorithm that it is for.

    The algorithm comes from the key, never from a token, so that there is no list of algorithms that could be empty.
    All about a key is decided when it is loaded: ``sign`` and ``verify`` are one call of the library that does it.
    """

    def __init__(self, jwk: Mapping[str, Any]) -> None:
        """Load a key. A pair brings in the library that reads it, which takes 0.1 s.

        Raises:
            ValueError: it is too weak, not what its algorithm wants, or its two parts are not a pair.
        """
        check_key(jwk)
        self.algorithm = str(jwk["alg"])
        self.sign, self.verify = _hmac_of(secret_of(jwk)) if jwk["kty"] == "oct" else _pair_of(jwk)
        if not is_public(jwk) and not self.verify(_PROBE, self.sign(_PROBE)):
            raise ValueError("its secret part does not belong to its public part")

    def __repr__(self) -> str:
        return f"<SigningKey algorithm={self.algorithm!r}>"


def new_jwk(algorithm: str, rsa_bits: int = 2048) -> dict[str, Any]:
    """Make a key for an algorithm. RSA takes up to some seconds."""
    if algorithm == "HS256":
        return new_secret()
    from base04_builtin.jwt.key_pairs import new_pair

    return new_pair(algorithm, rsa_bits)


def _hmac_of(secret: bytes) -> tuple[Sign, Verify]:
    def sign(text: bytes) -> bytes:
        return hmac.digest(secret, text, "sha256")

    def verify(text: bytes, signature: bytes) -> bool:
        return hmac.compare_digest(hmac.digest(secret, text, "sha256"), signature)

    return sign, verify


def _pair_of(jwk: Mapping[str, Any]) -> tuple[Sign, Verify]:
    from base04_builtin.jwt.key_pairs import load_pair

    return load_pair(jwk)
