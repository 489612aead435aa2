"""Where the check script looks bans up: at keys of the ``redis`` role."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

from base04_builtin.rate_limiter.ban_scripts import BAN, RESTORE, UNBAN
from base04_builtin.rate_limiter.identifiers import Subject, ban_key_of
from base04_builtin.rate_limiter.replies import Ban
from base04_hookspecs.redis import RedisManager

_AT_ONCE: Final = 200


class BanKeys:
    """No keys: for checks that find bans in memory."""

    async def put(self, subjects: Sequence[Subject], life_ms: int, reason: str) -> Ban:
        """Ban subjects for some time, 0 for no end, and return the ban that they now have."""
        return ban_from_now(life_ms, reason)

    async def lift(self, entries: Sequence[str], until_ms: int = 0) -> tuple[int, int]:
        """Lift bans that began until a moment, 0 for all; return how many there were, and the time."""
        return 0, now_ms()

    async def restore(self, bans: Mapping[str, Ban]) -> int:
        """Bring bans back where there are none that are as new, and return how many."""
        return 0


class RedisBanKeys(BanKeys):
    """Bans at keys, on the clock of the ``redis`` role."""

    def __init__(self, redis: RedisManager) -> None:
        self._redis = redis

    async def put(self, subjects: Sequence[Subject], life_ms: int, reason: str) -> Ban:
        until, since = await self._redis.run_script(BAN, [one.ban_key for one in subjects], [life_ms, reason])
        return Ban(until, since, reason)

    async def lift(self, entries: Sequence[str], until_ms: int = 0) -> tuple[int, int]:
        lifted, now = await self._redis.run_script(UNBAN, [ban_key_of(entry) for entry in entries], [str(until_ms)])
        return lifted, now

    async def restore(self, bans: Mapping[str, Ban]) -> int:
        items, written = list(bans.items()), 0
        for begin in range(0, len(items), _AT_ONCE):
            some = items[begin : begin + _AT_ONCE]
            parts = [part for _, ban in some for part in (str(ban.until_ms), str(ban.since_ms), ban.reason)]
            written += await self._redis.run_script(RESTORE, [ban_key_of(entry) for entry, _ in some], parts)
        return written


def ban_from_now(life_ms: int, reason: str) -> Ban:
    """Return a ban that begins now, on the clock of this process; ``life_ms`` 0 is one without end."""
    now = now_ms()
    return Ban(now + life_ms if life_ms else 0, now, reason)


def now_ms() -> int:
    """Return the clock of this process, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
