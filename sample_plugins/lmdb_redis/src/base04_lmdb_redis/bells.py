"""How a process is told that there are messages for it: a named pipe that others write a byte to."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path
from typing import Final

_PRIVATE: Final = 0o600
_DRAINED_AT_ONCE: Final = 65536


class Bell:
    """The pipe of one member. Its end is that of the process: whoever rings it then knows that nobody is there."""

    def __init__(self, folder: Path) -> None:
        self.member = uuid.uuid4().bytes
        self.path = bell_path(folder, self.member)
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.mkfifo(self.path, _PRIVATE)
        # Open for both, so that the pipe never ends when a publisher closes its side.
        self.reader = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def is_in_place(self) -> bool:
        """Tell whether others still find it."""
        return self.path.exists()

    def hush(self) -> None:
        """Take all that was rung."""
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self.reader, _DRAINED_AT_ONCE)) == _DRAINED_AT_ONCE:
                pass

    def close(self) -> None:
        """Take it down."""
        os.close(self.reader)
        self.path.unlink(missing_ok=True)


def bell_path(folder: Path, member: bytes) -> Path:
    """Return where the bell of a member is."""
    return folder / "bells" / member.hex()


def ring(folder: Path, member: bytes) -> bool:
    """Wake a member; False where it is gone."""
    try:
        pipe = os.open(bell_path(folder, member), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # nobody has it open for reading, or it was taken down
        return False
    try:
        os.write(pipe, b"!")
    except BlockingIOError:
        return True  # it has been rung so often that once more changes nothing
    except OSError:
        return False
    finally:
        os.close(pipe)
    return True
