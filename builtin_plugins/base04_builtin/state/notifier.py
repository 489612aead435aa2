"""Calling back those who want to know of changes, in this process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterator
from copy import deepcopy
from typing import Any

import structlog

from base04_builtin.callbacks import call, is_cancellation, qualified_name
from base04_builtin.state.arguments import check_pattern, matches
from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.hooks import HooksManager
from base04_hookspecs.state import StateCallback, StateChange

log = structlog.get_logger()


class Notifier:
    """Keeps live callbacks and delivers changes: those of one state in order, each callback isolated.

    Args:
        hooks: where ``state.changed`` is announced, None for nowhere.
    """

    def __init__(self, hooks: HooksManager | None) -> None:
        self._hooks = hooks
        self._callbacks: dict[str, list[StateCallback]] = {}
        self._pending: dict[str, deque[tuple[str, StateChange]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.failures = 0

    def register(self, pattern: str, callback: StateCallback) -> bool:
        """Listen to a state, a prefix (``user_*``) or a type (``type:session``); False where it listens already."""
        check_pattern(pattern)
        if not callable(callback):
            raise InvalidInput(f"The callback must be callable, and it is of type {type(callback).__name__}.")
        listening = self._callbacks.setdefault(pattern, [])
        if callback in listening:
            return False
        listening.append(callback)
        return True

    def take_over(self, previous: Notifier) -> None:
        """Call back whom another one calls back, from now on and with what it is told later."""
        self._callbacks = previous._callbacks

    def unregister(self, pattern: str, callback: StateCallback) -> bool:
        """Stop listening; False where it did not."""
        listening = self._callbacks.get(pattern, [])
        if callback not in listening:
            return False
        listening.remove(callback)
        if not listening:
            del self._callbacks[pattern]
        return True

    def publish(self, state_type: str, change: StateChange) -> asyncio.Task[None] | None:
        """Queue a change. Must be called in the order of versions.

        Returns the task that delivers it, None where one that is under way will: a callback that changes the state it
        was called for would otherwise wait for itself.
        """
        state_id = change["state_id"]
        queue = self._pending.get(state_id)
        if queue is not None:
            queue.append((state_type, change))
            return None
        if self._hooks is None and not any(True for _ in self._listening(state_type, state_id)):
            return None
        self._pending[state_id] = deque([(state_type, change)])
        task = asyncio.create_task(self._deliver(state_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """Wait for what is being delivered."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _deliver(self, state_id: str) -> None:
        queue = self._pending[state_id]
        try:
            while queue:
                await self._deliver_one(*queue.popleft())
        finally:
            del self._pending[state_id]

    async def _deliver_one(self, state_type: str, change: StateChange) -> None:
        for callback in list(self._listening(state_type, change["state_id"])):
            await self._isolated(call(callback, deepcopy(change)), qualified_name(callback), change)
        if self._hooks is not None:
            announcement = self._hooks.trigger_hook("state.changed", state_type=state_type, **deepcopy(change))
            await self._isolated(announcement, "hook state.changed", change)

    async def _isolated(self, delivery: Awaitable[Any], receiver: str, change: StateChange) -> None:
        """Await a delivery; one that fails is logged and never stops the next."""
        try:
            await delivery
        except (Exception, asyncio.CancelledError) as error:
            if is_cancellation(error):
                raise
            self.failures += 1
            log.exception(
                "state change not received",
                receiver=receiver,
                state_id=change["state_id"],
                version=change["version"],
            )

    def _listening(self, state_type: str, state_id: str) -> Iterator[StateCallback]:
        for pattern, callbacks in self._callbacks.items():
            if matches(pattern, state_type, state_id):
                yield from callbacks
