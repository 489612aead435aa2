"""What clients can ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import structlog

from base04_builtin.callbacks import call
from base04_builtin.websocket import messages
from base04_builtin.websocket.authentication import Authentication
from base04_builtin.websocket.authorization import RoomRules
from base04_builtin.websocket.calls import ActionCalls
from base04_builtin.websocket.codes import Refusal
from base04_builtin.websocket.connection import Connection, describe
from base04_builtin.websocket.faults import refusal_for
from base04_builtin.websocket.hub import Hub
from base04_builtin.websocket.settings import NativeSettings
from base04_hookspecs import current_request
from base04_hookspecs.websocket import EventHandler

_log = structlog.get_logger()

Message = Mapping[str, Any]


class Commands:
    """Carries out the messages of clients and answers them."""

    def __init__(self, settings: NativeSettings, authentication: Authentication, rules: RoomRules, hub: Hub) -> None:
        self.handlers: dict[str, EventHandler] = {}
        self.calls = ActionCalls(settings.max_calls_per_connection)
        self._settings = settings
        self._authentication = authentication
        self._rules = rules
        self._hub = hub
        self._builtin: Final[Mapping[str, Callable[[Connection, Message], Awaitable[Any]]]] = {
            "join": self._join,
            "leave": self._leave,
        }

    async def carry_out(self, connection: Connection, message: Message, message_id: messages.MessageId) -> None:
        """Do what a client with a user asks for, and acknowledge it where it has an id.

        Raises:
            Refusal: it does not get it.
            ConnectionEnds: its token is not valid any more.
            Base04Error: what managers raise for callers.
        """
        kind = message.get("type")
        if kind == "ping":
            connection.send(_PONG if message_id is None else messages.ack(message_id))
            return
        if kind == "auth":
            await self._renew(connection, message, message_id)
            return
        if kind == "call" and connection.builtin:
            await self._call(connection, message, message_id)
            return
        result = await self._command(connection, kind)(connection, message)
        if message_id is not None:
            connection.send(messages.ack(message_id, result))

    def _command(self, connection: Connection, kind: Any) -> Callable[[Connection, Message], Awaitable[Any]]:
        if kind == "emit":
            return self._emit
        command = self._builtin.get(kind) if connection.builtin and isinstance(kind, str) else None
        if command is None:
            raise Refusal("unknown_type", "'type' must be one of auth, join, leave, emit, call and ping.")
        return command

    async def _renew(self, connection: Connection, message: Message, message_id: messages.MessageId) -> None:
        token = message.get("token")
        if not isinstance(token, str) or not token:
            raise Refusal("invalid_message", "'token' must be a string.")
        await self._authentication.identify(connection, token)
        connection.send(messages.auth_ok(connection.sid, connection.principal.user_id, message_id))

    async def _join(self, connection: Connection, message: Message) -> Any:
        room = messages.read_name(message, "room")
        since = messages.read_position(message, "since")
        watching = messages.read_flag(message, "presence")
        await self._authentication.require_current(connection)
        if room not in connection.rooms:
            if len(connection.rooms) >= self._settings.max_rooms_per_connection:
                raise Refusal(
                    "too_many_rooms",
                    f"A connection can be in {self._settings.max_rooms_per_connection} rooms: leave one first.",
                )
            await self._rules.require(connection.principal, room, "join")
        page = await self._hub.delivery.join(connection, room, since)
        result: dict[str, Any] = {"epoch": None, "offset": None}
        if page is not None:
            result = {"epoch": page.epoch, "offset": page.offset}
        if since is not None:
            result["recovered"] = page is not None and page.complete
        if watching:
            result["users"] = self._hub.watch(connection, room)
        elif watching is False:
            self._hub.unwatch(connection, room)
        return result

    async def _leave(self, connection: Connection, message: Message) -> None:
        self._hub.rooms.leave(connection, messages.read_name(message, "room"))

    async def _emit(self, connection: Connection, message: Message) -> Any:
        event = messages.read_name(message, "event")
        await self._authentication.require_current(connection)
        handler = self.handlers.get(event)
        if handler is not None:
            return await call(handler, connection.sid, message.get("data"))
        if not connection.builtin or message.get("room") is None:
            raise Refusal("unknown_event", f"Nobody answers the event {event!r}; one for a room needs 'room'.")
        room = messages.read_name(message, "room")
        if room not in connection.rooms:
            raise Refusal("not_in_room", f"You are not in the room {room!r}: join it first.", room=room)
        await self._rules.require(connection.principal, room, "emit")
        self._require_quiet(room)
        _, position = await self._hub.delivery.emit(room, event, message.get("data"), connection.principal.user_id)
        return position

    def _require_quiet(self, room: str) -> None:
        found = self._hub.rooms.find(room)
        if found is None or found.bucket is None:
            return
        wait = found.bucket.take_if_any(asyncio.get_running_loop().time())
        if wait:
            raise Refusal("rate_limited", f"Too much is sent to the room {room!r}.", room=room, retry_after=wait)

    async def _call(self, connection: Connection, message: Message, message_id: messages.MessageId) -> None:
        action = messages.read_name(message, "action")
        args = messages.read_object(message, "args")
        await self._authentication.require_current(connection)

        async def answer(result: Awaitable[Any]) -> None:
            try:
                found = await result
                if message_id is not None:
                    connection.send(messages.ack(message_id, found))
            except Exception as exc:  # noqa: BLE001 - refuse() logs whatever is not meant for callers
                refuse(connection, message_id, exc)

        self.calls.begin(connection, action, args, answer)


_PONG: Final = messages.encode({"type": "pong"})


def refuse(connection: Connection, message_id: messages.MessageId, exc: Exception) -> None:
    """Tell a client why it does not get what it asked for, and the log what only the log may know."""
    request = current_request()
    request_id = request.request_id if request is not None else connection.sid
    refusal = refusal_for(exc, request_id)
    if refusal.code == "internal":
        _log.error("websocket message failed", request_id=request_id, exc_info=exc, **describe(connection))
    connection.send(messages.error(message_id, refusal.code, refusal.message, refusal.details))
