from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar

import pytest

from base04.actions.worker_pool import CallTimeout, WorkerPool
from base04_hookspecs.errors import ManagerUnavailable

variable: ContextVar[str] = ContextVar("variable", default="")


async def until_finished(pool: WorkerPool) -> None:
    """Wait until no abandoned call is left."""
    while pool.abandoned:
        await asyncio.sleep(0)


async def test_function_runs_in_a_thread_with_the_callers_context() -> None:
    variable.set("here")
    main = threading.get_ident()
    value, thread = await WorkerPool().run(lambda: (variable.get(), threading.get_ident()))
    assert value == "here"
    assert thread != main


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), TimeoutError("own")])
async def test_what_the_function_raises_reaches_the_caller_and_the_thread_goes_on(error: BaseException) -> None:
    pool = WorkerPool(threads=1)

    def fail() -> None:
        raise error

    try:
        await pool.run(fail, timeout=60)
    except BaseException as raised:  # SystemExit among them
        caught = raised
    assert caught is error
    assert await pool.run(lambda: "still here") == "still here"


@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit()])
async def test_pretended_cancellation_is_a_failure(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(RuntimeError, match="though nobody had cancelled it"):
        await WorkerPool().run(fail)


async def test_call_that_takes_too_long_is_abandoned_and_counted_until_it_ends() -> None:
    pool, release = WorkerPool(threads=2), threading.Event()
    with pytest.raises(CallTimeout):
        await pool.run(release.wait, timeout=0.01)
    assert pool.abandoned == 1
    assert await pool.run(lambda: "other thread") == "other thread"
    release.set()
    await until_finished(pool)


async def test_abandoned_call_keeps_what_it_uses_until_it_ends() -> None:
    pool, release, journal = WorkerPool(threads=1), threading.Event(), []
    let_go = asyncio.Event()

    def hold() -> Callable[[], None]:
        journal.append("held")
        return let_go.set

    await pool.run(lambda: None, hold=hold)
    assert journal == []
    with pytest.raises(CallTimeout):
        await pool.run(release.wait, timeout=0.01, hold=hold)
    assert journal == ["held"]
    assert not let_go.is_set()
    release.set()
    await let_go.wait()
    await until_finished(pool)


async def test_cancelled_caller_does_not_wait_for_the_thread() -> None:
    pool, began, release = WorkerPool(threads=1), threading.Event(), threading.Event()

    def block() -> None:
        began.set()
        release.wait()

    task = asyncio.create_task(pool.run(block))
    await asyncio.to_thread(began.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pool.abandoned == 1
    release.set()
    await until_finished(pool)


async def test_full_pool_refuses_at_once() -> None:
    pool, release = WorkerPool(threads=1, waiting=1), threading.Event()
    tasks = [asyncio.create_task(pool.run(release.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(ManagerUnavailable, match="All 1 threads"):
        await pool.run(lambda: None)
    release.set()
    assert await asyncio.gather(*tasks) == [True, True]


async def test_pool_of_hung_threads_refuses_rather_than_queues() -> None:
    pool, release = WorkerPool(threads=1, waiting=100), threading.Event()
    with pytest.raises(CallTimeout):
        await pool.run(release.wait, timeout=0.01)
    with pytest.raises(ManagerUnavailable, match="1 of them with calls that took too long"):
        await pool.run(lambda: None)
    release.set()
    await until_finished(pool)
    assert await pool.run(lambda: "free again") == "free again"


async def test_call_that_timed_out_in_the_queue_never_runs() -> None:
    pool, began, release = WorkerPool(threads=1), threading.Event(), threading.Event()
    ran: list[str] = []

    def block() -> None:
        began.set()
        release.wait()

    first = asyncio.create_task(pool.run(block))
    await asyncio.to_thread(began.wait)
    with pytest.raises(CallTimeout):
        await pool.run(lambda: ran.append("late"), timeout=0.01)
    assert pool.abandoned == 0
    release.set()
    await first
    await pool.run(lambda: ran.append("next"))
    assert ran == ["next"]


async def test_idle_threads_end_and_new_ones_start() -> None:
    pool = WorkerPool(threads=1, idle_s=0.01)
    first = await pool.run(threading.current_thread)
    await asyncio.to_thread(first.join)
    second = await pool.run(threading.current_thread)
    assert second is not first


async def test_closed_pool_lets_its_threads_end_and_accepts_nothing() -> None:
    pool = WorkerPool(threads=2)
    thread = await pool.run(threading.current_thread)
    pool.close()
    await asyncio.to_thread(thread.join)
    with pytest.raises(ManagerUnavailable, match="stopping"):
        await pool.run(lambda: None)


async def test_many_calls_share_few_threads() -> None:
    pool = WorkerPool(threads=4, waiting=1000)
    threads = await asyncio.gather(*(pool.run(threading.get_ident) for _ in range(500)))
    assert len(set(threads)) <= 4
