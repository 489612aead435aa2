"""The one place where requests to the vault leave the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from base04_hookspecs.errors import ManagerUnavailable

T = TypeVar("T")


class VaultThreads:
    """A bounded number of worker threads, started when they are first needed.

    Whoever is cancelled stops waiting; a request that is already on its way goes on to its own timeout.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._executor: ThreadPoolExecutor | None = None
        self._closed = False
        self.busy = 0

    async def call(self, step: Callable[..., T], *args: Any) -> T:
        """Take a blocking step in a worker thread.

        Raises:
            ManagerUnavailable: the manager was stopped, or the vault answered with something that is no vault's answer.
        """
        if self._closed:
            raise ManagerUnavailable("The vault manager has stopped.")
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._size, thread_name_prefix="base04-vault")
        self.busy += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, copy_context().run, step, *args)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            failure = type(error).__name__
        finally:
            self.busy -= 1
        raise ManagerUnavailable(f"What answered at the vault's address does not speak as a vault does ({failure}).")

    def close(self) -> None:
        """Take no more steps; does not wait for those that are under way."""
        self._closed = True
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
