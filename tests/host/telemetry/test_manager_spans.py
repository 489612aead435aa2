"""Managers whose calls are traced are, for whoever holds them, what they were."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from opentelemetry import trace
from structlog.testing import capture_logs

from base04 import blocking
from base04.app_manager import AppManager
from base04.proxies import blocking_proxy
from base04_hookspecs import HealthReport, Manager, Provider, health_report, hookimpl
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.errors import NotSupported
from base04_hookspecs.redis import RedisManager
from otlp_kit import Collector

tracer = trace.get_tracer("test")


class Desk(Manager):
    """A role of a plugin."""

    role: ClassVar[str] = "desk"

    async def health_check(self) -> HealthReport:
        return health_report()

    async def look(self) -> str:
        return "nothing"

    def describe(self) -> str:
        return "a desk"


class WoodenDesk(Desk):
    """Has slots, a view that is a copy, and methods that call each other."""

    __slots__ = ("_locked", "_redis")

    def __init__(self, redis: RedisManager) -> None:
        self._redis = redis
        self._locked = False

    async def look(self) -> str:
        return await self.open("top")

    async def open(self, drawer: str) -> str:
        await self._redis.set(drawer, "letters")
        return "locked" if self._locked else str(await self._redis.get(drawer))

    def with_access(self, access: str) -> WoodenDesk:
        view = copy.copy(self)
        view._locked = access == "read_only"
        return view


class SealedDesk(Desk):
    """May not be derived from."""

    def __init_subclass__(cls, **_: Any) -> None:
        raise TypeError("no desk is derived from this one")


class Furniture:
    def __init__(self, kind: type[Desk]) -> None:
        self._kind = kind

    @hookimpl
    def extra_providers(self) -> Iterator[Provider]:
        yield Provider("desk", self._kind, role="desk", default=True)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@asynccontextmanager
async def host(tmp_path: Path, collector: Collector, kind: type[Desk] = WoodenDesk) -> AsyncIterator[AppManager]:
    settings = {
        "data_dir": str(tmp_path / "data"),
        "plugins": {"autoload": False},
        "telemetry": {"endpoint": collector.url, "logs": False},
    }
    async with AppManager(settings, plugins=[("furniture", Furniture(kind))]) as app:
        yield app


async def test_manager_stays_what_it_was(tmp_path: Path, collector: Collector) -> None:
    async with host(tmp_path, collector) as app:
        desk = app.get_manager("desk")
        assert isinstance(desk, WoodenDesk)
        assert type(desk).__name__ == "WoodenDesk"
        assert type(desk).__qualname__ == WoodenDesk.__qualname__
        assert type(desk).__module__ == WoodenDesk.__module__
        assert desk.look.__self__ is desk  # type: ignore[attr-defined]  # a bound method has it
        assert asyncio.iscoroutinefunction(desk.look)
        assert desk.describe() == "a desk"
        assert await desk.look() == "letters"
        before = app.generation
        assert await app.reload_plugin("builtin-services")
        assert app.generation is not before
        assert app.get_manager("desk") is desk
        assert (await app.health_check())["managers"]["desk"]["status"] == "healthy"


async def test_calls_are_traced_once_and_only_within_something_that_is(tmp_path: Path, collector: Collector) -> None:
    async with host(tmp_path, collector) as app:
        desk: Any = app.get_manager("desk")
        await desk.look()
        with tracer.start_as_current_span("work") as span:
            await asyncio.gather(desk.look(), desk.open("left"))
        await desk.look()
        trace_id = f"{span.get_span_context().trace_id:032x}"
    below = collector.tree(trace_id)["work"]
    assert set(below) == {"desk.look", "desk.open"}
    assert below["desk.look"] == below["desk.open"] == {"redis.set": {}, "redis.get": {}}
    assert {span.trace_id for span in collector.spans} == {trace_id}
    call = next(span for span in collector.spans if span.name == "desk.look")
    assert call.attributes == {
        "base04.manager.role": "desk",
        "base04.manager.instance": "default",
        "base04.manager.provider": "desk",
        "base04.manager.plugin": "furniture",
    }


async def test_views_keep_to_their_access_and_are_traced(tmp_path: Path, collector: Collector) -> None:
    async with host(tmp_path, collector) as app:
        desk, database = app.get_manager("desk"), app.get_manager("database")
        assert isinstance(desk, WoodenDesk)
        assert isinstance(database, DatabaseManager)
        reading = database.with_access("read_only")
        assert isinstance(reading, DatabaseManager)
        with tracer.start_as_current_span("work") as span:
            assert await desk.with_access("read_only").look() == "locked"
            assert await desk.look() == "letters"
            assert await reading.check_connection()
            with pytest.raises(NotSupported):
                reading.with_access("read_write")
        trace_id = f"{span.get_span_context().trace_id:032x}"
    assert set(collector.tree(trace_id)["work"]) == {"desk.look", "database.check_connection"}


async def test_blocking_proxy_calls_what_is_traced(tmp_path: Path, collector: Collector) -> None:
    async with host(tmp_path, collector) as app:
        proxy = blocking_proxy(app.get_manager("desk"), asyncio.get_running_loop())
        with tracer.start_as_current_span("work") as span:
            assert await asyncio.to_thread(proxy.look) == "letters"
        trace_id = f"{span.get_span_context().trace_id:032x}"
    assert collector.tree(trace_id) == {"work": {"desk.look": {"redis.set": {}, "redis.get": {}}}}


async def test_manager_that_cannot_be_derived_from_works_untraced(tmp_path: Path, collector: Collector) -> None:
    with capture_logs() as logs:
        async with host(tmp_path, collector, SealedDesk) as app:
            desk: Any = app.get_manager("desk")
            assert type(desk) is SealedDesk
            with tracer.start_as_current_span("work"):
                assert await desk.look() == "nothing"
    assert [line["manager"] for line in logs if line["event"] == "a manager is not traced"] == ["desk"]
    assert [span.name for span in collector.spans] == ["work"]


def test_program_that_is_not_async_is_traced(tmp_path: Path, collector: Collector) -> None:
    settings = {"data_dir": str(tmp_path / "data"), "telemetry": {"endpoint": collector.url}}
    with blocking.AppManager(settings) as app:
        with tracer.start_as_current_span("work") as span:
            redis = app.get_manager("redis")
            redis.set("key", 1)
            assert redis.get("key") == 1
        trace_id = f"{span.get_span_context().trace_id:032x}"
    assert collector.tree(trace_id) == {"work": {"redis.set": {}, "redis.get": {}}}
