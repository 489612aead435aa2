"""Counts that one process holds: they are those of the script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from base04_builtin.rate_limiter.check_script import CHECK
from base04_builtin.rate_limiter.counts import Counts
from base04_builtin.rate_limiter.identifiers import Subject
from base04_builtin.rate_limiter.levels import Levels, level_finder
from base04_builtin.rate_limiter.local_check import LocalCheck
from base04_builtin.rate_limiter.replies import Ban, read_result
from base04_builtin.rate_limiter.settings import GcraRateLimiterSettings
from base04_hookspecs.rate_limiter import RateLimit, RateLimitResult
from rate_limiter_kit import ClockedStore, GcraModel

WHO = {"ip": "192.0.2.1", "user": "ada", "api_key": "key"}


class Twins:
    """The same calls, counted in the process and by the script's Python body, on one clock."""

    def __init__(self, **values: Any) -> None:
        self.settings = GcraRateLimiterSettings.model_validate(values)
        self.store = ClockedStore()
        self.bans: dict[str, Ban] = {}
        self.local = LocalCheck(self.settings, Counts(100, self.store.now_ms), self.bans, self.on_ban)
        self.levels = Levels(self.settings, level_finder())

    def on_ban(self, subject: Subject, ban: Ban) -> None:
        self.bans[subject.entry] = ban

    def check(self, limit_types: Sequence[str], cost: int) -> RateLimitResult:
        here = self.local.check(limit_types, WHO, None, cost)
        levels = self.levels.of_call(limit_types, WHO, None)
        plan = self.levels.plan(levels, cost)
        replies: Any = CHECK.python(self.store, [key for level in levels for key in level.keys], [plan])
        assert here == read_result(levels, replies[0], cost)
        return here


TEXTS = st.lists(
    st.builds("{}/{} seconds".format, st.integers(1, 30), st.integers(1, 20)), min_size=1, max_size=3, unique=True
)
TYPES = st.lists(st.sampled_from(sorted(WHO)), min_size=1, max_size=3, unique=True)
SETTINGS = st.fixed_dictionaries(
    {
        "limits": st.fixed_dictionaries(dict.fromkeys(WHO, TEXTS)),
        "shadow": st.lists(st.sampled_from(sorted(WHO)), max_size=2, unique=True),
        "auto_ban": st.none()
        | st.fixed_dictionaries(
            {
                "violations": st.integers(1, 4),
                "window": st.floats(0.1, 20),
                "duration": st.floats(0.1, 20),
                "types": st.lists(st.sampled_from(sorted(WHO)), min_size=1, max_size=3, unique=True),
            }
        ),
    }
)


@given(SETTINGS, st.lists(st.tuples(st.integers(0, 3000), TYPES, st.integers(1, 8)), max_size=60))
@settings(deadline=None)
def test_counts_of_the_process_are_those_of_the_script(
    values: dict[str, Any], calls: list[tuple[int, list[str], int]]
) -> None:
    twins = Twins(**values)
    for pause, limit_types, cost in calls:
        twins.store.now += pause
        twins.check(limit_types, cost)


@given(
    st.lists(st.builds(RateLimit, st.integers(1, 50), st.integers(1, 20)), min_size=1, max_size=3, unique=True),
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 8)), max_size=60),
)
@settings(deadline=None)
def test_counts_agree_with_the_definition_of_gcra(limits: list[RateLimit], calls: list[tuple[int, int]]) -> None:
    clock, model = ClockedStore(), GcraModel(limits)
    local = LocalCheck(GcraRateLimiterSettings(), Counts(100, clock.now_ms), {}, lambda subject, ban: None)
    for pause, cost in calls:
        clock.now += pause
        result = local.check(["action"], {"action": "act"}, {"action": limits}, cost)
        assert result["allowed"] is model.check(clock.now, cost)


def test_limits_that_come_and_go_are_counted_on() -> None:
    clock = ClockedStore()
    local = LocalCheck(GcraRateLimiterSettings(), Counts(100, clock.now_ms), {}, lambda subject, ban: None)
    hour, day = RateLimit(3, 3600), RateLimit(5, 86_400)

    def remaining(*limits: RateLimit) -> list[int]:
        result = local.check(["action"], {"action": "act"}, {"action": limits}, 1)
        return [state["remaining"] for state in result["limits"]]

    assert remaining(hour) == [2]
    assert remaining(day) == [4]
    assert remaining(day, hour) == [3, 1]
    assert remaining(hour) == [0]
    clock.now += 3_600_000
    assert remaining(day) == [2]
    assert remaining(hour, day) == [2, 1]


def test_bound_that_was_lowered_holds() -> None:
    counts, levels = Counts(1000), GcraRateLimiterSettings()
    local = LocalCheck(levels, counts, {}, lambda subject, ban: None)
    for number in range(400):
        local.check(["user", "api_key"], {"user": f"user-{number}", "api_key": f"key-{number}"}, None, 1)
    assert len(counts) == 800
    counts.size = 100
    local.check(["action"], {"action": "act"}, {"action": [RateLimit(1, 1)]}, 1)
    assert len(counts) == 100


def test_new_subjects_drop_those_whose_counts_are_over() -> None:
    clock = ClockedStore()
    counts = Counts(1_000_000, clock.now_ms)
    values = GcraRateLimiterSettings.model_validate({"limits": {"user": "10/second"}})
    local = LocalCheck(values, counts, {}, lambda subject, ban: None)
    for number in range(5000):
        local.check(["user"], {"user": f"user-{number}"}, None, 1)
    assert len(counts) == 5000
    clock.now += 60_000
    for number in range(5000):
        local.check(["user"], {"user": f"later-{number}"}, None, 1)
    assert len(counts) <= 5001
    assert counts.evicted == 0
