"""A client for Redis servers in as few lines as that takes, independent of the library under test."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

REPLY_TIMEOUT_S: Final = 30.0


class RespError(RuntimeError):
    """The server answered with an error."""


class RespClient:
    """Sends commands and reads replies in RESP2, and blocks meanwhile."""

    def __init__(self, address: tuple[str, int] | Path, *, tls: ssl.SSLContext | None = None) -> None:
        if isinstance(address, Path):
            self._socket = socket.socket(socket.AF_UNIX)
        else:
            self._socket = socket.socket(socket.AF_INET)
        try:
            self._socket.settimeout(REPLY_TIMEOUT_S)
            self._socket.connect(str(address) if isinstance(address, Path) else address)
            if tls is not None:
                self._socket = tls.wrap_socket(self._socket, server_hostname="localhost")
        except OSError:
            self._socket.close()
            raise
        self._reader = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()
        self._socket.close()

    def command(self, *parts: str | int) -> Any:
        """Send one command and return its reply.

        Raises:
            RespError: the reply is an error.
            ConnectionError: the server closed the connection.
        """
        encoded = [str(part).encode() for part in parts]
        head = f"*{len(encoded)}\r\n".encode()
        self._socket.sendall(head + b"".join(b"$%d\r\n%s\r\n" % (len(one), one) for one in encoded))
        return self._reply()

    def run(self, lua: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Run a Lua body."""
        return self.command("EVAL", lua, len(keys), *keys, *args)

    def _reply(self) -> Any:
        line = self._reader.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"":
            raise ConnectionResetError("The server closed the connection.")
        if kind == b"-":
            raise RespError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._reader.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return None if rest == b"-1" else [self._reply() for _ in range(int(rest))]
        return rest.decode()
