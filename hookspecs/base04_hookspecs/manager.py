"""The base of every contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from base04_hookspecs.health import HealthReport


class Manager(ABC):
    """Looks after one domain of a backend service.

    A contract derives from this class, names its ``role`` and adds the abstract methods of that role. A provider
    derives from the contract; its constructor says what it needs:

    * a parameter annotated with a contract is that role's default instance, ``Contract | None`` an optional one,
      ``Annotated[Contract, Use("name")]`` a named one;
    * at most one parameter annotated with a pydantic model receives the provider's validated settings;
    * a parameter annotated with ``base04_hookspecs.app.AppManager`` is a live view of the host.

    The constructor does no I/O: that belongs to ``start``.
    """

    role: ClassVar[str]
    """The role of the contract."""

    contract_version: ClassVar[str] = "1.0"
    """The version of the contract.

    Within a major version it grows only by what is not abstract, marked with ``Since``: methods that have an answer for
    providers without one of their own, or raise ``NotSupported``.
    """

    async def start(self) -> None:  # noqa: B027 - deliberately optional
        """Open what the manager needs. Called once, after all dependencies have started.

        Raises:
            ManagerUnavailable: a backend cannot be reached; the host tries again with a fresh instance.
        """

    async def take_over(self, previous: Manager) -> None:  # noqa: B027 - deliberately optional
        """Take on what others have registered with the instance whose place this one takes.

        Called once, after ``start`` and before this instance serves. ``previous``, of the same role and perhaps of
        another provider, is in use until its last call has ended, and is stopped then.
        """

    async def stop(self) -> None:  # noqa: B027 - deliberately optional
        """Close everything that was opened. Called once, also after a ``start`` that failed or was cancelled."""

    @abstractmethod
    async def health_check(self) -> HealthReport:
        """Report the present health, by asking the backend rather than from memory."""
