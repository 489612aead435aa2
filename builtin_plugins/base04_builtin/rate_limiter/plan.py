"""What a check script is to do for one call, as the text that it gets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from base04_builtin.rate_limiter.identifiers import Subject
from base04_builtin.rate_limiter.meter import Meter

SHADOW: Final = 1
"""The flag of a level that never refuses."""

WATCHED: Final = 2
"""The flag of a level whose refusals count towards a ban."""


class Rule:
    """The limits of one level of a call. Two are the same only if they are one object: see ``rule_for``."""

    __slots__ = ("flags", "meters", "suffixes", "terms")

    def __init__(self, meters: tuple[Meter, ...], flags: int) -> None:
        self.meters = meters
        self.flags = flags
        self.suffixes = tuple(meter.suffix for meter in meters)
        self.terms = tuple((one.charge, one.drain, one.capacity, one.amount, one.period_s) for one in meters)


@lru_cache(maxsize=4096)
def rule_for(meters: tuple[Meter, ...], flags: int) -> Rule:
    """Return the rule of these meters, the same one each time as long as it is in use."""
    return Rule(meters, flags)


class Counted:
    """Who is counted, by which rule."""

    __slots__ = ("rule", "subject")

    def __init__(self, subject: Subject, rule: Rule) -> None:
        self.subject = subject
        self.rule = rule


class AutoBanPlan(NamedTuple):
    """After how many refusals, in how long a time, somebody is banned, for how long. No ``violations``: never."""

    violations: int = 0
    window_ms: int = 0
    ban_ms: int = 0
    reason: str = ""


class Bucket(NamedTuple):
    """One limit of a plan. ``room`` is the level up to which a call fits.

    ``place`` is where its key is among those of the call, ``position`` where its level is in the reply.
    """

    charge: int
    capacity: int
    drain: int
    room: int
    place: int
    position: int


class PlannedLevel(NamedTuple):
    """One level of a plan; ``place`` and ``position`` are those of its ban."""

    flags: int
    place: int
    position: int
    buckets: tuple[Bucket, ...]


class Plan(NamedTuple):
    """A plan as it is read back. ``blank`` is the reply to a call that finds nothing counted."""

    consume: bool
    auto_ban: AutoBanPlan
    levels: tuple[PlannedLevel, ...]
    bans: tuple[tuple[int, int], ...]
    buckets: tuple[Bucket, ...]
    keys: int
    blank: list[Any]


def plan_text(rules: Sequence[Rule], cost: int, consume: bool, auto_ban: AutoBanPlan) -> str:
    """Return a plan as a JSON array that is read alike by both bodies of the script.

    ``consume``, the parts of ``auto_ban``, the number of levels, and for each level its flags, the number of its
    buckets, and charge, capacity and drain of each.
    """
    numbers: list[int] = []
    for rule in rules:
        numbers += (rule.flags, len(rule.meters))
        for meter in rule.meters:
            numbers += meter.arguments(cost)
    return json.dumps([int(consume), *auto_ban, len(rules), *numbers], separators=(",", ":"))


@lru_cache(maxsize=4096)
def read_plan(text: str) -> Plan:
    """Read what ``plan_text`` has written."""
    consume, violations, window_ms, ban_ms, reason, count, *numbers = json.loads(text)
    levels: list[PlannedLevel] = []
    blank: list[Any] = [1, 0]
    read, place = iter(numbers), 0
    for _ in range(count):
        flags, size = next(read), next(read)
        ban_place, ban_position = place, len(blank)
        blank.append("")
        place += 1
        buckets = []
        for _ in range(size):
            charge, capacity, drain = next(read), next(read), next(read)
            buckets.append(Bucket(charge, capacity, drain, capacity - charge, place, len(blank)))
            blank += (0, 0)
            place += 1
        levels.append(PlannedLevel(flags, ban_place, ban_position, tuple(buckets)))
    return Plan(
        bool(consume),
        AutoBanPlan(violations, window_ms, ban_ms, reason),
        tuple(levels),
        tuple((level.place, level.position) for level in levels),
        tuple(bucket for level in levels for bucket in level.buckets),
        place,
        blank,
    )
