"""Tokens that stop before they expire: kept in the database, announced to all processes, known without asking."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import structlog

from base04_builtin.jwt.claims import IssueClock
from base04_builtin.jwt.live_revocations import LiveRevocations, Revocation, revocation_of
from base04_builtin.jwt.pulse import Pulse
from base04_builtin.jwt.settings import JWTSettings
from base04_builtin.jwt.tables import REVOCATIONS, SKEW, sweep_expired
from base04_hookspecs.database import DatabaseManager, Operation
from base04_hookspecs.errors import Base04Error, ManagerUnavailable
from base04_hookspecs.redis import RedisManager, key_name

log = structlog.get_logger()

CHANNEL: Final = key_name("jwt", "revocations")

_READ_TIMEOUT: Final = 5.0
_FIRST_READ_TIMEOUT: Final = 30.0
"""The first one may have to load the database layer, which takes seconds on a machine that is busy."""

_PUBLISH_TIMEOUT: Final = 1.0
_RESYNC: Final = 10.0
_LOOK: Final = 0.7
"""How often the newest entries are looked at, as a part of ``revocation_max_age``."""

_NEWEST: Final = 15.0
"""How old an entry that such a look finds may be, in seconds: what clocks differ by and a commit takes."""

_RETRY: Final = 0.25
_FIRST_READ: Final = 0.5
"""How many seconds after the start revocations are read, where no token came earlier."""

_ON_THE_WAY: Final = 0.1
"""The part of ``revocation_max_age`` that is left for messages which a cluster's nodes hand on to one another."""


