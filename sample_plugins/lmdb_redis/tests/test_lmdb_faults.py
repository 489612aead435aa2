"""A store that is full, held, damaged, or taken away."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from base04_lmdb_redis.manager import LmdbRedisManager
from lmdb_kit import PATIENCE_S, end, heard, neighbour, settings, started, until
from test_lmdb_processes import HOLD

from base04_hookspecs.errors import ManagerUnavailable

TEXT = "x" * 10_000


def data_file(folder: Path) -> Path:
    (path,) = folder.glob("*.mdb")
    return path


async def fill(manager: LmdbRedisManager, **options: Any) -> int:
    """Write until there is no room, and return how many values there was room for."""
    for number in range(1000):
        try:
            await manager.set(f"b04:fill:{number}", TEXT, **options)
        except ManagerUnavailable:
            return number
    raise AssertionError("The store takes more than its size.")


async def test_full_store_refuses_writes_alone(tmp_path: Path) -> None:
    async with started(tmp_path, size="1MiB") as manager:
        written = await fill(manager)
        assert 50 < written < 105
        assert await manager.get("b04:fill:0") == TEXT
        with pytest.raises(ManagerUnavailable, match="size"):
            await manager.set("b04:more", TEXT)
        assert (await manager.health_check())["status"] == "healthy"
        assert await manager.delete_by_prefix("b04:fill:1") > 1
        assert await manager.set("b04:again", TEXT) is True


async def test_ended_values_make_room(tmp_path: Path) -> None:
    async with started(tmp_path, size="1MiB") as manager:
        await fill(manager, ttl=0.2)

        async def room() -> bool:
            try:
                return await manager.set("b04:again", TEXT)
            except ManagerUnavailable:
                return False

        await until(room)
        assert await manager.get("b04:again") == TEXT


async def test_full_store_can_be_filled_again_and_again(tmp_path: Path) -> None:
    async with started(tmp_path, size="1MiB") as manager:
        for _ in range(30):
            await fill(manager)
            assert await manager.delete_by_prefix("b04:") > 50
        assert data_file(tmp_path).stat().st_size < 8 * 2**20


async def test_store_that_is_held_is_unavailable_to_writers_alone(tmp_path: Path) -> None:
    async with started(tmp_path, timeout="200ms") as manager:
        await manager.set("b04:key", 1)
        process = neighbour(tmp_path, HOLD)
        assert await asyncio.to_thread(heard, process) == "holding"
        with pytest.raises(ManagerUnavailable, match="held"):
            await manager.set("b04:key", 2)
        with pytest.raises(ManagerUnavailable, match="held"):
            await manager.incr("b04:key")
        assert (await manager.health_check())["status"] == "unhealthy"
        assert (await manager.get("b04:key"), await manager.ping()) == (1, True)
        assert await asyncio.to_thread(end, process) == 0

        async def healthy() -> bool:
            return (await manager.health_check())["status"] == "healthy"

        await until(healthy)
        assert await manager.get("b04:key") == 1  # what was given up was never written
        assert await manager.incr("b04:key") == 2


async def test_cancelled_write_that_has_not_begun_is_not_done(tmp_path: Path) -> None:
    async with started(tmp_path) as manager:
        process = neighbour(tmp_path, HOLD)
        assert await asyncio.to_thread(heard, process) == "holding"
        writing = asyncio.create_task(manager.set("b04:key", 2))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert await asyncio.to_thread(end, process) == 0
        await manager.set("b04:other", 1)
        assert await manager.get("b04:key") is None


@pytest.mark.parametrize("content", [b"not a database\n" * 1000, b"\0" * 100_000])
async def test_file_of_another_program_ends_the_start(tmp_path: Path, content: bytes) -> None:
    async with started(tmp_path):
        pass
    path = data_file(tmp_path)
    path.write_bytes(content)
    broken = LmdbRedisManager(settings(tmp_path))
    with pytest.raises(ManagerUnavailable, match="damaged"):
        await broken.start()
    await broken.stop()
    path.rename(tmp_path / "aside")
    async with started(tmp_path) as manager:
        assert await manager.set("b04:key", 1) is True


async def test_file_that_was_cut_off_is_an_error_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    async with started(tmp_path) as manager:
        await asyncio.gather(*(manager.set(f"b04:{number}", TEXT) for number in range(200)))
    path = data_file(tmp_path)
    path.write_bytes(path.read_bytes()[:20_000])
    code = """
