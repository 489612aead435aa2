"""The private line between the supervisor and one worker: messages over a pair of sockets."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import socket
from typing import Any, Final, Self

_LENGTH_BYTES: Final = 4


class Channel:
    """Sends and receives messages, in order. The end of either process closes it.

    Both ends are the same program under the same user and the sockets have no name that others could open, as with
    ``multiprocessing``: so messages are pickled.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def over(cls, end: socket.socket) -> Self:
        """Take over one end of a pair of sockets."""
        end.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=end))

    def send(self, message: object) -> None:
        """Send a message; in silence where the other end is gone, since ``receive`` tells of that."""
        if not self._writer.is_closing():
            content = pickle.dumps(message)
            self._writer.write(len(content).to_bytes(_LENGTH_BYTES, "big") + content)

    async def receive(self) -> Any:
        """Return the next message, None where the other end is gone."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES), "big")
            return pickle.loads(await self._reader.readexactly(length))  # noqa: S301 - from the other half of this host
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def close(self) -> None:
        """Send what was not sent yet, and close."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
