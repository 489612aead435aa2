"""Tokens of the provider ``signed`` against PyJWT: signing, verifying, and verifying what was verified before.

Both sign and check the same claims (``iss``, ``sub``, ``aud``, ``exp``, ``iat``, ``jti`` and two of one's own) with a
key of the same kind. Base04 works through its whole manager: revocations are checked for each token, on the embedded
database and message bus, with a thousand tokens revoked. PyJWT does not know revocation.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jwt as pyjwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from base04_builtin.database.sqlite.manager import SqliteDatabaseManager
from base04_builtin.database.sqlite.settings import SqliteSettings
from base04_builtin.jwt.settings import Algorithm, JWTSettings
from base04_builtin.jwt.signed import SignedJWTManager
from base04_builtin.redis.memory import MemoryRedisManager, MemoryRedisSettings
from base04_builtin.vault.file import FileVaultManager, FileVaultSettings

CLAIMS = {"role": "user", "permissions": ["orders.read", "orders.write"]}
REVOKED = 1000
Work = Callable[[], Awaitable[Any]]


class Peer:
    """PyJWT with a key for an algorithm."""

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm
        self.private, self.public = _keys_of(algorithm)

    def encode(self) -> str:
        now = time.time()
        payload = {"iss": "base04", "sub": "123", "aud": "base04", "iat": now, "exp": int(now) + 900}
        payload |= {"jti": secrets.token_urlsafe(16), **CLAIMS}
        return pyjwt.encode(payload, self.private, self.algorithm, headers={"typ": "at+jwt", "kid": "0" * 43})

    def decode(self, token: str) -> dict[str, Any]:
        required = ["iss", "sub", "aud", "exp", "iat", "jti"]
        return pyjwt.decode(
            token, self.public, [self.algorithm], options={"require": required}, audience="base04", issuer="base04"
        )


def _keys_of(algorithm: Algorithm) -> tuple[Any, Any]:
    if algorithm == "HS256":
        secret = secrets.token_bytes(32)
        return secret, secret
    key: Any
    if algorithm == "RS256":
        key = rsa.generate_private_key(65537, 2048)
    elif algorithm == "ES256":
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = ed25519.Ed25519PrivateKey.generate()
    return key, key.public_key()


async def seconds_each(work: Work, times: int) -> float:
    """Return the processor's time for one call: on a shared machine, the time on the wall is that of others too."""
    began = time.process_time()
    for _ in range(times):
        await work()
    return (time.process_time() - began) / times


async def compare(name: str, ours: Work, theirs: Work, rounds: int, times: int) -> None:
    own, peer = [], []
    for _ in range(rounds):
        own.append(await seconds_each(ours, times))
        peer.append(await seconds_each(theirs, times))
    ratios = [b / a for a, b in zip(own, peer, strict=True)]
    print(
        f"{name:<34} {statistics.median(own) * 1e6:8.2f} us   PyJWT {statistics.median(peer) * 1e6:8.2f} us   "
        f"{statistics.median(ratios):6.2f} x   [{min(ratios):.2f} .. {max(ratios):.2f}]"
    )


async def measure(manager: SignedJWTManager, algorithm: Algorithm, rounds: int, times: int) -> None:
    peer = Peer(algorithm)
    fresh = iter([await manager.create_access_token("123", CLAIMS) for _ in range((rounds + 1) * times)])
    theirs, known = peer.encode(), await manager.create_access_token("123", CLAIMS)
    await manager.validate_token(known)

    async def their_decoding() -> None:
        peer.decode(theirs)

    async def their_signing() -> None:
        peer.encode()

    await compare(f"{algorithm} sign", lambda: manager.create_access_token("123", CLAIMS), their_signing, rounds, times)
    await compare(
        f"{algorithm} validate, seen first", lambda: manager.validate_token(next(fresh)), their_decoding, rounds, times
    )
    await compare(
        f"{algorithm} validate, verified before", lambda: manager.validate_token(known), their_decoding, rounds, times
    )


async def run(folder: Path, algorithm: Algorithm, rounds: int, times: int) -> None:
    parts = (
        SqliteDatabaseManager(SqliteSettings(path=folder / f"{algorithm}.sqlite3")),
        MemoryRedisManager(MemoryRedisSettings()),
        FileVaultManager(FileVaultSettings(path=folder / f"{algorithm}.json")),
    )
    managers = (*parts, SignedJWTManager(JWTSettings(algorithm=algorithm), *parts))
    for manager in managers:
        await manager.start()
    tokens = managers[-1]
    for _ in range(REVOKED):
        await tokens.blacklist_token(await tokens.create_access_token("123"))
    await measure(tokens, algorithm, rounds, times)
    for manager in reversed(managers):
        await manager.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--times", type=int, default=1000)
    given = parser.parse_args()
    print(f"PyJWT {pyjwt.__version__}, {given.rounds} rounds, alternating: medians, and how many times PyJWT's speed")
    algorithms: tuple[Algorithm, ...] = ("HS256", "EdDSA", "ES256", "RS256")
    with tempfile.TemporaryDirectory() as folder:
        for algorithm in algorithms:
            times = given.times if algorithm == "HS256" else max(1, given.times // 10)
            asyncio.run(run(Path(folder), algorithm, given.rounds, times))


if __name__ == "__main__":
    main()
