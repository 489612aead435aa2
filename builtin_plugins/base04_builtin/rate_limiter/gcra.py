"""The provider ``gcra``: limits that smooth, with bursts, counted in one atomic step on the ``redis`` role."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog

from base04_builtin.rate_limiter.availability import Availability
from base04_builtin.rate_limiter.ban_book import BanBook
from base04_builtin.rate_limiter.ban_keys import BanKeys, RedisBanKeys
from base04_builtin.rate_limiter.check_script import CHECK
from base04_builtin.rate_limiter.counts import Counts
from base04_builtin.rate_limiter.identifiers import Subject, normalised_address, subject_for
from base04_builtin.rate_limiter.joiner import CallJoiner
from base04_builtin.rate_limiter.levels import Level, Levels, level_finder, refuse_type
from base04_builtin.rate_limiter.local_check import LocalCheck
from base04_builtin.rate_limiter.meter import meter_for
from base04_builtin.rate_limiter.plan import AutoBanPlan, Counted, plan_text, rule_for
from base04_builtin.rate_limiter.replies import (
    Ban,
    no_limit,
    read_bans,
    read_result,
    read_states,
    refused_by,
    unlimited,
)
from base04_builtin.rate_limiter.settings import LIMIT_TYPES, GcraRateLimiterSettings
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.errors import InvalidInput, ManagerUnavailable, NotFound, OutcomeUnknown
from base04_hookspecs.health import HealthReport, health_report
from base04_hookspecs.rate_limiter import (
    OnUnavailable,
    RateLimit,
    RateLimiterManager,
    RateLimitInfo,
    RateLimitResult,
)
from base04_hookspecs.redis import RedisManager, held_here

log = structlog.get_logger()

_LONGEST_BAN_S: Final = 100 * 366 * 86_400
_LONGEST_REASON: Final = 500
_COUNTS: Final = "rate_limiter.counts"
_POLICIES: Final = ("open", "closed", "local")
_PROBE: Final = Level(subject_for("probe", "probe"), rule_for((meter_for(RateLimit(1_000_000, 1)),), 0))
_PROBE_PLAN: Final = plan_text([_PROBE.rule], 1, consume=True, auto_ban=AutoBanPlan())


class GcraRateLimiterManager(RateLimiterManager):
    """Counts every level in one step, on the clock of the ``redis`` role; bans have their truth in the database.

    The step is a script, or, where the ``redis`` role lives in this process alone, a function that does the same. Over
    time a limit lets through its amount in each period; after a pause of a whole period its amount may come at once,
    and its places then come back one by one rather than all together. Calls that are made at the same time share a run
    of the script.
    """

    def __init__(self, settings: GcraRateLimiterSettings, redis: RedisManager, database: DatabaseManager) -> None:
        self._settings = settings
        self._redis = redis
        self._levels = Levels(settings, level_finder())
        self._calls = CallJoiner(redis)
        self._bans = BanBook(database, redis, size=settings.bans_in_memory, sync_s=settings.ban_sync)
        self._availability = Availability(self._probe, self._bans.lose)
        self._counts = Counts(settings.local_size)
        self._here: LocalCheck | None = None
        self._meanwhile = self._local_check(settings.local_share)
        self._uncounted = 0
        self._shadowed = 0

    async def start(self) -> None:
        """Find out where to count, and bring the bans back."""
        counts = held_here(self._redis, _COUNTS, lambda: self._counts)
        if isinstance(counts, Counts):
            self._counts = counts
            counts.size = self._settings.local_size
            self._here = self._local_check()
        await self._bans.start(BanKeys() if self._here else RedisBanKeys(self._redis))

    async def stop(self) -> None:
        await self._availability.stop()
        await self._calls.stop()
        await self._bans.stop()

    async def check_rate_limit(
        self,
        limit_types: Sequence[str],
        *,
        identifiers: Mapping[str, str] | None = None,
        limits: Mapping[str, Sequence[RateLimit]] | None = None,
        cost: int = 1,
        on_unavailable: OnUnavailable | None = None,
    ) -> RateLimitResult:
        if type(cost) is not int or cost < 1:
            raise InvalidInput(f"The cost {cost!r} is not usable: give an integer of at least 1.")
        if on_unavailable is not None and on_unavailable not in _POLICIES:
            raise InvalidInput(f"{on_unavailable!r} is not usable for on_unavailable: give {', '.join(_POLICIES)}.")
        if self._here is not None:
            result = self._here.check(limit_types, identifiers, limits, cost)
        else:
            result = await self._check_by_script(limit_types, identifiers, limits, cost, on_unavailable)
        if "shadow_exceeded" in result:
            self._shadowed += len(result["shadow_exceeded"])
        return result

    async def get_rate_limit_info(self, identifier: str, limit_type: str) -> RateLimitInfo:
        """Return how an identifier stands with the configured limits of a type.

        Raises:
            InvalidInput: the limit type is unknown.
            NotFound: the type has no limit, and the identifier is not banned.
        """
        level, reply = await self._peek(limit_type, identifier)
        ban = Ban.read(reply[2]) if reply[2] else None
        states = read_states([level], reply)
        if states:
            state = min(states, key=lambda one: (one["remaining"], -one["reset_after"]))
        elif ban is not None:
            state = no_limit(level.subject, ban.remaining_s(reply[1]))
        else:
            raise NotFound(
                f"The limit type {limit_type!r} has no limit: write one under 'limits' of the rate limiter's settings."
            )
        return {
            "identifier": level.subject.identifier,
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
        if self._here is not None:
            return self._here.reset(limit_type, identifier)
        level = self._levels.of_identifier(limit_type, identifier)
        return await self._redis.delete_by_prefix(level.subject.count_prefix) > 0

    async def ban_identifier(
        self, identifier: str, duration: float | None = None, *, limit_type: str | None = None, reason: str = ""
    ) -> bool:
        """Ban an identifier, durably: it is stored when this returns.

        Raises:
            InvalidInput: the duration or the reason cannot be used.
            ManagerUnavailable: it could not be stored.
        """
        if duration is not None and not 0 < duration <= _LONGEST_BAN_S:
            raise InvalidInput(f"The duration {duration!r} is not usable: give seconds above 0, or None for no end.")
        life_ms = 0 if duration is None else max(1, round(duration * 1000))
        subjects = [subject_for(name, identifier) for name in _ban_types(identifier, limit_type)]
        await self._bans.ban(subjects, life_ms, _storable(reason)[:_LONGEST_REASON])
        log.warning(
            "identifier banned",
            identifier=subjects[0].identifier,
            limit_types=[one.limit_type for one in subjects],
            duration=duration,
            reason=reason,
        )
        return True

    async def unban_identifier(self, identifier: str) -> bool:
        lifted = await self._bans.unban([subject_for(name, identifier) for name in LIMIT_TYPES])
        if lifted:
            log.info("identifier no longer banned", identifier=identifier)
        return lifted

    async def health_check(self) -> HealthReport:
        """Find out whether it can be counted, by counting."""
        began = time.perf_counter()
        reachable = await self._availability.look()
        facts: dict[str, Any] = {
            "errors": self._uncounted,
            "response_time": time.perf_counter() - began,
            "bans": len(self._bans.live),
            "bans_to_store": self._bans.waiting,
            "bans_dropped": self._bans.dropped,
            "shadow_exceeded": self._shadowed,
            "local_identifiers": len(self._counts),
            "local_evicted": self._counts.evicted,
        }
        if reachable:
            return health_report("healthy", "counting", dependencies={"redis": "healthy"}, **facts)
        policy = {
            "open": "calls pass without being counted",
            "closed": "limited calls are refused",
            "local": "each process counts alone",
        }[self._settings.on_unavailable]
        return health_report(
            "unhealthy" if self._settings.on_unavailable == "closed" else "degraded",
            f"nothing can be counted just now: {policy}",
            dependencies={"redis": "unhealthy"},
            **facts,
        )

    async def _probe(self) -> None:
        """Count something that nobody limits: a server can answer, and yet have no room for a count.

        Raises:
            ManagerUnavailable: it cannot be counted.
        """
        if self._here is None:
            await self._redis.run_script(CHECK, _PROBE.keys, (_PROBE_PLAN,))
        elif not await self._redis.ping():
            raise ManagerUnavailable("The role 'redis' is not running.")

    def _local_check(self, share: float = 1.0) -> LocalCheck:
        return LocalCheck(self._settings, self._counts, self._bans.live, self._note_new_ban, share)

    async def _check_by_script(
        self,
        limit_types: Sequence[str],
        identifiers: Mapping[str, str] | None,
        limits: Mapping[str, Sequence[RateLimit]] | None,
        cost: int,
        on_unavailable: OnUnavailable | None,
    ) -> RateLimitResult:
        levels = self._levels.of_call(limit_types, identifiers, limits)
        if not levels:
            return unlimited()
        if self._availability.away:
            return self._without_count(levels, limits, cost, on_unavailable, None)
        try:
            reply = await self._count(levels, self._levels.plan(levels, cost))
            if self._bans.live and self._is_missing(levels, reply):
                reply = await self._with_bans(levels, reply, cost)
        except (ManagerUnavailable, OutcomeUnknown) as error:
            self._availability.lost(error)
            return self._without_count(levels, limits, cost, on_unavailable, error)
        if not reply[0]:
            self._note_new_bans(levels, reply)
        return read_result(levels, reply, cost)

    async def _peek(self, limit_type: str, identifier: str) -> tuple[Counted, Sequence[Any]]:
        """Return a level and the reply to a call at it that consumes nothing."""
        if self._here is not None:
            return self._here.peek(limit_type, identifier)
        level = self._levels.of_identifier(limit_type, identifier)
        plan = self._levels.plan([level], 1, consume=False)
        reply = await self._count([level], plan)
        if self._is_missing([level], reply) and await self._bans.bring_back(level.subject.entry):
            reply = await self._count([level], plan)
        return level, reply

    async def _count(self, levels: Sequence[Level], plan: str) -> list[Any]:
        keys: list[str] = []
        for level in levels:
            keys += level.keys
        return await self._calls.run(keys, plan)

    def _is_missing(self, levels: Sequence[Level], reply: Sequence[Any]) -> bool:
        """Tell whether somebody whom this process knows to be banned was not found to be."""
        live, now, position = self._bans.live, reply[1], 2
        for level in levels:
            if not reply[position]:
                ban = live.get(level.subject.entry)
                if ban is not None and ban.holds(now):
                    return True
            position += 1 + 2 * len(level.rule.meters)
        return False

    async def _with_bans(self, levels: Sequence[Level], reply: list[Any], cost: int) -> list[Any]:
        """Bring back bans that the script did not find, and look again where there were any."""
        texts = read_bans(levels, reply)
        missing = [level.subject.entry for level, text in zip(levels, texts, strict=True) if not text]
        brought = [await self._bans.bring_back(entry) for entry in missing if entry in self._bans.live]
        return await self._count(levels, self._levels.plan(levels, cost, consume=False)) if any(brought) else reply

    def _note_new_bans(self, levels: Sequence[Level], reply: Sequence[Any]) -> None:
        for level, text in zip(levels, read_bans(levels, reply), strict=True):
            if text and text[0] == "+":
                self._note_new_ban(level.subject, Ban.read(text))

    def _note_new_ban(self, subject: Subject, ban: Ban) -> None:
        self._bans.note(subject, ban)
        log.warning(
            "identifier banned automatically",
            identifier=subject.identifier,
            limit_type=subject.limit_type,
            duration=(ban.until_ms - ban.since_ms) / 1000,
            reason=ban.reason,
        )

    def _without_count(
        self,
        levels: Sequence[Level],
        limits: Mapping[str, Sequence[RateLimit]] | None,
        cost: int,
        on_unavailable: OnUnavailable | None,
        error: ManagerUnavailable | OutcomeUnknown | None,
    ) -> RateLimitResult:
        self._uncounted += 1
        policy = on_unavailable or self._settings.on_unavailable
        if policy == "closed":
            raise ManagerUnavailable(
                "The rate limits cannot be counted just now, and on_unavailable is 'closed'.",
                retry_after=getattr(error, "retry_after", 1.0),
            ) from error
        bans, now_ms = self._known_bans(levels), time.time() * 1000
        holding = {limit_type: ban for limit_type, ban in bans.items() if ban.holds(now_ms)}
        if holding:
            return refused_by(holding, now_ms)
        if policy == "open":
            return unlimited()
        who = {level.subject.limit_type: level.subject.identifier for level in levels}
        return self._meanwhile.check(tuple(who), who, limits, cost)

    def _known_bans(self, levels: Sequence[Level]) -> dict[str, Ban]:
        live = self._bans.live
        return {one.subject.limit_type: live[one.subject.entry] for one in levels if one.subject.entry in live}


def _ban_types(identifier: str, limit_type: str | None) -> Sequence[str]:
    if limit_type is not None:
        if limit_type not in LIMIT_TYPES:
            refuse_type(limit_type)
        return (limit_type,)
    if normalised_address(identifier) is not None:
        return ("ip",)
    return tuple(name for name in LIMIT_TYPES if name != "ip")


def _storable(reason: str) -> str:
    if not isinstance(reason, str):
        raise InvalidInput(f"The reason {reason!r} of a ban is not usable: give a string.")
    return reason.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
