"""The role ``services``: objects that an application shares by name."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ClassVar, Literal, TypedDict

from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import Since, hookspec
from base04_hookspecs.provider import Provider

ServiceHook = Callable[[Any], Awaitable[None] | None]
"""Called with the service; may be ``async def`` or ``def``."""


class ServiceInfo(TypedDict):
    """One service. ``error`` is why it failed to start, empty otherwise."""

    name: str
    type: str
    status: Literal["registered", "started", "failed", "stopped"]
    error: str


class ServicesManager(Manager):
    """Keeps services by name; starts them with the host or when first asked for, stops them in reverse order."""

    role: ClassVar[str] = "services"
    contract_version: ClassVar[str] = "1.1"

    @abstractmethod
    async def register_service(
        self,
        name: str,
        service_or_factory: Any,
        *,
        start: ServiceHook | None = None,
        stop: ServiceHook | None = None,
        lazy: bool = True,
    ) -> bool:
        """Make a service known: an object, or a function without parameters (``def`` or ``async def``) that makes it.

        A lazy one is made and started when it is first asked for, otherwise now. Returns False where the name is
        taken.
        """

    @abstractmethod
    async def get_service(self, name: str) -> Any:
        """Return a service, started; concurrent callers get the same one.

        Raises:
            NotFound: there is none of that name; the message has close ones.
            ManagerUnavailable: it failed to start; the next call tries again.
        """

    @abstractmethod
    async def unregister_service(self, name: str) -> bool:
        """Stop a service and forget it; False where there is none."""

    @Since("1.1")
    async def take_over(self, previous: Manager) -> None:
        """Take on the services that were registered with the instance whose place this one takes.

        Called once, after ``start`` and before this instance serves. A provider that leaves this as it is loses them
        at each change.
        """

    @abstractmethod
    async def list_services(self) -> list[ServiceInfo]:
        """Return all services in the order of their registration."""


@hookspec
def services_providers() -> Iterable[Provider]:
    """Offer providers of the role ``services``.

    The host calls each implementation once, when it discovers plugins. None or an empty iterable offers nothing.
    """
