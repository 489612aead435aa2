"""Serving on a loop in the background, while the calling thread waits and takes signals."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from base04.proxies import run_on_loop

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from base04.app_manager import AppManager

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class ForegroundServer:
    """Serves once, from ``run`` until a signal comes or ``end`` is called; a second one does not wait for requests."""

    def __init__(self, host: AppManager, loop: asyncio.AbstractEventLoop) -> None:
        self._host = host
        self._loop = loop
        self._task: asyncio.Task[Any] | None = None
        self._ending = False
        self._ended = threading.Event()

    def run(self, app: Starlette | None, options: dict[str, Any]) -> None:
        """Serve, and return when it is over."""
        try:
            with _signals_call(self._begin_to_end):
                run_on_loop(self._loop, self._serve, app, options)
        finally:
            self._ended.set()

    def end(self) -> None:
        """Let requests finish, stop serving, and wait until that is done."""
        self._begin_to_end()
        self._ended.wait()

    def _begin_to_end(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: it is over
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        self._ending = True
        if self._task is not None:
            self._task.cancel()

    async def _serve(self, app: Starlette | None, options: dict[str, Any]) -> None:
        from base04.server.serving import serve

        if self._ending:
            return
        self._task = asyncio.current_task()
        try:
            await serve(self._host, app, **options)
        except asyncio.CancelledError:
            if not self._ending:
                raise
        finally:
            self._task = None


@contextlib.contextmanager
def _signals_call(function: Callable[[], None]) -> Iterator[None]:
    """Call a function on SIGINT and SIGTERM, where this is the main thread: only that can take signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, lambda *_: function()) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
