"""The provider ``moving_window``."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from limits import RateLimitItemPerSecond
from limits.strategies import MovingWindowRateLimiter

from base04_hookspecs import HealthReport, current_request, health_report
from base04_hookspecs.errors import InvalidInput, NotFound
from base04_hookspecs.rate_limiter import (
    LimitState,
    OnUnavailable,
    RateLimit,
    RateLimiterManager,
    RateLimitInfo,
    RateLimitResult,
)
from base04_limits_rate_limiter.bans import Ban, Bans
from base04_limits_rate_limiter.identifiers import address, from_request, normalise
from base04_limits_rate_limiter.settings import LIMIT_TYPES, MovingWindowSettings
from base04_limits_rate_limiter.storage import WindowStorage

_LONGEST_BAN_S: Final = 100 * 366 * 86_400


@dataclass(frozen=True, slots=True)
class _Level:
    """One limit of one identifier."""

    limit_type: str
    identifier: str
    item: RateLimitItemPerSecond

    @property
    def counted(self) -> tuple[str, str]:
        """What the library counts it under. It joins parts with slashes, so the identifier may have none."""
        return self.limit_type, quote(self.identifier, safe="")

    @property
    def key(self) -> str:
        return self.item.key_for(*self.counted)


class MovingWindowRateLimiterManager(RateLimiterManager):
    """Never lets more than a limit's amount through in any period of its length.

    All levels are tested, then all are hit, and nothing else runs in between, because the storage never suspends.
    """

    @classmethod
    def own_to_process(cls, settings: MovingWindowSettings | None) -> str | None:
        return "the counts of its limits, and bans"

    def __init__(self, settings: MovingWindowSettings) -> None:
        self._items = {kind: tuple(map(_item, settings.parsed(kind))) for kind in map(str, LIMIT_TYPES)}
        self._storage = WindowStorage()
        self._limiter = MovingWindowRateLimiter(self._storage)
        self._bans = Bans()

    async def stop(self) -> None:
        """Forget all counts."""
        self._storage.reset()

    async def health_check(self) -> HealthReport:
        """Report how many windows are kept."""
        return health_report(details="counting in this process", windows=len(self._storage))

    async def check_rate_limit(
        self,
        limit_types: Sequence[str],
        *,
        identifiers: Mapping[str, str] | None = None,
        limits: Mapping[str, Sequence[RateLimit]] | None = None,
        cost: int = 1,
        on_unavailable: OnUnavailable | None = None,
    ) -> RateLimitResult:
        """Test all limits and, if all have room, hit each. The count is always at hand."""
        if type(cost) is not int or cost < 1:
            raise InvalidInput(f"The cost {cost!r} is not usable: give an integer of at least 1.")
        counted = self._counted(limit_types, identifiers or {}, limits or {})
        bans = {kind: ban for kind, who in counted.items() if (ban := self._bans.find(kind, who)) is not None}
        levels = self._levels(counted, limits or {})
        full = [level for level in levels if not self._limiter.test(level.item, *level.counted, cost=cost)]
        if not bans and not full:
            for level in levels:
                self._limiter.hit(level.item, *level.counted, cost=cost)
        waits = [self._storage.seconds_until(one.key, one.item.amount, one.item.get_expiry(), cost) for one in full]
        waits += [ban.remaining_s() for ban in bans.values()]
        return {
            "allowed": not bans and not full,
            "exceeded_types": list(dict.fromkeys([*bans, *(level.limit_type for level in full)])),
            "banned": list(bans),
            "retry_after": max(waits, default=0.0),
            "limits": [self._state(level) for level in levels],
        }

    async def get_rate_limit_info(self, identifier: str, limit_type: str) -> RateLimitInfo:
        """Return the tightest of the configured limits.

        Raises:
            InvalidInput: the limit type is unknown.
            NotFound: the type has no limit, and the identifier is not banned.
        """
        self._require_type(limit_type)
        who = normalise(limit_type, identifier)
        ban = self._bans.find(limit_type, who)
        states = [self._state(level) for level in self._levels({limit_type: who}, {})]
        if not states and ban is None:
            raise NotFound(
                f"The limit type {limit_type!r} has no limit: write one under 'limits' of the rate limiter's settings."
            )
        tightest = min(states, key=lambda state: (state["remaining"], -state["reset_after"]), default=None)
        return {
            "identifier": who,
            "limit_type": limit_type,
            "limit": tightest["limit"] if tightest else 0,
            "window": tightest["window"] if tightest else 0,
            "remaining": tightest["remaining"] if tightest else 0,
            "reset_after": tightest["reset_after"] if tightest else (ban.remaining_s() if ban else 0.0),
            "banned": ban is not None,
            "ban_reason": ban.reason if ban is not None else None,
            "ban_expires_at": ban.expires_at if ban is not None else None,
        }

    async def reset_rate_limit(self, identifier: str, limit_type: str) -> bool:
        """Forget what an identifier has consumed, under limits that were given with a call too. Bans stay."""
        self._require_type(limit_type)
        who = quote(normalise(limit_type, identifier), safe="")
        return self._storage.clear_prefix(f"{RateLimitItemPerSecond(1).namespace}/{limit_type}/{who}/")

    async def ban_identifier(
        self, identifier: str, duration: float | None = None, *, limit_type: str | None = None, reason: str = ""
    ) -> bool:
        """Refuse everything from an identifier, until this process ends at the latest."""
        if duration is not None and not (math.isfinite(duration) and 0 < duration <= _LONGEST_BAN_S):
            raise InvalidInput(f"The duration {duration!r} is not usable: give seconds above 0, or None for no end.")
        expires_at = None if duration is None else time.time() + duration
        for kind in self._ban_types(identifier, limit_type):
            self._bans.add(kind, normalise(kind, identifier), Ban(reason, expires_at))
        return True

    async def unban_identifier(self, identifier: str) -> bool:
        """Lift the bans of an identifier, of all types."""
        lifted = [self._bans.lift(kind, normalise(kind, identifier)) for kind in LIMIT_TYPES]
        return any(lifted)

    def _counted(
        self, limit_types: Sequence[str], identifiers: Mapping[str, str], limits: Mapping[str, Sequence[RateLimit]]
    ) -> dict[str, str]:
        """Return who is counted for each type that has somebody."""
        if isinstance(limit_types, str):
            raise InvalidInput(f"The limit types {limit_types!r} are one string: give a list, ['ip', 'user'].")
        for kind in (*limit_types, *identifiers, *limits):
            self._require_type(kind)
        request = current_request()
        found = {kind: identifiers.get(kind) or from_request(kind, request) for kind in limit_types}
        return {kind: normalise(kind, who) for kind, who in found.items() if who}

    def _levels(self, counted: Mapping[str, str], limits: Mapping[str, Sequence[RateLimit]]) -> list[_Level]:
        return [
            _Level(kind, who, item)
            for kind, who in counted.items()
            for item in (map(_item, dict.fromkeys(limits[kind])) if kind in limits else self._items[kind])
        ]

    def _state(self, level: _Level) -> LimitState:
        amount, period = level.item.amount, level.item.get_expiry()
        return {
            "limit_type": level.limit_type,
            "identifier": level.identifier,
            "limit": amount,
            "window": period,
            "remaining": self._limiter.get_window_stats(level.item, *level.counted).remaining,
            "reset_after": self._storage.seconds_until_empty(level.key, period),
        }

    def _ban_types(self, identifier: str, limit_type: str | None) -> Sequence[str]:
        if limit_type is not None:
            self._require_type(limit_type)
            return (limit_type,)
        return ("ip",) if address(identifier) is not None else tuple(kind for kind in LIMIT_TYPES if kind != "ip")

    def _require_type(self, limit_type: str) -> None:
        if limit_type not in self._items:
            raise InvalidInput(f"The limit type {limit_type!r} is unknown: there are {', '.join(LIMIT_TYPES)}.")


def _item(limit: RateLimit) -> RateLimitItemPerSecond:
    """Return the library's form of a limit: its amount in so many seconds."""
    return RateLimitItemPerSecond(limit.amount, limit.period_s)
