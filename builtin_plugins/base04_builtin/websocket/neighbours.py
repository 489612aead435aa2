"""The other processes: which of them live, and who is in rooms there."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import Any, Final

import structlog

from base04_builtin.websocket.bus import Bus
from base04_builtin.websocket.lease_script import RENEW_LEASE
from base04_builtin.websocket.presence import Presence
from base04_hookspecs.errors import Base04Error
from base04_hookspecs.redis import RedisManager, key_name

LEASES: Final = key_name("websocket", "leases")

_FLUSH_S: Final = 0.02
_RETRY_S: Final = 0.5
_FIRST_ANSWERS_S: Final = 1.0
_LEASE_PART: Final = 0.7  # of the setting, so that with the pause between two looks a death is noticed within it
_BEATS: Final = 4

_log = structlog.get_logger()


@dataclass(slots=True)
class _Neighbour:
    """A process. ``version`` counts what it said, as far as this process has heard all of it; None asks for all.

    ``heard_at`` is when it spoke last; ``listed`` is the version that its lease had at the last look.
    """

    heard_at: float
    version: int | None = None
    listed: int = -1


class Neighbours:
    """Tells the other processes who is here, and keeps what they tell.

    Each process says what changes, numbered, on the bus, and holds a lease with its number in the ``redis`` role.
    Whoever finds a number that it has not heard asks for everything. A process whose lease has ended is forgotten;
    where all leases were lost, those that were known have as long as a lease to come back.
    """

    def __init__(self, presence: Presence, redis: RedisManager, bus: Bus, node: str, lease: float) -> None:
        self.failures = 0
        self._presence = presence
        self._redis = redis
        self._bus = bus
        self._node = node
        self._lease = lease
        self._version = 0
        self._changed: set[tuple[str, str]] = set()
        self._snapshot_due = False
        self._wake = asyncio.Event()
        self._known: dict[str, _Neighbour] = {}
        self._answered = asyncio.Event()
        self._epoch = ""
        self._tasks: list[asyncio.Task[None]] = []

    def __len__(self) -> int:
        return len(self._known)

    async def start(self) -> None:
        """Take a lease, ask who is there, and wait a moment for the answers.

        Raises:
            ManagerUnavailable: the store cannot be reached.
        """
        await self._renew()
        await self._bus.say({"sync": "*"})
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._flush(), name="websocket presence"),
            loop.create_task(self._beat(), name="websocket lease"),
        ]
        try:
            async with asyncio.timeout(_FIRST_ANSWERS_S):
                while any(neighbour.version is None for neighbour in self._known.values()):
                    self._answered.clear()
                    await self._answered.wait()
        except TimeoutError:
            _log.info("websocket presence of some processes is not known yet")

    async def stop(self) -> None:
        """Give the lease up, and say so."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if tasks:
            try:
                async with asyncio.timeout(_RETRY_S):
                    await self._bus.say({"bye": True})
                    await self._redis.run_script(RENEW_LEASE, [LEASES], ("-", self._node, 0, 0))
            except (Base04Error, TimeoutError) as error:
                _log.info("websocket lease ends by itself", error=str(error))

    def moved(self, room: str, user: str, by: int) -> None:
        """Learn that a user has one connection more or less in a room of this process."""
        self._presence.put(self._node, room, user, self._presence.count(self._node, room, user) + by)
        self._changed.add((room, user))
        self._wake.set()

    def heard(self, node: str, message: dict[str, Any]) -> None:
        """Take what another process says."""
        if "sync" in message:
            if message["sync"] in ("*", self._node):  # all hear what is asked of one
                self._snapshot_due = True
                self._wake.set()
        elif message.get("bye"):
            self._forget(node)
        else:
            self._take(node, message)

    def missed(self) -> None:
        """Learn that something may not have been heard, nor what was said here."""
        for neighbour in self._known.values():
            neighbour.version = None
        self._snapshot_due = True
        self._wake.set()

    def _take(self, node: str, message: dict[str, Any]) -> None:
        version, entries = message.get("version"), _entries(message.get("entries"))
        if not isinstance(version, int) or entries is None:
            _log.warning("what another process said of presence is not understood", node=node)
            return
        neighbour = self._known.setdefault(node, _Neighbour(0.0))
        neighbour.heard_at = asyncio.get_running_loop().time()
        if message.get("all"):
            self._presence.replace(node, entries)
        elif neighbour.version is None or version > neighbour.version + 1:
            neighbour.version = None
            self._wake.set()
            return
        elif version <= neighbour.version:
            return
        else:
            for (room, user), count in entries.items():
                self._presence.put(node, room, user, count)
        neighbour.version = version
        self._answered.set()

    def _forget(self, node: str) -> None:
        if self._known.pop(node, None) is not None:
            self._presence.replace(node, {})
            self._answered.set()

    async def _flush(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(_FLUSH_S)
            self._wake.clear()
            try:
                await self._say_changes()
                for node in [node for node, known in self._known.items() if known.version is None]:
                    await self._bus.say({"sync": node})
            except Base04Error as error:
                self._fail(error)
                self._snapshot_due = True
                await asyncio.sleep(_RETRY_S)
                self._wake.set()

    async def _say_changes(self) -> None:
        snapshot, self._snapshot_due = self._snapshot_due, False
        changed, self._changed = self._changed, set()
        if not snapshot and not changed:
            return
        self._version += 1
        entries = (
            [[room, user, count] for room, user, count in self._presence.of(self._node)]
            if snapshot
            else [[room, user, self._presence.count(self._node, room, user)] for room, user in changed]
        )
        await self._bus.say({"version": self._version, "all": snapshot, "entries": entries})

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._lease / _BEATS)
            try:
                async with asyncio.timeout(self._lease / _BEATS):
                    await self._renew()
            except (Base04Error, TimeoutError) as error:
                self._fail(error)
                self._epoch = ""  # leases may have ended only because nobody could renew them

    async def _renew(self) -> None:
        life = round(1000 * self._lease * _LEASE_PART)
        epoch, *others = await self._redis.run_script(
            RENEW_LEASE, [LEASES], (secrets.token_urlsafe(9), self._node, self._version, life)
        )
        now = asyncio.get_running_loop().time()
        leases_were_lost, self._epoch = epoch != self._epoch, epoch
        for other in others:
            node, _, version = other.rpartition(":")
            self._listed(node, int(version), now)
        listed = {other.rpartition(":")[0] for other in others}
        for node, neighbour in list(self._known.items()):
            if node in listed:
                continue
            if leases_were_lost:
                neighbour.heard_at = now
            elif now - neighbour.heard_at >= self._lease * _LEASE_PART:
                _log.info("websocket process is gone", node=node)
                self._forget(node)

    def _listed(self, node: str, version: int, now: float) -> None:
        neighbour = self._known.setdefault(node, _Neighbour(now))
        if neighbour.version is not None and neighbour.version < neighbour.listed:
            neighbour.version = None  # what it had said by the last look has not come since
        if neighbour.version is None:
            self._wake.set()
        neighbour.listed = version

    def _fail(self, error: Exception) -> None:
        self.failures += 1
        _log.debug("websocket presence cannot be told", error=str(error))


def _entries(value: Any) -> dict[tuple[str, str], int] | None:
    if not isinstance(value, list):
        return None
    entries: dict[tuple[str, str], int] = {}
    for entry in value:
        match entry:
            case [str(room), str(user), int(count)]:
                entries[room, user] = count
            case _:
                return None
    return entries
