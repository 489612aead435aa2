from __future__ import annotations

import inspect

import pytest

from base04_hookspecs import errors
from base04_hookspecs.errors import (
    ActionError,
    AuthenticationError,
    Base04Error,
    Fault,
    InvalidApiKey,
    InvalidInput,
    InvalidToken,
    ManagerError,
    ManagerUnavailable,
    PermissionDenied,
    RateLimited,
    UnknownAction,
)

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, Exception)]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_errors_have_one_base_and_stand_in_the_tree_of_the_docstring(cls: type[Exception]) -> None:
    assert issubclass(cls, Base04Error)
    assert f" {cls.__name__} " in f" {errors.__doc__} ".replace("\n", " ")


@pytest.mark.parametrize("cls", [InvalidToken, InvalidApiKey, AuthenticationError])
def test_errors_of_authentication_keep_the_reason_out_of_the_message(cls: type[AuthenticationError]) -> None:
    error = cls("the signature does not match key 7")
    assert "signature" not in str(error)
    assert error.reason == "the signature does not match key 7"
    assert cls().reason == str(cls())


def test_errors_carry_what_a_caller_needs() -> None:
    assert ManagerUnavailable("down", retry_after=2.5).retry_after == 2.5
    assert InvalidInput("bad", [Fault("/a", "is missing")]).faults == (Fault("/a", "is missing"),)
    assert PermissionDenied("no", ["users.write"]).missing == ("users.write",)
    assert RateLimited("slow", retry_after=3, exceeded=["ip"]).exceeded == ("ip",)
    unknown = UnknownAction("no such action", action="greet", matches=["greetings.greet"])
    assert (unknown.action, unknown.matches) == ("greet", ("greetings.greet",))
    assert isinstance(unknown, ActionError)
    assert not isinstance(unknown, ManagerError)
