"""Who a call is counted as, and by which limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final, Generic, Never, TypeVar

from base04_builtin.rate_limiter.identifiers import Subject, requested_identifier, subject_for
from base04_builtin.rate_limiter.meter import meter_for
from base04_builtin.rate_limiter.plan import SHADOW, WATCHED, AutoBanPlan, Counted, Rule, plan_text, rule_for
from base04_builtin.rate_limiter.settings import LIMIT_TYPES, GcraRateLimiterSettings
from base04_hookspecs.context import current_request
from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.rate_limiter import RateLimit

_PLANS: Final = 1024
_REMEMBERED: Final = 16_384
_NOBODY: Final[Mapping[str, str]] = {}

CountedT = TypeVar("CountedT", bound=Counted)


class Level(Counted):
    """Who is counted, by which rule, under which keys."""

    __slots__ = ("keys",)

    def __init__(self, subject: Subject, rule: Rule) -> None:
        super().__init__(subject, rule)
        self.keys = (subject.ban_key, *(subject.count_prefix + suffix for suffix in rule.suffixes))


def level_finder() -> Callable[[str, str, Rule], Level]:
    """Return a function that makes levels and remembers them, since most calls are like earlier ones."""

    @lru_cache(maxsize=_REMEMBERED)
    def find(limit_type: str, identifier: str, rule: Rule) -> Level:
        return Level(subject_for(limit_type, identifier), rule)

    return find


class Levels(Generic[CountedT]):
    """Turns what a caller asks for into levels, and these into a plan for the script.

    Args:
        settings: the limits.
        find: returns the level of a limit type, an identifier and a rule.
        share: the part of each limit that is let through.
    """

    def __init__(
        self,
        settings: GcraRateLimiterSettings,
        find: Callable[[str, str, Rule], CountedT],
        share: float = 1.0,
    ) -> None:
        self._find = find
        self._share = share
        self._flags = dict.fromkeys(map(str, LIMIT_TYPES), 0)
        for name in settings.shadow:
            self._flags[name] |= SHADOW
        self.auto_ban = AutoBanPlan()
        if settings.auto_ban is not None:
            rule = settings.auto_ban
            for name in rule.types:
                self._flags[name] |= WATCHED
            reason = f"refused {rule.violations} times within {rule.window:g} s"
            self.auto_ban = AutoBanPlan(rule.violations, round(rule.window * 1000), round(rule.duration * 1000), reason)
        self._rules = {str(name): self._rule(name, settings.parsed(name)) for name in LIMIT_TYPES}
        self._configured = lru_cache(_PLANS)(self._rules_of)
        self._given = lru_cache(_PLANS)(self._rule)
        self._plan = lru_cache(_PLANS)(self._make_plan)

    def of_call(
        self,
        limit_types: Sequence[str],
        identifiers: Mapping[str, str] | None,
        limits: Mapping[str, Sequence[RateLimit]] | None,
    ) -> list[CountedT]:
        """Return the levels of a call: those of its types that have an identifier.

        Raises:
            InvalidInput: a limit type is unknown.
        """
        if type(limit_types) is str:
            raise InvalidInput(f"The limit types {limit_types!r} are one string: give a list, ['ip', 'user'].")
        find, identifiers = self._find, identifiers or _NOBODY
        levels: list[CountedT] = []
        configured = self._configured(tuple(limit_types))
        all_given = len(identifiers) == len(configured)
        for limit_type, rule in configured:
            identifier = identifiers.get(limit_type)
            if not identifier:
                all_given = False
                identifier = requested_identifier(limit_type, current_request())
                if identifier is None:
                    continue
            if limits and limit_type in limits:
                rule = self._given(limit_type, tuple(limits[limit_type]))
            levels.append(find(limit_type, identifier, rule))
        if not all_given:
            self._require_types(identifiers)
        if limits:
            self._require_types(limits)
        return levels

    def of_identifier(self, limit_type: str, identifier: str) -> CountedT:
        """Return the configured level of an identifier."""
        if limit_type not in self._rules:
            refuse_type(limit_type)
        return self._find(limit_type, identifier, self._rules[limit_type])

    def plan(self, levels: Sequence[Counted], cost: int, *, consume: bool = True) -> str:
        """Return the plan of a call."""
        return self._plan(cost, consume, *[level.rule for level in levels])

    def _make_plan(self, cost: int, consume: bool, *rules: Rule) -> str:
        return plan_text(rules, cost, consume, self.auto_ban)

    def _rule(self, limit_type: str, limits: Sequence[RateLimit]) -> Rule:
        meters = tuple(meter_for(limit) for limit in dict.fromkeys(self._shared(limits)))
        return rule_for(meters, self._flags[limit_type])

    def _shared(self, limits: Sequence[RateLimit]) -> Iterator[RateLimit]:
        for limit in limits:
            whole = self._share == 1.0
            yield limit if whole else RateLimit(max(1, int(limit.amount * self._share)), limit.period_s)

    def _rules_of(self, limit_types: tuple[str, ...]) -> tuple[tuple[str, Rule], ...]:
        """Return the configured rule of each type, each once."""
        self._require_types(limit_types)
        return tuple((limit_type, self._rules[limit_type]) for limit_type in dict.fromkeys(limit_types))

    def _require_types(self, names: Iterable[str]) -> None:
        for limit_type in names:
            if limit_type not in self._rules:
                refuse_type(limit_type)


def refuse_type(limit_type: object) -> Never:
    """Say which limit types there are."""
    raise InvalidInput(f"The limit type {limit_type!r} is unknown: there are {', '.join(LIMIT_TYPES)}.")
