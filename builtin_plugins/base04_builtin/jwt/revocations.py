"""Tokens that stop before they expire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog

from base04_builtin.jwt.claims import FAMILY, SOURCE, IssueClock
from base04_builtin.jwt.tables import REVOCATIONS, sweep_expired
from base04_hookspecs.database import DatabaseManager, Operation
from base04_hookspecs.errors import ManagerError
from base04_hookspecs.redis import RedisManager, key_name

log = structlog.get_logger()

CHANNEL: Final = key_name("jwt", "revocations")

_SKEW: Final = 60.0
"""How far the clocks of processes may be apart, and a commit behind its timestamp, for a sync to see it."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """What is stopped: tokens whose ``kind`` has the ``value``, those issued until ``cutoff`` or all."""

    kind: str
    value: str
    expires_at: float
    cutoff: float | None = None

    @property
    def entry(self) -> str:
        """The name of the stored row."""
        return f"{self.kind}:{self.value}"


class RevocationList:
    """The revocations that still matter, in memory, true to the database.

    What this process revokes is in effect when ``add`` returns. What another process revokes is in effect when its
    message arrives over the ``redis`` role, at the latest ``max_age`` seconds after its commit: a check with older
    knowledge asks the database first, and fails if that cannot be reached. Messages carry nothing: they only say that
    there is something to read, so a false one does no harm.
    """

    def __init__(self, database: DatabaseManager, redis: RedisManager, clock: IssueClock, max_age: float) -> None:
        self._database = database
        self._redis = redis
        self._clock = clock
        self._max_age = max_age
        self._known: dict[str, tuple[float | None, float]] = {}
        self._fresh_until = float("-inf")
        self._watermark: float | None = None
        self._nudges = 0
        self._syncing = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._known)

    async def start(self) -> None:
        """Read all revocations, and listen for more."""
        await self._redis.subscribe(CHANNEL, self._on_message, on_gap=self._on_gap)
        await self._current()

    async def stop(self) -> None:
        """Listen no more."""
        with suppress(ManagerError):  # a bus that is away delivers nothing either
            await self._redis.unsubscribe(CHANNEL, self._on_message)

    async def reason_against(self, payload: Mapping[str, Any]) -> str | None:
        """Return what revoked a token, None if nothing did.

        Raises:
            ManagerUnavailable: it cannot be known.
        """
        if time.monotonic() > self._fresh_until:
            await self._current()
        for kind, claim in (("jti", "jti"), ("family", FAMILY), ("user", "sub"), ("source", SOURCE)):
            value = payload.get(claim)
            found = self._known.get(f"{kind}:{value}") if value is not None else None
            if found is not None and (found[0] is None or payload["iat"] <= found[0]):
                return kind
        return None

    async def add(self, revocation: Revocation, *further: Operation) -> None:
        """Store a revocation together with further operations; it is in effect when this returns."""
        row = {"revoked_at": self._clock.now(), "cutoff": revocation.cutoff, "expires_at": revocation.expires_at}
        upsert: Operation = {
            "type": "upsert",
            "table": REVOCATIONS.name,
            "where": {"entry": revocation.entry},
            "data": row,
        }
        await self._database.execute_transaction([*further, upsert])
        self._merge(revocation.entry, revocation.cutoff, revocation.expires_at)
        await self._announce()

    async def sweep(self) -> int:
        """Remove what stops no token any more, and return how many rows that were."""
        now = self._clock.now()
        self._known = {entry: known for entry, known in self._known.items() if known[1] > now}
        return await sweep_expired(self._database, REVOCATIONS, now)

    async def _announce(self) -> None:
        try:
            await self._redis.publish(CHANNEL, {})
        except ManagerError as error:  # others then see it when they ask the database
            log.warning("revocation not announced", error=str(error))

    async def _on_message(self, channel: str, message: Any) -> None:
        self._stale()

    async def _on_gap(self, channel: str) -> None:
        self._stale()

    def _stale(self) -> None:
        self._nudges += 1
        self._fresh_until = float("-inf")

    async def _current(self) -> None:
        async with self._syncing:
            if time.monotonic() <= self._fresh_until:
                return
            nudges, began, asked_at = self._nudges, time.monotonic(), self._clock.now()
            await self._read(asked_at)
            if nudges == self._nudges:
                self._fresh_until = began + self._max_age

    async def _read(self, now: float) -> None:
        where: dict[str, Any] = {"expires_at": {"gt": now}}
        if self._watermark is not None:
            where["revoked_at"] = {"gte": self._watermark - _SKEW}
        for row in await self._database.find(REVOCATIONS.name, where):
            self._merge(row["entry"], row["cutoff"], row["expires_at"])
        self._watermark = now

    def _merge(self, entry: str, cutoff: float | None, expires_at: float) -> None:
        known = self._known.get(entry)
        if known is not None:
            cutoff = None if cutoff is None or known[0] is None else max(cutoff, known[0])
            expires_at = max(expires_at, known[1])
        self._known[entry] = (cutoff, expires_at)
