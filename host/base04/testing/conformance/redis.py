"""What every provider of the role ``redis`` does."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar

import pytest

from base04.testing.conformance.declared import DeclaredCapabilities
from base04.testing.conformance.redis_messages import RedisMessagesConformance
from base04.testing.conformance.redis_scripts import (
    ADD,
    ECHO,
    FAIL,
    NOTHING,
    SCRIBBLE,
    TOUR,
    TOUR_ARGUMENTS,
    TOUR_REPLY,
    rounded,
)
from base04.testing.conformance.redis_values import RedisValuesConformance, unique
from base04_hookspecs.errors import InvalidInput, ManagerError
from base04_hookspecs.redis import RedisManager, key_name

Another = Callable[[], AbstractAsyncContextManager[RedisManager]]
"""Starts one more manager as another process would: it shares what servers and files keep, and no memory."""


class RedisConformance(RedisValuesConformance, RedisMessagesConformance, DeclaredCapabilities):
    """Subclass it, give it the fixtures ``manager`` (started) and ``another``, and say what the provider can."""

    known_capabilities: ClassVar[frozenset[str]] = frozenset({"persistent", "shared"})

    async def test_script_sees_the_store_as_a_server_does(self, manager: RedisManager) -> None:
        slot = uuid.uuid4().hex
        keys = [key_name("conformance", name, slot=slot) for name in ("one", "two")]
        assert rounded(await manager.run_script(TOUR, keys, TOUR_ARGUMENTS)) == TOUR_REPLY

    async def test_script_shares_values_with_the_other_methods(self, manager: RedisManager) -> None:
        key = unique()
        await manager.set(key, 40)
        assert await manager.run_script(ADD, [key], [2]) == 42
        assert await manager.get(key) == 42
        assert await manager.incr(key) == 43

    async def test_scripts_do_not_come_between_each_other(self, manager: RedisManager) -> None:
        key = unique()
        await asyncio.gather(*(manager.run_script(ADD, [key], [1]) for _ in range(25)))
        assert await manager.get(key) == 25

    async def test_processes_see_the_same_values_if_declared(self, manager: RedisManager, another: Another) -> None:
        key = unique()
        await manager.set(key, 1)
        async with another() as other:
            assert (await other.get(key) == 1) is ("shared" in self.capabilities)

    async def test_values_outlive_the_process_if_declared(self, another: Another) -> None:
        key = unique()
        async with another() as first:
            await first.set(key, 1)
        async with another() as later:
            assert (await later.get(key) == 1) is ("persistent" in self.capabilities)

    async def test_store_of_several_processes_holds_no_object_of_one(self, manager: RedisManager) -> None:
        name, made = unique(), object()
        held = manager.local_object(name, lambda: made)
        if "shared" in self.capabilities:
            assert held is None
        elif held is not None:
            assert held is made
            assert manager.local_object(name, object) is made
            assert manager.local_object(unique(), object) is not made

    async def test_script_gets_keys_and_arguments_as_text(self, manager: RedisManager) -> None:
        key = unique()
        reply = await manager.run_script(ECHO, [key], ["ü", "", 1, -(2**60), 2.5, 1e100])
        assert reply == [key, "ü", "", "1", str(-(2**60)), "2.5", "1e+100", 6]
        assert await manager.run_script(ECHO, [], []) == [0]

    @pytest.mark.parametrize("arg", [True, None, b"bytes", [1]])
    async def test_script_argument_of_another_type_is_refused(self, manager: RedisManager, arg: Any) -> None:
        with pytest.raises(InvalidInput):
            await manager.run_script(ECHO, [unique()], [arg])

    async def test_text_of_a_script_that_is_not_json_is_an_error_of_get(self, manager: RedisManager) -> None:
        key = unique()
        await manager.run_script(SCRIBBLE, [key], ["not json"])
        with pytest.raises(ManagerError, match="not JSON"):
            await manager.get(key)
        with pytest.raises(InvalidInput):
            await manager.incr(key)
        assert await manager.delete(key) is True

    @pytest.mark.parametrize(
        "text", ["007", "+7", " 7", "7 ", "-0", "1_0", "٣", "", "0x7", "7.0", "9223372036854775808"]
    )
    async def test_incr_reads_integers_strictly(self, manager: RedisManager, text: str) -> None:
        key = unique()
        await manager.run_script(SCRIBBLE, [key], [text])
        with pytest.raises(InvalidInput):
            await manager.incr(key)

    async def test_script_that_returns_nothing_returns_none(self, manager: RedisManager) -> None:
        assert await manager.run_script(NOTHING, [unique()], []) is None

    async def test_script_that_fails_is_named(self, manager: RedisManager) -> None:
        with pytest.raises(ManagerError, match=r"conformance\.fail"):
            await manager.run_script(FAIL, [unique()], [])

    async def test_health_is_complete(self, manager: RedisManager) -> None:
        report = await manager.health_check()
        assert report["status"] == "healthy"
        assert {"connections", "errors", "response_time"} <= report["metrics"].keys()
