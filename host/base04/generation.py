"""The immutable set of managers and callables that serve at one moment."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from base04.plugins.contributions import Contributions
from base04.proxies import blocking_proxy
from base04.resolution import Node, Plan
from base04.selection import InstanceKey
from base04_hookspecs.errors import ConfigurationError, ManagerUnavailable, NotFound
from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import Use

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from base04.http.authentication import Authentication
    from base04.pipeline import Pipeline
    from base04.plugins.parts import PluginParts

_numbers = itertools.count(1)
_pinned: ContextVar[Generation | None] = ContextVar("base04_generation", default=None)


@dataclass(frozen=True, slots=True)
class Running:
    """A started manager.

    ``start_time`` is the seconds that its start took, ``attempts`` how often it was tried; ``fingerprint`` changes with
    the secrets that its settings had then.
    """

    node: Node
    manager: Manager
    start_time: float = 0.0
    attempts: int = 1
    fingerprint: bytes = b""

    @property
    def key(self) -> InstanceKey:
        """Which instance it is."""
        return self.node.key


@dataclass(eq=False, slots=True)
class Generation:
    """What serves from one moment to the next: whoever pins it uses it, and no other, to the end.

    ``down`` says why an instance of the plan is not running, ``plugins`` are the objects of those that take part.
    ``pipeline``, ``authentication`` and ``asgi`` are set once, when it is built; ``parts`` when somebody first asks for
    what plugins have added.
    """

    plan: Plan
    running: Mapping[InstanceKey, Running]
    down: Mapping[InstanceKey, str]
    contributions: Contributions
    plugins: Mapping[str, object] = field(default_factory=dict)
    number: int = field(default_factory=lambda: next(_numbers))
    pipeline: Pipeline = field(init=False)
    authentication: Authentication = field(init=False)
    asgi: ASGIApp = field(init=False)
    parts: PluginParts | None = None
    _pins: int = 0
    _unpinned: asyncio.Event | None = None
    _defaults: Mapping[str, Manager] = field(init=False)

    def __post_init__(self) -> None:
        self._defaults = {key.role: item.manager for key, item in self.running.items() if key.instance == "default"}

    def find(self, role: str, instance: str = "default") -> Manager | None:
        """Return a running manager, None where there is none."""
        if instance == "default":
            return self._defaults.get(role)
        found = self.running.get(InstanceKey(role, instance))
        return found.manager if found is not None else None

    def get(self, role: str, instance: str = "default") -> Manager:
        """Return a running manager.

        Raises:
            NotFound: there is no such role or instance.
            ManagerUnavailable: it is not up just now.
        """
        manager = self.find(role, instance)
        if manager is not None:
            return manager
        key = InstanceKey(role, instance)
        if key in self.down:
            raise ManagerUnavailable(f"The manager {key} is not up: {self.down[key]}")
        if str(key) in self.plan.absent:
            raise NotFound(f"There is no manager {key}: {self.plan.absent[str(key)]}.")
        known = ", ".join(str(item) for item in sorted(self.plan.nodes))
        raise NotFound(f"There is no manager {key}; there are {known}.")

    def view(self, role: str, use: Use) -> Manager | None:
        """Return what ``Annotated[Contract, Use(...)]`` asks for, None where it is not running."""
        manager = self.find(role, use.instance)
        return manager if manager is None else with_access(manager, use)

    def pin(self) -> Pin:
        """Return a context manager that makes this the generation of the current task until it ends."""
        return Pin(self)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, pinned to its end; as ``pin``, with less to do for each."""
        self._pins += 1
        token = _pinned.set(self)
        try:
            await self.asgi(scope, receive, send)
        finally:
            _pinned.reset(token)
            self._unpin()

    def hold(self) -> Callable[[], None]:
        """Pin it for something that is no task, until the function that is returned is called. Both on the loop."""
        self._pins += 1
        return self._unpin

    def _unpin(self) -> None:
        self._pins -= 1
        if self._pins == 0 and self._unpinned is not None:
            self._unpinned.set()
            self._unpinned = None

    async def unpinned(self, timeout_s: float) -> bool:
        """Wait until nobody pins it any more; False where somebody still does after the timeout."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._pins:
                    if self._unpinned is None:
                        self._unpinned = asyncio.Event()
                    await self._unpinned.wait()
        except TimeoutError:
            return False
        return True

    @property
    def pins(self) -> int:
        """How many requests, messages and background steps use it now."""
        return self._pins


class GenerationManagers:
    """How the pipeline looks managers up: in its own generation, with blocking proxies for ``def`` handlers."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self.get = generation.find

    def view(self, role: str, use: Use) -> Manager | None:
        """Return what ``Annotated[Contract, Use(...)]`` asks for, None where it is not running."""
        return self._generation.view(role, use)

    def blocking(self, manager: Manager) -> Any:
        """Return a proxy of a manager for code that is not async."""
        return blocking_proxy(manager, asyncio.get_running_loop())


class Pin:
    """Holds a generation for the current task."""

    __slots__ = ("_generation", "_token")

    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    def __enter__(self) -> Generation:
        self._generation._pins += 1
        self._token: Token[Generation | None] = _pinned.set(self._generation)
        return self._generation

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _pinned.reset(self._token)
        self._generation._unpin()


def pinned_generation() -> Generation | None:
    """Return the generation that the current task has pinned, None where it has none."""
    return _pinned.get()


def with_access(manager: Any, use: Use) -> Manager:
    """Return the view of a manager that a ``Use`` asks for.

    Raises:
        ConfigurationError: it asks for an access role, and the manager's role has none.
    """
    if use.access is None:
        return manager  # type: ignore[no-any-return]  # Any because with_access belongs to one contract alone
    if not hasattr(manager, "with_access"):
        raise ConfigurationError(f"The role {manager.role!r} has no access roles, and one is asked for.")
    return manager.with_access(use.access)  # type: ignore[no-any-return]  # as above
