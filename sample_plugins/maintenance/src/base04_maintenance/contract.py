"""The role ``maintenance``: whether the application is closed, and why."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final

from base04_hookspecs import Manager

PASS: Final = "maintenance.pass"  # noqa: S105 - the name of a permission
"""Whoever holds it is let in while the application is closed."""

WRITE: Final = "maintenance.write"
"""Whoever holds it may close and open."""


@dataclass(frozen=True, slots=True)
class Closure:
    """That the application is closed: since when, until when, and what visitors are told.

    Times are in seconds since the epoch; ``ends_at`` is None where nobody knows yet.
    """

    message: str
    since: float
    ends_at: float | None = None
    by: str | None = None

    def is_over(self, now: float | None = None) -> bool:
        """Tell whether its end has come."""
        return self.ends_at is not None and self.ends_at <= (time.time() if now is None else now)

    def retry_after(self, otherwise: float) -> float:
        """Return after how many seconds to come back; ``otherwise`` where nobody knows."""
        return otherwise if self.ends_at is None else max(1.0, self.ends_at - time.time())


class MaintenanceManager(Manager):
    """Knows whether the application is closed, in all processes."""

    role: ClassVar[str] = "maintenance"

    open_paths: tuple[str, ...] = ()
    """What stays open: these paths, and what is below them."""

    retry_after: float = 60.0
    """After how many seconds visitors are told to come back, where nobody knows the end."""

    @abstractmethod
    def current(self) -> Closure | None:
        """Return why the application is closed, None where it is open. Asked for each request: does no I/O."""

    @abstractmethod
    async def close(self, message: str, duration: float | None, by: str | None) -> Closure:
        """Close the application, or change what visitors are told; ``duration`` is in seconds, None for no end.

        When this returns, it is written, and this process knows it; the others learn of it soon.

        Raises:
            ManagerUnavailable: it cannot be written just now.
        """

    @abstractmethod
    async def reopen(self) -> bool:
        """Open the application; False where it is open.

        Raises:
            ManagerUnavailable: it cannot be written just now.
        """
