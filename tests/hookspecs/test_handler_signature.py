from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from base04_hookspecs import Manager, Use, blocking
from base04_hookspecs.action_discovery import ActionContext
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.errors import ConfigurationError
from base04_hookspecs.handler_signature import InjectedManager, handler_signature
from base04_hookspecs.redis import RedisManager

if TYPE_CHECKING:
    from base04_hookspecs.vault import VaultManager

REPORTS = Use("reports", access="read_only")


async def asynchronous(
    name: str,
    redis: RedisManager,
    named: Annotated[DatabaseManager, REPORTS],
    maybe: RedisManager | None,
    both: Annotated[DatabaseManager | None, REPORTS],
    context: ActionContext,
    *,
    times: int = 1,
    **rest: Any,
) -> VaultManager | None:
    """The annotation of the result is nobody's business."""


def plain(name: str, redis: blocking.RedisManager, maybe: blocking.DatabaseManager | None = None) -> None: ...


def injected(parameter: str, contract: Any, use: Use = Use(), *, optional: bool = False) -> InjectedManager:  # noqa: B008 - it is frozen
    """Take contracts as they are: abstract classes."""
    return InjectedManager(parameter, contract, use, optional)


def test_signature_says_what_each_parameter_gets() -> None:
    signature = handler_signature(asynchronous)
    assert signature.asynchronous
    assert signature.managers == (
        injected("redis", RedisManager),
        injected("named", DatabaseManager, REPORTS),
        injected("maybe", RedisManager, optional=True),
        injected("both", DatabaseManager, REPORTS, optional=True),
    )
    assert signature.contexts == ("context",)
    assert signature.values == {"name": True, "times": False}
    assert signature.open
    assert signature.injected == {"redis", "named", "maybe", "both", "context"}
    assert [manager.role for manager in signature.managers] == ["redis", "database", "redis", "database"]


def test_plain_function_takes_blocking_types() -> None:
    signature = handler_signature(plain)
    assert not signature.asynchronous
    assert signature.managers == (
        injected("redis", RedisManager),
        injected("maybe", DatabaseManager, optional=True),
    )
    assert not signature.open


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return wrapper


class Handlers:
    async def method(self, name: str, redis: RedisManager) -> None: ...

    async def __call__(self, name: str, redis: RedisManager) -> None: ...


async def simple(name: str, redis: RedisManager, more: int) -> None: ...


@pytest.mark.parametrize(
    "handler",
    [wrapped(simple), functools.partial(simple, more=1), Handlers().method, Handlers()],
    ids=["decorated", "partial", "method", "callable object"],
)
def test_every_kind_of_function_is_understood(handler: Callable[..., Any]) -> None:
    signature = handler_signature(handler)
    assert signature.asynchronous
    assert signature.managers == (injected("redis", RedisManager),)
    assert signature.values["name"] is True


async def hidden(vault: VaultManager) -> None: ...
async def blocked(redis: blocking.RedisManager, database: blocking.DatabaseManager) -> None: ...
def awaiting(redis: RedisManager) -> None: ...
async def roleless(manager: Manager) -> None: ...
async def positional(name: str, /) -> None: ...
async def streaming() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (hidden, "Import 'VaultManager' outside of 'if TYPE_CHECKING:'"),
        (blocked, "'redis' of an 'async def' has the type base04_hookspecs.blocking.RedisManager: annotate it with "
                  "base04_hookspecs.redis.RedisManager. The parameter 'database'"),
        (awaiting, "'redis' of a 'def' has the type base04_hookspecs.redis.RedisManager"),
        (roleless, "'manager' is annotated with Manager, which has no role"),
        (positional, "'name' is positional-only"),
        (streaming, "is a generator"),
        (RedisManager, "is a class"),
        (5, "is no function, but 'int'"),
    ],
)  # fmt: skip
def test_function_that_cannot_be_a_handler_is_refused_with_the_remedy(handler: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        handler_signature(handler)
    assert message in str(caught.value)
