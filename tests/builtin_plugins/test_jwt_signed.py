"""The provider ``signed`` of the role ``jwt``."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from base04.testing.conformance.jwt import JWTConformance
from base04_builtin.database.sqlite.manager import SqliteDatabaseManager
from base04_builtin.database.sqlite.settings import SqliteSettings
from base04_builtin.jwt import jwt_providers
from base04_builtin.jwt.key_store import VAULT_PATH, version_key
from base04_builtin.jwt.settings import JWTSettings
from base04_builtin.jwt.signed import SignedJWTManager
from base04_builtin.jwt.tables import SKEW
from base04_builtin.redis.memory import MemoryRedisManager, MemoryRedisSettings
from base04_builtin.vault.file import FileVaultManager, FileVaultSettings
from base04_hookspecs.database import Operation
from base04_hookspecs.errors import ConfigurationError, InvalidInput, InvalidToken, ManagerUnavailable

NOW = 1_800_000_000.0


@dataclass
class Clock:
    """A clock that the test sets."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


class FailingDatabase(SqliteDatabaseManager):
    """SQLite that can be cut off, before a transaction or between its commit and the answer."""

    cut_off = False
    lose_answers = False

    async def find(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        self._fail(self.cut_off)
        return await super().find(*args, **kwargs)

    async def execute_transaction(self, operations: Sequence[Operation]) -> bool:
        self._fail(self.cut_off)
        done = await super().execute_transaction(operations)
        self._fail(self.lose_answers)
        return done

    def _fail(self, failing: bool) -> None:
        if failing:
            raise ManagerUnavailable("The database has been cut off by the test.")


@dataclass
class Parts:
    """What the manager depends on, and managers that share it as processes would."""

    folder: Path
    database: FailingDatabase
    redis: MemoryRedisManager
    vault: FileVaultManager
    clock: Clock
    managers: list[SignedJWTManager] = field(default_factory=list)

    async def start(self, redis: MemoryRedisManager | None = None, **settings: Any) -> SignedJWTManager:
        manager = SignedJWTManager(
            JWTSettings(**settings), self.database, redis or self.redis, self.vault, clock=self.clock
        )
        self.managers.append(manager)
        await manager.start()
        return manager


@asynccontextmanager
async def open_parts(folder: Path) -> AsyncIterator[Parts]:
    parts = Parts(
        folder,
        FailingDatabase(SqliteSettings(path=folder / "test.sqlite3", synchronous="NORMAL")),
        MemoryRedisManager(MemoryRedisSettings()),
        FileVaultManager(FileVaultSettings(path=folder / "secrets.json")),
        Clock(),
    )
    dependencies = (parts.database, parts.redis, parts.vault)
    try:
        for dependency in dependencies:
            await dependency.start()
        yield parts
    finally:
        parts.database.cut_off = parts.database.lose_answers = False
        for manager in (*parts.managers, *dependencies):
            await manager.stop()


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path) as parts:
        yield parts


@pytest.fixture
async def jwt(parts: Parts) -> SignedJWTManager:
    return await parts.start()


class TestSignedJWTConformance(JWTConformance):
    capabilities = next(iter(jwt_providers())).capabilities - {"jwks"}

    @pytest.fixture
    async def manager(self, parts: Parts) -> SignedJWTManager:
        return await parts.start()


# Forging: the tests sign by hand, with the key that the vault keeps.


def encoded(content: bytes | str | Mapping[str, Any]) -> str:
    if isinstance(content, Mapping):
        content = json.dumps(content)
    raw = content.encode() if isinstance(content, str) else content
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(segment: str) -> dict[str, Any]:
    value = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    assert isinstance(value, dict)
    return value


@dataclass
class Forger:
    """Somebody who can sign whatever they like; what they sign is refused for other reasons than the signature."""

    key: bytes
    header: dict[str, Any]
    payload: dict[str, Any]

    def sign(self, header: str | Mapping[str, Any], payload: str | Mapping[str, Any], digest: str = "sha256") -> str:
        signed = f"{encoded(header)}.{encoded(payload)}"
        return f"{signed}.{encoded(hmac.new(self.key, signed.encode(), digest).digest())}"

    def with_header(self, **changes: Any) -> str:
        return self.sign({**self.header, **changes}, self.payload)

    def with_claims(self, **changes: Any) -> str:
        return self.sign(self.header, {**self.payload, **changes})

    def without(self, claim: str) -> str:
        return self.sign(self.header, {name: value for name, value in self.payload.items() if name != claim})