class RevocationList:
    """The revocations that still matter, in memory, true to the database.

    ``known_until`` is until when this process may answer from memory. Two things move it on: a read of the database,
    which shows all that was committed before it began, and a heartbeat that came through the channel, before which all
    came that was announced earlier. Each is good for ``revocation_max_age`` seconds. After a gap in the channel
    heartbeats prove nothing until the database has been read again. A check with older knowledge reads the database
    first, and where that fails too, ``on_unknown`` decides.

    Beside that it looks at the newest entries of the database before they are a second old. That proves nothing, but
    finds what was revoked by a process that cannot announce it and that was never heard here, or not for a long time.

    What this process revokes is in effect when ``add`` returns.
    """

    def __init__(
        self,
        settings: JWTSettings,
        database: DatabaseManager,
        redis: RedisManager,
        clock: IssueClock,
        *,
        steady: Callable[[], float] = time.monotonic,
        key_version: Callable[[], int] = lambda: 0,
        newer_keys: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._redis = redis
        self._clock = clock
        self._steady = steady
        self._key_version = key_version
        self._newer_keys = newer_keys
        self.live = LiveRevocations()
        self.known_until = float("-inf")
        self.accepted_blindly = 0
        self._as_of = float("-inf")
        self._heard_at = float("-inf")
        self._watermark: float | None = None
        self._pulse = Pulse()
        self._gaps = self._healed = 0
        self._unannounced = 0
        self._faults: set[str] = set()
        self._reading = asyncio.Lock()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def __len__(self) -> int:
        return len(self.live)

    @property
    def is_fed(self) -> bool:
        """Whether news come through the channel: the last heartbeat that did was sent not long ago."""
        patience = max(self._settings.revocation_max_age, 4 * self._settings.heartbeat_interval)
        return self._gaps == self._healed and self._heard_at + patience >= self._steady()

    async def start(self) -> None:
        """Listen, and begin to send heartbeats; revocations are read with the first token, or soon.

        Reading them at once would make every start wait for a database layer that the first request may not need.
        """
        await self._redis.subscribe(CHANNEL, self._on_message, on_gap=self._on_gap)
        self._tasks.append(asyncio.create_task(self._read_soon(), name="jwt-revocations"))
        self._heard_at = self._steady()  # the first heartbeat is not overdue yet
        await self._send_beat()
        for work in (self._beat(), self._heal()):
            self._tasks.append(asyncio.create_task(work, name="jwt-revocations"))

    async def stop(self) -> None:
        """Listen no more, and say so."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if tasks and not self._unannounced:
            await self._publish({"type": "bye", "from": self._pulse.name})
        with suppress(Base04Error):  # a bus that is away delivers nothing either
            await self._redis.unsubscribe(CHANNEL, self._on_message)

    async def ensure_known(self) -> None:
        """Return when it is known what is revoked, or need not be.

        Raises:
            ManagerUnavailable: it cannot be known.
        """
        now = self._steady()
        if now <= self.known_until:
            return
        try:
            await self._read(now)
        except Base04Error as error:
            if self._settings.on_unknown == "refuse":
                raise ManagerUnavailable("Whether the token is revoked cannot be known just now: try again.") from error
            self._note("tokens are accepted though revocations are unknown", error)
            self.accepted_blindly += 1

    async def add(self, revocation: Revocation, *further: Operation) -> None:
        """Store a revocation together with further operations; it is in effect when this returns.

        It is announced when it is stored. Where that fails, other processes ask the database from when they miss the
        heartbeats of this one, which it does not send before the announcement is made up for.
        """
        row = {"revoked_at": self._clock.now(), "cutoff": revocation.cutoff, "expires_at": revocation.expires_at}
        upsert: Operation = {
            "type": "upsert",
            "table": REVOCATIONS.name,
            "where": {"entry": revocation.entry},
            "data": row,
        }
        stored = announced = False
        try:
            await self._database.execute_transaction([*further, upsert])
            stored = True
            self.live.merge(revocation)
            announced = await self._publish({"type": "revoked", "entry": revocation.entry, **row})
        finally:  # also where the answer of the database was lost, or the call cancelled
            if not stored:
                self._lose()
            if not announced:
                self._unannounced += 1

    def next_cutoff(self, kind: str, value: str) -> float:
        """Return a time after which tokens of a user or a source are new, later than that of any revocation before."""
        before = self.live.cutoff(kind, value)
        now = self._clock.tick()
        return now if before is None else max(now, before + 1e-6)

    async def sweep(self) -> int:
        """Remove what stops no token any more, and return how many rows that were."""
        now = self._clock.now()
        self.live.drop_expired(now)
        return await sweep_expired(self._database, REVOCATIONS, now - SKEW)

    async def _read(self, needed: float) -> None:
        """Read what was revoked lately, unless somebody has done so since ``needed`` less the age that is borne."""
        async with self._reading:
            if self._as_of >= needed - self._settings.revocation_max_age and self._as_of > float("-inf"):
                return
            await self._read_now()

    async def _read_now(self) -> None:
        began, gaps, now = self._steady(), self._gaps, self._clock.now()
        where: dict[str, Any] = {"expires_at": {"gt": now}}
        if self._watermark is not None:
            where["revoked_at"] = {"gte": self._watermark - SKEW}
        await self._take_in(where)
        self._watermark = now
        self._faults -= {"revocations cannot be read", "tokens are accepted though revocations are unknown"}
        self._healed = max(self._healed, gaps)
        self._learn(began)

    async def _look(self) -> None:
        now = self._clock.now()
        try:
            await self._take_in({"expires_at": {"gt": now}, "revoked_at": {"gte": now - _NEWEST}})
        except Base04Error as error:
            self._note("revocations cannot be read", error)

    async def _take_in(self, where: dict[str, Any]) -> None:
        patience = _FIRST_READ_TIMEOUT if self._watermark is None else _READ_TIMEOUT
        try:
            async with asyncio.timeout(patience):
                rows = await self._database.find(REVOCATIONS.name, where)
        except TimeoutError as error:
            raise ManagerUnavailable(f"The revocations could not be read within {patience:g} s.") from error
        for row in rows:
            revocation = revocation_of(row["entry"], row["cutoff"], row["expires_at"])
            if revocation is not None:
                self.live.merge(revocation)

    def _learn(self, as_of: float) -> None:
        self._as_of = max(self._as_of, as_of)
        self.known_until = self._as_of + self._settings.revocation_max_age

    def _hear(self, as_of: float) -> None:
        self._heard_at = max(self._heard_at, as_of)
        self._learn(as_of - _ON_THE_WAY * self._settings.revocation_max_age)

    async def _on_message(self, channel: str, message: Any) -> None:
        kind = message.get("type") if isinstance(message, dict) else None
        if kind == "beat":
            self._on_beat(message)
        elif kind == "revoked":
            revocation = revocation_of(message.get("entry"), message.get("cutoff"), message.get("expires_at"))
            if revocation is None:
                self._lose()
            else:
                self.live.merge(revocation)
        elif kind == "bye":
            self._pulse.forget(message.get("from"))
        elif kind == "resync" and message.get("from") == self._pulse.name:
            pass  # it says that this process has not announced something, which it knows itself
        else:
            self._lose()

    def _on_beat(self, message: dict[str, Any]) -> None:
        as_of = self._pulse.hear(message, self._steady())
        if as_of is not None and self._gaps == self._healed:
            if self._watermark is None:  # before the first read, news add to nothing
                self._heard_at = max(self._heard_at, as_of)
            else:
                self._hear(as_of)
        version = message.get("keys")
        if isinstance(version, int) and version > self._key_version():
            self._newer_keys()

    async def _on_gap(self, channel: str) -> None:
        self._lose()

    def _lose(self) -> None:
        """Something may have been missed: read the database before heartbeats count again."""
        self._gaps += 1
        self._wake.set()

    async def _read_soon(self) -> None:
        await asyncio.sleep(_FIRST_READ)
        self._wake.set()

    async def _heal(self) -> None:
        """Read the database after each gap, and now and then; look at its newest entries in between."""
        loop = asyncio.get_running_loop()
        every = min(_RESYNC, _LOOK * self._settings.revocation_max_age or _RESYNC)
        due = loop.time() + _RESYNC
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(every, max(0.0, due - loop.time()))):
                    await self._wake.wait()
            if not self._wake.is_set() and loop.time() < due:
                await self._look()
                continue
            self._wake.clear()
            due = loop.time() + _RESYNC
            try:
                async with self._reading:
                    await self._read_now()
            except Base04Error as error:
                self._note("revocations cannot be read", error)
                if self._gaps != self._healed:
                    self._wake.set()
                    await asyncio.sleep(_RETRY)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._settings.heartbeat_interval)
            await self._send_beat()

    async def _send_beat(self) -> None:
        behind = self._unannounced
        if behind:
            if not await self._publish({"type": "resync", "from": self._pulse.name}):
                return
            self._unannounced -= behind
        await self._publish({**self._pulse.beat(self._steady()), "keys": self._key_version()})

    async def _publish(self, message: dict[str, Any]) -> bool:
        try:
            async with asyncio.timeout(_PUBLISH_TIMEOUT):
                await self._redis.publish(CHANNEL, message)
        except (Base04Error, TimeoutError) as error:
            self._note("revocations cannot be announced", error)
            return False
        self._faults.discard("revocations cannot be announced")
        return True

    def _note(self, fault: str, error: Exception) -> None:
        if fault not in self._faults:  # once for each outage
            log.warning(fault, error=str(error) or type(error).__name__)
        self._faults.add(fault)
