"""Who a call is counted as, and by which limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final, Never

from base04_builtin.rate_limiter.identifiers import requested_identifier, subject_for
from base04_builtin.rate_limiter.meter import meter_for
from base04_builtin.rate_limiter.plan import SHADOW, WATCHED, AutoBanPlan, Rule, plan_text, rule_for
from base04_builtin.rate_limiter.replies import Level
from base04_builtin.rate_limiter.settings import LIMIT_TYPES, GcraRateLimiterSettings
from base04_hookspecs.context import current_request
from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.rate_limiter import RateLimit

_REMEMBERED: Final = 16_384
_PLANS: Final = 1024


class Levels:
    """Turns what a caller asks for into levels and a plan; remembers both, since most calls are like earlier ones.

    ``share`` is the part of each limit that is let through.
    """

    def __init__(self, settings: GcraRateLimiterSettings, share: float = 1.0) -> None:
        self._share = share
        self._flags = {name: 0 for name in map(str, LIMIT_TYPES)}
        for name in settings.shadow:
            self._flags[name] |= SHADOW
        self._auto_ban = AutoBanPlan()
        if settings.auto_ban is not None:
            rule = settings.auto_ban
            for name in rule.types:
                self._flags[name] |= WATCHED
            reason = f"refused {rule.violations} times within {rule.window:g} s"
            self._auto_ban = AutoBanPlan(
                rule.violations, round(rule.window * 1000), round(rule.duration * 1000), reason
            )
        self._rules = {str(name): self._rule(name, settings.parsed(name)) for name in LIMIT_TYPES}
        self._names = frozenset(self._rules)
        self._types = lru_cache(_PLANS)(self._checked)
        self._configured = lru_cache(_REMEMBERED)(self._make_level)
        self._plan = lru_cache(_PLANS)(self._make_plan)

    def of_call(
        self,
        limit_types: Sequence[str],
        identifiers: Mapping[str, str] | None,
        limits: Mapping[str, Sequence[RateLimit]] | None,
    ) -> list[Level]:
        """Return the levels of a call: those of its types that have an identifier.

        Raises:
            InvalidInput: a limit type is unknown.
        """
        if type(limit_types) is str:
            raise InvalidInput(f"The limit types {limit_types!r} are one string: give a list, ['ip', 'user'].")
        if identifiers and not identifiers.keys() <= self._names:
            self._checked(tuple(identifiers))
        if limits and not limits.keys() <= self._names:
            self._checked(tuple(limits))
        levels: list[Level] = []
        for limit_type in self._types(tuple(limit_types)):
            identifier = identifiers.get(limit_type) if identifiers else None
            if identifier is None:
                identifier = requested_identifier(limit_type, current_request())
                if identifier is None:
                    continue
            if limits and limit_type in limits:
                rule = self._rule(limit_type, limits[limit_type])
                levels.append(Level(self._configured(limit_type, identifier).subject, rule))
            else:
                levels.append(self._configured(limit_type, identifier))
        return levels

    def of_identifier(self, limit_type: str, identifier: str) -> Level:
        """Return the configured level of an identifier."""
        if limit_type not in self._rules:
            refuse_type(limit_type)
        return self._configured(limit_type, identifier)

    def plan(self, levels: Sequence[Level], cost: int, *, consume: bool = True) -> str:
        """Return the plan of a call."""
        return self._plan(cost, consume, *[level.rule for level in levels])

    def _make_level(self, limit_type: str, identifier: str) -> Level:
        return Level(subject_for(limit_type, identifier), self._rules[limit_type])

    def _make_plan(self, cost: int, consume: bool, *rules: Rule) -> str:
        return plan_text(rules, cost, consume, self._auto_ban)

    def _rule(self, limit_type: str, limits: Sequence[RateLimit]) -> Rule:
        meters = tuple(meter_for(limit) for limit in dict.fromkeys(self._shared(limits)))
        return rule_for(meters, self._flags[limit_type])

    def _shared(self, limits: Sequence[RateLimit]) -> Iterator[RateLimit]:
        for limit in limits:
            whole = self._share == 1.0
            yield limit if whole else RateLimit(max(1, int(limit.amount * self._share)), limit.period_s)

    def _checked(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names, each once."""
        for limit_type in names:
            if limit_type not in self._names:
                refuse_type(limit_type)
        return tuple(dict.fromkeys(names))


def refuse_type(limit_type: object) -> Never:
    """Say which limit types there are."""
    raise InvalidInput(f"The limit type {limit_type!r} is unknown: there are {', '.join(LIMIT_TYPES)}.")
