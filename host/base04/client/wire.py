"""One connection: messages out, answers back, everything else to whoever listens."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from base04.client.errors import ConnectionLost, NoAnswer, Refused
from base04.client.settings import OTHER_TOKEN, ClientSettings
from base04.telemetry.origin import trace_headers

_OVER: Final = 1006
"""What there is instead of a close code where the connection ended without one (RFC 6455, section 7.1.5)."""

_CLOSE_S: Final = 1.0

Listener = Callable[[Mapping[str, Any]], None]


class NotConnected(Exception):
    """There is no connection. ``code`` is a close code, or the HTTP status of a refused handshake."""

    def __init__(self, code: int, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(f"{reason or 'the connection ended'} ({code})")
        self.code = code
        self.reason = reason
        self.retry_after = retry_after


class Wire:
    """A WebSocket that the server has greeted. ``retry_after`` is what it asked for before it closed, if it did."""

    def __init__(self, socket: ClientConnection, greeting: Mapping[str, Any], timeout_s: float) -> None:
        self.sid: str = greeting["sid"]
        self.user_id: str | None = greeting["user_id"]
        self.retry_after: float | None = None
        self._socket = socket
        self._timeout_s = timeout_s
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}

    @classmethod
    async def open(cls, url: str, token: str, settings: ClientSettings) -> Self:
        """Connect and wait for the greeting.

        Raises:
            NotConnected: the server did not let us in, or did not answer in time.
        """
        try:
            async with asyncio.timeout(settings.timeout):
                socket = await connect(
                    url,
                    additional_headers={"Authorization": f"Bearer {token}", **trace_headers()},
                    ping_interval=settings.ping_interval,
                    ping_timeout=settings.timeout,
                    close_timeout=_CLOSE_S,
                )
                try:
                    return cls(socket, json.loads(await socket.recv()), settings.timeout)
                except BaseException:
                    await socket.close()
                    raise
        except InvalidStatus as error:
            raise _refusal(error) from error
        except ConnectionClosed as error:
            raise _ended(error) from error
        except (OSError, TimeoutError, InvalidHandshake) as error:
            raise NotConnected(_OVER, str(error) or type(error).__name__) from error

    async def read(self, listener: Listener) -> NotConnected:
        """Hand everything that is no answer to the listener; return how the connection ended."""
        try:
            async for text in self._socket:
                self._take(json.loads(text), listener)
        except ConnectionClosed as error:
            return _ended(error, self.retry_after)
        finally:
            self._give_up()
        return NotConnected(
            self._socket.close_code or _OVER, self._socket.close_reason or "", retry_after=self.retry_after
        )

    async def ask(self, message: Mapping[str, Any], timeout_s: float | None = None) -> Any:
        """Send a message and return what the server acknowledges it with.

        Raises:
            Refused: the server says no.
            NoAnswer: nothing came in time.
            ConnectionLost: the connection broke.
        """
        number = next(self._numbers)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            async with asyncio.timeout(timeout_s or self._timeout_s):
                await self._socket.send(json.dumps({**message, "id": number}))
                return await answer
        except TimeoutError:
            raise NoAnswer("No answer came in time: whether this was done cannot be known.", sent=True) from None
        except ConnectionClosed as error:
            raise ConnectionLost("The connection broke: whether this was done cannot be known.") from error
        finally:
            self._asked.pop(number, None)

    async def close(self) -> None:
        """End the connection."""
        await self._socket.close()

    def _take(self, message: Mapping[str, Any], listener: Listener) -> None:
        kind = message["type"]
        answer = self._asked.get(message.get("id", 0)) if kind in ("ack", "auth_ok", "error") else None
        if kind == "reconnect":
            self.retry_after = float(message["after"])
        elif answer is None:
            listener(message)
        elif answer.done():
            return
        elif kind == "error":
            answer.set_exception(refused(message["error"]))
        else:
            answer.set_result(message.get("result"))

    def _give_up(self) -> None:
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(ConnectionLost("The connection broke: whether this was done cannot be known."))


def refused(error: Mapping[str, Any]) -> Refused:
    """Return the exception of an error message."""
    details = {key: value for key, value in error.items() if key not in ("code", "message")}
    return Refused(error["code"], error["message"], details)


def _refusal(error: InvalidStatus) -> NotConnected:
    response = error.response
    after = response.headers.get("Retry-After", "")
    code = min(OTHER_TOKEN) if response.status_code == 401 else response.status_code
    reason = response.body.decode(errors="replace") if response.body else f"HTTP {response.status_code}"
    return NotConnected(code, reason, retry_after=float(after) if after.isdecimal() else None)


def _ended(error: ConnectionClosed, retry_after: float | None = None) -> NotConnected:
    if error.rcvd is None:
        return NotConnected(_OVER, str(error), retry_after=retry_after)
    return NotConnected(error.rcvd.code, error.rcvd.reason, retry_after=retry_after)