async def secret_of(parts: Parts) -> bytes:
    """Return the bytes of the first signing key."""
    kept = json.loads(await parts.vault.get_secret_value(VAULT_PATH, version_key(1)))
    return base64.urlsafe_b64decode(kept["keys"][0]["jwk"]["k"] + "=")


@pytest.fixture
async def forger(parts: Parts, jwt: SignedJWTManager) -> Forger:
    header, payload, _ = (await jwt.create_access_token("123")).split(".")
    forger = Forger(await secret_of(parts), decoded(header), decoded(payload))
    assert (await jwt.validate_token(forger.sign(forger.header, forger.payload)))["user_id"] == "123"
    return forger


async def refused(jwt: SignedJWTManager, token: str) -> str:
    with pytest.raises(InvalidToken) as caught:
        await jwt.validate_token(token)
    assert str(caught.value) == "invalid token"
    assert token not in caught.value.reason
    return caught.value.reason


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", " none", "none ", None, 0, [], {}, ["none"]])
@pytest.mark.parametrize("keep_signature", [True, False])
async def test_unsigned_token_is_refused_in_every_spelling(
    jwt: SignedJWTManager, forger: Forger, alg: object, keep_signature: bool
) -> None:
    signed, _, signature = forger.with_header(alg=alg).rpartition(".")
    await refused(jwt, f"{signed}.{signature if keep_signature else ''}")


@pytest.mark.parametrize("alg", ["HS384", "HS512", "RS256", "ES256", "EdDSA", "PS256", "hs256", "HS256 "])
async def test_other_algorithm_is_refused_even_with_a_good_key(jwt: SignedJWTManager, forger: Forger, alg: str) -> None:
    digest = "sha" + alg[-3:] if alg in ("HS384", "HS512") else "sha256"
    token = forger.sign({**forger.header, "alg": alg}, forger.payload, digest)
    assert await refused(jwt, token) == "the algorithm is not the one of the key"


@pytest.mark.parametrize("typ", ["JWT", "rt+jwt", "AT+JWT", "application/at+jwt", "", None, 1])
async def test_other_type_is_refused(jwt: SignedJWTManager, forger: Forger, typ: object) -> None:
    assert "type" in await refused(jwt, forger.with_header(typ=typ))


@pytest.mark.parametrize(
    "member",
    [
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"jku": "https://attacker.example/keys"},
        {"x5u": "https://attacker.example/chain"},
        {"x5c": ["MII="]},
        {"crit": ["exp"]},
        {"crit": []},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"zip": "DEF"},
        {"cty": "JWT"},
        {"unknown": 1},
    ],
)
async def test_header_that_says_more_is_refused(jwt: SignedJWTManager, forger: Forger, member: dict[str, Any]) -> None:
    assert "not understood" in await refused(jwt, forger.with_header(**member))


@pytest.mark.parametrize("kid", ["", "other", "../../dev/null", "' OR 1=1 --"])
async def test_other_key_id_is_refused(jwt: SignedJWTManager, forger: Forger, kid: object) -> None:
    assert await refused(jwt, forger.with_header(kid=kid)) == "the key is not known"


@pytest.mark.parametrize("missing", ["alg", "typ", "kid"])
async def test_header_that_says_less_is_refused(jwt: SignedJWTManager, forger: Forger, missing: str) -> None:
    del forger.header[missing]
    await refused(jwt, forger.sign(forger.header, forger.payload))


async def test_key_given_inside_the_token_is_not_used(jwt: SignedJWTManager, forger: Forger) -> None:
    forger.key = b"a key of the attacker, 32 bytes."
    await refused(jwt, forger.with_header(jwk={"kty": "oct", "k": encoded(forger.key)}))
    await refused(jwt, forger.sign(forger.header, forger.payload))
    forger.key = b""
    await refused(jwt, forger.sign(forger.header, forger.payload))


@pytest.mark.parametrize("where", ["header", "payload"])
async def test_duplicate_member_is_refused(jwt: SignedJWTManager, forger: Forger, where: str) -> None:
    header, payload = json.dumps(forger.header), json.dumps(forger.payload)
    if where == "header":
        header = header[:-1] + ', "alg": "HS256"}'
    else:
        payload = payload[:-1] + ', "sub": "root"}'
    assert "unique names" in await refused(jwt, forger.sign(header, payload))


