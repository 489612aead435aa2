"""The provider ``inprocess`` of the role ``services``."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from base04.testing.conformance.services import ServicesConformance, Thing
from base04_builtin.services import services_providers
from base04_builtin.services.inprocess import InProcessServicesManager
from base04_builtin.services.settings import InProcessServicesSettings
from base04_hookspecs.context import RequestContext, current_request, use_request
from base04_hookspecs.errors import ConfigurationError, Conflict, InvalidInput, ManagerUnavailable, NotFound


@pytest.fixture
async def manager() -> AsyncIterator[InProcessServicesManager]:
    started = InProcessServicesManager(InProcessServicesSettings())
    await started.start()
    yield started
    await started.stop()


class TestInProcessServices(ServicesConformance):
    capabilities = next(iter(services_providers())).capabilities


async def test_functions_methods_partials_and_classes_are_factories(manager: InProcessServicesManager) -> None:
    thing = Thing("bound")

    class Maker:
        def make(self) -> Thing:
            return thing

    for name, factory in (("class", Thing), ("method", Maker().make), ("partial", functools.partial(Thing, "partial"))):
        await manager.register_service(name, factory)
    assert isinstance(await manager.get_service("class"), Thing)
    assert await manager.get_service("method") is thing
    assert (await manager.get_service("partial")).name == "partial"


async def test_object_that_can_be_called_is_a_service(manager: InProcessServicesManager) -> None:
    class Callable:
        def __call__(self) -> str:
            raise AssertionError("not a factory")

    service = Callable()
    await manager.register_service("callable", service)
    assert await manager.get_service("callable") is service


async def test_factory_with_required_parameters_is_refused(manager: InProcessServicesManager) -> None:
    def make(url: str, *, timeout: float, retries: int = 3) -> None:
        return None

    with pytest.raises(InvalidInput, match=r"url, timeout"):
        await manager.register_service("mailer", make)
    assert await manager.list_services() == []


async def test_factory_runs_in_a_thread_and_in_no_request(manager: InProcessServicesManager) -> None:
    def make() -> tuple[int, RequestContext | None]:
        return threading.get_ident(), current_request()

    async def make_later() -> RequestContext | None:
        return current_request()

    await manager.register_service("thread", make)
    await manager.register_service("loop", make_later)
    with use_request(RequestContext("1")):
        thread, request = await manager.get_service("thread")
        assert await manager.get_service("loop") is None
    assert thread != threading.get_ident()
    assert request is None


async def test_eager_service_that_fails_stays_registered(manager: InProcessServicesManager) -> None:
    fails = [True]

    def make() -> str:
        if fails:
            raise OSError("down")
        return "up"

    with pytest.raises(ManagerUnavailable, match="down"):
        await manager.register_service("eager", make, lazy=False)
    assert await manager.register_service("eager", make) is False
    fails.clear()
    assert await manager.get_service("eager") == "up"


async def test_services_that_need_each_other_are_told_the_chain(manager: InProcessServicesManager) -> None:
    caught: list[BaseException] = []

    def needing(name: str) -> Any:
        async def make() -> str:
            try:
                await manager.get_service(name)
            except ConfigurationError as error:
                caught.append(error)
                raise
            return name

        return make

    for name, needs in (("a", "b"), ("b", "c"), ("c", "a"), ("self", "self")):
        await manager.register_service(name, needing(needs))
    async with asyncio.timeout(20):
        with pytest.raises(ManagerUnavailable):
            await manager.get_service("a")
        with pytest.raises(ManagerUnavailable):
            await manager.get_service("self")
        await asyncio.gather(*(manager.get_service(name) for name in "abc"), return_exceptions=True)
    assert "c -> a -> b -> c" in str(caught[0])
    assert "self -> self" in str(caught[1])
    assert len(caught) >= 3


async def test_start_that_takes_too_long_fails() -> None:
    manager = InProcessServicesManager(InProcessServicesSettings(start_timeout=0.02))

    async def make() -> None:
        await asyncio.Event().wait()

    await manager.register_service("slow", make)
    with pytest.raises(ManagerUnavailable, match=r"longer than 0\.02 s"):
        await manager.get_service("slow")
    await manager.stop()


async def test_stop_that_takes_too_long_does_not_hold_up_the_rest() -> None:
    manager = InProcessServicesManager(InProcessServicesSettings(stop_timeout=0.02))
    first = Thing("first")

    async def hang(service: Any) -> None:
        await asyncio.Event().wait()

    await manager.register_service("first", first, stop=Thing.end, lazy=False)
    await manager.register_service("hanging", Thing(), stop=hang, lazy=False)
    with pytest.raises(ExceptionGroup) as caught:
        await manager.stop()
    assert [type(error) for error in caught.value.exceptions] == [TimeoutError]
    assert "'hanging'" in caught.value.exceptions[0].__notes__[0]
    assert first.events == ["stop first"]


async def test_stop_ends_starts_in_progress(manager: InProcessServicesManager) -> None:
    entered = asyncio.Event()

    async def make() -> None:
        entered.set()
        await asyncio.Event().wait()

    await manager.register_service("slow", make)
    waiting = asyncio.create_task(manager.get_service("slow"))
    await entered.wait()
    await manager.stop()
    with pytest.raises(ManagerUnavailable):
        await waiting
    with pytest.raises(ManagerUnavailable):
        await manager.register_service("late", Thing())
    with pytest.raises(ManagerUnavailable):
        await manager.get_service("slow")


async def test_unregistering_ends_a_start_in_progress(manager: InProcessServicesManager) -> None:
    entered = asyncio.Event()

    async def make() -> None:
        entered.set()
        await asyncio.Event().wait()

    await manager.register_service("slow", make)
    waiting = asyncio.create_task(manager.get_service("slow"))
    await entered.wait()
    assert await manager.unregister_service("slow") is True
    with pytest.raises(ManagerUnavailable):
        await waiting
    with pytest.raises(NotFound):
        await manager.get_service("slow")


async def test_start_cannot_unregister_itself(manager: InProcessServicesManager) -> None:
    async def make() -> str:
        with pytest.raises(Conflict):
            await manager.unregister_service("odd")
        return "made"

    await manager.register_service("odd", make)
    assert await manager.get_service("odd") == "made"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("degraded", "degraded"),
        (True, "healthy"),
        (False, "unhealthy"),
        (None, "healthy"),
        ({"status": "degraded"}, "degraded"),
        ({}, "degraded"),
        ([], "degraded"),
        (OSError("out"), "unhealthy"),
    ],
)
async def test_health_of_a_service_is_read_generously(
    manager: InProcessServicesManager, answer: Any, status: str
) -> None:
    class Checked:
        def health_check(self) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

    await manager.register_service("checked", Checked(), lazy=False)
    assert (await manager.health_check())["status"] == status


async def test_health_of_a_service_that_does_not_answer() -> None:
    class Silent:
        async def health_check(self) -> None:
            await asyncio.Event().wait()

    manager = InProcessServicesManager(InProcessServicesSettings(health_timeout=0.02))
    await manager.register_service("silent", Silent(), lazy=False)
    report = await manager.health_check()
    assert report["status"] == "unhealthy"
    assert "silent is unhealthy (no answer within 0.02 s)" in report["details"]
    await manager.stop()
