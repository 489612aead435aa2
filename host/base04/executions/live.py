"""An execution that this process runs just now."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from base04_hookspecs.errors import InvalidInput

_LONGEST_MESSAGE = 1000


class Live:
    """What only the process knows that runs an execution: how far it is, and whether it was told to end."""

    def __init__(self, row: Mapping[str, Any], task: asyncio.Task[Any] | None) -> None:
        self.row = row
        self.cancel_requested = False
        self.lost = False
        self.progress: dict[str, Any] | None = row["progress"]
        self.unwritten = False
        self.ending = False
        self._task = task
        self._changed = asyncio.Event()

    def report(self, done: float, total: float | None, message: str) -> None:
        """Take what the handler says of its progress; on the loop.

        Raises:
            InvalidInput: it is not numbers and a text.
        """
        if not _is_amount(done) or not (total is None or _is_amount(total)) or not isinstance(message, str):
            raise InvalidInput(f"The progress {done!r} of {total!r} ({message!r}) is not two numbers and a text.")
        self.progress = {"done": done, "total": total, "message": message[:_LONGEST_MESSAGE]}
        self.unwritten = True
        self.tell()

    def tell(self) -> None:
        """Wake whoever follows this execution."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Wait for the next change."""
        await self._changed.wait()

    def cancel(self) -> None:
        """Stop it, since somebody asked for that."""
        self.cancel_requested = True
        self.stop()

    def lose(self) -> None:
        """Stop it, since another process has taken it."""
        self.lost = True
        self.stop()

    def stop(self) -> None:
        """Cancel what runs, unless it has ended already and this is being written."""
        if self._task is not None and not self.ending:
            self._task.cancel()


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
