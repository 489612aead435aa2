"""The role ``module``: the plugins of a running host."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Literal, NotRequired, TypedDict

from base04_hookspecs.health import HealthReport
from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import hookspec
from base04_hookspecs.provider import Provider

ModuleStatus = Literal["enabled", "disabled", "denied", "failed"]


class AddedParts(TypedDict, total=False):
    """What a plugin has added to a host that runs; all names are for people.

    ``actions`` are full names, ``routes`` are written ``GET /path``, ``settings`` are the keys that its running
    managers read. ``commands`` are known to the command line alone: a host that runs asks no plugin for them.
    """

    actions: list[str]
    routes: list[str]
    middleware: list[str]
    commands: list[str]
    settings: list[str]


class Contribution(AddedParts):
    """What a plugin adds. ``providers`` and ``running`` are written ``role:provider``; ``hooks`` are hook names."""

    providers: list[str]
    running: list[str]
    hooks: list[str]
    packs: list[str]


class ModuleFault(TypedDict):
    """A part of a plugin that failed, while the rest of it takes part.

    ``part`` is the stage and what it was about, such as ``hook routes`` or ``before_action tidy``; ``error`` is the
    traceback of the newest failure; ``at`` is in seconds since the epoch.
    """

    part: str
    reason: str
    error: str
    at: float
    times: int


class ModuleWait(TypedDict):
    """A hook of a plugin that is not ready and is tried again; ``next_try`` is in seconds from now."""

    hook: str
    reason: str
    attempts: int
    next_try: float


class HookTiming(TypedDict):
    """How long a hook of a plugin takes, where the host traces that.

    ``stage`` is ``collect`` where the hook itself was called, ``call`` where something was that it has returned.
    ``total`` and ``max`` are in seconds.
    """

    hook: str
    stage: str
    count: int
    total: float
    max: float


class ModuleInfo(TypedDict):
    """A plugin as the running host sees it.

    ``source`` tells how it was found; ``error`` is the traceback of a failed one; ``load_time``, that of
    importing and registering it, and ``collect_time``, that of its hooks, are in seconds.
    ``warnings`` are sentences about what works now and may not with a later version, such as an older contract.
    ``faults`` are its parts that failed, ``not_ready`` what is tried again, and ``timings`` are there
    where hook calls are traced.
    """

    name: str
    status: ModuleStatus
    source: Literal["builtin", "installed", "path", "program"]
    distribution: str
    version: str
    target: str
    reason: str
    error: str
    load_time: float
    collect_time: NotRequired[float]
    warnings: NotRequired[list[str]]
    faults: NotRequired[list[ModuleFault]]
    not_ready: NotRequired[list[ModuleWait]]
    timings: NotRequired[list[HookTiming]]
    contributes: Contribution


class ModuleManager(Manager):
    """Lists, inspects and switches the plugins of a running host."""

    role: ClassVar[str] = "module"

    @abstractmethod
    async def list_modules(self) -> list[ModuleInfo]:
        """Return all plugins that were found, those left out and those that failed included, by name."""

    @abstractmethod
    async def get_module(self, name: str) -> ModuleInfo:
        """Return one plugin.

        Raises:
            NotFound: there is none of that name; the message has close ones.
        """

    @abstractmethod
    async def get_module_health(self, name: str) -> HealthReport:
        """Return the worst health of the running managers that a plugin provides; healthy where it has none.

        Raises:
            NotFound: there is none of that name.
        """

    @abstractmethod
    async def enable_module(self, name: str) -> bool:
        """Let a plugin take part, from the next request on; False where it did already.

        Raises:
            NotSupported: the provider cannot change modules while the host runs.
        """

    @abstractmethod
    async def disable_module(self, name: str, *, swap: bool = False) -> bool:
        """Take a plugin out, from the next request on; False where it was out already.

        Raises:
            Conflict: it provides a running manager and ``swap`` is false; the message lists who depends on it.
            NotSupported: the provider cannot change modules while the host runs.
        """

    @abstractmethod
    async def reload_module(self, name: str) -> bool:
        """Read the settings and action files of a plugin anew.

        Raises:
            NotSupported: the provider cannot change modules while the host runs.
        """


@hookspec
def module_providers() -> Iterable[Provider]:
    """Offer providers of the role ``module``.

    The host calls each implementation once, when it discovers plugins. None or an empty iterable offers nothing.
    """
