"""A lock between processes: a document that its holder keeps alive."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import structlog
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError, PyMongoError

from base04_hookspecs.errors import ManagerUnavailable

LOCKS: Final = "_base04_locks"
_POLL_S: Final = 0.02

log = structlog.get_logger()


class LeaseLock:
    """Held by who inserted the document; MongoDB's own unique ``_id`` lets one of them do so.

    A holder changes the document every third of the lease. One whose document has stayed as it is for a whole lease is
    taken for dead, by the watch of who waits: clocks of machines are not compared. A holder that notices that it was
    taken for dead is cancelled, and its caller told so.
    """

    def __init__(self, locks: AsyncCollection[dict[str, Any]], name: str, *, lease_s: float, timeout_s: float) -> None:
        self._locks, self._name = locks, name
        self._lease_s, self._timeout_s = lease_s, timeout_s
        self._here = asyncio.Lock()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold the lock for the time of a ``with`` block.

        Raises:
            ManagerUnavailable: another process has held it for too long, or it was lost.
        """
        owner = uuid.uuid4().hex
        async with self._here:
            await self._acquire(owner)
            task = asyncio.current_task()
            lost = asyncio.Event()
            keeper = asyncio.create_task(self._keep(owner, task, lost), name=f"lease {self._name}")
            try:
                yield
            except asyncio.CancelledError:
                if lost.is_set() and task is not None and task.uncancel() == 0:
                    raise ManagerUnavailable(
                        f"The lock {self._name!r} was lost to another process, because the database could not be "
                        f"reached for {self._lease_s:g} s: what was under way may have been done in part."
                    ) from None
                raise
            finally:
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)
                await asyncio.shield(self._release(owner))

    async def _acquire(self, owner: str) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        seen: tuple[Any, float] = (None, loop.time())
        while True:
            try:
                await self._locks.insert_one({"_id": self._name, "owner": owner, "beat": 0})
                return
            except DuplicateKeyError:
                there = await self._locks.find_one({"_id": self._name})
            if there is not None:
                if there != seen[0]:
                    seen = (there, loop.time())
                elif loop.time() - seen[1] > self._lease_s:
                    log.warning("lock of a dead process taken over", lock=self._name)
                    await self._locks.delete_one(there)
                    continue
            if loop.time() > deadline:
                raise ManagerUnavailable(
                    f"Another process has held the lock {self._name!r} in the collection {LOCKS!r} for more than "
                    f"{self._timeout_s:g} s. See what it is doing, or delete the document if it is dead."
                )
            await asyncio.sleep(_POLL_S * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret

    async def _keep(self, owner: str, holder: asyncio.Task[Any] | None, lost: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        alive, beat = loop.time(), 0
        while True:
            await asyncio.sleep(self._lease_s / 3)
            beat += 1
            try:
                kept = await self._locks.update_one({"_id": self._name, "owner": owner}, {"$set": {"beat": beat}})
            except PyMongoError:
                if loop.time() - alive < self._lease_s:
                    continue
            else:
                if kept.matched_count:
                    alive = loop.time()
                    continue
            lost.set()
            if holder is not None:
                holder.cancel()
            return

    async def _release(self, owner: str) -> None:
        with suppress(PyMongoError):  # then the lease ends by itself
            await self._locks.delete_one({"_id": self._name, "owner": owner})