@pytest.mark.parametrize("payload", ["[]", "null", '"text"', "1", "", "{", '{"exp": NaN}', "[" * 3000, "\ufeff{}"])
async def test_payload_that_is_no_object_is_refused(jwt: SignedJWTManager, forger: Forger, payload: str) -> None:
    await refused(jwt, forger.sign(forger.header, payload))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
async def test_payload_in_another_encoding_is_refused(jwt: SignedJWTManager, forger: Forger, encoding: str) -> None:
    signed = f"{encoded(forger.header)}.{encoded(json.dumps(forger.payload).encode(encoding))}"
    await refused(jwt, f"{signed}.{encoded(hmac.new(forger.key, signed.encode(), hashlib.sha256).digest())}")


@pytest.mark.parametrize("change", ["pad", "space", "newline", "standard", "bits", "length", "four", "two", "prefix"])
async def test_form_that_is_not_strictly_compact_is_refused(jwt: SignedJWTManager, forger: Forger, change: str) -> None:
    token = forger.sign(forger.header, forger.payload)
    header, payload, signature = token.split(".")
    last = signature[-1]
    changed = {
        "pad": token + "=",
        "space": f"{header}.{payload} .{signature}",
        "newline": token + "\n",
        "standard": f"{header}.{payload}.{'+/' + signature[2:]}",
        "bits": token[:-1] + chr(ord(last) + 1),  # the same bytes for a lenient decoder: 32 bytes leave 2 bits unused
        "length": token + "AA",
        "four": token + ".AAAA",
        "two": f"{header}.{payload}",
        "prefix": "Bearer " + token,
    }[change]
    await refused(jwt, changed)


async def test_json_serialization_is_refused(jwt: SignedJWTManager, forger: Forger) -> None:
    header, payload, signature = forger.sign(forger.header, forger.payload).split(".")
    await refused(jwt, json.dumps({"protected": header, "payload": payload, "signature": signature}))


async def test_oversized_token_is_refused_before_it_is_decoded(jwt: SignedJWTManager, forger: Forger) -> None:
    assert "longer" in await refused(jwt, forger.with_claims(padding="x" * 8192))
    assert "header is longer" in await refused(jwt, forger.with_header(padding="x" * 600))
    with pytest.raises(InvalidInput, match="longer than 8192"):
        await jwt.create_access_token("123", {"padding": "x" * 8192})


@pytest.mark.parametrize("token", [None, 1, b"a.b.c", ["a"], True])
async def test_value_that_is_no_string_is_refused(jwt: SignedJWTManager, token: Any) -> None:
    with pytest.raises(InvalidToken):
        await jwt.validate_token(token)


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "exp", "iat", "jti"])
async def test_missing_claim_is_refused(jwt: SignedJWTManager, forger: Forger, claim: str) -> None:
    await refused(jwt, forger.without(claim))


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "somebody"},
        {"iss": ["base04"]},
        {"aud": "somebody"},
        {"aud": []},
        {"aud": ["somebody", "else"]},
        {"aud": {"base04": 1}},
        {"sub": ""},
        {"sub": 1},
        {"jti": None},
        {"exp": NOW - 5},
        {"exp": 0},
        {"exp": -1},
        {"exp": str(NOW + 60)},
        {"exp": True},
        {"exp": None},
        {"exp": 10**400},
        {"iat": NOW + 6},
        {"iat": "now"},
        {"iat": NOW - 1000},
        {"nbf": NOW + 6},
        {"nbf": "soon"},
        {"nbf": None},
    ],
)
async def test_claim_that_is_not_true_is_refused(
    jwt: SignedJWTManager, forger: Forger, changes: dict[str, Any]
) -> None:
    await refused(jwt, forger.with_claims(**changes))


async def test_infinite_expiry_is_refused(jwt: SignedJWTManager, forger: Forger) -> None:
    payload = json.dumps({**forger.payload, "exp": 0}).replace('"exp": 0', '"exp": 1e999')
    await refused(jwt, forger.sign(forger.header, payload))


