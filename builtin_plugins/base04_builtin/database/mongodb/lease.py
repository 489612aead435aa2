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

from base04_builtin.database.mongodb.errors import clear_errors
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
        self.locks, self.name = locks, name
        self.lease_s, self.timeout_s = lease_s, timeout_s
        self._here = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold the lock for the time of a ``with`` block.

        Raises:
            ManagerUnavailable: another process has held it for too long, or it was lost.
        """
        async with self._here:
            hold = _Hold(self, asyncio.current_task())
            self._tasks.add(hold.task)
            hold.task.add_done_callback(self._tasks.discard)
            try:
                await hold.acquired()
                yield
            except asyncio.CancelledError:
                if hold.cancelled_its_caller():
                    raise ManagerUnavailable(
                        f"The lock {self.name!r} was lost to another process, because the database could not be "
                        f"reached for {self.lease_s:g} s: what was under way may have been done in part."
                    ) from None
                raise
            finally:
                hold.end()
                await asyncio.wait([hold.task])

    async def stop(self) -> None:
        """Wait for documents that are being deleted."""
        if self._tasks:
            await asyncio.wait(self._tasks)


class _Hold:
    """One time of holding, in a task of its own: the driver bears no cancellation in the middle of a call."""

    def __init__(self, lock: LeaseLock, caller: asyncio.Task[Any] | None) -> None:
        self._lock, self._caller = lock, caller
        self._owner = uuid.uuid4().hex
        self._ended = asyncio.Event()
        self._acquired: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._acquired.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._lost = False
        self.task = asyncio.create_task(self._run(), name=f"lease {lock.name}")

    async def acquired(self) -> None:
        """Wait until the lock is held."""
        await asyncio.shield(self._acquired)

    def end(self) -> None:
        """Hold it no longer, or give up waiting for it."""
        self._ended.set()

    def cancelled_its_caller(self) -> bool:
        """Tell whether the cancellation of the caller comes from here, and from nobody else as well."""
        return self._lost and self._caller is not None and self._caller.uncancel() == 0

    async def _run(self) -> None:
        try:
            try:
                with clear_errors(writes=False):
                    await self._acquire()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is for who waits
                self._acquired.set_exception(error)
                return
            self._acquired.set_result(None)
            await self._keep()
        finally:
            with suppress(PyMongoError):  # then the lease ends by itself
                await self._lock.locks.delete_one({"_id": self._lock.name, "owner": self._owner})

    async def _acquire(self) -> None:
        lock, loop = self._lock, asyncio.get_running_loop()
        deadline = loop.time() + lock.timeout_s
        seen: tuple[Any, float] = (None, loop.time())
        while not self._ended.is_set():
            try:
                await lock.locks.insert_one({"_id": lock.name, "owner": self._owner, "beat": 0})
                return
            except DuplicateKeyError:
                there = await lock.locks.find_one({"_id": lock.name})
            if there is not None and there != seen[0]:
                seen = (there, loop.time())
            elif there is not None and loop.time() - seen[1] > lock.lease_s:
                log.warning("lock of a dead process taken over", lock=lock.name)
                await lock.locks.delete_one(there)
                continue
            if loop.time() > deadline:
                raise ManagerUnavailable(
                    f"Another process has held the lock {lock.name!r} in the collection {LOCKS!r} for more than "
                    f"{lock.timeout_s:g} s. See what it is doing, or delete the document if it is dead."
                )
            await asyncio.sleep(_POLL_S * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret

    async def _keep(self) -> None:
        lock, loop = self._lock, asyncio.get_running_loop()
        alive, beat = loop.time(), 0
        while not await self._ended_within(lock.lease_s / 3):
            beat += 1
            try:
                kept = await lock.locks.update_one({"_id": lock.name, "owner": self._owner}, {"$set": {"beat": beat}})
            except PyMongoError:
                if loop.time() - alive < lock.lease_s:
                    continue
            else:
                if kept.matched_count:
                    alive = loop.time()
                    continue
            self._lost = True
            if self._caller is not None and not self._ended.is_set():
                self._caller.cancel()
            return

    async def _ended_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        return self._ended.is_set()
