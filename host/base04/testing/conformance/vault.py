"""What every provider of the role ``vault`` does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import ClassVar

import pytest

from base04.testing.conformance.declared import DeclaredCapabilities
from base04_hookspecs.errors import InvalidInput, NotFound, NotSupported
from base04_hookspecs.vault import VaultManager

CANARY = "canary-7f3b1c-never-shown"
WATCH_TIMEOUT_S = 30.0


Another = Callable[[], AbstractAsyncContextManager[VaultManager]]
"""Starts one more manager as another process would, with the settings of the one under test."""


class VaultConformance(DeclaredCapabilities):
    """Subclass it, give it the fixtures ``manager`` (started, empty at ``app/``) and ``another``, and say what it can.

    Of ``versions`` nothing can be tested: the contract has no way to old values.
    """

    known_capabilities: ClassVar[frozenset[str]] = frozenset({"versions", "watch", "shared"})

    async def test_secret_is_returned_as_it_was_stored(self, manager: VaultManager) -> None:
        for value in ("plain", "", "ünïcödé 🔑", 'quotes " and \\ and\nlines', "x" * 20_000):
            assert await manager.set_secret_value("app/database", "password", value) is True
            assert await manager.get_secret_value("app/database", "password") == value

    async def test_other_keys_of_the_path_stay(self, manager: VaultManager) -> None:
        await manager.set_secret_value("app/database", "user", "ada")
        await manager.set_secret_value("app/database", "password", "first")
        await manager.set_secret_value("app/database", "password", "second")
        assert await manager.get_secret_value("app/database", "user") == "ada"

    async def test_missing_path_and_missing_key_are_named(self, manager: VaultManager) -> None:
        await manager.set_secret_value("app/there", "user", "ada")
        for path, key in (("app/nowhere", "password"), ("app/there", "password")):
            with pytest.raises(NotFound) as caught:
                await manager.get_secret_value(path, key)
            assert path in str(caught.value)
            assert key in str(caught.value)

    async def test_create_keeps_what_is_there(self, manager: VaultManager) -> None:
        assert await manager.create_secret_value("app/signing", "key", "first") == "first"
        assert await manager.create_secret_value("app/signing", "key", "second") == "first"
        assert await manager.create_secret_value("app/signing", "other", "third") == "third"
        assert await manager.get_secret_value("app/signing", "key") == "first"

    async def test_concurrent_creators_get_one_secret(self, manager: VaultManager) -> None:
        got = await asyncio.gather(
            *(manager.create_secret_value("app/race", "key", f"candidate-{number}") for number in range(12))
        )
        assert len(set(got)) == 1
        assert await manager.get_secret_value("app/race", "key") == got[0]

    async def test_concurrent_writers_of_one_path_lose_nothing(self, manager: VaultManager) -> None:
        await asyncio.gather(*(manager.set_secret_value("app/many", f"key{n}", str(n)) for n in range(12)))
        assert [await manager.get_secret_value("app/many", f"key{n}") for n in range(12)] == [str(n) for n in range(12)]

    async def test_delete_removes_the_whole_path_and_tells(self, manager: VaultManager) -> None:
        await manager.set_secret_value("app/gone", "user", "ada")
        await manager.set_secret_value("app/gone", "password", "secret")
        assert await manager.delete_secret("app/gone") is True
        assert await manager.delete_secret("app/gone") is False
        with pytest.raises(NotFound):
            await manager.get_secret_value("app/gone", "user")

    async def test_list_returns_sorted_paths_with_the_prefix(self, manager: VaultManager) -> None:
        for path in ("app/b", "app/a", "app/nested/c"):
            await manager.set_secret_value(path, "key", CANARY)
        assert await manager.list_secrets("app/") == ["app/a", "app/b", "app/nested/c"]
        assert await manager.list_secrets("app/nested") == ["app/nested/c"]
        assert await manager.list_secrets("nobody/") == []
        assert set(await manager.list_secrets()) >= {"app/a", "app/b", "app/nested/c"}

    @pytest.mark.parametrize("names", [("", "key"), ("app/x", ""), ("app/ x", "key"), ("app//x", "key")])
    async def test_unusable_names_are_refused(self, manager: VaultManager, names: tuple[str, str]) -> None:
        path, key = names
        with pytest.raises(InvalidInput):
            await manager.set_secret_value(path, key, CANARY)
        with pytest.raises(InvalidInput):
            await manager.create_secret_value(path, key, CANARY)

    async def test_value_that_is_no_string_is_refused_and_not_shown(self, manager: VaultManager) -> None:
        with pytest.raises(InvalidInput) as caught:
            await manager.set_secret_value("app/x", "key", CANARY.encode())  # type: ignore[arg-type]
        assert CANARY not in str(caught.value)

    async def test_nothing_that_describes_the_vault_shows_a_secret(self, manager: VaultManager) -> None:
        await manager.set_secret_value("app/canary", "key", CANARY)
        with pytest.raises(NotFound) as caught:
            await manager.get_secret_value("app/canary", "other")
        shown = [repr(manager), str(manager), repr(caught.value), await manager.health_check()]
        shown += [await manager.get_connection_info(), await manager.list_secrets()]
        assert CANARY not in repr(shown)

    async def test_connection_info_tells_that_the_vault_accepts_this_process(self, manager: VaultManager) -> None:
        info = await manager.get_connection_info()
        assert info["authenticated"] is True
        assert info["provider"]
        assert set(info) == {"provider", "address", "authentication", "authenticated"}

    async def test_health_is_reported(self, manager: VaultManager) -> None:
        report = await manager.health_check()
        assert report["status"] == "healthy"
        assert {"connections", "errors", "response_time"} <= set(report["metrics"])

    async def test_processes_see_the_same_secrets_if_declared(self, manager: VaultManager, another: Another) -> None:
        await manager.set_secret_value("app/told", "key", "value")
        async with another() as other:
            seen = "app/told" in await other.list_secrets("app/")
            assert seen is ("shared" in self.capabilities)
            if seen:
                assert await other.get_secret_value("app/told", "key") == "value"

    async def test_change_of_a_watched_path_is_announced(self, manager: VaultManager) -> None:
        if "watch" not in self.capabilities:
            with pytest.raises(NotSupported):
                await manager.watch_secret("app/watched", lambda path: None)
            return
        announced: asyncio.Queue[str] = asyncio.Queue()
        await manager.set_secret_value("app/watched", "key", "old")
        assert await manager.watch_secret("app/watched", announced.put) is True
        await manager.set_secret_value("app/other", "key", "new")
        await manager.set_secret_value("app/watched", "key", "new")
        assert await asyncio.wait_for(announced.get(), WATCH_TIMEOUT_S) == "app/watched"
        assert await manager.get_secret_value("app/watched", "key") == "new"
        await manager.delete_secret("app/watched")
        assert await asyncio.wait_for(announced.get(), WATCH_TIMEOUT_S) == "app/watched"

    async def test_failing_callback_does_not_stop_the_others(self, manager: VaultManager) -> None:
        if "watch" not in self.capabilities:
            pytest.skip("the provider does not announce rotations")

        def fail(path: str) -> None:
            raise RuntimeError("this callback is broken")

        announced: asyncio.Queue[str] = asyncio.Queue()
        await manager.watch_secret("app/watched", fail)
        await manager.watch_secret("app/watched", announced.put)
        for value in ("first", "second"):
            await manager.set_secret_value("app/watched", "key", value)
            assert await asyncio.wait_for(announced.get(), WATCH_TIMEOUT_S) == "app/watched"