async def test_audience_may_be_one_of_a_list(jwt: SignedJWTManager, forger: Forger) -> None:
    assert (await jwt.validate_token(forger.with_claims(aud=["else", "base04"], nbf=NOW + 4)))["user_id"] == "123"


# Times


async def test_token_ends_after_its_life_and_the_leeway(parts: Parts) -> None:
    jwt = await parts.start(access_ttl=60, leeway=5)
    token = await jwt.create_access_token("123")
    parts.clock.now = NOW + 60 + 4
    assert (await jwt.validate_token(token))["exp"] >= NOW + 60
    parts.clock.now = NOW + 61 + 5
    assert await refused(jwt, token) == "it has expired"


async def test_shorter_life_takes_effect_for_tokens_that_exist(parts: Parts) -> None:
    token = await (await parts.start(access_ttl=3600)).create_access_token("123")
    jwt = await parts.start(access_ttl=60)
    assert (await jwt.validate_token(token))["user_id"] == "123"
    parts.clock.now = NOW + 100
    assert await refused(jwt, token) == "it has expired"


async def test_tokens_of_another_issuer_and_audience_with_the_same_key_are_refused(parts: Parts) -> None:
    here, there = await parts.start(), await parts.start(issuer="there")
    elsewhere = await parts.start(audience="elsewhere")
    assert "issuer" in await refused(here, await there.create_access_token("123"))
    assert "audience" in await refused(here, await elsewhere.create_access_token("123"))


# Refreshing


async def test_repeated_refresh_is_answered_alike_within_the_window(parts: Parts, jwt: SignedJWTManager) -> None:
    token = await jwt.create_refresh_token("123")
    first = await jwt.refresh_token(token)
    parts.clock.now = NOW + 9
    again = await jwt.refresh_token(token)
    assert (again["access_token"], again["refresh_token"]) == (first["access_token"], first["refresh_token"])
    assert again["expires_in"] < first["expires_in"]
    assert (await jwt.refresh_token(again["refresh_token"]))["refresh_token"] != again["refresh_token"]


async def test_repeated_refresh_is_answered_alike_after_a_restart(parts: Parts, jwt: SignedJWTManager) -> None:
    token = await jwt.create_refresh_token("123")
    first = await jwt.refresh_token(token)
    assert await (await parts.start()).refresh_token(token) == first


async def test_refresh_repeated_after_the_window_revokes_the_family(parts: Parts, jwt: SignedJWTManager) -> None:
    token = await jwt.create_refresh_token("123")
    pair = await jwt.refresh_token(token)
    parts.clock.now = NOW + 11
    with capture_logs() as entries, pytest.raises(InvalidToken) as caught:
        await jwt.refresh_token(token)
    assert caught.value.reason == "the refresh token was used before"
    assert [entry["user_id"] for entry in entries if "used again" in entry["event"]] == ["123"]
    assert token not in repr(entries)
    assert "family" in await refused(jwt, pair["access_token"])
    with pytest.raises(InvalidToken):
        await jwt.refresh_token(pair["refresh_token"])


async def test_token_whose_successor_was_used_revokes_the_family_within_the_window(jwt: SignedJWTManager) -> None:
    token = await jwt.create_refresh_token("123")
    second = await jwt.refresh_token(token)
    third = await jwt.refresh_token(second["refresh_token"])
    with pytest.raises(InvalidToken):
        await jwt.refresh_token(token)
    with pytest.raises(InvalidToken):
        await jwt.refresh_token(third["refresh_token"])


async def test_no_window_means_no_repeats(parts: Parts) -> None:
    jwt = await parts.start(retry_window=0)
    token = await jwt.create_refresh_token("123")
    await jwt.refresh_token(token)
    parts.clock.now += 1
    with pytest.raises(InvalidToken):
        await jwt.refresh_token(token)


async def test_concurrent_refreshes_by_processes_get_one_successor(parts: Parts, jwt: SignedJWTManager) -> None:
    other = await parts.start()
    token = await jwt.create_refresh_token("123")
    pairs = await asyncio.gather(*(manager.refresh_token(token) for manager in (jwt, other) for _ in range(4)))
    assert len({pair["refresh_token"] for pair in pairs}) == 1
    assert len({pair["access_token"] for pair in pairs}) == 1
    assert await parts.database.count("base04_jwt_families") == 1
    assert (await other.refresh_token(pairs[0]["refresh_token"]))["token_type"] == "Bearer"


