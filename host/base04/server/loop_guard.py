"""An event loop that goes on where something that runs on it tries to end the process."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import structlog

T = TypeVar("T")

_log = structlog.get_logger()


def run_guarded(
    coroutine: Coroutine[Any, Any, T], *, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> T:
    """Run a coroutine to its end on a loop of its own, as ``asyncio.run`` does.

    asyncio lets a ``SystemExit`` or a ``KeyboardInterrupt`` that a task or a callback raises out of the loop, which
    would end everything that runs on it. Here it ends that task alone: it is logged, and the loop goes on where it was.
    Nothing is paid for that while nobody does it.
    """
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        loop = runner.get_loop()
        task = loop.create_task(coroutine)
        while True:
            try:
                return loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt) as error:
                if task.done() or _from_outside(error):
                    raise
                _log.error("a task tried to end the process, which goes on", error=repr(error), exc_info=error)


def _from_outside(error: BaseException) -> bool:
    """Tell whether it is the Ctrl-C of whoever runs the process: where the loop handles signals, it never is."""
    return (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
