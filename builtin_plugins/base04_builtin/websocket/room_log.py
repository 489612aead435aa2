"""The events of rooms, counted and kept for a while, in the ``redis`` role."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from base04_builtin.websocket.policies import PolicyOf
from base04_builtin.websocket.room_log_scripts import APPEND, READ, RENEW
from base04_hookspecs.errors import ManagerUnavailable
from base04_hookspecs.redis import AtomicScript, RedisManager, key_name
from base04_hookspecs.websocket import Position

_PATIENCE_S: Final = 1.0
"""For how long events wait for a store that does not answer."""

_LEAST_LIFE_MS: Final = 86_400_000
"""For how long the log of a room in which nothing happens keeps its epoch."""


@dataclass(frozen=True, slots=True)
class Page:
    """The newest events of a room, oldest first, the last of which has ``offset``.

    ``complete`` tells that nothing is missing between what was asked for and the first.
    """

    epoch: str
    offset: int
    texts: tuple[str, ...]
    complete: bool

    @property
    def first(self) -> int:
        """The offset of the first text."""
        return self.offset - len(self.texts) + 1

    def until(self, offset: int) -> Page:
        """Return the part of it that is not newer than an offset."""
        kept = max(0, len(self.texts) - max(0, self.offset - offset))
        return Page(self.epoch, offset, self.texts[:kept], self.complete)


class RoomLog:
    """Gives every event of a room its place and keeps the newest. All methods raise ``ManagerError``."""

    def __init__(self, redis: RedisManager, policy_of: PolicyOf) -> None:
        self._redis = redis
        self._policy_of = policy_of

    async def append(self, room: str, text: str) -> tuple[str, int]:
        """Write an event and return its epoch and offset."""
        policy = self._policy_of(room)
        args = (
            _new_epoch(),
            text,
            policy.history_messages,
            policy.history_bytes,
            policy.age_ms,
            self._life(room),
        )
        epoch, offset = await self._run(APPEND, room, args)
        return epoch, offset

    async def read(self, room: str, since: Position | None = None) -> Page:
        """Return the events after a position, or all that are kept."""
        after = ("", 0) if since is None else (since["epoch"], since["offset"])
        epoch, offset, *texts = await self._run(READ, room, (_new_epoch(), *after, self._life(room)))
        complete = (since is None and len(texts) == offset) or (
            since is not None and since["epoch"] == epoch and since["offset"] + len(texts) == offset
        )
        return Page(epoch, offset, tuple(reversed(texts)), complete)

    async def renew(self, room: str) -> str:
        """Begin a new epoch, and return it: everybody learns that something is missing."""
        epoch = _new_epoch()
        await self._run(RENEW, room, (epoch, self._life(room)))
        return epoch

    async def require(self) -> None:
        """Return if the store answers."""
        if not await self._redis.ping():
            raise ManagerUnavailable("The store of events does not answer.")

    async def _run(self, script: AtomicScript, room: str, args: Sequence[str | int]) -> Any:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await self._redis.run_script(script, [key_name("websocket", "log", slot=room)], args)
        except TimeoutError as error:
            raise ManagerUnavailable("Events have no place just now: the store does not answer.") from error

    def _life(self, room: str) -> int:
        return max(_LEAST_LIFE_MS, 2 * self._policy_of(room).age_ms)


def _new_epoch() -> str:
    return secrets.token_urlsafe(9)
