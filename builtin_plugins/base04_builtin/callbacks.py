"""Calling functions that others handed in, whether they are ``async def`` or ``def``."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Final

THREADS: Final = 64
"""How many callbacks that are not async may run at the same moment; the next wait."""


@functools.cache
def _threads() -> ThreadPoolExecutor:
    """Make the threads for callbacks, when the first is called.

    They are not the loop's own: a callback may wait for a manager that itself needs a thread, such as a vault that
    reads a file, and enough of them waiting in one pool would wait for ever.
    """
    return ThreadPoolExecutor(THREADS, thread_name_prefix="callback")


async def call(callback: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Await an ``async def`` on the loop, run a ``def`` in a worker thread with the context copied.

    What a ``def`` returns is awaited where it can be, so that a lambda around a coroutine function works too.
    """
    if is_async(callback):
        return await callback(*args, **kwargs)
    in_context = functools.partial(copy_context().run, _run, callback, args, kwargs)
    result = await asyncio.get_running_loop().run_in_executor(_threads(), in_context)
    return await result if inspect.isawaitable(result) else result


def is_async(callback: Callable[..., Any]) -> bool:
    """Tell whether a call returns a coroutine; sees through partials and objects with an ``async def __call__``."""
    if inspect.iscoroutinefunction(callback):
        return True
    return not isinstance(callback, type) and inspect.iscoroutinefunction(getattr(callback, "__call__", None))  # noqa: B004


def _run(callback: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return callback(*args, **kwargs)
    except StopIteration as error:
        # A future cannot carry StopIteration: whoever awaits the thread would wait for ever.
        raise RuntimeError(f"{qualified_name(callback)} raised StopIteration.") from error


def qualified_name(callback: Any) -> str:
    """Return ``package.module.name`` of a function, class or partial, or that of an object's class."""
    while not hasattr(callback, "__qualname__") and hasattr(callback, "func"):
        callback = callback.func
    named = callback if hasattr(callback, "__qualname__") else type(callback)
    return f"{named.__module__}.{named.__qualname__}"


def is_cancellation(error: BaseException) -> bool:
    """Tell a cancellation of the current task from a ``CancelledError`` that a callback let out of itself."""
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def describe(error: BaseException) -> str:
    """Return an error as ``Type: message``, or its type alone where it has no message."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
