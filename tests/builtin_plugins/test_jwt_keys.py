"""Key pairs, rotation, and what keys must be."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, get_args

import pytest
from cryptography.hazmat.primitives import serialization
from joserfc import jws
from joserfc.jwk import ECKey, JWKRegistry, OctKey, OKPKey, RSAKey
from structlog.testing import capture_logs

from base04.testing.conformance.jwt import JWTConformance
from base04_builtin.jwt import jwt_providers
from base04_builtin.jwt.key_rules import check_key, public_part, thumbprint
from base04_builtin.jwt.key_set import KeySet, read_key_set, stored_key
from base04_builtin.jwt.key_store import LATEST, VAULT_PATH, KeyStore, version_key
from base04_builtin.jwt.settings import Algorithm, JWTSettings
from base04_builtin.jwt.signed import SignedJWTManager
from base04_builtin.jwt.signing_key import SigningKey, new_jwk
from base04_builtin.vault.file import FileVaultManager, FileVaultSettings
from base04_hookspecs.errors import ConfigurationError, InvalidToken, ManagerUnavailable
from jwt_kit import NOW, Clock, Parts, decoded, encoded, parts, refused, until, verdict

__all__ = ["parts"]

ALGORITHMS = get_args(Algorithm)
PAIRS = [algorithm for algorithm in ALGORITHMS if algorithm != "HS256"]


class TestSignedWithKeyPairConformance(JWTConformance):
    capabilities = next(iter(jwt_providers())).capabilities

    @pytest.fixture(params=PAIRS)
    def algorithm(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    async def manager(self, parts: Parts, algorithm: str) -> SignedJWTManager:
        return await parts.start(algorithm=algorithm)


def header_of(token: str) -> dict[str, Any]:
    return decoded(token.split(".")[0])


async def stored(parts: Parts, version: int) -> Any:
    return json.loads(await parts.vault.get_secret_value(VAULT_PATH, version_key(version)))


# Key pairs


@pytest.mark.parametrize("algorithm", PAIRS)
async def test_anybody_can_verify_with_the_published_keys(parts: Parts, algorithm: str) -> None:
    jwt = await parts.start(algorithm=algorithm)
    token = await jwt.create_access_token("123")
    (key,) = (await jwt.get_jwks())["keys"]
    assert header_of(token) == {"alg": algorithm, "typ": "at+jwt", "kid": key["kid"]}
    imported = JWKRegistry.import_key(key)
    assert key["kid"] == thumbprint(key) == imported.thumbprint()
    assert (key["alg"], key["use"]) == (algorithm, "sig")
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & set(key)
    allowed = "Ed25519" if algorithm == "EdDSA" else algorithm  # joserfc warns of the older name
    if allowed == algorithm:
        content = jws.deserialize_compact(token, imported, algorithms=[allowed]).payload
        assert json.loads(content or b"")["sub"] == "123"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_processes_that_start_at_once_make_one_key(parts: Parts, algorithm: str) -> None:
    managers = await asyncio.gather(*(parts.start(algorithm=algorithm) for _ in range(4)))
    tokens = [await manager.create_access_token("123") for manager in managers]
    assert len({header_of(token)["kid"] for token in tokens}) == 1
    for manager in managers:
        assert {await verdict(manager, token) for token in tokens} == {"valid"}


async def test_another_algorithm_makes_another_key_and_ends_no_token(parts: Parts) -> None:
    old = await (await parts.start()).create_access_token("123")
    managers = await asyncio.gather(*(parts.start(algorithm="EdDSA", rotation_delay=0) for _ in range(3)))
    for manager in managers:
        token = await manager.create_access_token("123")
        assert header_of(token)["alg"] == "EdDSA"
        assert await verdict(manager, old) == await verdict(manager, token) == "valid"
    assert len((await managers[0].get_jwks())["keys"]) == 1
    assert len((await stored(parts, 2))["keys"]) == 2


# Algorithm confusion: a public key is no secret


def _public_forms(jwk: Mapping[str, Any]) -> dict[str, bytes]:
    key = JWKRegistry.import_key(dict(jwk))
    assert isinstance(key, RSAKey | ECKey | OKPKey)
    public = key.public_key
    encodings, formats = serialization.Encoding, serialization.PublicFormat
    pem = public.public_bytes(encodings.PEM, formats.SubjectPublicKeyInfo)
    der = public.public_bytes(encodings.DER, formats.SubjectPublicKeyInfo)
    forms = {
        "pem": pem,
        "pem without the last newline": pem.strip(),
        "pem after a prefix": b"comment\n" + pem,
        "der": der,
        "base64 of der": base64.b64encode(der),
        "pem without its armour": b"".join(pem.splitlines(keepends=True)[1:-1]),
        "ssh": public.public_bytes(encodings.OpenSSH, formats.OpenSSH),
        "jwk": json.dumps(key.as_dict(private=False)).encode(),
        "jwk with spaces": json.dumps(key.as_dict(private=False), indent=2).encode(),
        "jwk set": json.dumps({"keys": [key.as_dict(private=False)]}).encode(),
    }
    if isinstance(key, RSAKey):
        forms["pkcs1 pem"] = public.public_bytes(encodings.PEM, formats.PKCS1)
        forms["modulus"] = str(key.as_dict(private=False)["n"]).encode()
    elif isinstance(key, ECKey):
        forms["point"] = public.public_bytes(encodings.X962, formats.UncompressedPoint)
    else:
        forms["raw"] = public.public_bytes(encodings.Raw, formats.Raw)
    return forms


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
async def test_public_key_as_hmac_secret_signs_nothing(parts: Parts, algorithm: str) -> None:
    jwt = await parts.start(algorithm=algorithm)
    genuine = await jwt.create_access_token("123")
    (jwk,) = (await jwt.get_jwks())["keys"]
    for secret in _public_forms(jwk).values():
        for kid in (jwk["kid"], thumbprint({"kty": "oct", "k": encoded(secret)}), None):
            header = {"alg": "HS256", "typ": "at+jwt", "kid": kid}
            forged = _hmac(header, genuine.split(".")[1], secret)
            assert await refused(jwt, forged)


def _hmac(header: Mapping[str, Any], payload: str, secret: bytes) -> str:
    import hashlib
    import hmac

    signed = f"{encoded(header)}.{payload}"
    return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
def test_public_key_is_refused_as_hmac_secret(algorithm: str) -> None:
    forms = _public_forms(new_jwk(algorithm))
    for name in ("modulus", "point", "raw"):  # bare numbers, which nothing tells from random ones
        forms.pop(name, None)
    for name, secret in forms.items():
        if name == "pkcs1 pem" or len(secret) >= 32:
            with pytest.raises(ValueError, match="public key"):
                check_key({"kty": "oct", "k": encoded(secret), "alg": "HS256"})


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("claimed", [*ALGORITHMS, "none", "None", "nOnE", "HS384", "ES384", "PS256", "", None])
async def test_algorithm_of_the_token_is_never_believed(parts: Parts, algorithm: str, claimed: str | None) -> None:
    jwt = await parts.start(algorithm=algorithm)
    header, payload, signature = (await jwt.create_access_token("123")).split(".")
    if decoded(header)["alg"] == claimed:
        return
    changed = encoded({**decoded(header), "alg": claimed})
    for forged in (f"{changed}.{payload}.{signature}", f"{changed}.{payload}.", f"{changed}.{payload}"):
        await refused(jwt, forged)


@pytest.mark.parametrize("member", ["jwk", "jku", "x5c", "x5u", "x5t", "crit", "b64", "zip", "enc"])
async def test_key_pair_that_a_token_brings_along_is_not_used(parts: Parts, member: str) -> None:
    jwt = await parts.start(algorithm="Ed25519")
    genuine = await jwt.create_access_token("123")
    own = OKPKey.generate_key("Ed25519")
    value: Any = {
        "jwk": own.as_dict(private=False),
        "x5c": ["MIIB"],
        "crit": ["exp"],
        "b64": False,
        "zip": "DEF",
        "enc": "A256GCM",
    }.get(member, "https://attacker.example/key")
    header = {**header_of(genuine), member: value}
    signed = f"{encoded(header)}.{genuine.split('.')[1]}"
    signature = own.private_key.sign(signed.encode()) if own.private_key is not None else b""  # type: ignore[union-attr]
    await refused(jwt, f"{signed}.{encoded(signature)}")


# What keys must be


def _rsa(bits: int = 2048, exponent: int = 65537) -> dict[str, Any]:
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = RSAKey.import_key(
        rsa.generate_private_key(exponent, bits).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return {**key.as_dict(private=True), "alg": "RS256"}


def _number(value: int) -> str:
    return encoded(value.to_bytes((value.bit_length() + 7) // 8))


def _roca_modulus() -> int:
    """A modulus as the faulty generator made them: both primes are powers of 65537 by a product of small primes."""
    primorial = math.prod(number for number in range(2, 168) if all(number % d for d in range(2, number)))
    size = 1 << (1025 - primorial.bit_length())
    factor = pow(65537, 12345, primorial) + primorial * size
    other = pow(65537, 54321, primorial) + primorial * (size + 1)
    return factor * other


OCT = {"kty": "oct", "alg": "HS256", "k": encoded(bytes(range(32)))}


@pytest.mark.parametrize(
    ("jwk", "message"),
    [
        ({**OCT, "k": encoded(bytes(range(31)))}, "at least 32 bytes"),
        ({**OCT, "k": ""}, "at least 32 bytes"),
        ({**OCT, "k": encoded(b"\0" * 64)}, "nearly all the same"),
        ({**OCT, "k": encoded(b"abc" * 20)}, "nearly all the same"),
        ({**OCT, "k": encoded(bytes(range(32))) + "="}, "not base64url"),
        ({**OCT, "k": 1}, "missing or no text"),
        ({"kty": "oct", "alg": "HS256"}, "missing or no text"),
        ({**OCT, "alg": "HS512"}, "its algorithm is none of"),
        ({**OCT, "alg": "none"}, "its algorithm is none of"),
        ({**OCT, "alg": ["HS256"]}, "its algorithm is none of"),
        ({"kty": "oct", "k": OCT["k"]}, "its algorithm is none of"),
        ({**OCT, "alg": "RS256"}, "wants a key of the type RSA"),
        ({**OCT, "use": "enc"}, "not for signatures"),
        ({**OCT, "key_ops": ["encrypt"]}, "not for signatures"),
        ({**OCT, "x5u": "https://attacker.example"}, "not understood: x5u"),
        ({**OCT, "kty": "EC"}, "wants a key of the type oct"),
        ({"kty": "RSA", "alg": "RS256", "n": _number((1 << 1023) + 1), "e": "AQAB"}, "2048 to 8192 bits"),
        ({"kty": "RSA", "alg": "RS256", "n": _number((1 << 8192) + 1), "e": "AQAB"}, "2048 to 8192 bits"),
        ({"kty": "RSA", "alg": "RS256", "n": _number(1 << 2047), "e": "AQAB"}, "even"),
        ({"kty": "RSA", "alg": "RS256", "n": _number((1 << 2047) + 1), "e": "Aw"}, "exponent"),
        ({"kty": "RSA", "alg": "RS256", "n": _number((1 << 2047) + 1), "e": "AQAA"}, "exponent"),
        ({"kty": "RSA", "alg": "RS256", "n": _number((1 << 2047) + 1), "e": "AQ"}, "exponent"),
        ({"kty": "RSA", "alg": "RS256", "n": _number(_roca_modulus()), "e": "AQAB"}, "ROCA"),
        ({"kty": "EC", "alg": "ES256", "crv": "P-384", "x": "AA", "y": "AA"}, "the curve P-256"),
        ({"kty": "EC", "alg": "ES256", "crv": "P-256", "x": "AA", "y": "AA"}, "32 bytes"),
        ({"kty": "OKP", "alg": "EdDSA", "crv": "Ed448", "x": "AA"}, "the curve Ed25519"),
        ({"kty": "OKP", "alg": "EdDSA", "crv": "X25519", "x": "AA"}, "the curve Ed25519"),
    ],
)
def test_unfit_key_is_refused(jwk: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        SigningKey(jwk)
    assert str(jwk.get("k") or jwk.get("n") or "no key") not in str(caught.value)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_key_that_was_made_here_is_fit(algorithm: str) -> None:
    key = SigningKey(new_jwk(algorithm))
    signature = key.sign(b"text")
    assert key.verify(b"text", signature)
    assert not key.verify(b"text", signature[:-1] + bytes([signature[-1] ^ 1]))
    assert not key.verify(b"text", b"")
    assert not key.verify(b"other", signature)


def test_weak_exponent_is_refused_in_a_real_key() -> None:
    with pytest.raises(ValueError, match="exponent"):
        SigningKey(_rsa(exponent=3))


@pytest.mark.parametrize("algorithm", PAIRS)
def test_public_part_verifies_and_signs_nothing(algorithm: str) -> None:
    jwk = new_jwk(algorithm)
    public = SigningKey({**public_part(jwk), "alg": algorithm})
    assert public.verify(b"text", SigningKey(jwk).sign(b"text"))
    with pytest.raises(ValueError, match="no secret part"):
        public.sign(b"text")


@pytest.mark.parametrize("algorithm", PAIRS)
def test_halves_of_two_pairs_are_refused(algorithm: str) -> None:
    one, other = new_jwk(algorithm), new_jwk(algorithm)
    public = [name for name in ("x", "y", "n") if name in one]
    with pytest.raises(ValueError, match=r"does not belong|not those of a key"):
        SigningKey({**one, **{name: other[name] for name in public}})


def test_point_off_the_curve_is_refused() -> None:
    jwk = {name: value for name, value in new_jwk("ES256").items() if name != "d"}
    with pytest.raises(ValueError, match="not those of a key"):
        SigningKey({**jwk, "x": encoded(b"\1" * 32), "y": encoded(b"\1" * 32)})


def test_thumbprint_is_that_of_the_standard() -> None:
    """The example of RFC 7638, section 3.1."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3"
        "oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdA"
        "ZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-"
        "kEgU8awapJzKnqDKgw"
    )
    jwk = {"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    assert thumbprint(jwk) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


# Rotation


@pytest.mark.parametrize("algorithm", ["HS256", "EdDSA"])
async def test_new_key_is_published_before_it_signs_and_ends_no_token(parts: Parts, algorithm: str) -> None:
    jwt = await parts.start(algorithm=algorithm, rotation_delay=60, access_ttl=600, refresh_ttl=3600)
    old = await jwt.create_access_token("123")
    refresh = await jwt.create_refresh_token("123")
    kid = await jwt.rotate_keys()
    assert header_of(await jwt.create_access_token("123")) == header_of(old)
    published = [key["kid"] for key in (await jwt.get_jwks())["keys"]]
    assert published == ([] if algorithm == "HS256" else [header_of(old)["kid"], kid])
    parts.clock.now = NOW + 61
    new = await jwt.create_access_token("123")
    assert header_of(new)["kid"] == kid
    assert await verdict(jwt, old) == await verdict(jwt, new) == "valid"
    parts.clock.now = NOW + 3590
    assert header_of((await jwt.refresh_token(refresh))["refresh_token"])["kid"] == kid


async def test_old_key_stays_until_its_last_token_has_ended(parts: Parts) -> None:
    jwt = await parts.start(algorithm="EdDSA", rotation_delay=60, access_ttl=600, refresh_ttl=3600, leeway=5)
    first = header_of(await jwt.create_access_token("123"))["kid"]
    await jwt.rotate_keys()
    parts.clock.now = NOW + 59
    last = await jwt.create_refresh_token("123")
    assert header_of(last)["kid"] == first
    parts.clock.now = NOW + 59 + 3600
    assert (await jwt.refresh_token(last))["token_type"] == "Bearer"
    parts.clock.now = NOW + 60 + 3600 + 5 + 2
    assert first not in {key["kid"] for key in (await jwt.get_jwks())["keys"]}


async def test_overlap_can_be_set(parts: Parts) -> None:
    jwt = await parts.start(key_overlap=10, rotation_delay=0)
    old = await jwt.create_access_token("123")
    await jwt.rotate_keys()
    parts.clock.now = NOW + 9
    assert await verdict(jwt, old) == "valid"
    parts.clock.now = NOW + 11
    assert await verdict(jwt, old) != "valid"
    parts.clock.now = NOW
    fresh = await parts.start(key_overlap=10)
    parts.clock.now = NOW + 11
    assert "key has ended" in await refused(fresh, old)


@pytest.mark.parametrize("algorithm", ["HS256", "ES256"])
async def test_processes_take_up_new_keys_without_a_restart(parts: Parts, algorithm: str) -> None:
    here = await parts.start(algorithm=algorithm, rotation_delay=0)
    there = await parts.start(algorithm=algorithm, heartbeat_interval=60)
    kid = await here.rotate_keys()
    token = await here.create_access_token("123")
    assert await verdict(there, token) == "valid"  # a key that is not known is looked for at once

    async def signs_with_it() -> bool:
        return bool(header_of(await there.create_access_token("123"))["kid"] == kid)

    await until(signs_with_it)


async def test_unknown_keys_make_the_vault_be_read_now_and_then(parts: Parts) -> None:
    steady = Clock(0.0)
    there = await parts.start(steady=steady, heartbeat_interval=60)
    head, body, tail = (await there.create_access_token("123")).split(".")
    reads: list[str] = []
    original = parts.vault.get_secret_value

    async def counted(path: str, key: str) -> str:
        reads.append(key)
        return await original(path, key)

    parts.vault.get_secret_value = counted  # type: ignore[method-assign]  # the test counts what goes through
    for number in range(50):
        forged = encoded({**decoded(head), "kid": f"kid-{number}"})
        assert await refused(there, f"{forged}.{body}.{tail}") == "the key is not known"
    assert reads.count(version_key(1)) == 1
    steady.now = 6.0
    await refused(there, f"{encoded({**decoded(head), 'kid': 'again'})}.{body}.{tail}")
    assert reads.count(version_key(1)) == 2


async def test_processes_that_rotate_at_once_make_one_new_key(parts: Parts) -> None:
    managers = [await parts.start(rotation_delay=0) for _ in range(4)]
    kids = await asyncio.gather(*(manager.rotate_keys() for manager in managers))
    tokens = [await manager.create_access_token("123") for manager in managers]
    for manager in managers:
        assert {await verdict(manager, token) for token in tokens} == {"valid"}
    latest = await KeyStore(parts.vault).load()
    assert latest is not None
    assert set(kids) <= {key.kid for key in latest.keys}
    assert {header_of(await manager.create_access_token("1"))["kid"] for manager in managers} <= set(kids)


async def test_compromised_keys_end_with_all_that_they_signed(parts: Parts) -> None:
    here = await parts.start()
    there = await parts.start(heartbeat_interval=0.01)
    old = await here.create_access_token("123")
    assert await verdict(there, old) == "valid"
    old_refresh = await here.create_refresh_token("123")
    kid = await here.rotate_keys(revoke=True)
    new = await here.create_access_token("123")
    assert header_of(new)["kid"] == kid
    assert await verdict(here, old) == "the key is not known"

    async def is_refused() -> bool:
        return await verdict(there, old) in ("the key is not known", "it is revoked by its key")

    await until(is_refused)
    assert await verdict(there, new) == "valid"
    for manager in (here, there):
        with pytest.raises(InvalidToken):
            await manager.refresh_token(old_refresh)
    restarted = await parts.start()
    assert await verdict(restarted, old) == "the key is not known"
    assert len((await stored(parts, 2))["keys"]) == 1


async def test_processes_that_revoke_keys_at_once_leave_one_that_none_had_before(parts: Parts) -> None:
    managers = [await parts.start() for _ in range(3)]
    old = await managers[0].create_access_token("123")
    await asyncio.gather(*(manager.rotate_keys(revoke=True) for manager in managers))
    latest = await KeyStore(parts.vault).load()
    assert latest is not None
    assert len(latest.keys) == 1
    for manager in managers:

        async def is_refused(manager: SignedJWTManager = manager) -> bool:
            return await verdict(manager, old) != "valid"

        await until(is_refused)


async def test_key_that_another_process_replaces_at_once_is_rotated_for_good(parts: Parts) -> None:
    """What counts is that no earlier key is left, not whose key is the newest: or two would go on for ever."""

    class Overtaken(FileVaultManager):
        rotations = 0

        async def create_secret_value(self, path: str, key: str, value: str) -> str:
            kept = await super().create_secret_value(path, key, value)
            if key.startswith("keys-") and key != "keys-1" and self.rotations < 20:
                self.rotations += 1
                further = stored_key(new_jwk("HS256"), NOW, NOW)
                version = int(key.removeprefix("keys-")) + 1
                await super().create_secret_value(path, version_key(version), KeySet(version, (further,)).to_json())
            return kept

    vault = Overtaken(FileVaultSettings(path=parts.folder / "overtaken.json"))
    await vault.start()
    jwt = SignedJWTManager(JWTSettings(), parts.database, parts.redis, vault, clock=parts.clock)
    parts.managers.append(jwt)
    await jwt.start()
    old = await jwt.create_access_token("123")
    kid = await jwt.rotate_keys(revoke=True)
    assert vault.rotations == 1
    new = await jwt.create_access_token("123")
    assert header_of(new)["kid"] == kid
    assert (await verdict(jwt, old), await verdict(jwt, new)) == ("the key is not known", "valid")
    await vault.stop()


async def test_old_key_rotates_by_itself_and_secrets_of_no_use_go(parts: Parts) -> None:
    jwt = await parts.start(
        algorithm="EdDSA", rotate_every="1h", rotation_delay=0, refresh_ttl=60, access_ttl=60, sweep_interval=0.01
    )
    first = header_of(await jwt.create_access_token("123"))["kid"]
    parts.clock.now = NOW + 3601

    async def has_rotated() -> bool:
        return bool(header_of(await jwt.create_access_token("123"))["kid"] != first)

    await until(has_rotated)

    async def secret_is_gone() -> bool:
        latest = await KeyStore(parts.vault).load()
        assert latest is not None
        return [key.can_sign for key in latest.keys] == [False, True]

    await until(secret_is_gone)
    parts.clock.now = NOW + 3601 + 200

    async def key_is_gone() -> bool:
        latest = await KeyStore(parts.vault).load()
        assert latest is not None
        return len(latest.keys) == 1

    await until(key_is_gone)
    assert (await jwt.validate_token(await jwt.create_access_token("123")))["user_id"] == "123"


async def test_superseded_sets_are_blanked(parts: Parts) -> None:
    jwt = await parts.start()
    for _ in range(3):
        await jwt.rotate_keys()
    kept = [await parts.vault.get_secret_value(VAULT_PATH, version_key(version)) for version in (1, 2, 3)]
    assert kept == ["superseded"] * 3
    assert len((await stored(parts, 4))["keys"]) == 4
    assert await parts.vault.get_secret_value(VAULT_PATH, LATEST) == "4"


@pytest.mark.parametrize("pointer", [None, "", "0", "-1", "two", "1"])
async def test_rotation_that_died_halfway_is_taken_up(parts: Parts, pointer: str | None) -> None:
    first = await parts.start()
    old = await first.create_access_token("123")
    present = await KeyStore(parts.vault).load()
    assert present is not None
    further = stored_key(new_jwk("HS256"), NOW, NOW)
    await parts.vault.create_secret_value(VAULT_PATH, version_key(2), present.rotated(further, NOW, 100).to_json())
    if pointer is not None:
        await parts.vault.set_secret_value(VAULT_PATH, LATEST, pointer)
    second = await parts.start()
    assert header_of(await second.create_access_token("123"))["kid"] == further.kid
    assert await verdict(second, old) == "valid"


@pytest.mark.parametrize("spoil", ["not JSON", "{}", '{"keys": []}', '{"keys": [{"jwk": {"kty": "oct"}}]}'])
async def test_unusable_new_keys_leave_the_present_ones_and_are_reported(parts: Parts, spoil: str) -> None:
    jwt = await parts.start()
    token = await jwt.create_access_token("123")
    with capture_logs() as entries:
        await parts.vault.set_secret_value(VAULT_PATH, version_key(2), spoil)

        async def is_reported() -> bool:
            return (await jwt.health_check())["status"] == "degraded"

        await until(is_reported)
    assert "signing keys not taken up" in {entry["event"] for entry in entries}
    assert spoil not in repr(entries)
    assert await verdict(jwt, token) == await verdict(jwt, await jwt.create_access_token("1")) == "valid"
    with pytest.raises(ConfigurationError, match="signing keys"):
        await parts.start()
    await parts.vault.set_secret_value(VAULT_PATH, version_key(2), "superseded")

    async def is_healthy() -> bool:
        return (await jwt.health_check())["status"] == "healthy"

    await until(is_healthy)


async def test_key_pair_in_two_halves_is_refused_at_the_start(parts: Parts) -> None:
    one, other = new_jwk("EdDSA"), new_jwk("EdDSA")
    jwk = {**one, "x": other["x"]}
    text = json.dumps({"keys": [{"jwk": jwk}]})
    await parts.vault.set_secret_value(VAULT_PATH, version_key(1), text)
    with pytest.raises(ConfigurationError, match="does not belong") as caught:
        await parts.start(algorithm="EdDSA")
    assert one["d"] not in repr(caught.value)


async def test_keys_of_ones_own_can_be_brought(parts: Parts) -> None:
    jwk = _rsa(3072)
    await parts.vault.set_secret_value(VAULT_PATH, version_key(1), json.dumps({"keys": [{"jwk": jwk}]}))
    jwt = await parts.start(algorithm="RS256")
    token = await jwt.create_access_token("123")
    assert header_of(token)["kid"] == thumbprint(jwk)
    assert await verdict(jwt, token) == "valid"


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: {**entry, "jwk": {**entry["jwk"], "kid": "another"}},
        lambda entry: {**entry, "signs_from": "soon"},
        lambda entry: {**entry, "ends_at": True},
        lambda entry: {**entry, "created_at": None},
        lambda entry: {**entry, "jwk": None},
    ],
)
def test_malformed_entry_is_refused(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    key = stored_key(new_jwk("HS256"), NOW, NOW)
    (entry,) = json.loads(KeySet(1, (key,)).to_json())["keys"]
    assert read_key_set(1, json.dumps({"keys": [entry]})).keys == (key,)
    with pytest.raises(ValueError) as caught:
        read_key_set(1, json.dumps({"keys": [change(entry)]}))
    assert key.jwk["k"] not in str(caught.value)
    with pytest.raises(ValueError, match="twice"):
        read_key_set(1, json.dumps({"keys": [entry, entry]}))


async def test_secrets_are_in_no_repr(parts: Parts) -> None:
    key = stored_key(new_jwk("EdDSA"), NOW, NOW)
    secret = key.jwk["d"]
    shown = [repr(key), repr(KeySet(1, (key,))), repr(SigningKey(key.jwk))]
    assert secret not in "".join(shown)


async def test_rotation_needs_the_start(parts: Parts) -> None:
    unstarted = await parts.start()
    assert OctKey.import_key(bytes(range(32))).thumbprint() == thumbprint(OCT)
    await unstarted.stop()
    from base04_builtin.jwt.settings import JWTSettings

    with pytest.raises(ManagerUnavailable, match="has not started"):
        await SignedJWTManager(JWTSettings(), parts.database, parts.redis, parts.vault).get_jwks()
