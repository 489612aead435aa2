"""Blocking proxies run managers on their own loop, and never wait for what cannot come."""

from __future__ import annotations

import asyncio
import copy
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import traceback
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, ClassVar, TypeVar

import pytest
import uvloop

from base04.proxies import CalledOnLoop, blocking_proxy
from base04_hookspecs.context import Principal, RequestContext, current_request, use_request
from base04_hookspecs.errors import Base04Error, Conflict, ManagerUnavailable
from base04_hookspecs.health import HealthReport, health_report
from base04_hookspecs.manager import Manager

T = TypeVar("T")


class Shelf(Manager):
    """A manager with each kind of method that a contract may have."""

    role: ClassVar[str] = "shelf"

    def __init__(self) -> None:
        self.books: list[str] = []
        self.waiting = threading.Event()
        self.cancelled = threading.Event()
        self.closed = threading.Event()
        self.parent: Shelf | None = None

    @property
    def size(self) -> int:
        return len(self.books)

    async def health_check(self) -> HealthReport:
        return health_report()

    async def add(self, book: str, *, twice: bool = False) -> int:
        """Add a book."""
        self.books += [book, book] if twice else [book]
        return len(self.books)

    async def caller(self) -> tuple[RequestContext | None, int]:
        await asyncio.sleep(0)
        return current_request(), threading.get_ident()

    async def fail(self, error: BaseException) -> None:
        raise error

    async def wait(self) -> None:
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def view(self) -> Shelf:
        """Return another shelf; uses the loop, which a method may that its own loop calls."""
        asyncio.get_running_loop()
        other = Shelf()
        other.parent = self
        return other

    async def find(self) -> Shelf:
        return self

    async def is_me(self, other: Shelf, *, again: Shelf) -> bool:
        return other is self and again is self

    async def all(self) -> AsyncIterator[str]:
        try:
            for book in self.books:
                yield book
        finally:
            self.closed.set()

    def later(self) -> asyncio.Future[str]:
        return asyncio.ensure_future(self._later())

    async def _later(self) -> str:
        return "later"

    async def tell(self, callback: Callable[[str], Any]) -> Any:
        return await asyncio.to_thread(callback, "news")


