"""Who may join a room, and who may emit to it."""

from __future__ import annotations

import structlog

from base04_builtin.callbacks import call
from base04_builtin.websocket.codes import Refusal
from base04_builtin.websocket.policies import USER_PREFIX, PolicyOf
from base04_hookspecs import Principal
from base04_hookspecs.websocket import RoomAuthorizer

_log = structlog.get_logger()


class RoomRules:
    """The decisions of plugins, then the rules of the provider itself.

    A room ``user_<id>`` is for that user and for who holds ``rooms.join`` or ``rooms.emit``, which ``rooms.*`` covers;
    a private one is for the latter alone. Every other room is for every authenticated user.

    Args:
        policy_of: knows what kind a room is of.
        dynamic: whether there are rooms that the settings do not name.
    """

    def __init__(self, policy_of: PolicyOf, *, dynamic: bool) -> None:
        self._policy_of = policy_of
        self._dynamic = dynamic
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
        return allowed or self._is_for(principal, room) or principal.may(f"rooms.{operation}")

    def _is_for(self, principal: Principal, room: str) -> bool:
        match self._policy_of(room).kind:
            case "user":
                return room == f"{USER_PREFIX}{principal.user_id}"
            case "private":
                return False
            case "dynamic":
                return self._dynamic
            case "public":
                return True

    async def _ask(self, authorizer: RoomAuthorizer, principal: Principal, room: str, operation: str) -> bool | None:
        try:
            decision = await call(authorizer, principal, room, operation)
        except Exception:  # noqa: BLE001 - whoever cannot decide does not allow it
            _log.exception("room authorizer failed", authorizer=repr(authorizer), room=room, operation=operation)
            return False
        return None if decision is None else bool(decision)
