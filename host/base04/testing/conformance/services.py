"""What every provider of the role ``services`` does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from base04.testing.conformance.declared import DeclaredCapabilities
from base04_hookspecs.errors import InvalidInput, ManagerError, ManagerUnavailable, NotFound
from base04_hookspecs.services import ServicesManager


class Thing:
    """A service that notes what happens to it."""

    def __init__(self, name: str = "thing", events: list[str] | None = None) -> None:
        self.name = name
        self.events = events if events is not None else []

    async def begin(self) -> None:
        self.events.append(f"start {self.name}")

    def end(self) -> None:
        self.events.append(f"stop {self.name}")


class IllThing(Thing):
    """A service that says that it is not well."""

    async def health_check(self) -> dict[str, Any]:
        return {"status": "unhealthy", "details": "a cold"}


async def status_of(manager: ServicesManager, name: str) -> str:
    """Return the status of a service."""
    return next(info["status"] for info in await manager.list_services() if info["name"] == name)


class ServicesConformance(DeclaredCapabilities):
    """Subclass it and give it a fixture ``manager`` (started, without services; the tests may stop it)."""

    async def test_object_is_returned_as_it_is(self, manager: ServicesManager) -> None:
        thing = Thing()
        assert await manager.register_service("thing", thing) is True
        assert await manager.get_service("thing") is thing

    async def test_taken_name_is_left_alone(self, manager: ServicesManager) -> None:
        first = Thing()
        await manager.register_service("thing", first)
        assert await manager.register_service("thing", Thing()) is False
        assert await manager.get_service("thing") is first

    @pytest.mark.parametrize("asynchronous", [True, False])
    async def test_factory_is_called_when_first_asked_for(self, manager: ServicesManager, asynchronous: bool) -> None:
        made: list[Thing] = []

        def make() -> Thing:
            made.append(Thing())
            return made[-1]

        async def make_later() -> Thing:
            return make()

        await manager.register_service("lazy", make_later if asynchronous else make)
        assert made == []
        assert await status_of(manager, "lazy") == "registered"
        first = await manager.get_service("lazy")
        assert await manager.get_service("lazy") is first
        assert made == [first]
        assert await status_of(manager, "lazy") == "started"

    async def test_start_and_stop_get_the_service(self, manager: ServicesManager) -> None:
        thing = Thing("one")
        await manager.register_service("one", lambda: thing, start=Thing.begin, stop=Thing.end, lazy=False)
        assert thing.events == ["start one"]
        assert await manager.unregister_service("one") is True
        assert thing.events == ["start one", "stop one"]
        with pytest.raises(NotFound):
            await manager.get_service("one")

    async def test_concurrent_callers_get_one_start(self, manager: ServicesManager) -> None:
        made: list[Thing] = []

        async def make() -> Thing:
            await asyncio.sleep(0)
            made.append(Thing())
            return made[-1]

        await manager.register_service("shared", make)
        got = await asyncio.gather(*(manager.get_service("shared") for _ in range(10)))
        assert len(made) == 1
        assert all(one is made[0] for one in got)

    async def test_cancelled_caller_does_not_cancel_the_others(self, manager: ServicesManager) -> None:
        entered, go = asyncio.Event(), asyncio.Event()

        async def make() -> Thing:
            entered.set()
            await go.wait()
            return Thing()

        await manager.register_service("slow", make)
        first = asyncio.create_task(manager.get_service("slow"))
        await entered.wait()
        second = asyncio.create_task(manager.get_service("slow"))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        go.set()
        assert isinstance(await second, Thing)

    async def test_failed_start_is_reported_and_tried_again(self, manager: ServicesManager) -> None:
        attempts: list[int] = []

        def make() -> str:
            attempts.append(1)
            if len(attempts) == 1:
                raise OSError("the cable is out")
            return "up"

        await manager.register_service("flaky", make)
        with pytest.raises(ManagerUnavailable, match="the cable is out"):
            await manager.get_service("flaky")
        (info,) = await manager.list_services()
        assert info["status"] == "failed"
        assert "the cable is out" in info["error"]
        assert (await manager.health_check())["status"] != "healthy"
        assert await manager.get_service("flaky") == "up"
        (info,) = await manager.list_services()
        assert (info["status"], info["error"]) == ("started", "")
        assert (await manager.health_check())["status"] == "healthy"

    async def test_stop_goes_in_reverse_of_the_starts(self, manager: ServicesManager) -> None:
        events: list[str] = []

        async def make_top() -> Thing:
            await manager.get_service("base")
            return Thing("top", events)

        await manager.register_service("top", make_top, start=Thing.begin, stop=Thing.end)
        await manager.register_service("base", lambda: Thing("base", events), start=Thing.begin, stop=Thing.end)
        await manager.register_service("unused", lambda: Thing("unused", events), stop=Thing.end)
        await manager.get_service("top")
        await manager.stop()
        assert events == ["start base", "start top", "stop top", "stop base"]

    async def test_all_stop_errors_are_reported_together(self, manager: ServicesManager) -> None:
        stopped: list[str] = []

        def failing(service: str) -> None:
            raise ValueError(f"{service} is stuck")

        async def fine(service: str) -> None:
            stopped.append(service)

        for name, stop in (("a", failing), ("b", fine), ("c", failing)):
            await manager.register_service(name, name, stop=stop, lazy=False)
        with pytest.raises(ExceptionGroup) as caught:
            await manager.stop()
        assert [str(error) for error in caught.value.exceptions] == ["c is stuck", "a is stuck"]
        assert stopped == ["b"]

    async def test_service_that_does_not_stop_is_forgotten_all_the_same(self, manager: ServicesManager) -> None:
        def failing(service: str) -> None:
            raise ValueError("stuck")

        await manager.register_service("stuck", "service", stop=failing, lazy=False)
        with pytest.raises(ManagerError, match="stuck"):
            await manager.unregister_service("stuck")
        assert await manager.unregister_service("stuck") is False

    async def test_missing_service_names_close_ones(self, manager: ServicesManager) -> None:
        await manager.register_service("mailer", Thing())
        with pytest.raises(NotFound, match="mailer"):
            await manager.get_service("mailr")

    async def test_list_is_in_order_of_registration(self, manager: ServicesManager) -> None:
        await manager.register_service("zebra", Thing())
        await manager.register_service("ant", lambda: Thing())
        infos = await manager.list_services()
        assert [info["name"] for info in infos] == ["zebra", "ant"]
        assert infos[0]["type"].endswith("Thing")

    async def test_health_of_a_service_counts(self, manager: ServicesManager) -> None:
        await manager.register_service("well", Thing(), lazy=False)
        assert (await manager.health_check())["status"] == "healthy"
        await manager.register_service("ill", IllThing(), lazy=False)
        report = await manager.health_check()
        assert report["status"] == "unhealthy"
        assert "ill" in report["details"]
        assert {"connections", "errors", "response_time"} <= report["metrics"].keys()

    async def test_empty_name_is_refused(self, manager: ServicesManager) -> None:
        with pytest.raises(InvalidInput):
            await manager.register_service("", Thing())
