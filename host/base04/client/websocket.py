"""A client that stays connected."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Self

import structlog

from base04.client.errors import ClientClosed, ClientError, ConnectionLost, NoAnswer, Refused
from base04.client.inbox import Inbox
from base04.client.rooms import Gap, Room, RoomEvent
from base04.client.settings import FAULTS, OTHER_TOKEN, PASSING, SERVER_CLOSED, Backoff, ClientSettings
from base04.client.wire import NotConnected, Wire, refused

_log = structlog.get_logger()

_FINAL = FAULTS | {SERVER_CLOSED, 400, 403, 404, 426}

Token = str | Callable[[], str | Awaitable[str]]
"""An access token, or how to get one: asked for every connection, and ahead of the end of the one before."""


class WebSocketClient:
    """Speaks docs/websocket.md, comes back when the connection is lost, and enters its rooms again.

    ::

        async with WebSocketClient("ws://127.0.0.1:8000/ws", token=fetch_token) as client:
            await client.join("news", presence=True)
            await client.emit("news", "headline", {"n": 1})
            async for event in client.events():
                ...

    Args:
        url: the endpoint, ``ws://`` or ``wss://``.
        token: an access token, or a function that returns one.
        settings: how patient the client is.
    """

    def __init__(self, url: str, token: Token, settings: ClientSettings | None = None) -> None:
        self._url = url
        self._token = token
        self._settings = settings or ClientSettings()
        self._backoff = Backoff(self._settings)
        self._rooms: dict[str, Room] = {}
        self._inbox = Inbox(self._settings.queue_size)
        self._wire: Wire | None = None
        self._connected = asyncio.Event()
        self._closed: ClientClosed | None = None
        self._current = ""
        self._refused: tuple[str, int] | None = None
        self._runner: asyncio.Task[None] | None = None
        self._work: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._runner = asyncio.get_running_loop().create_task(self._run(), name="base04 client")
        try:
            await self._until_connected()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    @property
    def sid(self) -> str | None:
        """The name of the present connection, None where there is none."""
        return self._wire.sid if self._wire is not None else None

    @property
    def user_id(self) -> str | None:
        """Who we are to the server, None while there is no connection."""
        return self._wire.user_id if self._wire is not None else None

    @property
    def rooms(self) -> list[str]:
        """The rooms that the client is in, or wants to be in."""
        return list(self._rooms)

    def users(self, room: str) -> list[str]:
        """Return the users in a room that was joined with ``presence``, sorted."""
        known = self._rooms.get(room)
        return sorted(known.users) if known is not None else []

    def events(self) -> AsyncIterator[RoomEvent]:
        """Yield events, presence and gaps of all rooms as they come, until the client is closed.

        Raises:
            ClientClosed: the client gave up; the error says why.
        """
        return self._inbox.read()

    async def join(self, room: str, *, presence: bool = False) -> bool:
        """Enter a room and stay in it over reconnections; return whether nothing was missed since we were last in it.

        Raises:
            Refused: we may not.
            ClientClosed: the client has ended.
        """
        if self._closed is not None:
            raise self._closed
        known = self._rooms.setdefault(room, Room(room))
        known.presence = known.presence or presence
        let_in: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        known.waiting.append(let_in)
        if self._wire is not None:
            self._enter(self._wire, known)
        return await let_in

    async def leave(self, room: str) -> None:
        """Leave a room; being outside is no error."""
        known = self._rooms.pop(room, None)
        if known is not None:
            _fail(known.waiting, ClientError(f"The room {room!r} was left."))
        if self._wire is not None:
            await self._wire.ask({"type": "leave", "room": room})

    async def emit(self, room: str | None, event: str, data: Any = None, *, timeout_s: float | None = None) -> Any:
        """Send an event to a room, or with None to the server's handler, and return the answer.

        Raises:
            Refused: the server says no.
            NoAnswer: there was no connection, or no answer, in time.
            ConnectionLost: the connection broke while the answer was waited for.
            ClientClosed: the client has ended.
        """
        message: dict[str, Any] = {"type": "emit", "event": event, "data": data}
        if room is not None:
            message["room"] = room
        return await self._ask(message, timeout_s)

    async def call(self, action: str, args: Mapping[str, Any] | None = None, *, timeout_s: float | None = None) -> Any:
        """Run an action as the token's user and return its result; raises what ``emit`` does."""
        return await self._ask({"type": "call", "action": action, "args": dict(args or {})}, timeout_s)

    async def renew(self, token: str) -> None:
        """Go on with another token of the same user, without a new connection."""
        self._current = token
        if not callable(self._token):
            self._token = token
        if self._wire is not None:
            await self._wire.ask({"type": "auth", "token": token})

    async def aclose(self) -> None:
        """End the client and leave nothing running."""
        self._end(SERVER_CLOSED, "the program closed it")
        tasks = [task for task in (self._runner, *self._work) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, message: Mapping[str, Any], timeout_s: float | None) -> Any:
        if self._wire is None:
            try:
                async with asyncio.timeout(timeout_s or self._settings.timeout):
                    await self._until_connected()
            except TimeoutError:
                raise NoAnswer("There was no connection in time: nothing was sent.", sent=False) from None
        if self._wire is None:
            raise ConnectionLost("The connection broke before anything was sent.")
        return await self._wire.ask(message, timeout_s)

    async def _until_connected(self) -> None:
        await self._connected.wait()
        if self._closed is not None:
            raise self._closed

    # Connecting

    async def _run(self) -> None:
        while self._closed is None:
            try:
                end = await self._connect_once()
            except Exception as error:  # noqa: BLE001 - a token that cannot be had just now; the next try asks again
                _log.warning("the client cannot connect", url=self._url, error=repr(error))
                end = NotConnected(1006, repr(error))
            if self._is_final(end):
                self._end(end.code, str(end))
            else:
                await asyncio.sleep(end.retry_after if end.retry_after is not None else self._backoff.next())

    async def _connect_once(self) -> NotConnected:
        """Connect, serve the connection to its end, and return how it ended."""
        token = await self._fresh_token()
        if self._refused is not None and self._refused[0] == token:
            self._end(self._refused[1], "there is no other token")
            return NotConnected(self._refused[1], "there is no other token")
        self._current = token
        try:
            wire = await Wire.open(self._url, token, self._settings)
        except NotConnected as refusal:
            self._note(refusal)
            return refusal
        began = time.monotonic()
        renewal = asyncio.get_running_loop().create_task(self._renew_in_time(wire), name="base04 client renewal")
        try:
            self._adopt(wire)
            end = await wire.read(self._take)
        finally:
            self._wire = None
            self._connected.clear()
            for room in self._rooms.values():
                room.joined = False
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)
            await wire.close()
        self._note(end)
        if time.monotonic() - began >= self._settings.stable_after:
            self._backoff.reset()
        return end

    def _adopt(self, wire: Wire) -> None:
        self._wire, self._refused = wire, None
        self._connected.set()
        for room in self._rooms.values():
            self._enter(wire, room)

    def _note(self, end: NotConnected) -> None:
        if end.code in OTHER_TOKEN:
            self._refused = self._current, end.code

    def _is_final(self, end: NotConnected) -> bool:
        return end.code in _FINAL or (end.code in OTHER_TOKEN and not callable(self._token))

    def _end(self, code: int, reason: str) -> None:
        if self._closed is not None:
            return
        self._closed = ClientClosed(code, f"The client has ended: {reason}.")
        for room in self._rooms.values():
            _fail(room.waiting, self._closed)
        self._inbox.end(None if code == SERVER_CLOSED else self._closed)
        self._connected.set()

    # Tokens

    async def _fresh_token(self) -> str:
        token = self._token() if callable(self._token) else self._token
        return await token if inspect.isawaitable(token) else token

    async def _renew_in_time(self, wire: Wire) -> None:
        """Ask for another token ahead of the end of the present one, again and again."""
        while callable(self._token) and (ends := _end_of(self._current)) is not None:
            left = ends - time.time()
            await asyncio.sleep(max(left - self._settings.renew_before, left / 2, 0.05))
            try:
                token = await self._fresh_token()
                if token != self._current:
                    await wire.ask({"type": "auth", "token": token})
                    self._current = token
            except Exception as error:  # noqa: BLE001 - tried again; in the end the server closes the connection
                _log.warning("the client cannot renew its token", url=self._url, error=repr(error))

    # Rooms

    def _enter(self, wire: Wire, room: Room) -> None:
        task = asyncio.get_running_loop().create_task(self._join(wire, room), name=f"base04 client joins {room.name}")
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _join(self, wire: Wire, room: Room) -> None:
        waiting, room.waiting = room.waiting, []
        try:
            answer = await wire.ask(room.join_message())
        except ConnectionLost:
            room.waiting = waiting + room.waiting  # the next connection asks again
            return
        except NoAnswer as error:
            _fail(waiting, error)
            return
        except Refused as error:
            await self._kept_out(wire, room, waiting, error)
            return
        recovered, heard = room.let_in(answer or {})
        self._inbox.put(heard)
        for let_in in waiting:
            if not let_in.done():
                let_in.set_result(recovered)

    async def _kept_out(self, wire: Wire, room: Room, waiting: list[asyncio.Future[bool]], error: Refused) -> None:
        """Tell who waits; enter a room again later that we were in, where that may help, else forget it."""
        _fail(waiting, error)
        again = room.entered and error.code in PASSING
        if again:
            await asyncio.sleep(error.details.get("retry_after", 1.0))
        if self._rooms.get(room.name) is not room:
            return
        if not again:
            del self._rooms[room.name]
            if room.entered:
                _log.warning("the client may not enter its room again", room=room.name, error=str(error))
                self._inbox.put([Gap(room.name)])
        elif self._wire is wire:
            self._enter(wire, room)

    def _take(self, message: Mapping[str, Any]) -> None:
        kind = message["type"]
        if kind == "error":
            _log.warning("the server refused something", error=str(refused(message["error"])))
            return
        room = self._rooms.get(message.get("room", ""))
        if room is None:
            return
        if kind == "event":
            self._inbox.put(room.take_event(message))
        elif kind == "gap":
            self._inbox.put(room.take_gap(message))
        elif kind == "presence":
            self._inbox.put(room.take_presence(message))


def _fail(waiting: list[asyncio.Future[bool]], error: Exception) -> None:
    for let_in in waiting:
        if not let_in.done():
            let_in.set_exception(error)


def _end_of(token: str) -> float | None:
    """Return when a token ends, in seconds since the epoch, as far as it can be read; the server decides."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return float(claims["exp"])
    except (IndexError, ValueError, KeyError, TypeError):
        return None