async def test_refresh_whose_answer_was_lost_can_be_repeated(parts: Parts, jwt: SignedJWTManager) -> None:
    token = await jwt.create_refresh_token("123")
    parts.database.lose_answers = True
    with pytest.raises(ManagerUnavailable):
        await jwt.refresh_token(token)
    parts.database.lose_answers = False
    pair = await jwt.refresh_token(token)
    assert (await jwt.refresh_token(pair["refresh_token"]))["token_type"] == "Bearer"


async def test_cancelled_refresh_can_be_repeated(parts: Parts, jwt: SignedJWTManager) -> None:
    token = await jwt.create_refresh_token("123")
    for turns in range(6):
        refreshing = asyncio.create_task(jwt.refresh_token(token))
        for _ in range(turns):
            await asyncio.sleep(0)
        refreshing.cancel()
        await asyncio.wait([refreshing])
    pair = await jwt.refresh_token(token)
    assert (await jwt.validate_token(pair["access_token"]))["user_id"] == "123"


async def test_source_that_is_away_uses_no_token_up(jwt: SignedJWTManager) -> None:
    away = True

    async def source(user_id: str, reference: str) -> Mapping[str, Any]:
        if away:
            raise ManagerUnavailable("The source is away.")
        return {"permissions": ["back"]}

    await jwt.register_claims_source("test", source)
    token = await jwt.create_refresh_token("123", source="test:x")
    with pytest.raises(ManagerUnavailable):
        await jwt.refresh_token(token)
    away = False
    pair = await jwt.refresh_token(token)
    assert (await jwt.validate_token(pair["access_token"]))["permissions"] == ["back"]


async def test_source_that_is_registered_no_more_ends_the_refresh(parts: Parts, jwt: SignedJWTManager) -> None:
    async def source(user_id: str, reference: str) -> Mapping[str, Any]:
        return {}

    await jwt.register_claims_source("test", source)
    token = await jwt.create_refresh_token("123", source="test:x")
    with pytest.raises(InvalidToken) as caught:
        await (await parts.start()).refresh_token(token)
    assert "no claims source 'test'" in caught.value.reason


async def test_revocation_during_a_refresh_stops_what_it_makes(parts: Parts, jwt: SignedJWTManager) -> None:
    async def source(user_id: str, reference: str) -> Mapping[str, Any]:
        await jwt.revoke_user_tokens("123")  # while the refresh is between its check and its rotation
        return {}

    await jwt.register_claims_source("test", source)
    token = await jwt.create_refresh_token("123", source="test:x")
    with pytest.raises(InvalidToken) as caught:
        await jwt.refresh_token(token)
    assert caught.value.reason == "the refresh family is revoked"


async def test_refresh_token_ends_with_its_life(parts: Parts) -> None:
    jwt = await parts.start(refresh_ttl=3600)
    token = await jwt.create_refresh_token("123")
    parts.clock.now = NOW + 3600 + 6
    with pytest.raises(InvalidToken) as caught:
        await jwt.refresh_token(token)
    assert caught.value.reason == "it has expired"
    assert await jwt.blacklist_token(token) is False


async def test_no_usable_token_is_stored(parts: Parts, jwt: SignedJWTManager) -> None:
    access, refresh = await jwt.create_access_token("123"), await jwt.create_refresh_token("123")
    pair = await jwt.refresh_token(refresh)
    await jwt.blacklist_token(access)
    stored = b"".join(file.read_bytes() for file in parts.folder.glob("test.sqlite3*"))
    assert b"base04_jwt_families" in stored
    for token in (access, refresh, pair["access_token"], pair["refresh_token"]):
        assert token.rpartition(".")[2].encode() not in stored


# Revoking


async def test_revocations_survive_a_restart(parts: Parts, jwt: SignedJWTManager) -> None:
    by_itself, by_user = await jwt.create_access_token("123"), await jwt.create_access_token("456")
    by_family = (await jwt.refresh_token(await jwt.create_refresh_token("789")))["refresh_token"]
    await jwt.blacklist_token(by_itself)
    await jwt.revoke_user_tokens("456")
    await jwt.blacklist_token(by_family)
    after = await parts.start()
    assert [await after.is_token_blacklisted(token) for token in (by_itself, by_user, by_family)] == [True] * 3
    assert "jti" in await refused(after, by_itself)
    assert "user" in await refused(after, by_user)


