"""What every provider of the role ``redis`` does with messages."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from base04.testing.conformance.redis_values import DELIVERY_TIMEOUT_S, unique
from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.redis import RedisManager


class RedisMessagesConformance:
    """The part of ``RedisConformance`` about messages."""

    async def test_messages_arrive_in_order(self, manager: RedisManager) -> None:
        channel, got, done = unique(), list[Any](), asyncio.Event()

        async def callback(name: str, message: Any) -> None:
            await asyncio.sleep(0.001 if len(got) % 3 == 0 else 0)
            got.append((name, message))
            if len(got) == 20:
                done.set()

        assert await manager.subscribe(channel, callback) is True
        for number in range(20):
            assert await manager.publish(channel, {"n": number}) >= 1
        await asyncio.wait_for(done.wait(), DELIVERY_TIMEOUT_S)
        assert got == [(channel, {"n": number}) for number in range(20)]

    async def test_subscribers_do_not_share_objects(self, manager: RedisManager) -> None:
        channel, got, done = unique(), list[Any](), asyncio.Event()

        def subscriber() -> Callable[[str, Any], Awaitable[None]]:
            async def callback(name: str, message: Any) -> None:
                message["seen"].append(1)
                got.append(message)
                if len(got) == 2:
                    done.set()

            return callback

        await manager.subscribe(channel, subscriber())
        await manager.subscribe(channel, subscriber())
        await manager.publish(channel, {"seen": []})
        await asyncio.wait_for(done.wait(), DELIVERY_TIMEOUT_S)
        assert got == [{"seen": [1]}, {"seen": [1]}]

    async def test_failing_callback_stops_nobody(self, manager: RedisManager) -> None:
        channel, got, done = unique(), list[Any](), asyncio.Event()

        async def failing(name: str, message: Any) -> None:
            raise ValueError("on purpose")

        async def callback(name: str, message: Any) -> None:
            got.append(message)
            if len(got) == 2:
                done.set()

        await manager.subscribe(channel, failing)
        await manager.subscribe(channel, callback)
        await manager.publish(channel, 1)
        await manager.publish(channel, 2)
        await asyncio.wait_for(done.wait(), DELIVERY_TIMEOUT_S)
        assert got == [1, 2]

    async def test_synchronous_callback_runs_in_a_worker_thread(self, manager: RedisManager) -> None:
        channel, threads, done = unique(), list[int](), asyncio.Event()
        loop = asyncio.get_running_loop()

        def callback(name: str, message: Any) -> None:
            threads.append(threading.get_ident())
            loop.call_soon_threadsafe(done.set)

        await manager.subscribe(channel, callback)
        await manager.publish(channel, None)
        await asyncio.wait_for(done.wait(), DELIVERY_TIMEOUT_S)
        assert threads
        assert threads[0] != threading.get_ident()

    async def test_unsubscribed_callback_gets_nothing_more(self, manager: RedisManager) -> None:
        channel, gone, stays, done = unique(), list[Any](), list[Any](), asyncio.Event()

        async def leaving(name: str, message: Any) -> None:
            gone.append(message)

        async def staying(name: str, message: Any) -> None:
            stays.append(message)
            done.set()

        await manager.subscribe(channel, leaving)
        await manager.subscribe(channel, staying)
        assert await manager.unsubscribe(channel, leaving) is True
        assert await manager.unsubscribe(channel, leaving) is False
        await manager.publish(channel, "after")
        await asyncio.wait_for(done.wait(), DELIVERY_TIMEOUT_S)
        assert (gone, stays) == ([], ["after"])

    async def test_subscribing_twice_is_one_subscription(self, manager: RedisManager) -> None:
        channel, got, done = unique(), list[Any](), asyncio.Event()

        async def callback(name: str, message: Any) -> None:
            got.append(message)
            if message == "last":
                done.set()

        assert await manager.subscribe(channel, callback) is True
        assert await manager.subscribe(channel, callback) is True
        await manager.publish(channel, "first")
        await manager.publish(channel, "last")
        await asyncio.wait_for(done.wait(), DELIVERY_TIMEOUT_S)
        assert got == ["first", "last"]
        assert await manager.unsubscribe(channel, callback) is True
        assert await manager.unsubscribe(channel, callback) is False

    async def test_messages_stay_in_their_channels(self, manager: RedisManager) -> None:
        prefix, got, done = unique(), list[Any](), asyncio.Event()

        async def callback(name: str, message: Any) -> None:
            got.append((name.removeprefix(prefix), message))
            if len(got) == 3:
                done.set()

        names = ["", "*", "ü\0 {x}"]
        for name in names:
            await manager.subscribe(prefix + name, callback)
        for name in names:
            await manager.publish(prefix + name, name)
        await asyncio.wait_for(done.wait(), DELIVERY_TIMEOUT_S)
        assert sorted(got) == sorted((name, name) for name in names)

    async def test_message_that_is_not_json_is_refused(self, manager: RedisManager) -> None:
        with pytest.raises(InvalidInput):
            await manager.publish(unique(), object())

    async def test_message_to_nobody_is_no_error(self, manager: RedisManager) -> None:
        assert await manager.publish(unique(), "hello") == 0
