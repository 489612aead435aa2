"""What every provider of the role ``jwt`` does."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from base04.testing.conformance.declared import DeclaredCapabilities
from base04_hookspecs.errors import InvalidInput, InvalidToken, NotSupported, ReusedToken, RevokedToken
from base04_hookspecs.jwt import JWTManager

REGISTERED = ("iss", "sub", "aud", "exp", "iat", "jti")


def _unsigned(token: str) -> str:
    """Return what a token says; some algorithms sign the same thing differently each time."""
    return token.rpartition(".")[0]


class JWTConformance(DeclaredCapabilities):
    """Subclass it, give it a fixture ``manager`` (started), and say what the provider can."""

    known_capabilities: ClassVar[frozenset[str]] = frozenset({"jwks", "revocation", "rotation"})

    async def test_access_token_carries_the_user_and_the_claims(self, manager: JWTManager) -> None:
        claims = {"role": "user", "permissions": ["read", "write"], "nested": {"n": [1, None, True, 1.5]}}
        payload = await manager.validate_token(await manager.create_access_token("123", claims))
        assert payload["user_id"] == payload["sub"] == "123"
        assert {name: payload[name] for name in claims} == claims
        assert set(REGISTERED) <= set(payload)
        assert payload["iat"] < payload["exp"]

    async def test_usage_example_of_the_specification_works(self, manager: JWTManager) -> None:
        access_token = await manager.create_access_token(
            user_id="123", additional_claims={"role": "user", "permissions": ["read", "write"]}
        )
        refresh_token = await manager.create_refresh_token(user_id="123")
        assert (await manager.validate_token(access_token))["user_id"] == "123"
        new_tokens = await manager.refresh_token(refresh_token)
        assert (await manager.validate_token(new_tokens["access_token"]))["user_id"] == "123"
        if "revocation" in self.capabilities:
            assert await manager.blacklist_token(access_token) is True
            assert await manager.is_token_blacklisted(access_token) is True

    async def test_tokens_differ_and_callers_claims_stay_untouched(self, manager: JWTManager) -> None:
        claims = {"role": "user"}
        tokens = [await manager.create_access_token("123", claims) for _ in range(5)]
        assert len({(await manager.validate_token(token))["jti"] for token in tokens}) == 5
        assert claims == {"role": "user"}

    @pytest.mark.parametrize("name", [*REGISTERED, "nbf", "user_id"])
    async def test_registered_claims_cannot_be_replaced(self, manager: JWTManager, name: str) -> None:
        with pytest.raises(InvalidInput) as caught:
            await manager.create_access_token("123", {name: "mine"})
        assert [fault.pointer for fault in caught.value.faults] == [f"/{name}"]

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: 2}, b"bytes", {"a", "b"}, object()])
    async def test_claims_that_are_not_json_are_refused(self, manager: JWTManager, value: object) -> None:
        with pytest.raises(InvalidInput):
            await manager.create_access_token("123", {"claim": value})

    async def test_empty_user_id_is_refused(self, manager: JWTManager) -> None:
        with pytest.raises(InvalidInput):
            await manager.create_access_token("")
        with pytest.raises(InvalidInput):
            await manager.create_refresh_token("")

    @pytest.mark.parametrize(
        "text", ["", ".", "..", "a.b.c", "a.b.c.d", "no token at all", "é.é.é", "\0", "a" * 100_000]
    )
    async def test_text_that_is_no_token_is_refused(self, manager: JWTManager, text: str) -> None:
        with pytest.raises(InvalidToken) as caught:
            await manager.validate_token(text)
        assert str(caught.value) == "invalid token"
        with pytest.raises(InvalidToken):
            await manager.refresh_token(text)
        assert await manager.blacklist_token(text) is False
        assert await manager.is_token_blacklisted(text) is False

    @pytest.mark.parametrize("part", [0, 1, 2])
    async def test_changed_token_is_refused(self, manager: JWTManager, part: int) -> None:
        parts = (await manager.create_access_token("123")).split(".")
        first = parts[part][0]
        parts[part] = ("A" if first != "A" else "B") + parts[part][1:]
        with pytest.raises(InvalidToken):
            await manager.validate_token(".".join(parts))

    async def test_token_whose_claims_were_exchanged_is_refused(self, manager: JWTManager) -> None:
        head, body, signature = (await manager.create_access_token("123")).split(".")
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        claims["sub"] = "root"
        forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        with pytest.raises(InvalidToken):
            await manager.validate_token(f"{head}.{forged}.{signature}")

    async def test_refresh_token_is_no_access_token_and_the_reverse(self, manager: JWTManager) -> None:
        with pytest.raises(InvalidToken):
            await manager.validate_token(await manager.create_refresh_token("123"))
        with pytest.raises(InvalidToken):
            await manager.refresh_token(await manager.create_access_token("123"))

    async def test_refresh_gives_a_pair_whose_parts_work(self, manager: JWTManager) -> None:
        pair = await manager.refresh_token(await manager.create_refresh_token("123"))
        assert set(pair) == {"access_token", "refresh_token", "token_type", "expires_in"}
        assert pair["token_type"] == "Bearer"
        assert pair["expires_in"] > 0
        assert (await manager.validate_token(pair["access_token"]))["user_id"] == "123"
        assert (await manager.refresh_token(pair["refresh_token"]))["refresh_token"] != pair["refresh_token"]

    async def test_token_from_before_the_last_refresh_revokes_its_family(self, manager: JWTManager) -> None:
        first = await manager.create_refresh_token("123")
        second = await manager.refresh_token(first)
        third = await manager.refresh_token(second["refresh_token"])
        with pytest.raises(ReusedToken, match=r"^invalid token$"):
            await manager.refresh_token(first)
        with pytest.raises(RevokedToken):
            await manager.refresh_token(third["refresh_token"])
        with pytest.raises(InvalidToken):
            await manager.validate_token(third["access_token"])

    async def test_concurrent_refreshes_never_make_two_families(self, manager: JWTManager) -> None:
        token = await manager.create_refresh_token("123")
        outcomes = await asyncio.gather(*(manager.refresh_token(token) for _ in range(5)), return_exceptions=True)
        pairs = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert all(isinstance(outcome, InvalidToken) for outcome in outcomes if isinstance(outcome, BaseException))
        assert len({_unsigned(pair["refresh_token"]) for pair in pairs}) <= 1

    async def test_claims_source_is_asked_at_each_refresh(self, manager: JWTManager) -> None:
        asked: list[tuple[str, str]] = []

        async def source(user_id: str, reference: str) -> Mapping[str, Any]:
            asked.append((user_id, reference))
            return {"permissions": [f"asked.{len(asked)}"]}

        await manager.register_claims_source("suite", source)
        pair = await manager.refresh_token(await manager.create_refresh_token("123", source="suite:abc"))
        assert (await manager.validate_token(pair["access_token"]))["permissions"] == ["asked.1"]
        pair = await manager.refresh_token(pair["refresh_token"])
        assert (await manager.validate_token(pair["access_token"]))["permissions"] == ["asked.2"]
        assert asked == [("123", "abc"), ("123", "abc")]

    async def test_claims_hold_until_their_source_says(self, manager: JWTManager) -> None:
        ends_at = (await manager.validate_token(await manager.create_access_token("123")))["iat"] + 30

        async def source(user_id: str, reference: str) -> Mapping[str, Any]:
            return {"permissions": ["read"], "exp": ends_at}

        await manager.register_claims_source("suite", source)
        pair = await manager.refresh_token(await manager.create_refresh_token("123", source="suite:a"))
        payload = await manager.validate_token(pair["access_token"])
        assert ends_at <= payload["exp"] < ends_at + 1
        assert pair["expires_in"] <= 30

    async def test_claims_source_that_refuses_ends_the_refresh(self, manager: JWTManager) -> None:
        async def source(user_id: str, reference: str) -> Mapping[str, Any]:
            raise InvalidToken("the user has gone")

        await manager.register_claims_source("refusing", source)
        with pytest.raises(InvalidToken):
            await manager.refresh_token(await manager.create_refresh_token("123", source="refusing:abc"))

    async def test_unknown_or_malformed_source_is_refused(self, manager: JWTManager) -> None:
        for source in ("nobody:abc", "no-colon", "", "suite:"):
            with pytest.raises(InvalidInput):
                await manager.create_refresh_token("123", source=source)

    async def test_revocation_is_there_if_declared(self, manager: JWTManager) -> None:
        token = await manager.create_access_token("123")
        if "revocation" in self.capabilities:
            assert await manager.blacklist_token(token) is True
            return
        with pytest.raises(NotSupported):
            await manager.blacklist_token(token)
        with pytest.raises(NotSupported):
            await manager.revoke_user_tokens("123")
        with pytest.raises(NotSupported):
            await manager.revoke_source_tokens("suite:a")
        assert (await manager.validate_token(token))["user_id"] == "123"

    async def test_revoked_access_token_is_refused_at_once(self, manager: JWTManager) -> None:
        self._needs_revocation()
        token, other = await manager.create_access_token("123"), await manager.create_access_token("123")
        assert await manager.is_token_blacklisted(token) is False
        assert await manager.blacklist_token(token) is True
        with pytest.raises(RevokedToken, match=r"^invalid token$"):
            await manager.validate_token(token)
        assert await manager.is_token_blacklisted(token) is True
        assert await manager.blacklist_token(token) is False
        assert (await manager.validate_token(other))["user_id"] == "123"

    async def test_revoked_refresh_token_takes_its_family_along(self, manager: JWTManager) -> None:
        self._needs_revocation()
        pair = await manager.refresh_token(await manager.create_refresh_token("123"))
        assert await manager.blacklist_token(pair["refresh_token"]) is True
        assert await manager.is_token_blacklisted(pair["access_token"]) is True
        with pytest.raises(InvalidToken):
            await manager.validate_token(pair["access_token"])
        with pytest.raises(InvalidToken):
            await manager.refresh_token(pair["refresh_token"])

    async def test_watcher_is_called_when_something_is_revoked(self, manager: JWTManager) -> None:
        self._needs_revocation()
        told = asyncio.Event()
        end = manager.watch_revocations(told.set)
        if end is None:
            return
        for token in [await manager.create_access_token("123") for _ in range(2)]:
            told.clear()
            assert await manager.blacklist_token(token) is True
            async with asyncio.timeout(10):
                await told.wait()
        end()
        told.clear()
        assert await manager.revoke_user_tokens("123") is True
        assert not told.is_set()

    async def test_user_revocation_stops_old_tokens_and_no_new_ones(self, manager: JWTManager) -> None:
        self._needs_revocation()
        old, refresh = await manager.create_access_token("123"), await manager.create_refresh_token("123")
        stranger = await manager.create_access_token("456")
        assert await manager.revoke_user_tokens("123") is True
        new = await manager.create_access_token("123")
        for call in (manager.validate_token(old), manager.refresh_token(refresh)):
            with pytest.raises(InvalidToken):
                await call
        assert (await manager.validate_token(new))["user_id"] == "123"
        assert (await manager.validate_token(stranger))["user_id"] == "456"

    async def test_source_revocation_stops_what_came_from_it(self, manager: JWTManager) -> None:
        self._needs_revocation()

        async def source(user_id: str, reference: str) -> Mapping[str, Any]:
            return {}

        await manager.register_claims_source("suite", source)
        stopped = await manager.refresh_token(await manager.create_refresh_token("123", source="suite:a"))
        going_on = await manager.refresh_token(await manager.create_refresh_token("123", source="suite:b"))
        assert await manager.revoke_source_tokens("suite:a") is True
        with pytest.raises(InvalidToken):
            await manager.validate_token(stopped["access_token"])
        with pytest.raises(InvalidToken):
            await manager.refresh_token(stopped["refresh_token"])
        assert (await manager.validate_token(going_on["access_token"]))["user_id"] == "123"

    async def test_revoked_source_stops_access_tokens_of_it(self, manager: JWTManager) -> None:
        self._needs_revocation()
        stopped = await manager.create_access_token("123", {"role": "user"}, source="suite:a")
        going_on = await manager.create_access_token("123", source="suite:b")
        assert (await manager.validate_token(stopped))["role"] == "user"
        assert await manager.revoke_source_tokens("suite:a") is True
        with pytest.raises(InvalidToken):
            await manager.validate_token(stopped)
        new = await manager.create_access_token("123", source="suite:a")
        assert [(await manager.validate_token(token))["user_id"] for token in (new, going_on)] == ["123", "123"]

    async def test_malformed_source_of_an_access_token_is_refused(self, manager: JWTManager) -> None:
        for source in ("no-colon", "", "suite:"):
            with pytest.raises(InvalidInput):
                await manager.create_access_token("123", source=source)

    async def test_payload_belongs_to_the_caller(self, manager: JWTManager) -> None:
        token = await manager.create_access_token("123", {"permissions": ["read"]})
        for _ in range(3):
            payload = await manager.validate_token(token)
            assert (payload["user_id"], payload["permissions"]) == ("123", ["read"])
            payload["user_id"] = "root"
            payload["permissions"].append("*")

    async def test_token_that_was_validated_is_revoked_at_once(self, manager: JWTManager) -> None:
        self._needs_revocation()
        token = await manager.create_access_token("123")
        for _ in range(3):
            await manager.validate_token(token)
        await manager.revoke_user_tokens("123")
        with pytest.raises(InvalidToken):
            await manager.validate_token(token)

    async def test_still_valid_is_said_of_no_token_that_would_be_refused(self, manager: JWTManager) -> None:
        self._needs_revocation()
        token = await manager.create_access_token("123")
        assert manager.is_still_valid("nonsense") is False
        await manager.validate_token(token)
        await manager.blacklist_token(token)
        assert manager.is_still_valid(token) is False

    @pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
    async def test_unsigned_token_is_refused(self, manager: JWTManager, alg: str) -> None:
        head, body, signature = (await manager.create_access_token("123")).split(".")
        header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
        forged = base64.urlsafe_b64encode(json.dumps({**header, "alg": alg}).encode()).rstrip(b"=").decode()
        for token in (f"{forged}.{body}.", f"{forged}.{body}.{signature}", f"{forged}.{body}"):
            with pytest.raises(InvalidToken):
                await manager.validate_token(token)

    @pytest.mark.parametrize("character", list("=+/ \n.\0é"))
    async def test_form_is_strict(self, manager: JWTManager, character: str) -> None:
        token = await manager.create_access_token("123")
        for place in (0, 5, token.index(".") + 5, len(token) - 5, len(token)):
            with pytest.raises(InvalidToken):
                await manager.validate_token(token[:place] + character + token[place:])

    async def test_rotation_of_keys_ends_no_token(self, manager: JWTManager) -> None:
        if "rotation" not in self.capabilities:
            with pytest.raises(NotSupported):
                await manager.rotate_keys()
            return
        access, refresh = await manager.create_access_token("123"), await manager.create_refresh_token("123")
        first = await manager.rotate_keys()
        assert isinstance(first, str)
        assert first != await manager.rotate_keys()
        for token in (access, await manager.create_access_token("123")):
            assert (await manager.validate_token(token))["user_id"] == "123"
        assert (await manager.refresh_token(refresh))["token_type"] == "Bearer"

    async def test_rotation_of_compromised_keys_ends_all_tokens(self, manager: JWTManager) -> None:
        if "rotation" not in self.capabilities:
            pytest.skip("the provider does not rotate keys")
        access, refresh = await manager.create_access_token("123"), await manager.create_refresh_token("123")
        await manager.validate_token(access)
        await manager.rotate_keys(revoke=True)
        for call in (manager.validate_token(access), manager.refresh_token(refresh)):
            with pytest.raises(InvalidToken):
                await call
        assert (await manager.validate_token(await manager.create_access_token("123")))["user_id"] == "123"

    async def test_key_set_is_public(self, manager: JWTManager) -> None:
        keys = (await manager.get_jwks())["keys"]
        assert bool(keys) is ("jwks" in self.capabilities)
        assert all(not {"k", "d", "p", "q"} & set(key) for key in keys)

    async def test_health_is_reported(self, manager: JWTManager) -> None:
        report = await manager.health_check()
        assert report["status"] == "healthy"
        assert {"connections", "errors", "response_time"} <= set(report["metrics"])

    def _needs_revocation(self) -> None:
        if "revocation" not in self.capabilities:
            pytest.skip("the provider does not revoke tokens before they expire")