async def test_revocation_by_another_process_is_seen_by_its_message(parts: Parts, jwt: SignedJWTManager) -> None:
    other = await parts.start(revocation_max_age=60)
    token = await other.create_access_token("123")
    assert (await other.validate_token(token))["user_id"] == "123"
    await jwt.blacklist_token(token)
    for _ in range(1000):  # the message arrives within some turns of the loop
        if await other.is_token_blacklisted(token):
            break
        await asyncio.sleep(0)
    assert "jti" in await refused(other, token)


async def test_revocation_by_another_process_is_seen_without_a_message(parts: Parts, jwt: SignedJWTManager) -> None:
    unconnected = MemoryRedisManager(MemoryRedisSettings())
    await unconnected.start()
    other = await parts.start(unconnected, revocation_max_age=0)
    token = await other.create_access_token("123")
    await other.validate_token(token)
    await jwt.blacklist_token(token)
    assert "jti" in await refused(other, token)
    await unconnected.stop()


async def test_unknown_revocations_refuse_to_validate(parts: Parts) -> None:
    jwt = await parts.start(revocation_max_age=0)
    token = await jwt.create_access_token("123")
    parts.database.cut_off = True
    with pytest.raises(ManagerUnavailable, match="revoked cannot be known"):
        await jwt.validate_token(token)
    parts.database.cut_off = False
    assert (await jwt.validate_token(token))["user_id"] == "123"


async def test_revocation_that_was_not_stored_is_reported(parts: Parts, jwt: SignedJWTManager) -> None:
    token = await jwt.create_access_token("123")
    parts.database.cut_off = True
    with pytest.raises(ManagerUnavailable):
        await jwt.revoke_user_tokens("123")
    parts.database.cut_off = False
    assert (await jwt.validate_token(token))["user_id"] == "123"
    assert await jwt.revoke_user_tokens("123") is True
    assert await jwt.is_token_blacklisted(token) is True


async def test_clock_set_back_does_not_revive_revoked_tokens(parts: Parts, jwt: SignedJWTManager) -> None:
    old = await jwt.create_access_token("123")
    await jwt.revoke_user_tokens("123")
    parts.clock.now = NOW - 30
    new = await jwt.create_access_token("123")
    assert "user" in await refused(jwt, old)
    assert (await jwt.validate_token(new))["user_id"] == "123"


async def test_sweep_removes_what_stops_no_token_any_more(parts: Parts) -> None:
    jwt = await parts.start(access_ttl=60, refresh_ttl=3600, leeway=5)
    token = await jwt.create_access_token("123")
    await jwt.blacklist_token(token)
    await jwt.create_refresh_token("123")
    await jwt.revoke_user_tokens("456")
    assert await jwt.sweep() == 0
    parts.clock.now = NOW + 60 + 4
    assert await jwt.sweep() == 0
    assert await jwt.is_token_blacklisted(token) is True
    parts.clock.now = NOW + 61 + 6
    assert await jwt.sweep() == 0, "other processes have clocks of their own"
    assert (await jwt.health_check())["metrics"]["revocations"] == 1, "but here it stops nothing any more"
    parts.clock.now += SKEW
    assert await jwt.sweep() == 1
    assert await parts.database.count("base04_jwt_families") == 1
    parts.clock.now = NOW + 3601 + 6 + SKEW
    assert await jwt.sweep() == 2
    assert await parts.database.count("base04_jwt_families") == 0
    assert await parts.database.count("base04_jwt_revocations") == 0
    assert (await jwt.health_check())["metrics"]["revocations"] == 0


async def test_upkeep_sweeps_and_goes_on_after_an_outage(parts: Parts) -> None:
    jwt = await parts.start(refresh_ttl=60, sweep_interval=0.01)
    await jwt.create_refresh_token("123")
    parts.clock.now = NOW + 3600
    parts.database.cut_off = True
    with capture_logs() as entries:
        async with asyncio.timeout(30):
            while "token upkeep put off" not in {entry["event"] for entry in entries}:
                await parts.database.check_connection()
            parts.database.cut_off = False
            while await parts.database.count("base04_jwt_families"):
                pass
    assert (await jwt.validate_token(await jwt.create_access_token("123")))["user_id"] == "123"


