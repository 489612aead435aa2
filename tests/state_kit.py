"""State managers for tests, in this process and in others."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from base04_builtin.database.sqlite import SqliteDatabaseManager, SqliteSettings
from base04_builtin.state.database import DatabaseStateManager, StateSettings
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.redis import RedisManager
from base04_hookspecs.state import State

WAIT_S: Final = 60.0
"""How long a test waits for what must happen; generous, for machines under load."""

QUICK: Final[dict[str, Any]] = {
    "sweep_interval": 0.05,
    "poll_interval": 0.1,
    "lease": 0.6,
    "callback_pause": 0.01,
    "callback_attempts": 3,
}
"""Settings for tests in which something is waited for."""


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[SqliteDatabaseManager]:
    """A database in a folder, which several managers may have open."""
    manager = SqliteDatabaseManager(SqliteSettings(path=folder / "base04.sqlite3"))
    await manager.start()
    try:
        yield manager
    finally:
        await manager.stop()


@asynccontextmanager
async def states(
    database: DatabaseManager, redis: RedisManager | None = None, **settings: Any
) -> AsyncIterator[DatabaseStateManager]:
    """A state manager that has been started."""
    manager = DatabaseStateManager(StateSettings.model_validate({**QUICK, **settings}), database, redis, None)
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


async def there(manager: DatabaseStateManager, state_id: str = "s", *, fresh: bool = False) -> State:
    """Return a state that must be there."""
    state = await manager.get_state(state_id, fresh=fresh)
    assert state is not None
    return state


class Child:
    """A process that does one task of ``state_child``; killed at the end of the ``with`` block."""

    def __init__(self, **task: Any) -> None:
        self._task = task

    async def __aenter__(self) -> Child:
        program = Path(__file__).with_name("state_child.py")
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, str(program), json.dumps(self._task), stdin=pipe, stdout=pipe
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.kill()

    async def line(self) -> str:
        """Return the next line that it prints, empty where it has ended."""
        assert self.process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            return (await self.process.stdout.readline()).decode().strip()

    async def go(self) -> None:
        """Send it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")
        await self.process.stdin.drain()

    async def kill(self) -> None:
        """End it as a crash does, and wait until it is gone."""
        if self.process.returncode is None:
            self.process.kill()
        await self.ended()

    async def ended(self) -> int:
        """Wait until it has ended, and return its status."""
        await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode

    async def rest(self) -> list[str]:
        """Return the lines that it printed and that nobody has read."""
        assert self.process.stdout is not None
        return (await self.process.stdout.read()).decode().split()
