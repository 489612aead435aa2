"""What clients can ask for, each as an event with an acknowledgement."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import structlog

from base04_builtin.callbacks import call, is_cancellation
from base04_builtin.websocket.authentication import Authentication
from base04_builtin.websocket.authorization import RoomRules
from base04_builtin.websocket.calls import ActionCalls
from base04_builtin.websocket.codes import CloseCode, ConnectionEnds, Refusal
from base04_builtin.websocket.connection import describe
from base04_builtin.websocket.faults import refusal_for
from base04_builtin.websocket.messages import is_name, read_name, read_object
from base04_builtin.websocket.socketio.engine import Reply
from base04_builtin.websocket.socketio.packet import check_json
from base04_builtin.websocket.socketio.rooms import Rooms
from base04_builtin.websocket.socketio.session import Session, serving
from base04_builtin.websocket.socketio.settings import SocketIOSettings
from base04_hookspecs import RequestContext, current_request
from base04_hookspecs.context import use_request
from base04_hookspecs.websocket import EventHandler

_log = structlog.get_logger()

Answer = dict[str, Any]
Command = Callable[[Session, Mapping[str, Any]], Awaitable[Any]]


class Commands:
    """Carries out the events of clients."""

    def __init__(
        self, settings: SocketIOSettings, authentication: Authentication, rules: RoomRules, rooms: Rooms
    ) -> None:
        self.handlers: dict[str, EventHandler] = {}
        self.calls = ActionCalls(settings.max_calls_per_connection)
        self._settings = settings
        self._authentication = authentication
        self._rules = rules
        self._rooms = rooms
        self._builtin: Final[Mapping[str, Command]] = {
            "auth": self._renew,
            "join": self._join,
            "leave": self._leave,
            "emit": self._emit,
        }

    async def serve(self, session: Session, event: str, data: Any, reply: Reply) -> None:
        """Answer one event through ``reply``; whatever it asks for, the connection of others goes on."""
        wait = session.bucket.take(asyncio.get_running_loop().time())
        if session.bucket.overdrawn:
            session.close(CloseCode.TOO_MANY_MESSAGES, "Too many messages.")
        if not session.live:
            return
        session.messages += 1
        request = RequestContext(
            request_id=f"{session.sid}.{session.messages}",
            principal=session.principal,
            client_ip=session.client_ip,
            source="websocket",
        )
        marker = serving.set(session)
        try:
            with use_request(request):
                answer = await self._guarded(session, self._do(session, event, data, wait, reply))
        finally:
            serving.reset(marker)
        if answer is not None:
            await reply(answer)

    async def _guarded(self, session: Session, work: Awaitable[Answer | None]) -> Answer | None:
        try:
            answer = await work
            check_json(answer)
            return answer
        except ConnectionEnds as end:
            _log.info("socketio connection closed", code=int(end.code), reason=end.reason, **describe(session))
            session.close(end.code, end.reason)
            return None
        except asyncio.CancelledError as exc:
            if is_cancellation(exc):
                raise
            return self._refused(session, RuntimeError("A handler let a cancellation out of itself."))
        except Exception as exc:  # noqa: BLE001 - _refused() logs whatever is not meant for callers
            return self._refused(session, exc)

    def _refused(self, session: Session, exc: Exception) -> Answer:
        request = current_request()
        request_id = request.request_id if request is not None else session.sid
        refusal = refusal_for(exc, request_id)
        if refusal.code == "internal":
            _log.error("socketio event failed", request_id=request_id, exc_info=exc, **describe(session))
        return {"error": {"code": refusal.code, "message": refusal.message, **refusal.details}}

    async def _do(self, session: Session, event: str, data: Any, wait: float, reply: Reply) -> Answer | None:
        if wait:
            raise Refusal("rate_limited", "Too many messages: this one was not acted upon.", retry_after=wait)
        if session.builtin and event == "call":
            await self._call(session, _object(data), reply)
            return None
        command = self._builtin.get(event) if session.builtin or event == "auth" else None
        if command is not None:
            return {"result": await command(session, _object(data))}
        return {"result": await self._handled(session, event, data)}

    async def _handled(self, session: Session, event: str, data: Any) -> Any:
        if not is_name(event):
            raise Refusal("invalid_message", "An event has a printable name of 1 to 200 characters.")
        await self._authentication.require_current(session)
        handler = self.handlers.get(event)
        if handler is None:
            raise Refusal("unknown_event", f"Nobody answers the event {event!r}; one for a room is sent with 'emit'.")
        return await call(handler, session.sid, data)

    async def _renew(self, session: Session, message: Mapping[str, Any]) -> dict[str, Any]:
        token = message.get("token")
        if not isinstance(token, str) or not token:
            raise Refusal("invalid_message", "'token' must be a string.")
        await self._authentication.identify(session, token)
        return {"sid": session.sid, "user_id": session.principal.user_id}

    async def _join(self, session: Session, message: Mapping[str, Any]) -> None:
        room = read_name(message, "room")
        await self._authentication.require_current(session)
        if self._rooms.has(session.sid, room):
            return
        if len(session.joined) >= self._settings.max_rooms_per_connection:
            raise Refusal(
                "too_many_rooms",
                f"A connection can be in {self._settings.max_rooms_per_connection} rooms: leave one first.",
            )
        await self._rules.require(session.principal, room, "join")
        await self._rooms.join(session, room)

    async def _leave(self, session: Session, message: Mapping[str, Any]) -> None:
        await self._rooms.leave(session, read_name(message, "room"))

    async def _emit(self, session: Session, message: Mapping[str, Any]) -> Any:
        event = read_name(message, "event")
        if event in self.handlers or message.get("room") is None:
            return await self._handled(session, event, message.get("data"))
        await self._authentication.require_current(session)
        room = read_name(message, "room")
        if not self._rooms.has(session.sid, room):
            raise Refusal("not_in_room", f"You are not in the room {room!r}: join it first.", room=room)
        await self._rules.require(session.principal, room, "emit")
        await self._rooms.emit(room, event, message.get("data"), session.principal.user_id)
        return None

    async def _call(self, session: Session, message: Mapping[str, Any], reply: Reply) -> None:
        action = read_name(message, "action")
        args = read_object(message, "args")
        await self._authentication.require_current(session)

        async def answer(result: Awaitable[Any]) -> None:
            async def answered() -> Answer:
                return {"result": await result}

            found = await self._guarded(session, answered())
            if found is not None:
                await reply(found)

        self.calls.begin(session, action, args, answer)


def _object(data: Any) -> Mapping[str, Any]:
    if isinstance(data, dict):
        return data
    raise Refusal("invalid_message", "This event takes one JSON object.")