class LoopInThread:
    """A loop in a thread of its own, as a host has it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.call(asyncio.sleep(0))

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30)

    def close(self) -> None:
        if self.thread.is_alive():
            self.call(_cancel_all())
            self.stop()
        if not self.loop.is_closed():
            self.loop.run_until_complete(_cancel_all())
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()


async def _cancel_all() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def host(request: pytest.FixtureRequest) -> Iterator[LoopInThread]:
    running = LoopInThread(request.param())
    yield running
    running.close()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def test_proxy_methods_return_results(host: LoopInThread, shelf: Shelf) -> None:
    proxy = blocking_proxy(shelf, host.loop)
    assert proxy.add("Emma") == 1
    assert proxy.add("Persuasion", twice=True) == 3
    assert proxy.size == 3
    assert proxy.role == "shelf"
    assert proxy.health_check()["status"] == "healthy"
    assert proxy.add.__doc__ == "Add a book."


def test_proxy_runs_methods_on_the_loop_with_the_context_of_the_caller(host: LoopInThread, shelf: Shelf) -> None:
    proxy = blocking_proxy(shelf, host.loop)
    request = RequestContext("r1", Principal("ada", method="token"))
    with use_request(request):
        seen, thread = proxy.caller()
    assert seen is request
    assert thread == host.thread.ident
    assert proxy.caller()[0] is None


def test_proxy_takes_context_of_each_calling_thread(host: LoopInThread, shelf: Shelf) -> None:
    proxy = blocking_proxy(shelf, host.loop)
    barrier = threading.Barrier(8)

    def call(number: int) -> str:
        with use_request(RequestContext(f"r{number}")):
            barrier.wait(30)
            seen: RequestContext = proxy.caller()[0]
            return seen.request_id

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(call, range(8))) == [f"r{number}" for number in range(8)]


@pytest.mark.parametrize("error", [Conflict("taken"), TimeoutError("slow"), KeyError("k"), StopAsyncIteration()])
def test_proxy_raises_errors_as_they_are(host: LoopInThread, shelf: Shelf, error: Exception) -> None:
    proxy = blocking_proxy(shelf, host.loop)
    with pytest.raises(type(error)) as raised:
        proxy.fail(error)
    assert raised.value is error
    assert "in fail" in "".join(traceback.format_exception(raised.value))


def test_proxy_checks_arguments_as_the_method_does(host: LoopInThread, shelf: Shelf) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        blocking_proxy(shelf, host.loop).add("Emma", colour="red")


def test_proxy_of_a_result_that_is_a_manager(host: LoopInThread, shelf: Shelf) -> None:
    proxy = blocking_proxy(shelf, host.loop)
    view = proxy.view()
    assert view.add("Emma") == 1
    assert proxy.size == 0
    assert view.parent is proxy
    assert proxy.find() is proxy


def test_proxies_passed_as_arguments_arrive_as_managers(host: LoopInThread, shelf: Shelf) -> None:
    proxy = blocking_proxy(shelf, host.loop)
    assert proxy.is_me(proxy, again=proxy) is True


def test_proxy_awaits_what_a_plain_method_returns(host: LoopInThread, shelf: Shelf) -> None:
    assert blocking_proxy(shelf, host.loop).later() == "later"


def test_proxy_leaves_callbacks_as_they_are_and_they_may_call_it(host: LoopInThread, shelf: Shelf) -> None:
    proxy = blocking_proxy(shelf, host.loop)
    assert proxy.tell(lambda news: (news, proxy.add(news))) == ("news", 1)


def test_proxy_is_one_for_each_manager_while_it_is_held(host: LoopInThread, shelf: Shelf) -> None:
    proxy = blocking_proxy(shelf, host.loop)
    assert blocking_proxy(shelf, host.loop) is proxy
    assert blocking_proxy(Shelf(), host.loop) is not proxy


def test_proxy_does_not_keep_its_manager_alive_once_dropped(host: LoopInThread) -> None:
    shelf = Shelf()
    gone = weakref.ref(shelf)
    proxy = blocking_proxy(shelf, host.loop)
    proxy.add("Emma")
    del shelf, proxy
    host.call(asyncio.sleep(0))
    gc.collect()
    assert gone() is None


def test_proxy_names_its_manager(host: LoopInThread, shelf: Shelf) -> None:
    proxy = blocking_proxy(shelf, host.loop)
    assert repr(proxy) == f"<blocking {shelf!r}>"
    assert {"add", "size", "all"} <= set(dir(proxy))


@pytest.mark.parametrize("name", ["start", "stop", "_later", "missing"])
def test_proxy_has_no_other_attributes(host: LoopInThread, shelf: Shelf, name: str) -> None:
    proxy = blocking_proxy(shelf, host.loop)
    with pytest.raises(AttributeError, match=name):
        getattr(proxy, name)
    assert name not in dir(proxy)


def test_proxy_can_be_copied_without_harm(host: LoopInThread, shelf: Shelf) -> None:
    proxy = blocking_proxy(shelf, host.loop)
    assert copy.copy(proxy).add("Emma") == 1


# Iterators


def test_async_iterators_become_iterators(host: LoopInThread, shelf: Shelf) -> None:
    proxy = blocking_proxy(shelf, host.loop)
    shelf.books = ["Emma", "Persuasion"]
    assert list(proxy.all()) == ["Emma", "Persuasion"]
    assert shelf.closed.is_set()


def test_iterator_is_closed_before_its_end(host: LoopInThread, shelf: Shelf) -> None:
    proxy = blocking_proxy(shelf, host.loop)
    shelf.books = ["Emma", "Persuasion"]
    with closing(proxy.all()) as books:
        assert next(books) == "Emma"
        assert not shelf.closed.is_set()
    assert shelf.closed.is_set()
    assert list(books) == []
    books.close()


def test_iterator_is_closed_when_it_is_dropped(host: LoopInThread, shelf: Shelf) -> None:
    proxy = blocking_proxy(shelf, host.loop)
    shelf.books = ["Emma", "Persuasion"]
    for _ in proxy.all():
        break
    assert shelf.closed.wait(30)


def test_iterator_dropped_in_the_thread_of_the_loop_is_closed(host: LoopInThread, shelf: Shelf) -> None:
    shelf.books = ["Emma", "Persuasion"]
    books = [blocking_proxy(shelf, host.loop).all()]
    assert next(books[0]) == "Emma"
    host.loop.call_soon_threadsafe(books.clear)
    assert shelf.closed.wait(30)


# What must not hang


def test_proxy_refuses_the_thread_of_its_loop(host: LoopInThread, shelf: Shelf) -> None:
    proxy = blocking_proxy(shelf, host.loop)

    async def call() -> None:
        proxy.add("Emma")

    with pytest.raises(CalledOnLoop, match=r"Shelf\.add blocks, and was called in the thread") as refused:
        host.call(call())
    assert isinstance(refused.value, RuntimeError)
    assert isinstance(refused.value, Base04Error)
    assert shelf.books == []


def test_proxy_is_unavailable_after_its_loop_stopped(host: LoopInThread, shelf: Shelf) -> None:
    proxy = blocking_proxy(shelf, host.loop)
    host.stop()
    with pytest.raises(ManagerUnavailable, match="does not run"):
        proxy.add("Emma")
    host.close()
    with pytest.raises(ManagerUnavailable):
        proxy.add("Emma")


def test_caller_that_waits_is_told_that_the_loop_stopped(host: LoopInThread, shelf: Shelf) -> None:
    proxy = blocking_proxy(shelf, host.loop)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(proxy.wait)
        assert shelf.waiting.wait(30)
        host.stop()
        with pytest.raises(ManagerUnavailable, match="stopped"):
            waiting.result(30)


def test_call_that_was_never_begun_is_told_that_the_loop_stopped(host: LoopInThread, shelf: Shelf) -> None:
    proxy = blocking_proxy(shelf, host.loop)
    entered, leave = threading.Event(), threading.Event()

    def block_and_stop() -> None:
        entered.set()
        leave.wait(30)
        host.loop.stop()

    host.loop.call_soon_threadsafe(block_and_stop)
    assert entered.wait(30)
    calling = threading.Event()

    def call() -> Any:
        calling.set()
        return proxy.add("Emma")

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(call)
        assert calling.wait(30)
        leave.set()
        with pytest.raises(ManagerUnavailable):
            waiting.result(30)


def test_caller_that_waits_is_told_that_it_was_cancelled(host: LoopInThread, shelf: Shelf) -> None:
    proxy = blocking_proxy(shelf, host.loop)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(proxy.wait)
        assert shelf.waiting.wait(30)
        host.call(_cancel_all())
        with pytest.raises(ManagerUnavailable, match="was cancelled"):
            waiting.result(30)


INTERRUPTED = """
    import asyncio, os, signal, sys
    from base04.proxies import blocking_proxy
    sys.path.insert(0, {folder!r})
    from test_proxies import LoopInThread, Shelf

    class Interrupting(Shelf):
        async def wait(self):
            os.kill(os.getpid(), signal.SIGINT)
            await super().wait()

    host = LoopInThread(asyncio.new_event_loop())
    interrupted = cancelled = 0
    for _ in range(200):  # the signal finds the caller now before, now after it has begun to wait
        shelf = Interrupting()
        try:
            blocking_proxy(shelf, host.loop).wait()
        except KeyboardInterrupt:
            interrupted += 1
        cancelled += shelf.cancelled.wait(30)
    print(interrupted, cancelled, blocking_proxy(shelf, host.loop).add("Emma"))
    host.close()
"""


def test_interrupting_a_caller_cancels_the_call() -> None:
    folder = os.path.dirname(__file__)
    program = textwrap.dedent(INTERRUPTED).format(folder=folder)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600, check=False)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("200 200 1\n", "", 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # that is what is tried here
def test_proxy_is_unavailable_in_a_forked_process(host: LoopInThread, shelf: Shelf) -> None:
    proxy = blocking_proxy(shelf, host.loop)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        try:
            proxy.add("Emma")
        except ManagerUnavailable as error:
            sender.send(str(error))
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert receiver.poll(30)
    assert "was forked" in receiver.recv()
