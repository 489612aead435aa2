"""What happens to states without anybody asking: they expire, and their history is pruned."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog

from base04_builtin.state.commits import Committer
from base04_builtin.state.outbox import oldest_undelivered
from base04_builtin.state.settings import StateSettings
from base04_builtin.state.store import StateStore
from base04_builtin.state.tables import HISTORY, delete_rows
from base04_hookspecs.errors import Base04Error
from base04_hookspecs.redis import AtomicScript, RedisManager, ScriptStore, key_name

log = structlog.get_logger()

_AT_ONCE: Final = 200
_AGE_EVERY_S: Final = 600.0

AFTER_START_S: Final = 0.5
"""How long background work leaves to everything else that is to start."""
_LEADER: Final = key_name("state", "leader")


def _lead(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> int:
    held = store.get(keys[0])
    if held is not None and held != args[0]:
        return 0
    if args[1] == "0":
        return store.delete(keys[0])
    store.set(keys[0], args[0], int(args[1]))
    return 1


LEAD: Final = AtomicScript(
    "state.lead",
    """
    local held = redis.call('GET', KEYS[1])
    if held and held ~= ARGV[1] then return 0 end
    if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return 1
    """,
    _lead,
)
"""Let ARGV[1] lead for ARGV[2] milliseconds, 0 to lead no more, unless somebody else does."""


class Leadership:
    """One process of all that share the ``redis`` role leads; without that role each leads itself.

    Two leaders at the same moment do no harm: what a leader does is checked by version.
    """

    def __init__(self, redis: RedisManager | None, owner: str, life_s: float) -> None:
        self._redis, self._owner, self._life_ms = redis, owner, round(life_s * 1000)

    async def take(self) -> bool:
        """Lead, or go on leading, and tell whether this process does. While the role is away nobody does."""
        return self._redis is None or bool(await self._redis.run_script(LEAD, [_LEADER], [self._owner, self._life_ms]))

    async def give_up(self) -> None:
        """Let another process lead at once."""
        if self._redis is not None:
            await self._redis.run_script(LEAD, [_LEADER], [self._owner, 0])


class Housekeeping:
    """Looks every ``sweep_interval``; the leader for all states, every process for those that it has changed."""

    def __init__(
        self, store: StateStore, committer: Committer, leadership: Leadership, settings: StateSettings
    ) -> None:
        self._store, self._committer, self._leadership, self._settings = store, committer, leadership, settings
        self._grown: dict[str, None] = {}
        self._aged_at = 0.0
        self._faulty = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="state-housekeeping")

    async def stop(self) -> None:
        """End, and let another process lead."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        try:
            await self._leadership.give_up()
        except Base04Error as error:
            log.info("leadership ends by itself", error=str(error))

    def grown(self, state_id: str, version: int) -> None:
        """Note that the history of a state has become longer."""
        limit = self._settings.history_limit
        if limit is not None and version > limit:
            self._grown[state_id] = None

    async def _run(self) -> None:
        await asyncio.sleep(AFTER_START_S)
        while True:
            await self._attempt(self._prune_grown)
            await self._attempt(self._lead)
            await asyncio.sleep(self._settings.sweep_interval)

    async def _attempt(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except Base04Error as error:
            if not self._faulty:
                log.warning("states are not looked after", error=str(error))
            self._faulty = True
        except Exception:
            log.exception("states are not looked after")
        else:
            self._faulty = False

    async def _lead(self) -> None:
        if not await self._leadership.take():
            return
        while ids := await self._store.due(time.time(), _AT_ONCE):
            for state_id in ids:
                await self._committer.carry_out(state_id, lambda _: None)  # which writes the expiry first, where due
            if len(ids) < _AT_ONCE or not await self._leadership.take():
                break
        age = self._settings.history_age
        if age is not None and time.monotonic() - self._aged_at > min(age, _AGE_EVERY_S):
            await self._prune_old(time.time() - age)
            self._aged_at = time.monotonic()

    async def _prune_grown(self) -> None:
        limit = self._settings.history_limit
        if limit is None:
            return
        for state_id in list(self._grown)[:_AT_ONCE]:
            newest = await self._store.last_version(state_id)
            del self._grown[state_id]
            if not await self._prune(state_id, newest - limit, newest):
                self._grown[state_id] = None  # again later, after all others

    async def _prune_old(self, before: float) -> None:
        """Prune changes that were made before a time; the last of each state stays, so that its versions go on."""
        since: float | None = None
        while True:
            at: dict[str, Any] = {"lt": before} if since is None else {"lt": before, "gt": since}
            rows = await self._store.database.find(
                HISTORY.name, {"at": at}, ["at"], _AT_ONCE, columns=["state_id", "version", "at"]
            )
            oldest: dict[str, int] = {}
            for row in rows:
                oldest[row["state_id"]] = max(row["version"], oldest.get(row["state_id"], 0))
            for state_id, version in oldest.items():
                await self._prune(state_id, version, await self._store.last_version(state_id))
            if len(rows) < _AT_ONCE:
                return
            since = rows[-1]["at"]

    async def _prune(self, state_id: str, last: int, newest: int) -> bool:
        """Drop changes of a state up to a version, but not its newest, nor any that has not been delivered.

        Returns whether none had to stay that is to be delivered.
        """
        wanted = await oldest_undelivered(self._store.database, state_id)
        complete = wanted is None or wanted > last
        last = min(last, newest - 1, last if wanted is None else wanted - 1)
        if last > 0:
            where = {"state_id": state_id, "version": {"lte": last}}
            await delete_rows(self._store.database, HISTORY, where)
        return complete
