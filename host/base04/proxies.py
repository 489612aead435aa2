"""Managers for code that is not async: proxies whose methods block until the manager's own loop has run them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import inspect
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from weakref import WeakValueDictionary

from base04.actions.worker_pool import refuse_abandoned
from base04_hookspecs.errors import Base04Error, ManagerUnavailable
from base04_hookspecs.manager import Manager

T = TypeVar("T")

LIVENESS_INTERVAL_S: Final = 1.0
"""How often a caller that waits looks whether the loop that is to answer still runs."""

_HOST_ONLY: Final = ("start", "stop", "take_over")
_END: Final = object()


class CalledOnLoop(Base04Error, RuntimeError):
    """A blocking call was made in the thread of the loop that it would wait for: it could never be answered."""


def blocking_proxy(manager: Manager, loop: asyncio.AbstractEventLoop) -> Any:
    """Return an object with the manager's public methods, each of which blocks for its result.

    They run on ``loop``, which is the manager's own, with the caller's context variables. Errors come through as they
    are. Callbacks that are passed in stay as they are: a manager calls a ``def`` in a worker thread. While anybody
    holds the proxy of a manager, the same one is returned.

    Its methods raise:
        CalledOnLoop: the caller is in the thread of ``loop``.
        ManagerUnavailable: ``loop`` does not run, or stopped before it had answered.
    """
    key = (id(manager), id(loop))
    with _lock:
        proxy = _proxies.get(key)
        if proxy is None:
            proxy = _proxies[key] = BlockingProxy(manager, loop)
    return proxy


class BlockingProxy:
    """The public methods of a manager, blocking; made by ``blocking_proxy``."""

    __slots__ = ("__weakref__", "_loop", "_manager", "_process")

    def __init__(self, manager: Manager, loop: asyncio.AbstractEventLoop) -> None:
        self._manager = manager
        self._loop = loop
        self._process = os.getpid()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in _HOST_ONLY:
            raise AttributeError(
                f"A blocking proxy has no attribute {name!r}: it has what users of a manager may call."
            )
        value = getattr(self._manager, name)
        if not callable(value) or isinstance(value, type):
            return blocking_form(value, self._loop)

        @functools.wraps(value)
        def call(*args: Any, **kwargs: Any) -> Any:
            if os.getpid() != self._process:
                raise ManagerUnavailable(
                    f"{self!r} cannot be used here: this process was forked from the one whose loop runs the manager. "
                    "Start a host after the fork."
                )
            args = tuple(_manager_of(arg) for arg in args)
            kwargs = {key: _manager_of(arg) for key, arg in kwargs.items()}
            return blocking_form(run_on_loop(self._loop, value, *args, **kwargs), self._loop)

        return call

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._manager) if not name.startswith("_") and name not in _HOST_ONLY]

    def __repr__(self) -> str:
        return f"<blocking {self._manager!r}>"


_lock: Final = threading.Lock()
_proxies: Final[WeakValueDictionary[tuple[int, int], BlockingProxy]] = WeakValueDictionary()
# A proxy keeps its manager and loop, so that their ids cannot be taken by others while its entry is here.


def _manager_of(argument: Any) -> Any:
    return argument._manager if isinstance(argument, BlockingProxy) else argument


def blocking_form(value: Any, loop: asyncio.AbstractEventLoop) -> Any:
    """Return what code that is not async gets for a value: a proxy for a manager, an iterator for an async iterator."""
    if isinstance(value, Manager):
        return blocking_proxy(value, loop)
    if isinstance(value, AsyncIterator):
        return BlockingIterator(value, loop)
    return value


class BlockingIterator(Iterator[Any]):
    """An async iterator, item by item; closed by ``close``, at the end of a ``with`` block, or when it is dropped."""

    def __init__(self, items: AsyncIterator[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._items: AsyncIterator[Any] | None = items
        self._loop = loop

    def __next__(self) -> Any:
        items = self._items
        if items is None:
            raise StopIteration
        item = run_on_loop(self._loop, anext, items, _END)
        if item is _END:
            self.close()
            raise StopIteration
        return blocking_form(item, self._loop)

    def close(self) -> None:
        """Close the async iterator and wait until it is closed. Does nothing the second time."""
        items, self._items = self._items, None
        if items is not None and hasattr(items, "aclose"):
            run_on_loop(self._loop, items.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # The collector runs in any thread, the loop's own included, so nothing here may wait.
        items = getattr(self, "_items", None)
        if items is not None and hasattr(items, "aclose") and self._loop.is_running():
            asyncio.run_coroutine_threadsafe(_awaited(items.aclose), self._loop)


def run_on_loop(loop: asyncio.AbstractEventLoop, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function on a loop that runs in another thread, await what it returns, and return or raise the outcome.

    The function runs as a task with a copy of the caller's context variables. A caller that is interrupted
    (``KeyboardInterrupt``) cancels the task.

    Raises:
        CalledOnLoop: this is the thread of ``loop``.
        CallAbandoned: this is the thread of a handler that took too long.
        ManagerUnavailable: ``loop`` does not run, stopped before it had answered, or cancelled the task.
    """
    name = getattr(function, "__qualname__", repr(function))
    refuse_own_thread(loop, name)
    refuse_abandoned(name)
    if not loop.is_running():
        raise ManagerUnavailable(f"{name} cannot be called: the event loop of the host does not run.")
    call = _Call(function, args, kwargs)
    outcome = call.outcome()
    try:
        future = _schedule(outcome, loop, name)
        _wait(future, loop)
    except BaseException:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the call with it
            loop.call_soon_threadsafe(call.abandon)
        raise
    if not future.done():
        if inspect.getcoroutinestate(outcome) == inspect.CORO_CREATED:
            outcome.close()
        raise ManagerUnavailable(f"{name} was not answered: the event loop of the host stopped.")
    if future.cancelled():
        raise ManagerUnavailable(f"{name} was cancelled before it had answered; the host may be stopping.")
    result, raised = future.result()
    if raised is None:
        return result
    try:
        raise raised
    finally:
        del raised, future  # else this frame and the traceback of the error would hold each other


