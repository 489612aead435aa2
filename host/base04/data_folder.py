"""The folder that holds what a host keeps: one host at a time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import IO, Any, Final

from base04.errors import FolderInUse, HostError

_LONGEST_SOCKET_PATH: Final = 100  # bytes; the kernel takes 108, NUL included
_ANNOUNCEMENT_BYTES: Final = 1024
_TRIES: Final = 5
_PAUSE_S: Final = 0.02


class DataFolder:
    """A data folder, held by an ``flock`` from ``acquire`` to ``release``.

    The lock file tells others who holds it: a JSON object with ``pid``, ``socket`` and, once it serves, ``url``. The
    kernel drops the lock when the process dies, however it dies.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self._lock_file = self.path / "host.lock"
        self._held: IO[str] | None = None

    @property
    def socket_path(self) -> Path:
        """Where the running host listens for commands; elsewhere when the folder's own path is too long for that."""
        path = self.path / "control.sock"
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
            return path
        name = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"base04-{os.getuid()}-{name}" / "control.sock"

    def acquire(self) -> None:
        """Create the folder where it is missing, and hold it.

        Raises:
            FolderInUse: another process holds it; the message names it.
            HostError: it cannot be made or written to.
        """
        try:
            held = self._open()
        except OSError as error:
            raise HostError(
                f"The data folder {str(self.path)!r} cannot be used: {error.strerror or error}. "
                "Make it writable, or use another data_dir."
            ) from error
        if not _locked(held):
            holder = _read(held)
            held.close()
            who = f"process {holder['pid']}" if "pid" in holder else "another process"
            where = f", which serves {holder['url']}" if holder.get("url") else ""
            raise FolderInUse(
                f"The data folder {str(self.path)!r} is held by {who}{where}. Stop it, or use another data_dir."
            )
        self._held = held
        self.announce()

    def _open(self) -> IO[str]:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return open(descriptor, "r+", encoding="utf-8")

    def announce(self, url: str | None = None) -> None:
        """Write down who holds the folder, and where it serves."""
        if self._held is None:
            return
        told = json.dumps({"pid": os.getpid(), "socket": str(self.socket_path), "url": url})
        # One write of always the same length, so that who reads meanwhile sees the old text or the new one.
        os.pwrite(self._held.fileno(), told.ljust(_ANNOUNCEMENT_BYTES).encode(), 0)

    @property
    def held(self) -> bool:
        """Whether this object holds the folder."""
        return self._held is not None

    @property
    def lock(self) -> int:
        """The descriptor of the lock, which a process that inherits it holds too.

        Raises:
            HostError: the folder is not held.
        """
        if self._held is None:
            raise HostError(f"The data folder {str(self.path)!r} is not held.")
        return self._held.fileno()

    def release(self) -> None:
        """Let the next host in. Does nothing where the folder is not held."""
        if self._held is None:
            return
        self._held.seek(0)
        self._held.truncate()
        self._held.close()
        self._held = None

    def holder(self) -> dict[str, Any] | None:
        """Return what the host that holds the folder wrote down, None where nobody holds it."""
        try:
            with open(self._lock_file, encoding="utf-8") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return _read(file)
                return None
        except OSError:
            return None


def _locked(file: IO[str]) -> bool:
    """Take the lock; somebody who only looks who holds it may have it for a moment."""
    for _ in range(_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_PAUSE_S)
    return False


def _read(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    try:
        found = json.load(file)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
