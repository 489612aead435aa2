"""The Unix socket through which the host's own user gives commands to the running host."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from base04.data_folder import DataFolder
from base04.errors import HostError
from base04.http.authentication import LOCAL_SCOPE_KEY


class LocalCaller:
    """Marks what comes in through the control socket as the host's own user."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        scope[LOCAL_SCOPE_KEY] = True
        await self._app(scope, receive, send)


def bound_socket(path: Path) -> socket.socket:
    """Bind a Unix socket that only its owner can open; one that a dead host left behind is replaced.

    Raises:
        HostError: it cannot be made.
    """
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(os.fspath(path))
    except OSError as error:
        listener.close()
        raise HostError(
            f"Cannot listen on the control socket {str(path)!r}: {error.strerror or error}. "
            "Use a data_dir with a shorter path, or a shorter TMPDIR."
        ) from error
    finally:
        os.umask(before)
    return listener


@contextlib.contextmanager
def control_listener(folder: DataFolder) -> Iterator[socket.socket]:
    """Hold the control socket, bound: who serves it begins to listen."""
    path = folder.socket_path
    if path.parent != folder.path:
        _make_private(path.parent)
    listener = bound_socket(path)
    try:
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)
        if path.parent != folder.path:
            with contextlib.suppress(OSError):  # the next host with this folder has made a socket there already
                path.parent.rmdir()


def _make_private(path: Path) -> None:
    """Make a folder below a shared one, where somebody else may have been first."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise HostError(
            f"The folder {str(path)!r}, for the control socket, is not private to this user. Remove it, or use a "
            "data_dir with a shorter path, which then holds the socket itself."
        )
