"""News that states have changed, for those who wait: within the process at once, from others through ``redis``.

Nothing depends on them: who waits looks for itself every now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

from base04_hookspecs.errors import ManagerError
from base04_hookspecs.redis import RedisManager, key_name

CHANNEL: Final = key_name("state", "changed")

_AT_ONCE: Final = 500
_RETRY_S: Final = 2.0

Listener = Callable[[Iterable[str] | None], None]
"""Called with the ids of states that have changed, None where any may have."""


class Wakeups:
    """Tells listeners of changes, and other processes where the ``redis`` role is shared with them."""

    def __init__(self, redis: RedisManager | None) -> None:
        self._redis = redis
        self._listeners: list[Listener] = []
        self._unpublished: dict[str, None] = {}
        self._any = False
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to tell other processes, and to hear from them, as soon as the role answers."""
        if self._redis is not None:
            self._tasks = [
                asyncio.create_task(self._subscribe(self._redis), name="state-wakeups"),
                asyncio.create_task(self._publish(self._redis), name="state-news"),
            ]

    async def stop(self) -> None:
        """End."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._redis is not None:
            with suppress(ManagerError):  # a bus that is away delivers nothing either
                await self._redis.unsubscribe(CHANNEL, self._heard)

    def listen(self, listener: Listener) -> None:
        """Tell a listener from now on."""
        self._listeners.append(listener)

    def ignore(self, listener: Listener) -> None:
        """Tell a listener no more."""
        self._listeners.remove(listener)

    def changed(self, state_id: str) -> None:
        """Say that a state has changed."""
        self._tell((state_id,))
        if self._redis is not None:
            self._unpublished[state_id] = None
            self._wake.set()

    def changed_all(self) -> None:
        """Say that there is something new, whatever it is about."""
        self._tell(None)
        if self._redis is not None:
            self._any = True
            self._wake.set()

    def _tell(self, ids: Iterable[str] | None) -> None:
        for listener in list(self._listeners):
            listener(ids)

    async def _publish(self, redis: RedisManager) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            ids, self._unpublished = list(self._unpublished), {}
            told = ids if len(ids) <= _AT_ONCE and not self._any else None
            self._any = False
            with suppress(ManagerError):  # others find out when they look
                await redis.publish(CHANNEL, {"ids": told})

    async def _subscribe(self, redis: RedisManager) -> None:
        while True:
            try:
                await redis.subscribe(CHANNEL, self._heard, on_gap=self._missed)
            except ManagerError:
                await asyncio.sleep(_RETRY_S)
            else:
                self._tell(None)
                return

    async def _heard(self, channel: str, message: Any) -> None:
        ids = message.get("ids") if isinstance(message, dict) else None
        self._tell([one for one in ids if isinstance(one, str)] if isinstance(ids, list) else None)

    async def _missed(self, channel: str) -> None:
        self._tell(None)
