"""A real ``redis-server`` that a test starts for itself, spoken to over its Unix socket."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

START_TIMEOUT_S = 30.0


class RespClient:
    """Sends commands and reads replies in RESP2, as few lines as that takes."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(START_TIMEOUT_S)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._reader = self._socket.makefile("rb")

    def close(self) -> None:
        self._reader.close()
        self._socket.close()

    def command(self, *parts: str | int) -> Any:
        """Send one command and return its reply; an error reply is raised as a RuntimeError."""
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
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._reader.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return None if rest == b"-1" else [self._reply() for _ in range(int(rest))]
        return rest.decode()


@contextmanager
def running_redis(folder: Path) -> Iterator[RespClient]:
    """Run a server that keeps nothing and listens to no port; skip the test where none is installed."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed: run 'apt-get install redis-server'")
    path = folder / "s"
    command = [
        program,
        "--port",
        "0",
        "--unixsocket",
        str(path),
        "--dir",
        str(folder),
        "--save",
        "",
        "--loglevel",
        "warning",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            client = _connected(path, process)
            try:
                yield client
            finally:
                client.close()
        finally:
            process.terminate()


def _connected(path: Path, process: subprocess.Popen[bytes]) -> RespClient:
    give_up = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            return RespClient(path)
        except OSError:
            if process.poll() is not None or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
