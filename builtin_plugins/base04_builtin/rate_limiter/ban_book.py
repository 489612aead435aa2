"""The bans that this process knows: fed from the database, brought back to where they are looked up."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog

from base04_builtin.rate_limiter.ban_keys import BanKeys, ban_from_now, now_ms
from base04_builtin.rate_limiter.ban_table import SKEW_S, BanTable, StoredBan
from base04_builtin.rate_limiter.identifiers import Subject
from base04_builtin.rate_limiter.replies import Ban
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.errors import Base04Error, ManagerUnavailable, OutcomeUnknown
from base04_hookspecs.redis import RedisManager, key_name

log = structlog.get_logger()

CHANNEL: Final = key_name("rate_limiter", "bans")

_AT_ONCE: Final = 200
_MOST_WAITING: Final = 10_000
_RETRY_S: Final = 0.5
_SWEEP_EVERY: Final = 100


class BanBook:
    """Keeps bans in the database, in memory, and where a check script looks them up: at keys of the ``redis`` role.

    The database is the truth. The keys are written from it at the start, after every gap and every ``sync_s``
    seconds; each process also holds the bans in memory, at most ``size``. So a ban is found missing when somebody
    whom this process knows to be banned gets through the script, and it holds where nothing can be counted at all.
    """

    def __init__(self, database: DatabaseManager, redis: RedisManager, *, size: int, sync_s: float) -> None:
        self._table = BanTable(database)
        self._redis = redis
        self._keys = BanKeys()
        self._size = size
        self._sync_s = sync_s
        self.live: dict[str, Ban] = {}
        """The bans that are known, by entry; those that have ended among them, until the next time they are read."""
        self.dropped = 0
        self._ending: OrderedDict[str, None] = OrderedDict()
        self._recording: deque[tuple[Subject, Ban]] = deque()
        self._storing = asyncio.Lock()
        self._watermark = 0.0
        self._lost = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._faulty = False

    @property
    def waiting(self) -> int:
        """How many automatic bans are not stored yet."""
        return len(self._recording)

    async def start(self, keys: BanKeys) -> None:
        """Read the bans that hold, bring them back to their keys, and listen for those of other processes."""
        self._keys = keys
        await self._table.prepare()
        await self._redis.subscribe(CHANNEL, self._on_message, on_gap=self._on_gap)
        await self._read_all()
        await self._restore()
        self._task = asyncio.create_task(self._run(), name="rate-limiter-bans")

    async def stop(self) -> None:
        """Store the automatic bans that wait, and end."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        try:
            await self._record()
        except Base04Error as error:
            self.dropped += len(self._recording)
            log.warning("automatic bans lost", bans=len(self._recording), error=str(error))
        with suppress(Base04Error):  # a bus that is away delivers nothing either
            await self._redis.unsubscribe(CHANNEL, self._on_message)

    async def ban(self, subjects: Sequence[Subject], life_ms: int, reason: str) -> None:
        """Ban subjects; it is in effect, and stored, when this returns.

        Where the ``redis`` role is away it is in effect in this process, and everywhere once that is back.
        """
        try:
            ban = await self._keys.put(subjects, life_ms, reason)
        except (ManagerUnavailable, OutcomeUnknown):
            ban = ban_from_now(life_ms, reason)
            self.lose()
        await self._table.put([(subject, ban) for subject in subjects], automatic=False)
        for subject in subjects:
            self._know(subject.entry, ban)
        await self._announce()

    async def unban(self, subjects: Sequence[Subject]) -> bool:
        """Lift the bans of subjects, durably; False where there were none."""
        entries = [subject.entry for subject in subjects]
        try:
            lifted, now = await self._keys.lift(entries)
        except (ManagerUnavailable, OutcomeUnknown):
            lifted, now = 0, now_ms()
            self.lose()
        async with self._storing:  # so that none of them is stored after it was lifted
            waiting = [one for one in self._recording if one[0].entry in entries]
            for one in waiting:
                self._recording.remove(one)
            lifted += len(waiting) + await self._table.lift(entries, now / 1000)
        for entry in entries:
            self._forget(entry)
        await self._announce()
        return lifted > 0

    def note(self, subject: Subject, ban: Ban) -> None:
        """Take in an automatic ban, which is in effect already, and store it soon. Never blocks and never fails."""
        self._know(subject.entry, ban)
        if len(self._recording) >= _MOST_WAITING:
            self.dropped += 1
            return
        self._recording.append((subject, ban))
        self._wake.set()

    async def bring_back(self, entry: str) -> bool:
        """Look at a ban that is known here and was not found at its key: write it again, or forget it.

        Returns whether it holds. What the database cannot tell, memory does.
        """
        known = self.live.get(entry)
        try:
            stored = await self._table.get(entry)
        except Base04Error:
            stored = None
        if stored is not None:
            self._learn(stored)
        elif known is None:
            return False
        ban = self.live.get(entry)
        if ban is None:
            return False
        return await self._keys.restore({entry: ban}) > 0

    def lose(self) -> None:
        """The keys may have been lost, or not written: bring all bans back."""
        self._lost = True
        self._wake.set()

    def _know(self, entry: str, ban: Ban) -> None:
        self._forget(entry)
        self.live[entry] = ban
        if ban.until_ms:
            self._ending[entry] = None  # the newest is the last
        if len(self.live) > self._size:  # a flood of bans that end pushes out none that has no end
            self._forget(next(iter(self._ending or self.live)))

    def _forget(self, entry: str) -> None:
        self.live.pop(entry, None)
        self._ending.pop(entry, None)

    def _learn(self, stored: StoredBan) -> None:
        known = self.live.get(stored.entry)
        if known is not None and known.since_ms > stored.changed_at * 1000:
            return
        if stored.lifted:
            self._forget(stored.entry)
        elif known is None or known.since_ms < stored.ban.since_ms:
            self._know(stored.entry, stored.ban)

    async def _announce(self) -> None:
        with suppress(Base04Error):  # others read the database every now and then
            await self._redis.publish(CHANNEL, {"type": "changed"})

    async def _on_message(self, channel: str, message: Any) -> None:
        self._wake.set()

    async def _on_gap(self, channel: str) -> None:
        self.lose()

    async def _run(self) -> None:
        rounds = 0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._sync_s):
                    await self._wake.wait()
            overdue = not self._wake.is_set()
            self._wake.clear()
            rounds += 1
            await self._attempt(self._record)
            await self._attempt(self._read_changes)
            if self._lost or overdue:
                await self._attempt(self._restore)
            if rounds % _SWEEP_EVERY == 1:
                await self._attempt(self._sweep)
            if self._wake.is_set():
                await asyncio.sleep(0.25)  # a flood of news is read in batches

    async def _attempt(self, step: Callable[[], Awaitable[object]]) -> None:
        try:
            await step()
        except Base04Error as error:
            if not self._faulty:
                log.warning("bans cannot be synchronised", error=str(error))
            self._faulty = True
            await asyncio.sleep(_RETRY_S)
            self._wake.set()
        else:
            self._faulty = False

    async def _record(self) -> None:
        """Store the automatic bans that wait."""
        while self._recording:
            async with self._storing:
                some = [self._recording[number] for number in range(min(_AT_ONCE, len(self._recording)))]
                newest = {subject.entry: (subject, ban) for subject, ban in some}
                await self._table.put(list(newest.values()), automatic=True)
                for _ in some:
                    self._recording.popleft()
            await self._announce()

    async def _read_all(self) -> None:
        began = time.time()
        for stored in reversed(await self._table.live(began - SKEW_S, self._size)):
            self._know(stored.entry, stored.ban)
        self._watermark = began

    async def _read_changes(self) -> None:
        began = time.time()
        changes = await self._table.changed_since(self._watermark - SKEW_S)
        for stored in changes:
            self._learn(stored)
            if stored.lifted:
                await self._keys.lift([stored.entry], round(stored.changed_at * 1000))
        self._watermark = began
        ended = [entry for entry, ban in self.live.items() if not ban.holds((began - SKEW_S) * 1000)]
        for entry in ended:
            self._forget(entry)

    async def _restore(self) -> None:
        """Write every ban that holds to its key, where it is not."""
        self._lost = False
        try:
            await self._keys.restore(self.live)
        except BaseException:
            self._lost = True
            raise

    async def _sweep(self) -> None:
        await self._table.sweep(time.time())