def refuse_own_thread(loop: asyncio.AbstractEventLoop, name: str) -> None:
    """Raise ``CalledOnLoop`` where this is the thread of ``loop``; ``name`` says what was called."""
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return
    if running is loop:
        raise CalledOnLoop(
            f"{name} blocks, and was called in the thread of the event loop that runs it, which would wait for itself. "
            "In an async function use the manager itself and await; call code that is not async in a worker thread, "
            "with `await asyncio.to_thread(...)`."
        )


class _Call:
    """A call that another thread waits for, and may give up at any moment, even before it has begun."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._function, self._args, self._kwargs = function, args, kwargs
        self._task: asyncio.Task[Any] | None = None
        self._abandoned = False

    async def outcome(self) -> tuple[Any, Exception | None]:
        """Return the result and the error of the call. A future that carries errors puts a copy in place of some."""
        if self._abandoned:
            raise asyncio.CancelledError
        self._task = asyncio.current_task()
        try:
            return await _awaited(self._function, *self._args, **self._kwargs), None
        except Exception as error:  # noqa: BLE001 - raised again in the thread of the caller
            return None, error
        finally:
            self._task = None

    def abandon(self) -> None:
        """Cancel the call; in the thread of its loop."""
        self._abandoned = True
        if self._task is not None:
            self._task.cancel()


def _schedule(
    outcome: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, name: str
) -> concurrent.futures.Future[T]:
    try:
        return asyncio.run_coroutine_threadsafe(outcome, loop)
    except RuntimeError as error:
        outcome.close()
        raise ManagerUnavailable(f"{name} cannot be called: the event loop of the host is closed.") from error


def _wait(future: concurrent.futures.Future[Any], loop: asyncio.AbstractEventLoop) -> None:
    """Wait until the future is done, or the loop that is to complete it runs no more."""
    while not concurrent.futures.wait((future,), LIVENESS_INTERVAL_S).done:
        if not loop.is_running():
            return


async def _awaited(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    outcome = function(*args, **kwargs)
    return await outcome if inspect.isawaitable(outcome) else outcome
