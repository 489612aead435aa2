"""The provider ``gcra``: limits that smooth, with bursts, counted in one atomic step on the ``redis`` role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Never

import structlog

from base04_builtin.rate_limiter.identifiers import normalised_address, requested_identifier, subject_for
from base04_builtin.rate_limiter.meter import Meter, meter_for
from base04_builtin.rate_limiter.replies import Ban, Level, no_limit, read_result, read_states, unlimited
from base04_builtin.rate_limiter.scripts import BAN, CHECK, UNBAN
from base04_builtin.rate_limiter.settings import LIMIT_TYPES, GcraRateLimiterSettings
from base04_hookspecs.context import current_request
from base04_hookspecs.errors import InvalidInput, ManagerUnavailable, NotFound, OutcomeUnknown
from base04_hookspecs.health import HealthReport, health_report
from base04_hookspecs.rate_limiter import RateLimit, RateLimiterManager, RateLimitInfo, RateLimitResult
from base04_hookspecs.redis import RedisManager

log = structlog.get_logger()

_LONGEST_BAN_S: Final = 100 * 366 * 86_400
_LONGEST_REASON: Final = 500


class GcraRateLimiterManager(RateLimiterManager):
    """Counts every level in one script, on the clock of the ``redis`` role.

    Over time a limit lets through its amount in each period; after a pause of a whole period its amount may come at
    once, and its places then come back one by one rather than all together.
    """

    def __init__(self, settings: GcraRateLimiterSettings, redis: RedisManager) -> None:
        self._redis = redis
        self._fail_open = settings.on_unavailable == "open"
        self._meters: dict[str, tuple[Meter, ...]] = {
            name: tuple(map(meter_for, settings.parsed(name))) for name in LIMIT_TYPES
        }
        self._out_of_order = False
        self._uncounted = 0

    async def check_rate_limit(
        self,
        limit_types: Sequence[str],
        *,
        identifiers: Mapping[str, str] | None = None,
        limits: Mapping[str, Sequence[RateLimit]] | None = None,
        cost: int = 1,
    ) -> RateLimitResult:
        if type(cost) is not int or cost < 1:
            raise InvalidInput(f"The cost {cost!r} is not usable: give an integer of at least 1.")
        levels = self._levels(limit_types, identifiers or {}, limits or {})
        if not levels:
            return unlimited()
        try:
            reply = await self._run_check(levels, consume=True, cost=cost)
        except (ManagerUnavailable, OutcomeUnknown) as error:
            return self._without_count(error)
        if self._out_of_order:
            self._out_of_order = False
            log.info("rate limits are counted again")
        return read_result(levels, reply, cost)

    async def get_rate_limit_info(self, identifier: str, limit_type: str) -> RateLimitInfo:
        """Return how an identifier stands with the configured limits of a type.

        Raises:
            InvalidInput: the limit type is unknown.
            NotFound: the type has no limit, and the identifier is not banned.
        """
        meters = self._known(limit_type)
        subject = subject_for(limit_type, identifier)
        levels = [(subject, meters)]
        reply = await self._run_check(levels, consume=False, cost=1)
        now, ban_text = reply[1], reply[2]
        ban = Ban.read(ban_text) if ban_text else None
        states = read_states(levels, reply)
        if states:
            state = min(states, key=lambda one: (one["remaining"], -one["reset_after"]))
        elif ban is not None:
            state = no_limit(subject, ban.remaining_s(now))
        else:
            raise NotFound(
                f"The limit type {limit_type!r} has no limit: write one under 'limits' of the rate limiter's settings."
            )
        return {
            "identifier": subject.identifier,
            "limit_type": limit_type,
            "limit": state["limit"],
            "window": state["window"],
            "remaining": state["remaining"],
            "reset_after": state["reset_after"],
            "banned": ban is not None,
            "ban_reason": ban.reason if ban is not None else None,
            "ban_expires_at": ban.until_ms / 1000 if ban is not None and ban.until_ms else None,
        }

    async def reset_rate_limit(self, identifier: str, limit_type: str) -> bool:
        """Forget the counts of an identifier, for limits that were given with a call too. Bans stay."""
        self._known(limit_type)
        return await self._redis.delete_by_prefix(subject_for(limit_type, identifier).count_prefix) > 0

    async def ban_identifier(
        self, identifier: str, duration: float | None = None, *, limit_type: str | None = None, reason: str = ""
    ) -> bool:
        if duration is not None and not 0 < duration <= _LONGEST_BAN_S:
            raise InvalidInput(f"The duration {duration!r} is not usable: give seconds above 0, or None for no end.")
        life_ms = 0 if duration is None else max(1, round(duration * 1000))
        subjects = [subject_for(name, identifier) for name in self._ban_types(identifier, limit_type)]
        await self._redis.run_script(BAN, [one.ban_key for one in subjects], [life_ms, reason[:_LONGEST_REASON]])
        log.warning(
            "identifier banned",
            identifier=subjects[0].identifier,
            limit_types=[one.limit_type for one in subjects],
            duration=duration,
            reason=reason,
        )
        return True

    async def unban_identifier(self, identifier: str) -> bool:
        keys = [subject_for(name, identifier).ban_key for name in LIMIT_TYPES]
        lifted = int(await self._redis.run_script(UNBAN, keys, [])) > 0
        if lifted:
            log.info("identifier no longer banned", identifier=identifier)
        return lifted

    async def health_check(self) -> HealthReport:
        """Ask the ``redis`` role whether it can count."""
        reachable = await self._redis.ping()
        if reachable and not self._out_of_order:
            return health_report("healthy", "counting", errors=self._uncounted, dependencies={"redis": "healthy"})
        policy = "calls pass without being counted" if self._fail_open else "limited calls are refused"
        return health_report(
            "degraded" if self._fail_open else "unhealthy",
            f"nothing can be counted just now: {policy}",
            errors=self._uncounted,
            dependencies={"redis": "degraded" if reachable else "unhealthy"},
        )

    def _levels(
        self, limit_types: Sequence[str], identifiers: Mapping[str, str], limits: Mapping[str, Sequence[RateLimit]]
    ) -> list[Level]:
        if isinstance(limit_types, str):
            raise InvalidInput(f"The limit types {limit_types!r} are one string: give a list, ['ip', 'user'].")
        for limit_type in (*identifiers, *limits):
            self._known(limit_type)
        request = current_request()
        levels: list[Level] = []
        for limit_type in dict.fromkeys(limit_types):
            meters = self._known(limit_type)
            identifier = identifiers.get(limit_type)
            if identifier is None:
                identifier = requested_identifier(limit_type, request)
            if identifier is None:
                continue
            if limit_type in limits:
                meters = tuple(map(meter_for, dict.fromkeys(limits[limit_type])))
            levels.append((subject_for(limit_type, identifier), meters))
        return levels

    def _known(self, limit_type: str) -> tuple[Meter, ...]:
        meters = self._meters.get(limit_type)
        if meters is None:
            _refuse_type(limit_type)
        return meters

    def _ban_types(self, identifier: str, limit_type: str | None) -> Sequence[str]:
        if limit_type is not None:
            self._known(limit_type)
            return (limit_type,)
        if normalised_address(identifier) is not None:
            return ("ip",)
        return tuple(name for name in LIMIT_TYPES if name != "ip")

    async def _run_check(self, levels: Sequence[Level], *, consume: bool, cost: int) -> list[Any]:
        keys = [subject.ban_key for subject, _ in levels]
        args = ["1" if consume else "0", str(len(levels))]
        for subject, meters in levels:
            for meter in meters:
                keys.append(subject.count_key(meter.suffix))
                args += meter.arguments(cost)
        reply: list[Any] = await self._redis.run_script(CHECK, keys, args)
        return reply

    def _without_count(self, error: ManagerUnavailable | OutcomeUnknown) -> RateLimitResult:
        self._uncounted += 1
        if not self._out_of_order:
            self._out_of_order = True
            log.warning(
                "rate limits cannot be counted", policy="open" if self._fail_open else "closed", error=str(error)
            )
        if self._fail_open:
            return unlimited()
        raise ManagerUnavailable(
            "The rate limits cannot be counted just now, and on_unavailable is 'closed'.",
            retry_after=getattr(error, "retry_after", 1.0),
        ) from error


def _refuse_type(limit_type: object) -> Never:
    raise InvalidInput(f"The limit type {limit_type!r} is unknown: there are {', '.join(LIMIT_TYPES)}.")
