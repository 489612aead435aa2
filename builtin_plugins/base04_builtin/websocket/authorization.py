"""Who may join a room, and who may emit to it."""

from __future__ import annotations

from typing import Final

import structlog

from base04_builtin.callbacks import call
from base04_builtin.websocket.codes import Refusal
from base04_hookspecs import Principal
from base04_hookspecs.websocket import RoomAuthorizer

_log = structlog.get_logger()

_OWNED: Final = "user_"


class RoomRules:
    """The decisions of plugins, then the rules of the provider itself.

    A room ``user_<id>`` is for that user and for who holds ``rooms.join`` or ``rooms.emit``, which ``rooms.*`` covers;
    every other room is for every authenticated user.
    """

    def __init__(self) -> None:
        self._authorizers: tuple[RoomAuthorizer, ...] = ()

    def bind(self, authorizers: tuple[RoomAuthorizer, ...]) -> None:
        """Take the plugins' decisions, in order."""
        self._authorizers = authorizers

    async def require(self, principal: Principal, room: str, operation: str) -> None:
        """Refuse unless the principal may ``join`` the room or ``emit`` to it.

        Raises:
            Refusal: one plugin says no, or none says yes and neither do the rules.
        """
        if not await self._allows(principal, room, operation):
            raise Refusal("forbidden", f"You may not {operation} the room {room!r}.", room=room)

    async def _allows(self, principal: Principal, room: str, operation: str) -> bool:
        if not principal.authenticated:
            return False
        allowed = False
        for authorizer in self._authorizers:
            decision = await self._ask(authorizer, principal, room, operation)
            if decision is False:
                return False
            allowed = allowed or decision is True
        return allowed or _owns(principal, room) or principal.may(f"rooms.{operation}")

    async def _ask(self, authorizer: RoomAuthorizer, principal: Principal, room: str, operation: str) -> bool | None:
        try:
            decision = await call(authorizer, principal, room, operation)
        except Exception:  # noqa: BLE001 - whoever cannot decide does not allow it
            _log.exception("room authorizer failed", authorizer=repr(authorizer), room=room, operation=operation)
            return False
        return None if decision is None else bool(decision)


def _owns(principal: Principal, room: str) -> bool:
    return not room.startswith(_OWNED) or room == f"{_OWNED}{principal.user_id}"
