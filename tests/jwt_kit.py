"""What the tests of the provider ``signed`` of the role ``jwt`` share: its parts, which can fail, and managers on them.

Import the fixture ``parts``.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from base04_builtin.callbacks import call
from base04_builtin.database.sqlite.manager import SqliteDatabaseManager
from base04_builtin.database.sqlite.settings import SqliteSettings
from base04_builtin.jwt.key_store import VAULT_PATH, version_key
from base04_builtin.jwt.settings import JWTSettings
from base04_builtin.jwt.signed import SignedJWTManager
from base04_builtin.redis.memory import MemoryRedisManager, MemoryRedisSettings
from base04_builtin.vault.file import FileVaultManager, FileVaultSettings
from base04_hookspecs.database import Operation
from base04_hookspecs.errors import InvalidToken, ManagerUnavailable
from base04_hookspecs.hooks import HooksManager
from base04_hookspecs.redis import GapCallback, MessageCallback, RedisManager

NOW = 1_800_000_000.0


@dataclass
class Clock:
    """A clock that the test sets."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


class FailingDatabase(SqliteDatabaseManager):
    """SQLite that can be cut off, before a transaction or between its commit and the answer."""

    cut_off = False
    lose_answers = False

    async def find(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        self._fail(self.cut_off)
        return await super().find(*args, **kwargs)

    async def execute_transaction(self, operations: Sequence[Operation]) -> bool:
        self._fail(self.cut_off)
        done = await super().execute_transaction(operations)
        self._fail(self.lose_answers)
        return done

    def _fail(self, failing: bool) -> None:
        if failing:
            raise ManagerUnavailable("The database has been cut off by the test.")


class BusConnection(MemoryRedisManager):
    """One process's connection to a bus that others share: ``mute`` cannot publish, ``deaf`` misses what comes."""

    def __init__(self, bus: MemoryRedisManager) -> None:
        super().__init__(MemoryRedisSettings())
        self._bus = bus
        self._gaps: list[tuple[str, GapCallback]] = []
        self.mute = self.deaf = False

    async def publish(self, channel: str, message: Any) -> int:
        if self.mute:
            raise ManagerUnavailable("The test lets this process publish nothing.")
        return await self._bus.publish(channel, message)

    async def subscribe(self, channel: str, callback: MessageCallback, *, on_gap: GapCallback | None = None) -> bool:
        async def hear(channel: str, message: Any) -> None:
            if not self.deaf:
                await call(callback, channel, message)

        if on_gap is not None:
            self._gaps.append((channel, on_gap))
        return await self._bus.subscribe(channel, hear)

    async def come_back(self) -> None:
        """Hear again, and learn that something may have been missed."""
        self.mute = self.deaf = False
        for channel, on_gap in self._gaps:
            await call(on_gap, channel)


@dataclass
class Parts:
    """What the manager depends on, and managers that share it as processes would."""

    folder: Path
    database: FailingDatabase
    redis: MemoryRedisManager
    vault: FileVaultManager
    clock: Clock
    managers: list[SignedJWTManager] = field(default_factory=list)

    async def start(
        self,
        redis: RedisManager | None = None,
        *,
        clock: Clock | None = None,
        steady: Clock | None = None,
        hooks: HooksManager | None = None,
        **settings: Any,
    ) -> SignedJWTManager:
        manager = SignedJWTManager(
            JWTSettings(**settings),
            self.database,
            redis or self.redis,
            self.vault,
            hooks,
            clock=clock or self.clock,
            steady=steady or time.monotonic,
        )
        self.managers.append(manager)
        await manager.start()
        return manager


@asynccontextmanager
async def open_parts(folder: Path) -> AsyncIterator[Parts]:
    parts = Parts(
        folder,
        FailingDatabase(SqliteSettings(path=folder / "test.sqlite3", synchronous="NORMAL")),
        MemoryRedisManager(MemoryRedisSettings()),
        FileVaultManager(FileVaultSettings(path=folder / "secrets.json")),
        Clock(),
    )
    dependencies = (parts.database, parts.redis, parts.vault)
    try:
        for dependency in dependencies:
            await dependency.start()
        yield parts
    finally:
        parts.database.cut_off = parts.database.lose_answers = False
        for manager in (*parts.managers, *dependencies):
            await manager.stop()


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path) as parts:
        yield parts


def encoded(content: bytes | str | Mapping[str, Any]) -> str:
    if isinstance(content, Mapping):
        content = json.dumps(content)
    raw = content.encode() if isinstance(content, str) else content
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(segment: str) -> dict[str, Any]:
    value = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    assert isinstance(value, dict)
    return value


async def secret_of(parts: Parts) -> bytes:
    """Return the bytes of the first signing key."""
    kept = json.loads(await parts.vault.get_secret_value(VAULT_PATH, version_key(1)))
    return base64.urlsafe_b64decode(kept["keys"][0]["jwk"]["k"] + "=")


async def refused(jwt: SignedJWTManager, token: str) -> str:
    with pytest.raises(InvalidToken) as caught:
        await jwt.validate_token(token)
    assert str(caught.value) == "invalid token"
    assert token not in caught.value.reason
    return caught.value.reason


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what nothing announces."""
    async with asyncio.timeout(60):
        while not await holds():
            await asyncio.sleep(0.005)


async def verdict(jwt: SignedJWTManager, token: str) -> str:
    """Return ``valid``, ``unknown``, or why a token is refused."""
    try:
        await jwt.validate_token(token)
    except InvalidToken as error:
        return error.reason
    except ManagerUnavailable:
        return "unknown"
    return "valid"
