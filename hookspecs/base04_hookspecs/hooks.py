"""The role ``hooks``: named events of the application.

These are not pluggy's hooks: anybody can name one and listen to it while the host runs. Managers announce
``action.executed``, ``auth.denied``, ``state.changed`` and others here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypedDict

from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import Since, hookspec
from base04_hookspecs.provider import Provider

HookCallback = Callable[..., Any]
"""Called with the data of the event as keyword arguments; may be ``async def`` or ``def``."""


class HookInfo(TypedDict):
    """One hook. ``callbacks`` are their qualified names in the order of their calls; the others count since start."""

    name: str
    description: str
    callbacks: list[str]
    triggered: int
    failures: int
    last_error: str


class HooksManager(Manager):
    """Calls back whoever listens to a named event, highest priority first."""

    role: ClassVar[str] = "hooks"
    contract_version: ClassVar[str] = "1.1"

    @abstractmethod
    async def register_hook(self, name: str, description: str = "") -> bool:
        """Declare a hook; False where it is known. Listening and triggering work without."""

    @abstractmethod
    async def register_callback(self, name: str, callback: HookCallback, priority: int = 0) -> bool:
        """Call back when the hook is triggered; False where this callback listens already.

        Higher priorities are called first, equal ones in the order of registration. A ``def`` runs in a worker
        thread.
        """

    @abstractmethod
    async def unregister_callback(self, name: str, callback: HookCallback) -> bool:
        """Stop calling back; False where it was not listening."""

    @abstractmethod
    async def trigger_hook(self, name: str, /, **data: Any) -> list[Any]:
        """Call all callbacks, one after the other, and return what those that succeeded returned.

        One that raises is logged and counted, and does not stop the next.
        """

    @Since("1.1")
    def has_callbacks(self, name: str) -> bool:
        """Tell whether somebody listens; where nobody does, ``trigger_hook`` need not be called. Does no I/O."""
        return True

    @Since("1.1")
    async def take_over(self, previous: Manager) -> None:
        """Take on the callbacks and declarations that were registered with the instance whose place this one takes.

        Called once, after ``start`` and before this instance serves. A provider that leaves this as it is loses them
        at each change.
        """

    @abstractmethod
    async def list_hooks(self) -> list[HookInfo]:
        """Return all hooks that were declared, listened to or triggered, by name."""


@hookspec
def hooks_providers() -> Iterable[Provider]:
    """Offer providers of the role ``hooks``.

    The host calls each implementation once, when it discovers plugins. None or an empty iterable offers nothing.
    """
