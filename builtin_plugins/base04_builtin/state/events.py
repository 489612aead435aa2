"""Durable callbacks: who has subscribed, what waits for them, and the tasks that route and deliver it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any, Final, Literal

import structlog

from base04_builtin.state.arguments import check_name, check_pattern, natural
from base04_builtin.state.deliveries import Consumer
from base04_builtin.state.housekeeping import AFTER_START_S
from base04_builtin.state.leases import Lease
from base04_builtin.state.outbox import Router, deliveries_of
from base04_builtin.state.relay import Relay
from base04_builtin.state.settings import StateSettings
from base04_builtin.state.store import StateStore
from base04_builtin.state.tables import DELIVERIES, SUBSCRIPTIONS, delete_rows
from base04_builtin.state.wakeups import Wakeups
from base04_hookspecs.database import Operation
from base04_hookspecs.errors import Base04Error, Conflict, InvalidInput
from base04_hookspecs.state import StateCallback, StateEvent

log = structlog.get_logger()

_ROUTER: Final = "router"
_GATHER_S: Final = 0.02
"""How long news are gathered before they are routed together."""
_GATHER_UNWANTED_S: Final = 0.5
"""The same where nobody waits for them."""


class DurableCallbacks:
    """Keeps subscriptions, and runs a consumer for each callback that this process has registered."""

    def __init__(self, store: StateStore, wakeups: Wakeups, settings: StateSettings, owner: str) -> None:
        self._store, self._database, self._wakeups, self._settings = store, store.database, wakeups, settings
        self._owner = owner
        self._router = Router(store.database, Relay(store.database, deliveries_of) if store.carrying else None)
        self._lease = Lease(store.database, _ROUTER, owner, settings.lease)
        self._consumers: dict[str, Consumer] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._faulty = False

    @property
    def failures(self) -> int:
        """How often callbacks of this process have failed."""
        return sum(consumer.failures for consumer in self._consumers.values())

    def start(self) -> None:
        """Begin to route."""
        self._wakeups.listen(self._heard)
        self._wake.set()
        self._task = asyncio.create_task(self._run(), name="state-router")

    async def stop(self) -> None:
        """Stop routing and delivering; what waits goes on to wait."""
        task, self._task = self._task, None
        if task is None:
            return
        self._wakeups.ignore(self._heard)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.gather(*(consumer.stop() for consumer in self._consumers.values()))
        self._consumers.clear()
        try:
            await self._lease.release()
        except Base04Error as error:
            log.info("a lease ends by itself", lease=_ROUTER, error=str(error))

    async def register(self, pattern: str, callback: StateCallback, name: str) -> bool:
        """Subscribe, and begin to deliver; False where this process does so already."""
        check_pattern(pattern)
        check_name(name)
        if not callable(callback):
            raise InvalidInput(f"The callback must be callable, and it is of type {type(callback).__name__}.")
        there = self._consumers.get(name)
        if there is not None and there.callback != callback:
            raise Conflict(f"Another callback is registered as {name!r} here: choose another name, or unregister it.")
        await self._subscribe(name, pattern)
        self._router.wanted = True
        if there is not None:
            renewed, there.pattern = there.pattern != pattern, pattern
            return renewed
        lease = Lease(self._database, f"callback:{name}", self._owner, self._settings.lease)
        consumer = self._consumers[name] = Consumer(name, pattern, callback, self._store, lease, self._settings)
        consumer.start()
        return True

    async def take_over(self, previous: DurableCallbacks) -> None:
        """Deliver to all to whom another one delivers; its leases end when it stops, and theirs begin."""
        for name, consumer in previous._consumers.items():
            await self.register(consumer.pattern, consumer.callback, name)

    async def unregister(self, pattern: str, callback: StateCallback) -> bool:
        """Deliver no more in this process; False where it did not."""
        for name, consumer in self._consumers.items():
            if consumer.callback == callback and consumer.pattern == pattern:
                del self._consumers[name]
                await consumer.stop()
                return True
        return False

    async def forget(self, name: str) -> bool:
        """End a subscription, and drop what waits for it; False where there is none."""
        consumer = self._consumers.pop(check_name(name), None)
        if consumer is not None:
            await consumer.stop()
        there = await self._database.count(SUBSCRIPTIONS.name, {"name": name})
        for table in (SUBSCRIPTIONS, DELIVERIES):
            await delete_rows(self._database, table, {"name": name})
        return there > 0

    async def events(
        self, name: str | None, status: Literal["waiting", "parked"] | None, limit: int
    ) -> list[StateEvent]:
        """Return what has not been taken in yet."""
        if status not in (None, "waiting", "parked"):
            raise InvalidInput(f"The status of events is 'waiting' or 'parked', not {status!r:.100}.")
        where: dict[str, Any] = {} if name is None else {"name": check_name(name)}
        if status is not None:
            where["parked"] = status == "parked"
        rows = await self._database.find(
            DELIVERIES.name, where, ["version", "name", "state_id"], natural(limit, "limit")
        )
        return [_event(row) for row in rows]

    async def retry(self, name: str, event_id: str) -> bool:
        """Let a parked event be delivered again."""
        data = {"parked": False, "attempts": 0, "due": time.time()}
        done = await self._on_parked(name, event_id, {"type": "update", "table": DELIVERIES.name, "data": data})
        self._wakeups.changed_all()
        return done

    async def discard(self, name: str, event_id: str) -> bool:
        """Drop a parked event."""
        return await self._on_parked(name, event_id, {"type": "delete", "table": DELIVERIES.name})

    async def _on_parked(self, name: str, event_id: str, operation: Operation) -> bool:
        where = {"name": check_name(name), "event_id": event_id, "parked": True}
        rows = await self._database.find(DELIVERIES.name, where, limit=1)
        if not rows:
            return False
        key = {column: rows[0][column] for column in DELIVERIES.primary_key} | {"parked": True}
        try:
            await self._database.execute_transaction([{**operation, "where": key, "expect": 1}])
        except Conflict:  # somebody else was quicker
            return False
        return True

    async def _subscribe(self, name: str, pattern: str) -> None:
        await self._database.execute_transaction(
            [{"type": "upsert", "table": SUBSCRIPTIONS.name, "data": {"pattern": pattern}, "where": {"name": name}}]
        )

    def _heard(self, ids: Iterable[str] | None) -> None:
        self._wake.set()
        if ids is None:
            self._wake_consumers()

    def _wake_consumers(self) -> None:
        for consumer in self._consumers.values():
            consumer.wake()

    async def _run(self) -> None:
        """Route as long as this process holds the lease; wake the consumers whoever routes."""
        await asyncio.sleep(AFTER_START_S)
        while True:
            try:
                while await self._router.has_work() and await self._lease.hold():
                    if await self._router.route_some():
                        self._wakeups.changed_all()
            except Base04Error as error:
                if not self._faulty:
                    log.warning("changes of states cannot be routed", error=str(error))
                self._faulty = True
            except Exception:
                log.exception("changes of states cannot be routed")
            else:
                self._faulty = False
            await self._rest()
            self._wake_consumers()

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(min(self._settings.poll_interval, self._settings.lease / 3)):
                await self._wake.wait()
        except TimeoutError:
            return
        await asyncio.sleep(_GATHER_S if self._router.wanted else _GATHER_UNWANTED_S)
        self._wake.clear()


def _event(row: dict[str, Any]) -> StateEvent:
    return {
        "name": row["name"],
        "event_id": row["event_id"],
        "state_id": row["state_id"],
        "version": row["version"],
        "status": "parked" if row["parked"] else "waiting",
        "attempts": row["attempts"],
        "error": row["error"],
        "due": row["due"],
    }
