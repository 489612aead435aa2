"""Keys that are ready to sign and verify. The signatures are joserfc's work; importing this module imports it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final

from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from base04_builtin.jwt.key_rules import check_key, is_public, new_secret, public_part

_PROBE: Final = b"base04 probes a key pair"


class SigningKey:
    """One key, with the one algorithm that it is for.

    The algorithm comes from the key, never from a token, so that there is no list of algorithms that could be empty.
    """

    def __init__(self, jwk: Mapping[str, Any]) -> None:
        """Load a key.

        Raises:
            ValueError: it is too weak, not what its algorithm wants, or its two parts are not a pair.
        """
        check_key(jwk)
        self.algorithm = str(jwk["alg"])
        self._work = JWSRegistry.algorithms[self.algorithm]
        self._secret_key = self._loaded(jwk)
        self._public_key = self._secret_key if jwk["kty"] == "oct" else self._loaded(public_part(jwk))
        if not is_public(jwk) and not self.verify(_PROBE, self.sign(_PROBE)):
            raise ValueError("its secret part does not belong to its public part")

    def __repr__(self) -> str:
        return f"<SigningKey algorithm={self.algorithm!r}>"

    def sign(self, text: bytes) -> bytes:
        """Return the signature of a text."""
        return self._work.sign(text, self._secret_key)

    def verify(self, text: bytes, signature: bytes) -> bool:
        """Tell whether a signature is that of a text by this key."""
        try:
            return self._work.verify(text, signature, self._public_key)
        except (JoseError, ValueError):
            return False

    def _loaded(self, jwk: Mapping[str, Any]) -> Any:
        members = {name: value for name, value in jwk.items() if name not in ("use", "key_ops", "kid")}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SecurityWarning)  # key_rules is stricter, and refuses
                key = JWKRegistry.import_key(members)
                self._work.check_key(key)
        except (JoseError, ValueError, KeyError, TypeError):
            key = None
        if key is None:  # outside of the handler, whose error may hold the key
            raise ValueError("its numbers are not those of a key")
        return key


def new_jwk(algorithm: str, rsa_bits: int = 2048) -> dict[str, Any]:
    """Make a key for an algorithm. RSA takes up to some seconds."""
    if algorithm == "HS256":
        return new_secret()
    key: OKPKey | ECKey | RSAKey
    if algorithm == "RS256":
        key = RSAKey.generate_key(rsa_bits)
    elif algorithm == "ES256":
        key = ECKey.generate_key("P-256")
    else:
        key = OKPKey.generate_key("Ed25519")
    return {**key.as_dict(private=True), "alg": algorithm}
