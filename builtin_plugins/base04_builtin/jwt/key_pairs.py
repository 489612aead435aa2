"""Key pairs: read and made by joserfc, used by cryptography (RFC 7518, section 3; RFC 8037, section 3.1).

Importing this module imports both, which takes 0.1 s.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from base04_builtin.jwt.key_rules import is_public, public_part
from base04_builtin.jwt.signing_key import Sign, Verify

_P256_BYTES: Final = 32
_ECDSA: Final = ECDSA(SHA256())
_PADDING: Final = PKCS1v15()
_SHA256: Final = SHA256()

Check = Callable[[bytes, bytes], None]
"""Raises ``InvalidSignature`` where the second is no signature of the first, a text."""


def new_pair(algorithm: str, rsa_bits: int = 2048) -> dict[str, Any]:
    """Make a pair for an algorithm. RSA takes up to some seconds."""
    key: OKPKey | ECKey | RSAKey
    if algorithm == "RS256":
        key = RSAKey.generate_key(rsa_bits)
    elif algorithm == "ES256":
        key = ECKey.generate_key("P-256")
    else:
        key = OKPKey.generate_key("Ed25519")
    return {**key.as_dict(private=True), "alg": algorithm}


def load_pair(jwk: Mapping[str, Any]) -> tuple[Sign, Verify]:
    """Return what signs and what verifies with a pair, or with its public part alone, which signs nothing.

    Raises:
        ValueError: its numbers are not those of a key.
    """
    # The public part is read by itself: it need not be the one that belongs to the secret part.
    public = _native(public_part(jwk), "public_key")
    private = None if is_public(jwk) else _native(jwk, "private_key")
    sign, check = _WAYS[jwk["kty"]](public, private)

    def verify(text: bytes, signature: bytes) -> bool:
        try:
            check(text, signature)
        except (InvalidSignature, ValueError):
            return False
        return True

    return (_refuse if private is None else sign), verify


def _ed25519(public: Ed25519PublicKey, private: Ed25519PrivateKey) -> tuple[Sign, Check]:
    return (lambda text: private.sign(text)), (lambda text, signature: public.verify(signature, text))


def _p256(public: EllipticCurvePublicKey, private: EllipticCurvePrivateKey) -> tuple[Sign, Check]:
    """Two numbers of 32 bytes each, where the library has DER."""

    def sign(text: bytes) -> bytes:
        r, s = decode_dss_signature(private.sign(text, _ECDSA))
        return r.to_bytes(_P256_BYTES) + s.to_bytes(_P256_BYTES)

    def check(text: bytes, signature: bytes) -> None:
        if len(signature) != 2 * _P256_BYTES:
            raise InvalidSignature
        r, s = int.from_bytes(signature[:_P256_BYTES]), int.from_bytes(signature[_P256_BYTES:])
        public.verify(encode_dss_signature(r, s), text, _ECDSA)

    return sign, check


def _rsa(public: RSAPublicKey, private: RSAPrivateKey) -> tuple[Sign, Check]:
    def sign(text: bytes) -> bytes:
        return private.sign(text, _PADDING, _SHA256)

    def check(text: bytes, signature: bytes) -> None:
        public.verify(signature, text, _PADDING, _SHA256)

    return sign, check


_WAYS: Final[Mapping[str, Callable[[Any, Any], tuple[Sign, Check]]]] = {"OKP": _ed25519, "EC": _p256, "RSA": _rsa}


def _refuse(text: bytes) -> bytes:
    raise ValueError("The key has no secret part to sign with.")


def _native(jwk: Mapping[str, Any], part: str) -> Any:
    members = {name: value for name, value in jwk.items() if name not in ("use", "key_ops", "kid")}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # key_rules is stricter, and refuses
            native = getattr(JWKRegistry.import_key(members), part)
    except (JoseError, ValueError, KeyError, TypeError):
        native = None
    if native is None:  # outside of the handler, whose error may hold the key
        raise ValueError("its numbers are not those of a key")
    return native
