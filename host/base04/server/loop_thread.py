"""An event loop in a background thread, for programs that are not async."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from base04.server.loop_guard import run_guarded

WORKERS: Final = 128
"""Threads for blocking work. More than is usual: a callback of the program takes one while it waits for a manager,
and that manager may need one itself."""


class LoopThread:
    """Runs an event loop in a daemon thread, from when it is made until ``stop``."""

    def __init__(self) -> None:
        import uvloop

        self.loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self.loop.set_default_executor(ThreadPoolExecutor(WORKERS, thread_name_prefix="base04-worker"))
        self._stopping = asyncio.Event()
        running = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(running,), name="base04-loop", daemon=True)
        self._thread.start()
        running.wait()

    def is_alive(self) -> bool:
        """Tell whether the thread runs; in a process that was forked from its own it does not."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Cancel what still runs on the loop, close it, and wait for the thread to end. Safe to repeat."""
        if self.is_alive():
            self.loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def _run(self, running: threading.Event) -> None:
        self.loop.call_soon(running.set)
        run_guarded(self._until_stopped(), loop_factory=lambda: self.loop)

    async def _until_stopped(self) -> None:
        await self._stopping.wait()
