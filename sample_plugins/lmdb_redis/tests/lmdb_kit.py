"""Stores for tests, and programs that share them from other processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from base04_lmdb_redis.manager import LmdbRedisManager
from base04_lmdb_redis.settings import LmdbRedisSettings

PATIENCE_S: Final = 60.0
"""How long anything may take before a test gives up; nothing waits for it to pass."""

_BEGINNING: Final = """
import asyncio, sys
from pathlib import Path
from base04_lmdb_redis.manager import LmdbRedisManager
from base04_lmdb_redis.settings import LmdbRedisSettings

def say(*words):
    print(*words, flush=True)

async def main():
    manager = LmdbRedisManager(LmdbRedisSettings(path=Path(sys.argv[1]), timeout=60))
    await manager.start()
    await act(manager)
    await manager.stop()
"""


def settings(folder: Path, **values: Any) -> LmdbRedisSettings:
    return LmdbRedisSettings.model_validate({"path": folder, "timeout": PATIENCE_S, **values})


@asynccontextmanager
async def started(folder: Path, **values: Any) -> AsyncIterator[LmdbRedisManager]:
    manager = LmdbRedisManager(settings(folder, **values))
    try:
        await manager.start()
        yield manager
    finally:
        await manager.stop()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what nothing announces."""
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.02)


def neighbour(folder: Path, act: str) -> subprocess.Popen[str]:
    """Start another process that runs ``async def act(manager)`` on the same store."""
    code = _BEGINNING + act + "\nasyncio.run(main())\n"
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def heard(process: subprocess.Popen[str]) -> str:
    """Return the next line that a process says."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> int:
    """Let a process end by itself, and return its exit status."""
    process.communicate("", timeout=PATIENCE_S)
    return process.returncode


def kill(process: subprocess.Popen[str]) -> None:
    """End a process without warning."""
    process.kill()
    process.communicate(timeout=PATIENCE_S)