# Input


@pytest.mark.parametrize("user_id", ["", "x" * 256, "\ud800", "a\0b", 1, None])
async def test_user_id_that_no_token_can_carry_is_refused(jwt: SignedJWTManager, user_id: Any) -> None:
    for call in (jwt.create_access_token, jwt.create_refresh_token, jwt.revoke_user_tokens):
        with pytest.raises(InvalidInput):
            await call(user_id)


async def test_all_faults_of_claims_are_listed(jwt: SignedJWTManager) -> None:
    with pytest.raises(InvalidInput) as caught:
        await jwt.create_access_token("123", {"exp": 1, "fam": "x", "src": "y", "a": {"b/c": [1, b"x"]}})
    assert [fault.pointer for fault in caught.value.faults] == ["/exp", "/fam", "/src", "/a/b~1c/1"]


async def test_claims_nested_without_end_are_refused(jwt: SignedJWTManager) -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    with pytest.raises(InvalidInput, match="levels deep"):
        await jwt.create_access_token("123", endless)


@pytest.mark.parametrize("source", ["", "x", ":", "x:", "X:1", "a b:c", "api_key:a b", "api_key:" + "x" * 201])
async def test_malformed_source_is_refused(jwt: SignedJWTManager, source: str) -> None:
    with pytest.raises(InvalidInput):
        await jwt.revoke_source_tokens(source)


# Keys and life


@pytest.mark.parametrize(
    "kept", ["canary", '{"keys": "canary"}', '{"keys": [{"jwk": {"k": "canary"}}]}', "", "canaryé"]
)
async def test_unusable_signing_key_is_refused_without_showing_it(parts: Parts, kept: str) -> None:
    await parts.vault.set_secret_value(VAULT_PATH, version_key(1), kept)
    with pytest.raises(ConfigurationError, match="signing key") as caught:
        await parts.start()
    assert caught.value.__cause__ is None
    assert not kept or kept not in repr(caught.value)


async def test_signing_key_is_shown_nowhere(parts: Parts) -> None:
    with capture_logs() as entries:
        jwt = await parts.start()
        token = await jwt.create_access_token("123")
        with pytest.raises(InvalidToken) as caught:
            await jwt.validate_token(token + "AA")
        shown = [repr(jwt), repr(caught.value), caught.value.reason, await jwt.health_check(), entries]
        shown += [await jwt.get_jwks(), token]
    key = await secret_of(parts)
    assert len(key) == 32
    for form in (encoded(key), key.hex(), repr(key)):
        assert form not in repr(shown)


async def test_processes_that_start_at_once_share_one_key(parts: Parts) -> None:
    managers = await asyncio.gather(*(parts.start() for _ in range(4)))
    token = await managers[0].create_access_token("123")
    assert [(await manager.validate_token(token))["user_id"] for manager in managers] == ["123"] * 4


async def test_stop_is_safe_without_a_start_and_leaves_no_task(parts: Parts) -> None:
    jwt = await parts.start()
    await jwt.stop()
    assert "jwt-upkeep" not in {task.get_name() for task in asyncio.all_tasks()}
    unstarted = SignedJWTManager(JWTSettings(), parts.database, parts.redis, parts.vault)
    with pytest.raises(ManagerUnavailable, match="has not started"):
        await unstarted.create_access_token("123")
    await unstarted.stop()


async def test_database_away_at_start_refuses_tokens(parts: Parts) -> None:
    parts.database.cut_off = True
    jwt = await parts.start()
    token = await jwt.create_access_token("ada")
    with pytest.raises(ManagerUnavailable):
        await jwt.validate_token(token)
    parts.database.cut_off = False
    assert (await jwt.validate_token(token))["user_id"] == "ada"


async def test_health_tells_that_the_database_is_away(parts: Parts, jwt: SignedJWTManager) -> None:
    assert (await jwt.health_check())["dependencies"] == {"database": "healthy", "redis": "healthy"}
    await parts.database.stop()
    report = await jwt.health_check()
    assert (report["status"], report["dependencies"]) == ("degraded", {"database": "unhealthy", "redis": "healthy"})


def test_signing_library_is_not_imported_with_the_manager() -> None:
    code = "import sys, base04_builtin.jwt.signed; print(sorted({'joserfc', 'cryptography'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