import asyncio, sys
from pathlib import Path
from base04_hookspecs.errors import Base04Error
from lmdb_kit import started

async def main():
    try:
        async with started(Path(sys.argv[1])) as manager:
            for number in range(200):
                await manager.get(f"b04:{number}")
    except Base04Error as error:
        print(type(error).__name__)

asyncio.run(main())
"""
    child = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (child.returncode, child.stdout) == (0, "ManagerUnavailable\n"), child.stderr


async def test_folder_that_is_removed_is_made_anew_by_all(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    got, gaps, heard_again = list[Any](), asyncio.Event(), asyncio.Event()

    async def hear(channel: str, message: Any) -> None:
        got.append(message)
        heard_again.set()

    async def note(channel: str) -> None:
        gaps.set()

    async with started(folder) as one:
        await one.subscribe("news", hear, on_gap=note)
        await one.set("b04:key", 1)
        shutil.rmtree(folder)
        await asyncio.wait_for(gaps.wait(), PATIENCE_S)
        assert await one.get("b04:key") is None
        process = neighbour(folder, 'async def act(manager):\n    say(await manager.publish("news", "again"))\n')
        assert await asyncio.to_thread(heard, process) == "1"
        assert end(process) == 0
        await asyncio.wait_for(heard_again.wait(), PATIENCE_S)
    assert got == ["again"]


async def test_subscriber_that_missed_messages_hears_of_a_gap(tmp_path: Path) -> None:
    got, gap, begun, go_on, done = list[Any](), asyncio.Event(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def hear(channel: str, message: Any) -> None:
        got.append(message)
        begun.set()
        await go_on.wait()
        if message == 9:
            done.set()

    async def note(channel: str) -> None:
        gap.set()

    async with started(tmp_path, queue_size=3) as manager:
        await manager.subscribe("news", hear, on_gap=note)
        await manager.publish("news", 0)
        await asyncio.wait_for(begun.wait(), PATIENCE_S)
        for number in range(1, 10):
            await manager.publish("news", number)

        async def six_are_dropped() -> bool:
            return (await manager.health_check())["metrics"]["dropped_messages"] == 6

        await until(six_are_dropped)
        go_on.set()
        await asyncio.wait_for(done.wait(), PATIENCE_S)
    assert gap.is_set()
    assert got == [0, 7, 8, 9]


async def test_file_of_a_former_run_of_the_machine_is_removed(tmp_path: Path) -> None:
    former = tmp_path / "until-reboot-00000000.mdb"
    former.write_bytes(b"whatever the machine left")
    (tmp_path / "durable.mdb").write_bytes(b"stays")
    async with started(tmp_path) as manager:
        assert await manager.get("b04:key") is None
    assert not former.exists()
    assert (tmp_path / "durable.mdb").read_bytes() == b"stays"


async def test_manager_that_does_not_run_is_unavailable(tmp_path: Path) -> None:
    manager = LmdbRedisManager(settings(tmp_path))
    for call in (manager.get("k"), manager.set("k", 1), manager.publish("c", 1), manager.subscribe("c", print)):
        with pytest.raises(ManagerUnavailable, match="not started"):
            await call
    assert await manager.ping() is False
    assert (await manager.health_check())["status"] == "unhealthy"
    await manager.stop()


@pytest.mark.parametrize("values", [{"size": "1KiB"}, {"timeout": 0}, {"queue_size": 0}, {"server": "x"}])
def test_settings_that_cannot_work_are_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        settings(tmp_path, **values)
