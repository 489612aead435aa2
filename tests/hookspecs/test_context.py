from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base04_hookspecs import ANONYMOUS, Principal, RequestContext, current_request, grants, require_permission
from base04_hookspecs.context import use_request
from base04_hookspecs.errors import AuthenticationError, PermissionDenied

words = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=6)
permissions = st.lists(words, min_size=1, max_size=4).map(".".join)


@given(permissions)
def test_grants_a_permission_and_the_star_cover_it(permission: str) -> None:
    assert grants([permission], permission)
    assert grants(["*"], permission)
    assert not grants([], permission)


@given(permissions, permissions)
def test_grants_a_prefix_covers_what_is_below_it_and_nothing_else(prefix: str, rest: str) -> None:
    pattern = f"{prefix}.*"
    assert grants([pattern], f"{prefix}.{rest}")
    assert not grants([pattern], prefix)
    assert not grants([pattern], f"{prefix}{rest}")
    assert not grants([pattern], f"{prefix}.")
    assert not grants([pattern], f"x{prefix}.{rest}")


@given(permissions, permissions)
def test_grants_a_pattern_may_itself_be_asked_for(prefix: str, rest: str) -> None:
    assert grants([f"{prefix}.*"], f"{prefix}.{rest}.*")
    assert grants([f"{prefix}.*"], f"{prefix}.*")
    assert not grants([f"{prefix}.{rest}.*"], f"{prefix}.*")
    assert not grants([f"{prefix}.*"], "*")


@given(permissions, permissions)
def test_grants_a_permission_without_a_star_covers_itself_alone(held: str, asked: str) -> None:
    assert grants([held], asked) == (held == asked)


def test_grants_of_the_design() -> None:
    assert grants(["users.*"], "users.write")
    assert grants(["users.*"], "users.a.b")
    assert not grants(["users.*"], "users")
    assert not grants(["users.*"], "usersx")
    assert grants(["a", "users.write"], "users.write")


def test_principal_anonymous_may_nothing() -> None:
    assert not ANONYMOUS.authenticated
    assert not ANONYMOUS.may("anything")
    assert Principal("ada", ("users.*",), "token").may("users.write")


async def test_current_request_follows_tasks_and_threads_and_ends_with_its_block() -> None:
    context = RequestContext("r1", Principal("ada", method="token"))

    async def in_task() -> RequestContext | None:
        return current_request()

    with use_request(context) as entered:
        assert entered is context
        assert await asyncio.create_task(in_task()) is context
        assert await asyncio.to_thread(current_request) is context
        with use_request(RequestContext("r2")):
            assert current_request() != context
        assert current_request() is context
    assert current_request() is None


def test_required_permission_is_that_of_whoever_the_request_is_for() -> None:
    ada = Principal("ada", ("notes.*",), "token")
    with use_request(RequestContext("r", ada)):
        assert require_permission("notes.read") is ada
        with pytest.raises(PermissionDenied, match=r"host\.read") as caught:
            require_permission("host.read")
    assert caught.value.missing == ("host.read",)


def test_strangers_and_calls_without_a_request_hold_no_permission() -> None:
    with pytest.raises(AuthenticationError):
        require_permission("notes.read")
    with use_request(RequestContext("r")), pytest.raises(AuthenticationError):
        require_permission("notes.read")
