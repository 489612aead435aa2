from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.redis import key_name

parts = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=3)


def test_key_name_as_documented() -> None:
    assert key_name("state", "user_1") == "b04:state:user_1"
    assert key_name("ip", "1.2.3.4", slot="limits") == "b04:{limits}:ip:1.2.3.4"
    assert key_name("a b{c}%") == "b04:a%20b%7Bc%7D%25"


@given(parts, st.none() | st.text(min_size=1, max_size=8))
def test_key_name_has_braces_around_the_slot_alone_and_no_white_space(names: list[str], slot: str | None) -> None:
    key = key_name(*names, slot=slot)
    assert key.count("{") == key.count("}") == (slot is not None)
    assert not set(key) & set(" \t\r\n\0")


@given(st.text(min_size=1, max_size=8), st.text(min_size=1, max_size=8))
def test_key_name_of_one_part_is_never_that_of_another(one: str, other: str) -> None:
    assert (key_name(one) == key_name(other)) == (one == other)


@pytest.mark.parametrize("names", [(), ("",), ("a", "")])
def test_key_name_refuses_empty_parts(names: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match="give at least one, and none empty"):
        key_name(*names)
