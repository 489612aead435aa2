"""The handlers are ordinary functions: they are tested by calling them."""

from __future__ import annotations

from typing import Any, cast

import structlog
from base04_greetings.handlers import forget, greet, visit

from base04_hookspecs import ANONYMOUS, blocking
from base04_hookspecs.action_discovery import ActionContext
from base04_hookspecs.redis import RedisManager


class Counters:
    """As much of ``redis`` as the handlers use."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}

    def incr(self, key: str) -> int:
        self.values[key] = self.values.get(key, 0) + 1
        return self.values[key]

    async def delete(self, key: str) -> bool:
        return self.values.pop(key, None) is not None


async def no_action(name: str, args: Any = None) -> None:
    raise AssertionError(f"{name} is not expected to be run")


def context() -> ActionContext:
    return ActionContext("greetings.forget", "request-1", ANONYMOUS, structlog.get_logger(), no_action)


async def test_greet_repeats_the_greeting() -> None:
    assert await greet("Ada", 3) == {"message": "Hello, Ada! Hello, Ada! Hello, Ada!"}


async def test_visits_are_counted_for_each_name_until_forgotten() -> None:
    counters = Counters()
    plain, asynchronous = cast(blocking.RedisManager, counters), cast(RedisManager, counters)
    assert [visit(name, plain)["visits"] for name in ("Ada", "Ada", "Bob")] == [1, 2, 1]
    assert await forget("Ada", asynchronous, context()) == {"forgotten": True}
    assert await forget("Ada", asynchronous, context()) == {"forgotten": False}
    assert visit("Ada", plain) == {"message": "Hello, Ada! This is visit number 1.", "visits": 1}


def test_odd_names_do_not_share_a_count() -> None:
    counters = Counters()
    plain = cast(blocking.RedisManager, counters)
    for name in ("a b", "a%20b", "a{b}", "a"):
        assert visit(name, plain)["visits"] == 1
