"""What every provider of the role ``redis`` does with values, lives, counters and tags."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from base04.testing.conformance.redis_scripts import ADD, SCRIBBLE
from base04_hookspecs.errors import InvalidInput, NotFound
from base04_hookspecs.redis import RedisManager, key_name

DELIVERY_TIMEOUT_S: Final = 30.0


def unique(*parts: str) -> str:
    """Return a key that no other test uses; keys of one call of a test can share a slot through ``parts``."""
    return key_name("conformance", uuid.uuid4().hex, *parts)


async def eventually(gone: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(DELIVERY_TIMEOUT_S):
        while not await gone():  # noqa: ASYNC110 - the end of a life is announced by nothing
            await asyncio.sleep(0.01)


class RedisValuesConformance:
    """The part of ``RedisConformance`` about values."""

    async def test_ping_tells_that_it_answers(self, manager: RedisManager) -> None:
        assert await manager.ping() is True

    @pytest.mark.parametrize(
        "value",
        [
            0,
            -1,
            2**63 - 1,
            1.5,
            True,
            False,
            None,
            "",
            "text ünïcödé 🔑 \n\0",
            [],
            {},
            {"a": [1, {"b": None}]},
            [[["x"]]],
        ],
    )
    async def test_value_set_is_the_value_got(self, manager: RedisManager, value: object) -> None:
        key = unique()
        assert await manager.set(key, value) is True
        got = await manager.get(key)
        assert got == value
        assert type(got) is type(value)

    async def test_value_got_is_never_the_object_set(self, manager: RedisManager) -> None:
        key, value = unique(), {"list": [1]}
        await manager.set(key, value)
        value["list"].append(2)
        first = await manager.get(key)
        first["list"].append(3)
        assert await manager.get(key) == {"list": [1]}

    @pytest.mark.parametrize(
        "value",
        [math.nan, math.inf, {"deep": [None, -math.inf]}, object(), b"bytes", {1: "number as key"}, {1, 2}, 2**64],
    )
    async def test_value_that_is_not_json_is_refused(self, manager: RedisManager, value: object) -> None:
        key = unique()
        await manager.set(key, "before")
        with pytest.raises(InvalidInput):
            await manager.set(key, value)
        assert await manager.get(key) == "before"

    async def test_missing_key_is_none_and_has_no_life(self, manager: RedisManager) -> None:
        key = unique()
        assert await manager.get(key) is None
        assert await manager.exists(key) is False
        assert await manager.delete(key) is False
        assert await manager.expire(key, 10) is False
        with pytest.raises(NotFound):
            await manager.ttl(key)

    @pytest.mark.parametrize("key", [b"bytes", 5, None, "half a pair \ud800"])
    async def test_key_that_is_no_text_is_refused(self, manager: RedisManager, key: Any) -> None:
        with pytest.raises(InvalidInput):
            await manager.set(key, 1)

    @pytest.mark.parametrize("name", ["", " ", "ünï\0\r\n$5", "{", "}", "{}", "a{b}c", "*", "x" * 5000])
    async def test_key_may_be_any_text(self, manager: RedisManager, name: str) -> None:
        key = unique() + name
        await manager.set(key, 1, tags=[key])
        assert await manager.get(key) == 1
        assert await manager.incr(key) == 2
        assert await manager.delete_by_tag(key) == 1
        assert await manager.exists(key) is False

    async def test_large_value_comes_back_whole(self, manager: RedisManager) -> None:
        key, value = unique(), {"text": "ü" * 1_000_000, "list": list(range(100_000))}
        await manager.set(key, value, ttl=60)
        assert await manager.get(key) == value
        await manager.delete(key)

    async def test_stored_none_exists(self, manager: RedisManager) -> None:
        key = unique()
        await manager.set(key, None)
        assert await manager.exists(key) is True
        assert await manager.delete(key) is True

    @pytest.mark.parametrize("ttl", [0, -1, math.nan, math.inf, 1e11, "5", True])
    async def test_life_that_cannot_be_is_refused(self, manager: RedisManager, ttl: Any) -> None:
        key = unique()
        with pytest.raises(InvalidInput):
            await manager.set(key, 1, ttl=ttl)
        assert await manager.exists(key) is False
        await manager.set(key, 1)
        with pytest.raises(InvalidInput):
            await manager.expire(key, ttl)
        with pytest.raises(InvalidInput):
            await manager.incr(key, ttl=ttl)
        assert (await manager.get(key), await manager.ttl(key)) == (1, None)

    async def test_life_is_exact_to_the_millisecond(self, manager: RedisManager) -> None:
        key = unique()
        await manager.set(key, 1, ttl=100.0004)
        first = await manager.ttl(key) or 0
        assert round(first * 1000) == pytest.approx(first * 1000)
        assert 50 < first <= 100
        await manager.expire(key, 10**10)
        assert 10**10 - 60 < (await manager.ttl(key) or 0) <= 10**10

    async def test_shortest_life_is_a_millisecond(self, manager: RedisManager) -> None:
        key = unique()
        assert await manager.set(key, 1, ttl=0.000_001) is True

        async def gone() -> bool:
            return not await manager.exists(key)

        await eventually(gone)

    async def test_key_is_gone_after_its_life(self, manager: RedisManager) -> None:
        key = unique()
        await manager.set(key, "short", ttl=0.02)

        async def gone() -> bool:
            return await manager.get(key) is None and not await manager.exists(key)

        await eventually(gone)
        assert await manager.set(key, "again", only_if_absent=True) is True

    async def test_life_is_reported_and_can_be_changed(self, manager: RedisManager) -> None:
        key = unique()
        await manager.set(key, 1)
        assert await manager.ttl(key) is None
        assert await manager.expire(key, 500) is True
        assert 400 < (await manager.ttl(key) or 0) <= 500
        await manager.set(key, 1, ttl=50)
        assert 40 < (await manager.ttl(key) or 0) <= 50
        await manager.set(key, 1)
        assert await manager.ttl(key) is None

    async def test_only_if_absent_has_one_winner(self, manager: RedisManager) -> None:
        key = unique()
        won = await asyncio.gather(*(manager.set(key, number, only_if_absent=True) for number in range(10)))
        assert won.count(True) == 1
        assert await manager.get(key) == won.index(True)

    async def test_only_if_absent_changes_nothing_that_is_there(self, manager: RedisManager) -> None:
        key, tag = unique(), uuid.uuid4().hex
        await manager.set(key, "old", ttl=500)
        assert await manager.set(key, "new", ttl=5, only_if_absent=True, tags=[tag]) is False
        assert await manager.get(key) == "old"
        assert 400 < (await manager.ttl(key) or 0) <= 500
        assert await manager.delete_by_tag(tag) == 0
        await manager.delete(key)
        assert await manager.set(key, "new", ttl=5, only_if_absent=True, tags=[tag]) is True
        assert 0 < (await manager.ttl(key) or 0) <= 5
        assert await manager.delete_by_tag(tag) == 1

    async def test_incr_counts_from_zero_and_loses_nothing(self, manager: RedisManager) -> None:
        key = unique()
        assert sorted(await asyncio.gather(*(manager.incr(key) for _ in range(20)))) == list(range(1, 21))
        assert await manager.incr(key, -25) == -5
        assert await manager.get(key) == -5

    async def test_incr_gives_a_life_to_new_keys_alone(self, manager: RedisManager) -> None:
        key = unique()
        await manager.incr(key, ttl=500)
        await manager.incr(key, ttl=5000)
        await manager.incr(key)
        assert 400 < (await manager.ttl(key) or 0) <= 500
        await manager.set(key, 2**53)
        assert await manager.incr(key, ttl=5) == 2**53 + 1
        assert await manager.ttl(key) is None

    @pytest.mark.parametrize("amount", [1.5, "1", None, True, 2**63])
    async def test_incr_by_what_is_no_integer_is_refused(self, manager: RedisManager, amount: Any) -> None:
        key = unique()
        for ttl in (None, 5):
            with pytest.raises(InvalidInput):
                await manager.incr(key, amount, ttl=ttl)
        assert await manager.exists(key) is False

    @pytest.mark.parametrize("value", ["text", 1.5, {"a": 1}, None, "5", 2**63])
    async def test_incr_of_what_is_no_integer_is_refused(self, manager: RedisManager, value: object) -> None:
        key = unique()
        await manager.set(key, value)
        for ttl in (None, 5):
            with pytest.raises(InvalidInput):
                await manager.incr(key, ttl=ttl)
        assert await manager.get(key) == value
        assert await manager.ttl(key) is None

    async def test_incr_beyond_64_bits_is_refused(self, manager: RedisManager) -> None:
        key = unique()
        await manager.set(key, 2**63 - 1)
        with pytest.raises(InvalidInput):
            await manager.incr(key)
        assert await manager.get(key) == 2**63 - 1
        await manager.set(key, -(2**63))
        with pytest.raises(InvalidInput):
            await manager.incr(key, -1)

    async def test_delete_by_prefix_takes_those_alone(self, manager: RedisManager) -> None:
        prefix = unique("group")
        for name in ("a", "b", "c"):
            await manager.set(f"{prefix}:{name}", 1)
        await manager.set(f"{prefix}*", "a star is no pattern")
        other = unique("group")
        await manager.set(other, 1)
        assert await manager.delete_by_prefix(f"{prefix}*") == 1
        assert await manager.delete_by_prefix(f"{prefix}:") == 3
        assert await manager.delete_by_prefix(f"{prefix}:") == 0
        assert await manager.exists(other) is True
        with pytest.raises(InvalidInput):
            await manager.delete_by_prefix("")

    @pytest.mark.parametrize("end", ["*", "?", "[ab]", "[^a]", "\\", "\\*", "{a}", "ü", "\0"])
    async def test_prefix_means_itself(self, manager: RedisManager, end: str) -> None:
        prefix = unique("group")
        for name in ("a", "b", "", "^", "[", "ab"):
            await manager.set(prefix + name, 1)
        await manager.set(prefix + end + "x", 1, tags=["some tag"])
        assert await manager.delete_by_prefix(prefix + end) == 1
        assert await manager.delete_by_prefix(prefix) == 6

    async def test_delete_by_tag_takes_those_alone(self, manager: RedisManager) -> None:
        red, blue = uuid.uuid4().hex, uuid.uuid4().hex
        both, one, none = unique(), unique(), unique()
        await manager.set(both, 1, tags=[red, blue])
        await manager.set(one, 1, tags=[blue])
        await manager.set(none, 1)
        assert await manager.delete_by_tag(red) == 1
        assert await manager.delete_by_tag(blue) == 1
        assert await manager.delete_by_tag(blue) == 0
        assert await manager.exists(none) is True

    async def test_tags_go_with_the_value_they_came_with(self, manager: RedisManager) -> None:
        key, tag = unique(), uuid.uuid4().hex
        await manager.set(key, 1, tags=[tag])
        await manager.set(key, 2)
        assert await manager.delete_by_tag(tag) == 0
        await manager.set(key, 3, tags=[tag])
        await manager.set(key, 4, tags=[tag + "other"])
        assert await manager.delete_by_tag(tag) == 0
        await manager.set(key, 5, tags=[tag])
        await manager.run_script(SCRIBBLE, [key], ["6"])
        assert await manager.delete_by_tag(tag) == 0
        assert await manager.get(key) == 6
        await manager.delete(key)
        await manager.set(key, 7)
        assert await manager.delete_by_tag(tag) == 0

    async def test_tags_stay_while_the_value_is_counted_and_prolonged(self, manager: RedisManager) -> None:
        key, tag = unique(), uuid.uuid4().hex
        await manager.set(key, 2**53, ttl=500, tags=[tag, tag])
        assert await manager.incr(key) == 2**53 + 1
        assert await manager.incr(key, 2, ttl=5) == 2**53 + 3
        assert await manager.get(key) == 2**53 + 3
        assert 400 < (await manager.ttl(key) or 0) <= 500
        with pytest.raises(InvalidInput):
            await manager.incr(key, 2**63 - 1)
        assert await manager.get(key) == 2**53 + 3
        assert await manager.expire(key, 5000) is True
        assert await manager.delete_by_tag(tag) == 1

    async def test_tag_outlives_no_value_but_its_own(self, manager: RedisManager) -> None:
        short, long, tag = unique(), unique(), uuid.uuid4().hex
        await manager.set(short, 1, ttl=0.02, tags=[tag])
        await manager.set(long, 1, tags=[tag])

        async def gone() -> bool:
            return not await manager.exists(short)

        await eventually(gone)
        assert await manager.delete_by_tag(tag) == 1

    async def test_tagged_values_are_like_others(self, manager: RedisManager) -> None:
        key, tag = unique(), uuid.uuid4().hex
        for value in ({"a": [1]}, "text", 5, None, "\n"):
            await manager.set(key, value, tags=[tag, "another tag"])
            assert await manager.get(key) == value
        await manager.set(key, 40, tags=[tag])
        assert await manager.run_script(ADD, [key], [2]) == 42
        assert await manager.get(key) == 42

    async def test_tags_must_be_texts_in_a_list(self, manager: RedisManager) -> None:
        with pytest.raises(InvalidInput):
            await manager.set(unique(), 1, tags="tag")

    async def test_many_keys_have_one_tag(self, manager: RedisManager) -> None:
        tag = uuid.uuid4().hex
        keys = [unique(str(number)) for number in range(600)]
        await asyncio.gather(*(manager.set(key, 1, ttl=60, tags=[tag]) for key in keys))
        assert await manager.delete_by_tag(tag) == len(keys)

    async def test_key_set_while_its_tag_is_deleted_is_never_forgotten(self, manager: RedisManager) -> None:
        tag = uuid.uuid4().hex
        keys = [unique(str(number)) for number in range(20)]
        for _ in range(10):
            setting = [manager.set(key, 1, tags=[tag]) for key in keys]
            await asyncio.gather(*setting, *(manager.delete_by_tag(tag) for _ in range(3)))
            left = sum([await manager.exists(key) for key in keys])
            assert await manager.delete_by_tag(tag) == left
            assert not any([await manager.exists(key) for key in keys])
