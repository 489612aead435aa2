"""A bounded pool of connections with one set of credentials."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog

from base04_builtin.database.postgresql.session import PostgresSession
from base04_hookspecs.database import PoolStatus
from base04_hookspecs.errors import ManagerUnavailable

log = structlog.get_logger()

T = TypeVar("T")

_CLOSE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How many connections, and how long each may do what. Times are in seconds."""

    size: int
    wait_s: float
    idle_s: float
    ping_after_s: float
    recycle_s: float


class Pool:
    """At most ``limits.size`` sessions, the one used last given out first.

    A session that comes back in the middle of something (its user was cancelled, or the server fell silent) is put in
    order by a task of the pool and takes up its place until then, so that nothing is left running on the server
    unseen, and nobody who is cancelled has to wait for that.

    Args:
        name: for messages.
        limits: how many, and for how long.
        open_session: opens a session.
    """

    def __init__(self, name: str, limits: PoolLimits, open_session: Callable[[], Awaitable[PostgresSession]]) -> None:
        self.name = name
        self.waiting = 0
        self._limits = limits
        self._open_session = open_session
        self._free = asyncio.Semaphore(limits.size)
        self._taken = 0
        self._idle: list[PostgresSession] = []
        self._sessions: set[PostgresSession] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._openings: set[asyncio.Task[PostgresSession]] = set()
        self._reaper: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._sessions)

    def status(self) -> PoolStatus:
        """Return the use of the pool."""
        return {
            "size": self._limits.size,
            "in_use": self._taken,
            "idle": len(self._idle),
            "waiting": self.waiting,
        }

    async def acquire(self) -> PostgresSession:
        """Return a session that works; give it back with ``release``.

        Raises:
            ManagerUnavailable: none became free in time, the server cannot be reached, or the pool is closed.
            ConfigurationError: the server refuses us.
        """
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()  # at once: nobody waits
        self._taken += 1
        try:
            if self._closed:
                raise ManagerUnavailable("The database manager is not running: it was stopped or never started.")
            session = await self._take()
        except BaseException:
            self._give_up_place()
            raise
        return session if session is not None else await self._opened()

    def release(self, session: PostgresSession) -> None:
        """Take a session back, in whatever condition it is."""
        if session.usable and not self._closed:
            self._keep(session)
        else:
            self._spawn(self._mend(session))

    async def close(self) -> None:
        """Let what was begun finish, for a moment, and close all connections. Safe to repeat."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
        try:
            async with asyncio.timeout(_CLOSE_S):
                for _ in range(self._limits.size):
                    await self._free.acquire()
        except TimeoutError:
            log.warning("connections still in use are cut off", pool=self.name, in_use=self._taken)
            for opening in self._openings:
                opening.cancel()
            for session in self._sessions.difference(self._idle):
                session.terminate()
        finally:
            for _ in range(self._limits.size):
                self._free.release()  # whoever still waits is told that the pool is closed
        idle, self._idle = self._idle, []
        for session in idle:
            self._spawn(self._dismiss(session))
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _wait(self) -> None:
        self.waiting += 1
        try:
            async with asyncio.timeout(self._limits.wait_s):
                await self._free.acquire()
        except TimeoutError as error:
            raise ManagerUnavailable(
                f"No {self.name} connection to the database became free within {self._limits.wait_s:g} seconds."
            ) from error
        finally:
            self.waiting -= 1

    async def _take(self) -> PostgresSession | None:
        """Return an idle session that works, None where there is none."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            session = self._idle.pop()
            if session.closed or now - session.opened_at > self._limits.recycle_s:
                self._spawn(self._dismiss(session))
            elif now - session.used_at < self._limits.ping_after_s or await self._answers(session):
                return session
            else:
                self._hang_up()
        return None

    async def _opened(self) -> PostgresSession:
        """Open a session. One whose caller is cancelled meanwhile is opened to the end, for whoever comes next."""
        opening = self._spawn(self._open())
        self._openings.add(opening)
        opening.add_done_callback(self._openings.discard)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            self._spawn(self._adopt(opening))
            raise
        except BaseException:
            self._give_up_place()
            raise

    async def _open(self) -> PostgresSession:
        session = await self._open_session()
        self._sessions.add(session)
        return session

    async def _adopt(self, opening: asyncio.Task[PostgresSession]) -> None:
        try:
            session = await opening
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whoever wanted it has gone
            log.info("connection not opened", pool=self.name, reason=type(error).__name__)
            self._give_up_place()
        else:
            self.release(session)

    def _hang_up(self) -> None:
        """Give up all idle connections: one that did not answer is seldom the only one."""
        idle, self._idle = self._idle, []
        for session in idle:
            session.terminate()
            self._sessions.discard(session)

    async def _answers(self, session: PostgresSession) -> bool:
        answered = False
        try:
            answered = await session.answers()
        finally:
            if not answered:
                session.terminate()
                self._sessions.discard(session)
        return answered

    def _keep(self, session: PostgresSession) -> None:
        loop = asyncio.get_running_loop()
        session.used_at = loop.time()
        self._idle.append(session)
        if self._reaper is None:
            self._reaper = loop.call_later(self._limits.idle_s, self._reap)
        self._give_up_place()

    def _give_up_place(self) -> None:
        self._taken -= 1
        self._free.release()

    async def _mend(self, session: PostgresSession) -> None:
        """Put a session in order that was given back in the middle of something, or close it."""
        try:
            if not (session.spent or session.closed or self._closed):
                await session.recover()
        except Exception as error:  # noqa: BLE001 - whatever it is, the session is of no use
            log.info("connection given up", pool=self.name, reason=type(error).__name__)
            session.terminate()
        if session.usable and not self._closed:
            self._keep(session)
            return
        try:
            await self._dismiss(session)
        finally:
            self._give_up_place()

    async def _dismiss(self, session: PostgresSession) -> None:
        try:
            await session.close()
        finally:
            self._sessions.discard(session)

    def _reap(self) -> None:
        """Close what nobody has used for long, and come again when the next one is due."""
        loop = asyncio.get_running_loop()
        self._reaper = None
        due = loop.time() - self._limits.idle_s
        while self._idle and self._idle[0].used_at <= due:
            self._spawn(self._dismiss(self._idle.pop(0)))
        if self._idle and not self._closed:
            self._reaper = loop.call_at(self._idle[0].used_at + self._limits.idle_s, self._reap)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
