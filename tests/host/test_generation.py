from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from base04.actions.worker_pool import CallAbandoned, WorkerPool
from base04.app_manager import AppManager
from base04.generation import Generation, pinned_generation, with_access
from base04.lifecycle import Started
from base04.proxies import blocking_proxy
from base04_hookspecs import Use
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.errors import ConfigurationError, ManagerUnavailable, NotFound
from host_kit import Plain, noting, offering, only, raising, until


class Alpha(Plain):
    role = "alpha"


class Gamma(Plain):
    role = "gamma"


def host(tmp_path: Path, **managers: Any) -> AppManager:
    return AppManager(only(tmp_path, **managers), plugins=[("lights", offering(Alpha, Gamma))])


def successor(app: AppManager, *, without: str) -> Generation:
    """Return a generation with a manager less, as if it had gone down."""
    running = {key: item for key, item in app.generation.running.items() if key.role != without}
    down = {key: "it went away" for key in app.generation.running if key.role == without}
    return app.succession.build(Started(running, down))


async def test_pin_keeps_a_task_on_its_generation_while_another_takes_over(tmp_path: Path) -> None:
    async with host(tmp_path) as app:
        first, pinned, go_on = app.generation, asyncio.Event(), asyncio.Event()

        async def pinned_there() -> Generation | None:
            return pinned_generation()

        async def request() -> None:
            with app.generation.pin() as generation:
                pinned.set()
                await go_on.wait()
                assert app.generation is generation is first
                assert app.get_manager("alpha") is first.get("alpha")
                assert await asyncio.create_task(pinned_there()) is first

        task = asyncio.create_task(request())
        await pinned.wait()
        second = successor(app, without="alpha")
        adopting = asyncio.create_task(app.succession.adopt(second))
        await until(lambda: app.newest is second)
        assert app.generation is second
        assert first.pins
        with pytest.raises(ManagerUnavailable, match="it went away"):
            app.get_manager("alpha")
        go_on.set()
        await task
        await adopting
        assert first.pins == 0
        assert second.number > first.number


async def test_adopt_stops_what_only_the_old_generation_held_once_it_is_unpinned(tmp_path: Path) -> None:
    journal: list[str] = []
    plugin = offering(noting(Alpha, journal), noting(Gamma, journal))
    async with AppManager(only(tmp_path), plugins=[("lights", plugin)]) as app:
        with app.generation.pin():
            await app.succession.adopt(successor(app, without="alpha"))
            for _ in range(5):
                await asyncio.sleep(0)
            assert "stop alpha" not in journal
        await until(lambda: journal[-1] == "stop alpha")
    assert journal[-2:] == ["stop alpha", "stop gamma"]


async def test_stop_stops_what_a_previous_generation_still_held(tmp_path: Path) -> None:
    journal: list[str] = []
    plugin = offering(noting(Alpha, journal), noting(Gamma, journal))
    app = AppManager(only(tmp_path), plugins=[("lights", plugin)])
    await app.start()
    with app.generation.pin():
        await app.succession.adopt(successor(app, without="alpha"))
        await app.stop()
    assert sorted(journal[2:]) == ["stop alpha", "stop gamma"]


async def test_unpinned_waits_for_the_last_pin_and_gives_up_after_the_timeout(tmp_path: Path) -> None:
    async with host(tmp_path) as app:
        generation = app.generation
        await until(lambda: not generation.pins)
        assert await generation.unpinned(60)
        with generation.pin(), generation.pin():
            assert not await generation.unpinned(0.01)
            waiting = [asyncio.create_task(generation.unpinned(60)) for _ in range(2)]
            await asyncio.sleep(0)
            assert not any(task.done() for task in waiting)
        assert await asyncio.gather(*waiting) == [True, True]
        assert pinned_generation() is None


async def test_pin_ends_also_when_its_block_raises(tmp_path: Path) -> None:
    async with host(tmp_path) as app:
        generation = app.generation
        before = generation.pins
        with pytest.raises(ValueError, match="oops"), generation.pin():
            raise ValueError("oops")
        assert generation.pins == before


