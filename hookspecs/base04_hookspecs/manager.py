"""The base of every contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

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

    one_for_all: ClassVar[bool] = False
    """Whether processes that serve as one host must have the same data here: then only providers that declare the
    capability ``shared`` may serve with several workers."""

    @classmethod
    def own_to_process(cls, settings: Any) -> str | None:
        """Say what each of several processes would keep for itself, and all should have together; None for nothing.

        The host asks before it starts with several workers, and is refused with the answer: "the counts of its
        limits". ``settings`` are those of the provider, None where they hold secrets that only the vault knows, and
        where it reads none. For what depends on settings, or a role whose contract does not say ``one_for_all``.
        """
        return None

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
