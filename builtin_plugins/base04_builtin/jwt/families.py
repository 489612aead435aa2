"""Refresh tokens in families: each use makes a successor, a second use of one gives the family away.

RFC 9700, section 4.14.2. The row of a family names the token that may be used next and the one before it. A rotation is
one compare-and-set on that row, so that of two at once one rotates and the other finds it done.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from base04_builtin.jwt import base64url
from base04_builtin.jwt.claims import IssueClock
from base04_builtin.jwt.live_revocations import Revocation
from base04_builtin.jwt.revocations import RevocationList
from base04_builtin.jwt.settings import JWTSettings
from base04_builtin.jwt.tables import FAMILIES, sweep_expired
from base04_hookspecs.database import DatabaseManager, Operation
from base04_hookspecs.errors import Conflict, ExpiredToken, InvalidToken, ReusedToken, RevokedToken

log = structlog.get_logger()

_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class Family:
    """A family as it is stored; ``current_jti`` was made at ``rotated_at``."""

    family: str
    user_id: str
    source: str | None
    current_jti: str
    previous_jti: str | None
    rotated_at: float
    expires_at: float
    revoked_at: float | None
    created_at: float | None


ReuseListener = Callable[[Family], Awaitable[None]]
"""Called when a refresh token came a second time and its family has been revoked."""


class RefreshFamilies:
    """The families, kept in the database."""

    def __init__(
        self,
        settings: JWTSettings,
        database: DatabaseManager,
        revocations: RevocationList,
        clock: IssueClock,
        reused: ReuseListener,
    ) -> None:
        self._settings = settings
        self._database = database
        self._revocations = revocations
        self._clock = clock
        self._reused = reused
        self._giving_up: set[asyncio.Task[None]] = set()

    async def create(self, user_id: str, source: str | None) -> Family:
        """Begin a family."""
        now = self._clock.tick()
        family = Family(new_id(), user_id, source, new_id(), None, now, self._end(now, now), None, now)
        row = {name: getattr(family, name) for name in Family.__slots__}
        await self._database.execute_transaction([{"type": "insert", "table": FAMILIES.name, "data": row}])
        return family

    async def holding(self, family: str, jti: str) -> Family:
        """Return the family in which a refresh token may be used now.

        Raises:
            InvalidToken: the family is revoked or unknown, or the token was used before, which revokes it.
        """
        found = await self._find(family)
        if jti != found.current_jti and not self._repeats(found, jti):
            await self._give_up(found)
            raise ReusedToken("the refresh token was used before")
        ends_at = self.ends_at(found)
        if ends_at is not None and ends_at <= self._clock.now() - self._settings.leeway:
            raise ExpiredToken("the refresh family has ended")
        return found

    def ends_at(self, family: Family) -> float | None:
        """Return when a family ends however often it is refreshed, None for never."""
        longest = self._settings.family_ttl
        return None if longest is None or family.created_at is None else family.created_at + longest

    async def rotate(self, family: str, jti: str) -> Family:
        """Put a successor in the place of a token; return the family as it is then.

        A token whose successor was made within the retry window and is still unused gets that same successor.

        Raises:
            InvalidToken: as ``holding``.
        """
        for _ in range(_ATTEMPTS):
            found = await self.holding(family, jti)
            if jti != found.current_jti:
                return found
            try:
                return await self._succeed(found)
            except Conflict:  # another refresh, or a revocation, came first: look again
                continue
        raise InvalidToken("the refresh family keeps changing")

    async def revoke(self, family: str) -> None:
        """Revoke a family, and with it all its tokens."""
        now = self._clock.now()
        revocation = Revocation("family", family, self._end(now, None))
        await self._revocations.add(revocation, _revoking({"family": family}, now))

    async def revoke_issued(self, kind: str, value: str, column: str) -> None:
        """Revoke all families of a user or source, then all tokens of it that were issued until now.

        In this order a refresh that runs meanwhile either finds its family revoked, or has made its tokens before the
        cutoff is taken.
        """
        await self._database.execute_transaction([_revoking({column: value}, self._clock.now())])
        cutoff = self._revocations.next_cutoff(kind, value)
        await self._revocations.add(Revocation(kind, value, self._end(self._clock.now(), None), cutoff))

    async def sweep(self) -> int:
        """Remove families whose last token has expired."""
        return await sweep_expired(self._database, FAMILIES, self._clock.now())

    async def _find(self, family: str) -> Family:
        rows = await self._database.find(FAMILIES.name, {"family": family}, limit=1, columns=Family.__slots__)
        if not rows:
            raise RevokedToken("the refresh family is not known")
        found = Family(**rows[0])
        if found.revoked_at is not None:
            raise RevokedToken("the refresh family is revoked")
        return found

    def _repeats(self, found: Family, jti: str) -> bool:
        recent = self._clock.now() - found.rotated_at <= self._settings.retry_window
        return recent and found.previous_jti is not None and jti == found.previous_jti

    async def _give_up(self, found: Family) -> None:
        """Revoke a family and tell of it, to the end even where whoever came with the token hangs up."""
        task = asyncio.create_task(self._revoke_reused(found), name="jwt-refresh-reused")
        self._giving_up.add(task)
        task.add_done_callback(self._giving_up.discard)
        await asyncio.shield(task)

    async def _revoke_reused(self, found: Family) -> None:
        await self.revoke(found.family)
        log.warning("refresh token used again: family revoked", family=found.family, user_id=found.user_id)
        await self._reused(found)

    async def _succeed(self, found: Family) -> Family:
        now = self._clock.tick()
        change: dict[str, Any] = {
            "current_jti": new_id(),
            "previous_jti": found.current_jti,
            "rotated_at": now,
            "expires_at": self._end(now, found.created_at),
        }
        where = {"family": found.family, "current_jti": found.current_jti, "revoked_at": None}
        update: Operation = {"type": "update", "table": FAMILIES.name, "data": change, "where": where, "expect": 1}
        await self._database.execute_transaction([update])
        return replace(found, **change)

    def _end(self, issued_at: float, created_at: float | None) -> float:
        """Return when the last token ends that was issued at a time, in a family that began at another."""
        settings = self._settings
        ends_at = issued_at + max(settings.refresh_ttl, settings.access_ttl)
        if created_at is not None and settings.family_ttl is not None:
            ends_at = min(ends_at, created_at + settings.family_ttl)
        return math.ceil(ends_at) + settings.leeway


def new_id() -> str:
    """Return an identifier that nobody can guess and that never comes twice (128 random bits)."""
    return base64url.encode(secrets.token_bytes(16)).decode()


def _revoking(where: dict[str, Any], now: float) -> Operation:
    condition = {**where, "revoked_at": None}
    return {"type": "update", "table": FAMILIES.name, "data": {"revoked_at": now}, "where": condition}
