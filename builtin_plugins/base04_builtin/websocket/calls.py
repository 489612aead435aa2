"""Actions that clients have called, which run beside the messages of their connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from base04_builtin.websocket.codes import Refusal
from base04_hookspecs.action_discovery import RunAction
from base04_hookspecs.errors import ManagerUnavailable

Answer = Callable[[Awaitable[Any]], Awaitable[None]]
"""Awaits a result and tells the client, whatever comes of it."""


class Caller(Protocol):
    """A connection; ``calls`` is how many of its calls are running."""

    calls: int


class ActionCalls:
    """Runs the actions that connections call.

    Args:
        most: how many of one connection may run at once.
    """

    def __init__(self, most: int) -> None:
        self.run_action: RunAction | None = None
        """What runs actions; None until the host has bound it."""
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, caller: Caller, action: str, args: Mapping[str, Any], answer: Answer) -> None:
        """Run an action in a task of its own: it may take long, and the messages behind it are not to wait.

        Raises:
            ManagerUnavailable: the host has not bound what runs actions.
            Refusal: too many calls of this connection are running.
        """
        if self.run_action is None:
            raise ManagerUnavailable("Actions cannot be called yet: the host is starting.")
        if caller.calls >= self._most:
            raise Refusal(
                "too_many_calls",
                f"{caller.calls} calls of this connection are running: wait until one has been answered.",
            )
        caller.calls += 1
        running = self._run(caller, answer, self.run_action, action, args)
        task = asyncio.get_running_loop().create_task(running, name=f"websocket call {action}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, caller: Caller, answer: Answer, run: RunAction, action: str, args: Mapping[str, Any]) -> None:
        try:
            await answer(run(action, args))
        finally:
            caller.calls -= 1

    async def done(self, timeout_s: float) -> None:
        """Wait for the calls that are running, those that others make meanwhile not included."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=timeout_s)

    async def stop(self) -> None:
        """Cancel the calls that are still running."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