async def test_get_says_why_there_is_no_manager(tmp_path: Path) -> None:
    async with host(tmp_path, gamma={"provider": "none"}) as app:
        generation = app.generation
        assert generation.find("gamma") is None
        with pytest.raises(NotFound, match=r"no manager gamma: it is switched off by managers\.gamma\.provider: none"):
            generation.get("gamma")
        with pytest.raises(NotFound, match=r"no manager alpha/hall; there are alpha\."):
            generation.get("alpha", "hall")
        with pytest.raises(NotFound, match=r"no manager lamp; there are alpha\."):
            generation.get("lamp")
        assert generation.view("alpha", Use()) is generation.get("alpha")
        assert generation.view("lamp", Use()) is None
        with pytest.raises(ConfigurationError, match="no access roles"):
            generation.view("alpha", Use(access="read_only"))


async def test_view_with_access_is_that_of_the_manager(tmp_path: Path) -> None:
    async with host(tmp_path, database={}) as app:
        database = app.get_manager("database")
        assert isinstance(database, DatabaseManager)
        assert with_access(database, Use()) is database
        view = app.get_db_manager("read_only")
        assert view is not database
        with pytest.raises(Exception, match="read"):
            await view.execute_query("CREATE TABLE t (a INTEGER)")
        assert await app.check_database_connection()


async def test_generation_with_a_manager_that_never_came_up_says_so(tmp_path: Path) -> None:
    alpha = noting(Alpha, [], start=raising(*[ManagerUnavailable("nobody there")] * 1000))
    settings = only(tmp_path, alpha={"required": False, "start_timeout": "10ms"})
    async with AppManager(settings, plugins=[("lights", offering(alpha))]) as app:
        assert app.generation.find("alpha") is None
        with pytest.raises(ManagerUnavailable, match="The manager alpha is not up: nobody there"):
            app.generation.get("alpha")


async def test_request_leaves_nothing_to_the_garbage_collector(tmp_path: Path) -> None:
    class Cycle:
        """A server's view of a request: what sends knows the scope, as with uvicorn."""

        def __init__(self) -> None:
            headers: list[tuple[bytes, bytes]] = []
            self.scope = {"type": "http", "method": "GET", "path": "/nothing", "headers": headers, "client": None}
            self.status = 0

        async def receive(self) -> dict[str, Any]:
            return {"type": "http.request", "body": b""}

        async def send(self, message: Any) -> None:
            self.status = message.get("status", self.status)

    async with host(tmp_path) as app:
        for _ in range(2):  # the first one imports and remembers
            cycle = Cycle()
            await app.serve(cycle.scope, cycle.receive, cycle.send)
            assert cycle.status == 404
            gone = weakref.ref(cycle)
            gc.disable()
            try:
                del cycle
                assert gone() is None
            finally:
                gc.enable()


async def test_abandoned_thread_keeps_its_generation_and_is_stopped_at_its_next_call_of_a_manager(
    tmp_path: Path,
) -> None:
    began, go_on, ended = asyncio.Event(), threading.Event(), asyncio.Event()
    loop, raised = asyncio.get_running_loop(), list[BaseException]()
    calls: list[str] = []

    class Doing(Alpha):
        async def do(self) -> None:
            calls.append("done")

    def handler(alpha: Any) -> None:
        try:
            alpha.do()
            loop.call_soon_threadsafe(began.set)
            go_on.wait()
            alpha.do()
        except BaseException as error:
            raised.append(error)
            raise
        finally:
            loop.call_soon_threadsafe(ended.set)

    async with AppManager(only(tmp_path), plugins=[("lights", offering(Doing))]) as app:
        first, proxy = app.generation, blocking_proxy(app.get_manager("alpha"), loop)
        pool = WorkerPool(threads=1)
        with first.pin():
            call = asyncio.create_task(pool.run(partial(handler, proxy), hold=first.hold))
            await began.wait()
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        assert (first.pins, pool.abandoned) == (1, 1)
        go_on.set()
        await ended.wait()
        await until(lambda: first.pins == 0 and pool.abandoned == 0)
    assert [type(error) for error in raised] == [CallAbandoned]
    assert "is not called: the call that this thread goes on with took too long" in str(raised[0])
    assert calls == ["done"]
