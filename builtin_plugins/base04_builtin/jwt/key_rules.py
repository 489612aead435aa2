"""What a key must be to sign tokens: the type that its algorithm wants, and strong enough.

The library that signs accepts much weaker ones. Nothing here imports it: keys are JSON web keys (RFC 7517, 7518,
8037), and their numbers are looked at as numbers.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from base04_builtin.jwt import base64url

TYPES: Final[Mapping[str, tuple[str, str | None]]] = {
    "HS256": ("oct", None),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
    "ES256": ("EC", "P-256"),
    "RS256": ("RSA", None),
}
"""The type of key, and the curve, that each algorithm wants. One key serves one algorithm (RFC 8725, section 3.1)."""

PUBLIC_MEMBERS: Final = {"oct": (), "OKP": ("crv", "x"), "EC": ("crv", "x", "y"), "RSA": ("e", "n")}
_SECRET_MEMBERS: Final = {"oct": ("k",), "OKP": ("d",), "EC": ("d",), "RSA": ("d", "p", "q", "dp", "dq", "qi")}
_FURTHER: Final = frozenset({"kty", "alg", "kid", "use", "key_ops"})

_MIN_SECRET: Final = 32
_MIN_DISTINCT: Final = 8
_RSA_BITS: Final = range(2048, 8193)
_COORDINATE: Final = 32
_PUBLIC_KEY_SIGNS: Final = (b"-----BEGIN", b"---- BEGIN", b"ssh-", b"ecdsa-sha2-", b'"kty"')
_SUBJECT_PUBLIC_KEY_INFO: Final = b"\x30"


def check_key(jwk: Mapping[str, Any]) -> None:
    """Refuse a key that is not what its algorithm wants, or too weak.

    Raises:
        ValueError: it is; the message holds nothing of the key.
    """
    kty = _checked_type(jwk)
    _check_use(jwk)
    if kty == "oct":
        _check_secret(_content(jwk, "k"))
    elif kty == "RSA":
        _check_modulus(_number(jwk, "n"))
        _check_exponent(_number(jwk, "e"))
    else:
        for name in ("x", "y") if kty == "EC" else ("x",):
            if len(_content(jwk, name)) != _COORDINATE:
                raise ValueError(f"its member {name} has not {_COORDINATE} bytes")


def new_secret() -> dict[str, Any]:
    """Make a key for HS256: 256 random bits."""
    return {"kty": "oct", "k": base64url.encode(secrets.token_bytes(_MIN_SECRET)).decode(), "alg": "HS256"}


def secret_of(jwk: Mapping[str, Any]) -> bytes:
    """Return what a key for HS256 signs with."""
    return _content(jwk, "k")


def is_public(jwk: Mapping[str, Any]) -> bool:
    """Tell whether it has nothing to sign with."""
    return not any(name in jwk for name in _SECRET_MEMBERS[jwk["kty"]])


def public_part(jwk: Mapping[str, Any]) -> dict[str, Any]:
    """Return what everybody may know of an asymmetric key."""
    names = ("kty", *PUBLIC_MEMBERS[jwk["kty"]], "alg", "kid")
    return {**{name: jwk[name] for name in names if name in jwk}, "use": "sig"}


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Return the SHA-256 thumbprint of a key (RFC 7638, section 3)."""
    kty = jwk["kty"]
    names = ("kty", *(PUBLIC_MEMBERS[kty] or _SECRET_MEMBERS[kty]))
    canonical = json.dumps({name: jwk[name] for name in names}, sort_keys=True, separators=(",", ":"))
    return base64url.encode(hashlib.sha256(canonical.encode()).digest()).decode()


def _checked_type(jwk: Mapping[str, Any]) -> str:
    algorithm = jwk.get("alg")
    if not isinstance(algorithm, str) or algorithm not in TYPES:
        raise ValueError(f"its algorithm is none of {', '.join(TYPES)}")
    kty, curve = TYPES[algorithm]
    if jwk.get("kty") != kty or jwk.get("crv") != curve:
        raise ValueError(f"{algorithm} wants a key of the type {kty}" + (f" and the curve {curve}" if curve else ""))
    unknown = set(jwk) - _FURTHER - set(PUBLIC_MEMBERS[kty]) - set(_SECRET_MEMBERS[kty])
    if unknown:
        raise ValueError(f"it has members that are not understood: {', '.join(sorted(unknown))}")
    return kty


def _check_use(jwk: Mapping[str, Any]) -> None:
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or not set(operations) <= {"sign", "verify"}:
        raise ValueError("it is not for signatures")


def _check_secret(secret: bytes) -> None:
    if len(secret) < _MIN_SECRET:
        raise ValueError(f"HS256 wants at least {_MIN_SECRET} bytes (RFC 7518, section 3.2)")
    if len(set(secret)) < _MIN_DISTINCT:
        raise ValueError("its bytes are nearly all the same")
    if any(sign in secret for sign in _PUBLIC_KEY_SIGNS) or _is_encoded_public_key(secret):
        raise ValueError("it is a public key, which is no secret")


def _is_encoded_public_key(secret: bytes) -> bool:
    """Tell whether it looks like a DER SubjectPublicKeyInfo, bare or as base64, the armour of a PEM stripped."""
    bare = secret
    if secret[:1] != _SUBJECT_PUBLIC_KEY_INFO:
        try:
            bare = base64url.decode(b"".join(secret.split()).rstrip(b"=").replace(b"+", b"-").replace(b"/", b"_"))
        except ValueError:
            return False
    return _der_length(bare) == len(bare) and b"\x03" in bare  # a BIT STRING holds the key


def _der_length(der: bytes) -> int | None:
    if len(der) < 4 or der[:1] != _SUBJECT_PUBLIC_KEY_INFO:
        return None
    first = der[1]
    if first < 0x80:
        return 2 + first
    size = first & 0x7F
    return 2 + size + int.from_bytes(der[2 : 2 + size]) if 1 <= size <= 2 else None


def _check_modulus(modulus: int) -> None:
    if modulus.bit_length() not in _RSA_BITS:
        raise ValueError(f"its modulus has not {_RSA_BITS[0]} to {_RSA_BITS[-1]} bits")
    if modulus % 2 == 0:
        raise ValueError("its modulus is even")
    if all(modulus % prime in powers for prime, powers in _roca_powers()):
        raise ValueError("its primes can be found: it was made by a generator with the ROCA fault (CVE-2017-15361)")


def _check_exponent(exponent: int) -> None:
    if not 65537 <= exponent < 2**256 or exponent % 2 == 0:
        raise ValueError("its exponent is not an odd number of at least 65537 (FIPS 186-5, section 5.1)")


@cache
def _roca_powers() -> tuple[tuple[int, frozenset[int]], ...]:
    """The powers of 65537 by small primes: moduli with the fault are one of them by every prime.

    Nemec et al., The Return of Coppersmith's Attack, CCS 2017, section 3.3.
    """
    primes = [number for number in range(3, 168) if all(number % divisor for divisor in range(2, number))]
    return tuple((prime, frozenset(pow(65537, power, prime) for power in range(prime))) for prime in primes)


def _content(jwk: Mapping[str, Any], name: str) -> bytes:
    value = jwk.get(name)
    if not isinstance(value, str) or not value.isascii():
        raise ValueError(f"its member {name} is missing or no text")
    try:
        return base64url.decode(value.encode())
    except ValueError:
        pass
    raise ValueError(f"its member {name} is not base64url")  # outside of the handler, whose error may hold the key


def _number(jwk: Mapping[str, Any], name: str) -> int:
    return int.from_bytes(_content(jwk, name))
