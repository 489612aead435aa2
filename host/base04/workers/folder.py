"""The data folder as workers see it, and the sockets in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from base04.data_folder import DataFolder
from base04.server.control_socket import bound_socket

_FOLDER = "workers"


class HeldFolder(DataFolder):
    """The data folder in a worker: the supervisor holds it, and as long as a worker lives, nobody else can.

    The lock is inherited, and with it the lock file; ``acquire`` and ``release`` leave both alone.
    """

    def acquire(self) -> None:
        """Do nothing: the host has the folder already."""

    def release(self) -> None:
        """Do nothing: the lock ends with the last process of the host."""

    def inherit(self, descriptor: int) -> None:
        """Take on the lock: once the supervisor is gone, ``announce`` says who still has the folder."""
        self._held = open(descriptor, "r+", encoding="utf-8")  # noqa: SIM115 - closed on exit

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None


@contextlib.contextmanager
def sockets_of_workers(folder: DataFolder) -> Iterator[Path]:
    """Make the folder for the workers' own sockets, empty, and remove it afterwards."""
    path = folder.socket_path.parent / _FOLDER
    shutil.rmtree(path, ignore_errors=True)  # what a host that was killed has left
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def own_socket(folder: Path, serial: int) -> socket.socket:
    """Return a socket for one worker, bound: no two workers ever have the same."""
    listener = bound_socket(folder / f"{serial}.sock")
    listener.listen(64)
    return listener


def path_of(listener: socket.socket) -> str:
    """Return where a socket is bound."""
    return os.fsdecode(listener.getsockname())
