"""The provider ``signed`` of the role ``jwt``."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from structlog.testing import capture_logs

from base04.testing.conformance.jwt import JWTConformance
from base04_builtin.hooks.inprocess import InProcessHooksManager
from base04_builtin.jwt import jwt_providers
from base04_builtin.jwt.key_store import VAULT_PATH, version_key
from base04_builtin.jwt.settings import JWTSettings
from base04_builtin.jwt.signed import REFRESH_REUSED, SignedJWTManager
from base04_builtin.jwt.tables import SKEW
from base04_builtin.redis.memory import MemoryRedisManager, MemoryRedisSettings
from base04_hookspecs.errors import (
    ConfigurationError,
    ExpiredToken,
    ImmatureToken,
    InvalidInput,
    InvalidToken,
    MalformedToken,
    ManagerUnavailable,
    MisusedToken,
    ReusedToken,
    RevokedToken,
    UntrustedToken,
)
from jwt_kit import NOW, Parts, decoded, encoded, parts, refused, secret_of

__all__ = ["parts"]


@pytest.fixture
async def jwt(parts: Parts) -> SignedJWTManager:
    return await parts.start()


class TestSignedJWTConformance(JWTConformance):
    capabilities = next(iter(jwt_providers())).capabilities - {"jwks"}

    @pytest.fixture
    async def manager(self, parts: Parts) -> SignedJWTManager:
        return await parts.start()


# Forging: the tests sign by hand, with the key that the vault keeps.


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


@pytest.fixture
async def forger(parts: Parts, jwt: SignedJWTManager) -> Forger:
    header, payload, _ = (await jwt.create_access_token("123")).split(".")
    forger = Forger(await secret_of(parts), decoded(header), decoded(payload))
    assert (await jwt.validate_token(forger.sign(forger.header, forger.payload)))["user_id"] == "123"
    return forger


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


async def test_error_says_which_check_failed_and_the_client_hears_the_same(
    parts: Parts, jwt: SignedJWTManager, forger: Forger
) -> None:
    revoked, reused = await jwt.create_access_token("123"), await jwt.create_refresh_token("123")
    await jwt.blacklist_token(revoked)
    await jwt.refresh_token((await jwt.refresh_token(reused))["refresh_token"])
    cases: list[tuple[type[InvalidToken], str]] = [
        (MalformedToken, "a.b.c"),
        (MalformedToken, "a" * 100_000),
        (MalformedToken, forger.with_header(crit=["exp"])),
        (MalformedToken, forger.without("exp")),
        (UntrustedToken, forger.with_claims()[:-2] + "AA"),
        (UntrustedToken, forger.with_header(alg="none")),
        (UntrustedToken, forger.with_header(kid="other")),
        (MisusedToken, await jwt.create_refresh_token("123")),
        (MisusedToken, forger.with_claims(iss="somebody")),
        (MisusedToken, forger.with_claims(aud="somebody")),
        (ExpiredToken, forger.with_claims(exp=NOW - 5)),
        (ImmatureToken, forger.with_claims(nbf=NOW + 6)),
        (RevokedToken, revoked),
    ]
    for kind, token in cases:
        with pytest.raises(kind, match=r"^invalid token$") as caught:
            await jwt.validate_token(token)
        assert type(caught.value) is kind or caught.value.reason == "the key is not known"
    with pytest.raises(ReusedToken, match=r"^invalid token$"):
        await jwt.refresh_token(reused)


# Times


async def test_token_ends_after_its_life_and_the_leeway(parts: Parts) -> None:
    jwt = await parts.start(access_ttl=60, leeway=5)
    token = await jwt.create_access_token("123")
    parts.clock.now = NOW + 60 + 4
    assert (await jwt.validate_token(token))["exp"] >= NOW + 60
    assert jwt.is_still_valid(token)
    parts.clock.now = NOW + 61 + 5
    assert not jwt.is_still_valid(token)
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


async def test_reuse_is_announced_once_with_the_family_and_the_user(parts: Parts) -> None:
    heard: list[dict[str, Any]] = []

    async def listen(**data: Any) -> None:
        heard.append(data)
        raise RuntimeError("a listener that fails changes nothing")

    hooks = InProcessHooksManager()
    await hooks.start()
    await hooks.register_callback(REFRESH_REUSED, listen)
    jwt = await parts.start(hooks=hooks, retry_window=0)
    token = await jwt.create_refresh_token("123")
    await jwt.refresh_token(token)
    parts.clock.now += 1
    for _ in range(2):
        with pytest.raises(InvalidToken):
            await jwt.refresh_token(token)
    (row,) = await parts.database.find("base04_jwt_families")
    assert heard == [{"family": row["family"], "user_id": "123"}]
    await hooks.stop()


async def test_reuse_that_cannot_be_announced_revokes_the_family_all_the_same(parts: Parts) -> None:
    class Failing(InProcessHooksManager):
        async def trigger_hook(self, name: str, /, **data: Any) -> list[Any]:
            raise ManagerUnavailable("The test lets no hook be heard.")

    jwt = await parts.start(hooks=Failing(), retry_window=0)
    token = await jwt.create_refresh_token("123")
    pair = await jwt.refresh_token(token)
    parts.clock.now += 1
    with capture_logs() as entries, pytest.raises(ReusedToken):
        await jwt.refresh_token(token)
    assert "reuse of a refresh token not announced" in {entry["event"] for entry in entries}
    assert "family" in await refused(jwt, pair["access_token"])


async def test_reuse_revokes_the_family_though_the_caller_hangs_up(parts: Parts) -> None:
    jwt = await parts.start(retry_window=0)
    token = await jwt.create_refresh_token("123")
    pair = await jwt.refresh_token(token)
    parts.clock.now += 1
    reusing = asyncio.create_task(jwt.refresh_token(token))
    async with asyncio.timeout(60):
        while "jwt-refresh-reused" not in {task.get_name() for task in asyncio.all_tasks()}:
            await asyncio.sleep(0)
    reusing.cancel()
    await asyncio.wait([reusing])
    async with asyncio.timeout(60):
        while await jwt.is_token_blacklisted(pair["access_token"]) is False:
            await asyncio.sleep(0)
    assert "family" in await refused(jwt, pair["access_token"])


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


async def test_access_token_ends_when_its_source_says_so(parts: Parts, jwt: SignedJWTManager) -> None:
    async def source(user_id: str, reference: str) -> Mapping[str, Any]:
        return {"permissions": ["read"], "exp": NOW + float(reference)}

    await jwt.register_claims_source("test", source)
    short = await jwt.refresh_token(await jwt.create_refresh_token("123", source="test:100.5"))
    long = await jwt.refresh_token(await jwt.create_refresh_token("123", source="test:1e6"))
    assert (await jwt.validate_token(short["access_token"]))["exp"] == NOW + 101
    assert short["expires_in"] == 100
    assert (await jwt.validate_token(long["access_token"]))["exp"] == NOW + 901
    parts.clock.now = NOW + 107
    assert await refused(jwt, short["access_token"]) == "it has expired"
    assert (await jwt.validate_token(long["access_token"]))["permissions"] == ["read"]


@pytest.mark.parametrize("ends_at", ["soon", True, float("inf"), [1]])
async def test_source_that_names_no_time_uses_no_token_up(jwt: SignedJWTManager, ends_at: object) -> None:
    answer: dict[str, Any] = {"exp": ends_at}

    async def source(user_id: str, reference: str) -> Mapping[str, Any]:
        return answer

    await jwt.register_claims_source("test", source)
    token = await jwt.create_refresh_token("123", source="test:x")
    with pytest.raises(InvalidInput, match="seconds since the epoch"):
        await jwt.refresh_token(token)
    answer.clear()
    assert (await jwt.refresh_token(token))["token_type"] == "Bearer"


async def test_refresh_token_ends_with_its_life(parts: Parts) -> None:
    jwt = await parts.start(refresh_ttl=3600)
    token = await jwt.create_refresh_token("123")
    parts.clock.now = NOW + 3600 + 6
    with pytest.raises(InvalidToken) as caught:
        await jwt.refresh_token(token)
    assert caught.value.reason == "it has expired"
    assert await jwt.blacklist_token(token) is False


async def test_family_ends_however_often_it_is_refreshed(parts: Parts) -> None:
    jwt = await parts.start(refresh_ttl=3600, access_ttl=600, family_ttl=5000, leeway=0)
    token = await jwt.create_refresh_token("123")
    parts.clock.now = NOW + 3000
    second = await jwt.refresh_token(token)
    assert decoded(second["refresh_token"].split(".")[1])["exp"] == NOW + 5001  # in whole seconds, rounded up
    parts.clock.now = NOW + 4900
    third = await jwt.refresh_token(second["refresh_token"])
    assert (await jwt.validate_token(third["access_token"]))["exp"] == NOW + 5001
    assert third["expires_in"] == 100
    parts.clock.now = NOW + 5002
    with pytest.raises(InvalidToken):
        await jwt.refresh_token(third["refresh_token"])


async def test_shorter_end_of_families_takes_effect_for_those_that_exist(parts: Parts) -> None:
    token = await (await parts.start()).create_refresh_token("123")
    parts.clock.now = NOW + 1000
    with pytest.raises(InvalidToken) as caught:
        await (await parts.start(family_ttl=900)).refresh_token(token)
    assert caught.value.reason == "the refresh family has ended"


async def test_families_from_before_their_beginning_was_kept_have_no_end(parts: Parts) -> None:
    jwt = await parts.start(family_ttl=60)
    token = await jwt.create_refresh_token("123")
    update: Any = {"type": "update", "table": "base04_jwt_families", "data": {"created_at": None}}
    await parts.database.execute_transaction([update])
    parts.clock.now = NOW + 50
    assert (await jwt.refresh_token(token))["token_type"] == "Bearer"


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


async def test_longer_lives_revive_no_revoked_token(parts: Parts) -> None:
    token = await (await parts.start(access_ttl=3600)).create_access_token("123")
    shortened = await parts.start(access_ttl=60)
    await shortened.blacklist_token(token)
    parts.clock.now = NOW + 1000
    await shortened.sweep()
    assert "jti" in await refused(await parts.start(access_ttl=3600), token)


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


# Tokens that were verified before


async def test_payload_belongs_to_the_caller(jwt: SignedJWTManager) -> None:
    claims = {"permissions": ["read"], "nested": {"list": [{"a": 1}]}}
    token = await jwt.create_access_token("123", claims)
    for _ in range(3):
        payload = await jwt.validate_token(token)
        assert {name: payload[name] for name in claims} == claims
        payload["sub"] = payload["user_id"] = "root"
        payload["permissions"].append("*")
        payload["nested"]["list"][0]["a"] = 2


async def test_token_that_was_verified_before_ends(parts: Parts) -> None:
    jwt = await parts.start(access_ttl=60, leeway=5)
    token = await jwt.create_access_token("123")
    await jwt.validate_token(token)
    parts.clock.now = NOW - 120
    assert await refused(jwt, token) == "it is not valid yet"
    parts.clock.now = NOW + 67
    assert await refused(jwt, token) == "it has expired"


async def test_token_that_was_verified_before_is_revoked(jwt: SignedJWTManager) -> None:
    token = await jwt.create_access_token("123")
    await jwt.validate_token(token)
    await jwt.blacklist_token(token)
    assert "jti" in await refused(jwt, token)


@pytest.mark.parametrize("size", [0, 1, 6, 7])
async def test_verified_tokens_are_bounded(parts: Parts, size: int) -> None:
    jwt = await parts.start(cache_size=size)
    tokens = [await jwt.create_access_token("123", {"number": number}) for number in range(30)]
    for number, token in [*enumerate(tokens), *enumerate(tokens)]:
        assert (await jwt.validate_token(token))["number"] == number
    kept = (await jwt.health_check())["metrics"]["verified_tokens"]
    assert min(size, 1) <= kept <= size + 1


async def test_long_tokens_and_refused_ones_are_not_remembered(jwt: SignedJWTManager, forger: Forger) -> None:
    before = (await jwt.health_check())["metrics"]["verified_tokens"]
    await jwt.validate_token(await jwt.create_access_token("123", {"long": "x" * 3000}))
    for number in range(10):
        await refused(jwt, forger.with_claims(exp=NOW - 10 - number))
    assert (await jwt.health_check())["metrics"]["verified_tokens"] == before


# Claims


async def test_client_id_is_written_where_it_is_set(parts: Parts) -> None:
    jwt = await parts.start(client_id="shop")
    assert (await jwt.validate_token(await jwt.create_access_token("123")))["client_id"] == "shop"
    own = await jwt.create_access_token("123", {"client_id": "other"})
    assert (await jwt.validate_token(own))["client_id"] == "other"
    with pytest.raises(InvalidInput):
        await jwt.create_access_token("123", {"client_id": 1})


async def test_access_token_of_a_source_stops_with_it(parts: Parts, jwt: SignedJWTManager) -> None:
    other = await parts.start()
    token = await jwt.create_access_token("123", {"role": "user"}, source="api_key:abc")
    assert (await jwt.validate_token(token))["src"] == "api_key:abc"
    await jwt.revoke_source_tokens("api_key:abc")
    assert "source" in await refused(jwt, token)
    new = await jwt.create_access_token("123", source="api_key:abc")
    assert [(await one.validate_token(new))["user_id"] for one in (jwt, other)] == ["123", "123"]


# Input


@pytest.mark.parametrize("user_id", ["", "x" * 256, "\ud800", "a\0b", 1, None])
async def test_user_id_that_no_token_can_carry_is_refused(jwt: SignedJWTManager, user_id: Any) -> None:
    for call in (jwt.create_access_token, jwt.create_refresh_token, jwt.revoke_user_tokens):
        with pytest.raises(InvalidInput):
            await call(user_id)


async def test_all_faults_of_claims_are_listed(jwt: SignedJWTManager) -> None:
    with pytest.raises(InvalidInput) as caught:
        await jwt.create_access_token("123", {"exp": 1, "fam": "x", "src": "y", "rev": {}, "a": {"b/c": [1, b"x"]}})
    assert [fault.pointer for fault in caught.value.faults] == ["/exp", "/fam", "/src", "/rev", "/a/b~1c/1"]


async def test_claims_nested_without_end_are_refused(jwt: SignedJWTManager) -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    with pytest.raises(InvalidInput, match="levels deep"):
        await jwt.create_access_token("123", endless)


@pytest.mark.parametrize("source", ["", "x", ":", "x:", "X:1", "a b:c", "api_key:a b", "api_key:" + "x" * 201])
async def test_malformed_source_is_refused(jwt: SignedJWTManager, source: str) -> None:
    with pytest.raises(InvalidInput):
        await jwt.revoke_source_tokens(source)
    with pytest.raises(InvalidInput):
        await jwt.create_access_token("123", source=source)


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
    token = await (await parts.start()).create_access_token("ada")
    parts.database.cut_off = True
    jwt = await parts.start()
    with pytest.raises(ManagerUnavailable):
        await jwt.validate_token(token)
    with pytest.raises(ManagerUnavailable):
        await jwt.create_access_token("ada")  # it says after which revocations it comes
    parts.database.cut_off = False
    assert (await jwt.validate_token(token))["user_id"] == "ada"


async def test_health_tells_that_the_database_is_away(parts: Parts, jwt: SignedJWTManager) -> None:
    assert (await jwt.health_check())["dependencies"] == {"database": "healthy", "redis": "healthy"}
    await parts.database.stop()
    report = await jwt.health_check()
    assert (report["status"], report["dependencies"]) == ("degraded", {"database": "unhealthy", "redis": "healthy"})


def test_library_for_key_pairs_is_not_imported_without_one() -> None:
    code = """
import sys, base04_builtin.jwt.signed
from base04_builtin.jwt.signing_key import SigningKey, new_jwk
SigningKey(new_jwk("HS256")).sign(b"text")
print(sorted({"joserfc", "cryptography"} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
