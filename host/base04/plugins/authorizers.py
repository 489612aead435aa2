"""The plugins' decisions on rooms, as the role ``websocket`` gets them."""

from __future__ import annotations

import functools
from typing import Any

from base04.plugins.contributions import Contributions
from base04.plugins.isolation import described, escapes
from base04.plugins.signatures import is_async
from base04_hookspecs.websocket import RoomAuthorizer


def guarded(contributions: Contributions) -> tuple[RoomAuthorizer, ...]:
    """Return the callables of ``authorize_room``; what one raises is kept with its plugin.

    Whatever it is, an ``Exception`` comes out: a provider of the role refuses then, and its connections go on.
    """
    return tuple(_guarded(contributions, function) for function in contributions.authorize_room)


def _guarded(contributions: Contributions, function: Any) -> RoomAuthorizer:
    def raised(error: BaseException) -> BaseException:
        if escapes(error):
            return error
        contributions.blame("authorize_room", function, error)
        return error if isinstance(error, Exception) else RuntimeError(described(error))

    @functools.wraps(function)
    async def awaited(*args: Any) -> bool | None:
        try:
            answer: bool | None = await function(*args)
        except BaseException as error:
            raise raised(error) from error
        return answer

    @functools.wraps(function)
    def called(*args: Any) -> Any:
        try:
            return function(*args)
        except BaseException as error:
            raise raised(error) from error

    return awaited if is_async(function) else called
