"""Managers of real Redis servers, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from base04_builtin.redis.server import ServerRedisManager, ServerRedisSettings

WAIT_S: Final = 60.0
"""How long a test waits for what must happen; generous, for machines under load."""

PATIENT: Final[dict[str, Any]] = {
    "timeout": 20,
    "reply_timeout": 20,
    "connect_timeout": 20,
    "pool_timeout": 20,
}
"""Settings for tests in which nothing is slow on purpose."""

QUICK: Final[dict[str, Any]] = {"timeout": 1.0, "reply_timeout": 0.3, "connect_timeout": 0.3, "pool_timeout": 0.3}
"""Settings for tests in which servers fall silent."""


def manager_for(url: str, **settings: Any) -> ServerRedisManager:
    return ServerRedisManager(ServerRedisSettings.model_validate({"url": url, **PATIENT, **settings}))


@asynccontextmanager
async def started(url: str, **settings: Any) -> AsyncIterator[ServerRedisManager]:
    manager = manager_for(url, **settings)
    try:
        await manager.start()
        yield manager
    finally:
        await manager.stop()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what nothing announces."""
    async with asyncio.timeout(WAIT_S):
        while not await holds():
            await asyncio.sleep(0.02)
