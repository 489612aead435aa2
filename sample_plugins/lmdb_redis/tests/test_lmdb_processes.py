"""Several processes on one store, and some that die."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from base04_lmdb_redis.manager import LmdbRedisManager
from lmdb_kit import PATIENCE_S, end, heard, kill, neighbour, settings, started

from base04_hookspecs.redis import AtomicScript, key_name

COUNT = """
async def act(manager):
    say("ready")
    sys.stdin.readline()
    for _ in range(300):
        await manager.incr("b04:count")
"""

COUNT_FOR_EVER = """
async def act(manager):
    say("ready")
    while True:
        await asyncio.gather(*(manager.incr("b04:count") for _ in range(20)))
        say("counted")
"""

LISTEN = """
async def act(manager):
    done = asyncio.Event()
    async def hear(channel, message):
        say(message)
        if message == "last":
            done.set()
    await manager.subscribe("news", hear)
    say("ready")
    await done.wait()
"""

HOLD = """
async def act(manager):
    def hold(view):
        say("holding")
        sys.stdin.readline()
    await manager._write(hold)
"""


async def test_processes_count_together(tmp_path: Path) -> None:
    async with started(tmp_path) as manager:
        processes = [neighbour(tmp_path, COUNT) for _ in range(3)]
        assert [heard(process) for process in processes] == ["ready"] * 3
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for _ in range(300):
            await manager.incr("b04:count")
        assert [await asyncio.to_thread(end, process) for process in processes] == [0, 0, 0]
        assert await manager.get("b04:count") == 1200


async def test_values_outlive_the_processes(tmp_path: Path) -> None:
    async with started(tmp_path) as manager:
        await manager.set("b04:kept", {"a": [1]}, ttl=1000, tags=["some"])
    async with started(tmp_path) as manager:
        assert await manager.get("b04:kept") == {"a": [1]}
        assert 900 < (await manager.ttl("b04:kept") or 0) <= 1000
        assert await manager.delete_by_tag("some") == 1


async def test_process_that_is_killed_while_it_writes_blocks_nobody(tmp_path: Path) -> None:
    async with started(tmp_path) as manager:
        for _ in range(5):
            process = neighbour(tmp_path, COUNT_FOR_EVER)
            assert [heard(process) for _ in range(4)] == ["ready"] + ["counted"] * 3
            kill(process)
            before = await manager.get("b04:count")
            assert await manager.incr("b04:count") == before + 1


async def test_process_that_is_killed_while_it_holds_the_lock_blocks_nobody(tmp_path: Path) -> None:
    async with started(tmp_path) as manager:
        process = neighbour(tmp_path, HOLD)
        assert await asyncio.to_thread(heard, process) == "holding"
        writing = asyncio.create_task(manager.set("b04:later", 1))
        kill(process)
        assert await writing is True


async def test_messages_come_from_other_processes_in_order(tmp_path: Path) -> None:
    async with started(tmp_path) as manager:
        processes = [neighbour(tmp_path, LISTEN) for _ in range(2)]
        assert [heard(process) for process in processes] == ["ready"] * 2
        messages = [*map(str, range(200)), "last"]
        for message in messages:
            assert await manager.publish("news", message) == 2
        for process in processes:
            assert [await asyncio.to_thread(heard, process) for _ in messages] == messages
            assert await asyncio.to_thread(end, process) == 0
        assert await manager.publish("news", "to nobody") == 0


async def test_dead_subscriber_is_forgotten(tmp_path: Path) -> None:
    async with started(tmp_path) as manager:
        process = neighbour(tmp_path, LISTEN)
        assert heard(process) == "ready"
        assert await manager.publish("news", "hello") == 1
        kill(process)
        assert await manager.publish("news", "hello") == 0
    async with started(tmp_path) as manager:
        assert list((tmp_path / "bells").iterdir()) != []
        assert (await manager.health_check())["metrics"]["subscribers"] == 0


async def test_message_of_a_publisher_that_died_before_it_rang_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got, done = list[Any](), asyncio.Event()

    async def hear(channel: str, message: Any) -> None:
        got.append(message)
        done.set()

    async with started(tmp_path) as manager:
        await manager.subscribe("news", hear)
        monkeypatch.setattr("base04_lmdb_redis.manager.ring", lambda folder, member: True)
        assert await manager.publish("news", "hello") == 1
        await asyncio.wait_for(done.wait(), PATIENCE_S)
    assert got == ["hello"]


async def test_script_that_fails_has_changed_nothing(tmp_path: Path) -> None:
    def half(store: Any, keys: Any, args: Any) -> None:
        store.set(keys[0], "changed")
        raise ValueError("on purpose")

    script = AtomicScript("half", "", half)
    key = key_name("half")
    async with started(tmp_path) as manager:
        await manager.set(key, "before")
        others = [manager.incr(key_name("other", str(number))) for number in range(20)]
        results = await asyncio.gather(manager.run_script(script, [key], []), *others, return_exceptions=True)
        assert "half" in str(results[0])
        assert results[1:] == [1] * 20
        assert await manager.get(key) == "before"


async def test_managers_of_one_process_share_the_file(tmp_path: Path) -> None:
    got, done = list[Any](), asyncio.Event()

    async def hear(channel: str, message: Any) -> None:
        got.append(message)
        done.set()

    old, new = LmdbRedisManager(settings(tmp_path)), LmdbRedisManager(settings(tmp_path, size="300MiB"))
    await old.start()
    await old.set("b04:key", 1)
    await new.start()  # as when a host is reloaded
    await new.subscribe("news", hear)
    assert await old.publish("news", "from the old one") == 1
    await old.stop()
    assert await new.get("b04:key") == 1
    await asyncio.wait_for(done.wait(), PATIENCE_S)
    assert got == ["from the old one"]
    await new.stop()


async def test_what_is_committed_is_not_done_again_when_waking_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hear(channel: str, message: Any) -> None: ...

    def broken(folder: Path, member: bytes) -> bool:
        raise RuntimeError("on purpose")

    async with started(tmp_path) as manager:
        await manager.subscribe("news", hear)
        monkeypatch.setattr("base04_lmdb_redis.manager.ring", broken)
        results = await asyncio.gather(
            *(manager.incr("b04:count") for _ in range(10)), manager.publish("news", 1), return_exceptions=True
        )
        assert isinstance(results[-1], RuntimeError)
        assert sorted(result for result in results if isinstance(result, int)) == list(range(1, 11))
        assert await manager.get("b04:count") == 10
