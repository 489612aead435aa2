"""What a plugin's commands may ask the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol


class CommandSession(Protocol):
    """The way of a command to the host: what ``ctx.obj`` is in a command of a Typer application."""

    def ask(self, method: str, path: str, body: Any = None, *, only: Iterable[str] | None = None) -> Any:
        """Send a request to the host that runs, as the principal ``local`` with all permissions; return its answer.

        Where none runs, a host is started for this question and stopped again: what it is to keep must be in the
        database or in a file. The answer is decoded where it is JSON, None where it is empty, and text otherwise.

        Args:
            method: ``GET``, ``PUT``, ...
            path: with its query; what is not ASCII is percent-encoded.
            body: what is sent as JSON.
            only: the roles that such a host needs; None starts everything.

        Raises:
            Base04Error: the answer is a problem, or the host does not answer; the command line prints it and exits
                with status 1.
        """
