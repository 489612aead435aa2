"""Delivering to one durable callback: at least once, in order of version for each state, while this process may."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import Any, Final

import structlog

from base04_builtin.callbacks import call, describe, is_cancellation, qualified_name
from base04_builtin.state.leases import Lease
from base04_builtin.state.settings import StateSettings
from base04_builtin.state.store import StateStore
from base04_builtin.state.tables import DELIVERIES
from base04_hookspecs.database import Operation
from base04_hookspecs.errors import ManagerError
from base04_hookspecs.state import StateCallback, StateChange

log = structlog.get_logger()

_AT_ONCE: Final = 200
_STATES_AT_ONCE: Final = 8
_LONGEST_PAUSE_S: Final = 300.0
_GRACE_S: Final = 5.0

Row = dict[str, Any]


class Consumer:
    """Takes what waits for a name, and hands it to its callback.

    States are independent of each other: one that fails holds up none but itself, until its change is parked.
    """

    def __init__(
        self, name: str, pattern: str, callback: StateCallback, store: StateStore, lease: Lease, settings: StateSettings
    ) -> None:
        self.name, self.pattern, self.callback = name, pattern, callback
        self.failures = 0
        self._store, self._database, self._lease, self._settings = store, store.database, lease, settings
        self._wake = asyncio.Event()
        self._next_due: float | None = None
        self._stopping = False
        self._faulty = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin with what waits already."""
        self._wake.set()
        self._task = asyncio.create_task(self._run(), name=f"state-callback-{self.name}")

    def wake(self) -> None:
        """Look again: there may be something new."""
        self._wake.set()

    async def stop(self) -> None:
        """Let what is being delivered end, though not for ever, and let others take over."""
        self._stopping = True
        self._wake.set()
        task, self._task = self._task, None
        if task is None:
            return
        await asyncio.wait([task], timeout=_GRACE_S)
        task.cancel()
        await asyncio.wait([task])
        try:
            await self._lease.release()
        except ManagerError as error:
            log.info("a lease ends by itself", callback=self.name, error=str(error))

    async def _run(self) -> None:
        while not self._stopping:
            try:
                if await self._waiting(limit=1) and await self._lease.hold():
                    await self._drain()
            except ManagerError as error:
                if not self._faulty:
                    log.warning("changes of states cannot be delivered", callback=self.name, error=str(error))
                self._faulty = True
            else:
                self._faulty = False
            await self._rest()

    async def _rest(self) -> None:
        longest = min(self._settings.poll_interval, self._settings.lease / 3)
        if self._next_due is not None:
            longest = min(longest, max(0.0, self._next_due - time.time()))
        try:
            async with asyncio.timeout(longest):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wake.clear()

    async def _drain(self) -> None:
        keeping = asyncio.create_task(self._keep())
        try:
            while not self._stopping and self._lease.held and await self._deliver_some():
                pass
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])

    async def _keep(self) -> None:
        """Renew the lease while callbacks run."""
        while True:
            await asyncio.sleep(self._settings.lease / 6)
            try:
                if not await self._lease.hold():
                    return
            except ManagerError as error:
                log.info("a lease could not be renewed", callback=self.name, error=str(error))

    async def _deliver_some(self) -> bool:
        """Deliver what can be delivered now, and tell whether that was anything."""
        self._next_due = None
        offset = 0
        while True:
            rows = await self._waiting(offset=offset)
            by_state: dict[str, list[Row]] = defaultdict(list)
            for row in rows:
                by_state[row["state_id"]].append(row)
            ready = [group for group in by_state.values() if self._is_due(group[0])]
            if ready:
                turns = asyncio.Semaphore(_STATES_AT_ONCE)
                done = await asyncio.gather(
                    *(self._deliver_state(group, turns) for group in ready), return_exceptions=True
                )
                for failure in done:
                    if isinstance(failure, BaseException):
                        raise failure
                return any(done)
            if len(rows) < _AT_ONCE:
                return False
            offset += len(rows)

    async def _waiting(self, limit: int = _AT_ONCE, offset: int = 0) -> list[Row]:
        where = {"name": self.name, "parked": False}
        return await self._database.find(DELIVERIES.name, where, ["version"], limit, offset=offset)

    def _is_due(self, row: Row) -> bool:
        if row["due"] <= time.time():
            return True
        self._next_due = row["due"] if self._next_due is None else min(self._next_due, row["due"])
        return False

    async def _deliver_state(self, rows: list[Row], turns: asyncio.Semaphore) -> bool:
        """Deliver changes of one state in order, up to one that fails; tell whether anything came of it."""
        state_id = rows[0]["state_id"]
        async with turns:
            changes = await self._store.entries(state_id, [row["version"] for row in rows])
            parked = await self._parked(state_id)
            for row in rows:
                change = changes.get(row["version"])
                if change is None or self._stopping or not self._lease.held:
                    return row is not rows[0]  # one that is not in the history yet will be
                gap = [version for version in parked if version < row["version"]]
                error = await self._call({**change, "gap": gap} if gap else change)
                if error is not None:
                    await self._failed(row, error)
                    return True
                await self._remove(row)
        return True

    async def _parked(self, state_id: str) -> list[int]:
        where = {"name": self.name, "state_id": state_id, "parked": True}
        rows = await self._database.find(DELIVERIES.name, where, ["version"], columns=["version"])
        return [row["version"] for row in rows]

    async def _call(self, change: StateChange) -> BaseException | None:
        try:
            async with asyncio.timeout(self._settings.callback_timeout):
                await call(self.callback, change)
        except (Exception, asyncio.CancelledError) as error:
            if is_cancellation(error):
                raise
            return error
        return None

    async def _failed(self, row: Row, error: BaseException) -> None:
        self.failures += 1
        attempts = row["attempts"] + 1
        parked = attempts >= self._settings.callback_attempts
        pause = min(_LONGEST_PAUSE_S, self._settings.callback_pause * 2 ** min(row["attempts"], 30))
        log.warning(
            "a change of a state was parked" if parked else "a change of a state was not received",
            callback=self.name,
            receiver=qualified_name(self.callback),
            state_id=row["state_id"],
            version=row["version"],
            attempts=attempts,
            error=describe(error),
        )
        data = {"attempts": attempts, "parked": parked, "due": time.time() + pause, "error": describe(error)[:1000]}
        await self._database.execute_transaction(
            [{"type": "update", "table": DELIVERIES.name, "data": data, "where": _key(row)}]
        )

    async def _remove(self, row: Row) -> None:
        operation: Operation = {"type": "delete", "table": DELIVERIES.name, "where": _key(row)}
        await self._database.execute_transaction([operation])


def _key(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in ("name", "state_id", "version")}
