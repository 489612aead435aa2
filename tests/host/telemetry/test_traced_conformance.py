"""Managers whose calls are traced keep all that their contracts promise."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from base04.selection import InstanceKey
from base04.telemetry.manager_spans import ManagerSpans
from base04.telemetry.spans import PresentSpan
from base04.testing.conformance.database import Another as AnotherDatabase
from base04.testing.conformance.database import SqlConformance
from base04.testing.conformance.hooks import HooksConformance
from base04.testing.conformance.redis import Another as AnotherRedis
from base04.testing.conformance.redis import RedisConformance
from base04_builtin.database import database_providers
from base04_builtin.database.sqlite import SqliteDatabaseManager, SqliteSettings
from base04_builtin.hooks import hooks_providers
from base04_builtin.hooks.inprocess import InProcessHooksManager
from base04_builtin.redis import redis_providers
from base04_builtin.redis.memory import MemoryRedisManager, MemoryRedisSettings
from base04_hookspecs import Manager

ManagerT = TypeVar("ManagerT", bound=Manager)


class Traced:
    """Traces managers as a host does, and keeps the spans."""

    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self.tracer = provider.get_tracer("test")
        self._managers = ManagerSpans(self.tracer)

    @asynccontextmanager
    async def running(self, manager: ManagerT) -> AsyncIterator[ManagerT]:
        """Start a manager, traced, and stop it in the end."""
        candidate = SimpleNamespace(provider=SimpleNamespace(name="p"), plugin=SimpleNamespace(name="p"))
        node: Any = SimpleNamespace(key=InstanceKey(manager.role), choice=SimpleNamespace(candidate=candidate))
        self._managers.watch(node, manager)
        await manager.start()
        try:
            yield manager
        finally:
            await manager.stop()


@pytest.fixture
async def traced() -> AsyncIterator[Traced]:
    """Return what traces; the test, too, runs within a span that is recorded."""
    found = Traced()
    with PresentSpan(found.tracer, "test"):
        yield found


class TestTracedSqlite(SqlConformance):
    capabilities = next(item for item in database_providers() if item.name == "sqlite").capabilities

    @pytest.fixture
    async def manager(self, traced: Traced, tmp_path: Path) -> AsyncIterator[SqliteDatabaseManager]:
        async with traced.running(SqliteDatabaseManager(SqliteSettings(path=tmp_path / "base04.sqlite3"))) as manager:
            yield manager

    @pytest.fixture
    def another(self, traced: Traced, tmp_path: Path) -> AnotherDatabase:
        return lambda: traced.running(SqliteDatabaseManager(SqliteSettings(path=tmp_path / "base04.sqlite3")))

    async def test_calls_are_traced(self, manager: SqliteDatabaseManager, traced: Traced) -> None:
        assert await manager.check_connection()
        assert [span.name for span in traced.spans.get_finished_spans()] == ["database.check_connection"]


class TestTracedMemory(RedisConformance):
    capabilities = next(iter(redis_providers())).capabilities

    @pytest.fixture
    async def manager(self, traced: Traced) -> AsyncIterator[MemoryRedisManager]:
        async with traced.running(MemoryRedisManager(MemoryRedisSettings())) as manager:
            yield manager

    @pytest.fixture
    def another(self, traced: Traced) -> AnotherRedis:
        return lambda **values: traced.running(MemoryRedisManager(MemoryRedisSettings(**values)))

    async def test_calls_are_traced(self, manager: MemoryRedisManager, traced: Traced) -> None:
        assert await manager.ping()
        assert [span.name for span in traced.spans.get_finished_spans()] == ["redis.ping"]


class TestTracedHooks(HooksConformance):
    capabilities = next(iter(hooks_providers())).capabilities

    @pytest.fixture
    async def manager(self, traced: Traced) -> AsyncIterator[InProcessHooksManager]:
        async with traced.running(InProcessHooksManager()) as manager:
            yield manager
