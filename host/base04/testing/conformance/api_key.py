"""What every provider of the role ``api_key`` does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from base04.testing.conformance.declared import DeclaredCapabilities
from base04_hookspecs.api_key import ApiKeyManager
from base04_hookspecs.context import Principal, RequestContext, use_request
from base04_hookspecs.errors import (
    InvalidApiKey,
    InvalidInput,
    MalformedApiKey,
    NotFound,
    PermissionDenied,
    RevokedApiKey,
)

INFO_KEYS = {
    "key_id",
    "user_id",
    "name",
    "permissions",
    "rate_limit",
    "created_at",
    "expires_at",
    "revoked_at",
    "last_used_at",
    "use_count",
}


class ApiKeyConformance(DeclaredCapabilities):
    """Subclass it, give it a fixture ``manager`` (started, without keys), and say what the provider can."""

    async def test_new_key_is_valid_and_described(self, manager: ApiKeyManager) -> None:
        key = await manager.generate_api_key(
            "123", ["read", "write", "users.*"], name="deploy", expires_in=3600, rate_limit="20/minute"
        )
        info = await manager.validate_api_key(key)
        assert set(info) == INFO_KEYS
        assert (info["user_id"], info["name"], info["rate_limit"]) == ("123", "deploy", "20/minute")
        assert info["permissions"] == ["read", "write", "users.*"]
        assert info["expires_at"] == pytest.approx(info["created_at"] + 3600)
        assert info["revoked_at"] is None

    async def test_usage_example_of_the_specification_works(self, manager: ApiKeyManager) -> None:
        api_key = await manager.generate_api_key(user_id="123", permissions=["read", "write", "admin"])
        key_info = await manager.validate_api_key(api_key)
        assert (key_info["user_id"], key_info["permissions"]) == ("123", ["read", "write", "admin"])
        assert await manager.revoke_api_key(api_key) is True
        with pytest.raises(InvalidApiKey):
            await manager.validate_api_key(api_key)

    async def test_key_without_permissions_has_none(self, manager: ApiKeyManager) -> None:
        info = await manager.validate_api_key(await manager.generate_api_key("123"))
        assert (info["permissions"], info["expires_at"], info["rate_limit"]) == ([], None, None)

    async def test_every_single_character_matters(self, manager: ApiKeyManager) -> None:
        key = await manager.generate_api_key("123")
        for place, char in enumerate(key):
            changed = key[:place] + ("x" if char != "x" else "y") + key[place + 1 :]
            with pytest.raises(InvalidApiKey):
                await manager.validate_api_key(changed)
        assert (await manager.validate_api_key(key))["user_id"] == "123"

    @pytest.mark.parametrize("text", ["", " ", "b04_", "nonsense", "é" * 50, "\0", "x" * 100_000])
    async def test_text_that_is_no_key_is_refused(self, manager: ApiKeyManager, text: str) -> None:
        with pytest.raises(MalformedApiKey, match=r"^invalid API key$"):
            await manager.validate_api_key(text)
        assert await manager.revoke_api_key(text) is False
        assert await manager.update_api_key_permissions(text, []) is False
        with pytest.raises(NotFound):
            await manager.get_api_key_info(text)
        with pytest.raises(NotFound):
            await manager.roll_api_key(text)

    async def test_public_id_manages_a_key_and_does_not_authenticate(self, manager: ApiKeyManager) -> None:
        key = await manager.generate_api_key("123")
        key_id = (await manager.get_api_key_info(key))["key_id"]
        with pytest.raises(InvalidApiKey):
            await manager.validate_api_key(key_id)
        assert (await manager.get_api_key_info(key_id))["user_id"] == "123"
        assert await manager.update_api_key_permissions(key_id, ["read"]) is True
        assert await manager.revoke_api_key(key_id) is True

    async def test_revocation_is_effective_at_once_and_told_once(self, manager: ApiKeyManager) -> None:
        key = await manager.generate_api_key("123")
        await manager.validate_api_key(key)
        assert await manager.revoke_api_key(key) is True
        with pytest.raises(RevokedApiKey, match=r"^invalid API key$"):
            await manager.validate_api_key(key)
        assert await manager.revoke_api_key(key) is False
        assert (await manager.get_api_key_info(key))["revoked_at"] is not None

    async def test_revocation_under_load_lets_nothing_through_afterwards(self, manager: ApiKeyManager) -> None:
        key = await manager.generate_api_key("123")
        revoked = asyncio.Event()
        late: list[dict[str, Any]] = []

        async def use() -> None:
            while True:
                after = revoked.is_set()
                try:
                    info = await manager.validate_api_key(key)
                except InvalidApiKey:
                    return
                if after:
                    late.append(dict(info))
                    return
                await asyncio.sleep(0)

        users = [asyncio.create_task(use()) for _ in range(8)]
        await manager.revoke_api_key(key)
        revoked.set()
        await asyncio.gather(*users)
        assert late == []

    async def test_roll_replaces_a_key_at_once(self, manager: ApiKeyManager) -> None:
        old = await manager.generate_api_key("123", ["read"], name="deploy", rate_limit="20/minute")
        new = await manager.roll_api_key(old)
        info = await manager.validate_api_key(new)
        assert (info["user_id"], info["permissions"], info["name"]) == ("123", ["read"], "deploy")
        assert info["rate_limit"] == "20/minute"
        with pytest.raises(InvalidApiKey):
            await manager.validate_api_key(old)
        with pytest.raises(NotFound):
            await manager.roll_api_key(old)

    async def test_roll_with_overlap_leaves_both_for_a_while(self, manager: ApiKeyManager) -> None:
        old = await manager.generate_api_key("123")
        await manager.validate_api_key(old)
        new = await manager.roll_api_key(old, overlap=600)
        assert new != old
        assert (await manager.validate_api_key(old))["expires_at"] is not None
        assert (await manager.validate_api_key(new))["expires_at"] is None

    async def test_permissions_are_replaced_at_once(self, manager: ApiKeyManager) -> None:
        key = await manager.generate_api_key("123", ["read"])
        await manager.validate_api_key(key)
        assert await manager.update_api_key_permissions(key, ["users.write"]) is True
        assert (await manager.validate_api_key(key))["permissions"] == ["users.write"]

    @pytest.mark.parametrize(
        "permission", ["", ".", "a..b", ".a", "a.", "a b", "*.a", "a.*.b", "**", "a*", "é", "a\n", "a.**"]
    )
    async def test_malformed_permission_is_refused(self, manager: ApiKeyManager, permission: str) -> None:
        with pytest.raises(InvalidInput):
            await manager.generate_api_key("123", ["read", permission])
        key = await manager.generate_api_key("123")
        with pytest.raises(InvalidInput):
            await manager.update_api_key_permissions(key, [permission])

    @pytest.mark.parametrize(
        "options",
        [
            {"rate_limit": "often"},
            {"rate_limit": "0/minute"},
            {"expires_in": 0},
            {"expires_in": -1},
            {"expires_in": float("nan")},
            {"expires_in": float("inf")},
        ],
    )
    async def test_malformed_options_are_refused(self, manager: ApiKeyManager, options: dict[str, Any]) -> None:
        with pytest.raises(InvalidInput):
            await manager.generate_api_key("123", **options)

    async def test_empty_user_id_is_refused(self, manager: ApiKeyManager) -> None:
        with pytest.raises(InvalidInput):
            await manager.generate_api_key("")

    async def test_caller_can_give_no_more_than_they_hold(self, manager: ApiKeyManager) -> None:
        caller = Principal("123", ("users.*",), "token")
        with use_request(RequestContext("r1", caller, source="http")):
            key = await manager.generate_api_key("123", ["users.write", "users.admin.*"])
            for too_much in (["*"], ["users"], ["users.write", "billing.read"]):
                with pytest.raises(PermissionDenied) as caught:
                    await manager.generate_api_key("123", too_much)
                assert set(caught.value.missing) <= set(too_much)
            with pytest.raises(PermissionDenied) as caught:
                await manager.update_api_key_permissions(key, ["users.read", "billing.read"])
            assert caught.value.missing == ("billing.read",)
        assert (await manager.get_api_key_info(key))["permissions"] == ["users.write", "users.admin.*"]

    async def test_key_makes_none_that_outlives_it(self, manager: ApiKeyManager) -> None:
        maker = await manager.get_api_key_info(await manager.generate_api_key("123", ["read"], expires_in=60))
        caller = Principal("123", ("read",), "api_key", api_key_id=maker["key_id"])
        with use_request(RequestContext("r1", caller, source="http")):
            made = await manager.get_api_key_info(await manager.generate_api_key("123", ["read"]))
            with pytest.raises(PermissionDenied):
                await manager.generate_api_key("123", ["read"], expires_in=3600)
        assert made["expires_at"] == maker["expires_at"]

    async def test_owner_of_the_machine_may_give_everything(self, manager: ApiKeyManager) -> None:
        with use_request(RequestContext("r1", Principal("local", (), "local"), source="cli")):
            key = await manager.generate_api_key("123", ["*"])
        assert (await manager.validate_api_key(key))["permissions"] == ["*"]

    async def test_list_shows_the_newest_first_and_no_secrets(self, manager: ApiKeyManager) -> None:
        keys = [await manager.generate_api_key("123", name=str(number)) for number in range(4)]
        stranger = await manager.generate_api_key("456", name="stranger")
        await manager.revoke_api_key(keys[1])
        listed = await manager.list_api_keys("123")
        assert [info["name"] for info in listed] == ["3", "2", "0"]
        assert [info["name"] for info in await manager.list_api_keys("123", limit=1, offset=1)] == ["2"]
        everything = await manager.list_api_keys(include_revoked=True)
        assert [info["name"] for info in everything] == ["stranger", "3", "2", "1", "0"]
        assert all(set(info) == INFO_KEYS for info in everything)
        shown = repr(everything)
        assert not any(key in shown or key[-24:] in shown for key in [*keys, stranger])

    async def test_uses_are_known(self, manager: ApiKeyManager) -> None:
        key = await manager.generate_api_key("123")
        assert (await manager.get_api_key_info(key))["last_used_at"] is None
        with pytest.raises(InvalidApiKey):
            await manager.validate_api_key(key[:-1] + ("x" if key[-1] != "x" else "y"))
        assert (await manager.get_api_key_info(key))["use_count"] == 0
        for _ in range(3):
            await manager.validate_api_key(key)
        info = await manager.get_api_key_info(key)
        assert info["use_count"] == 3
        assert info["last_used_at"] is not None
        assert info["last_used_at"] >= info["created_at"]

    async def test_errors_do_not_repeat_the_key(self, manager: ApiKeyManager) -> None:
        key = await manager.generate_api_key("123")
        await manager.revoke_api_key(key)
        with pytest.raises(InvalidApiKey) as caught:
            await manager.validate_api_key(key)
        assert key not in repr(caught.value) + caught.value.reason + repr(manager)

    async def test_health_is_reported(self, manager: ApiKeyManager) -> None:
        report = await manager.health_check()
        assert report["status"] == "healthy"
        assert {"connections", "errors", "response_time"} <= set(report["metrics"])
