"""A plugin as the host knows it, and what it offers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from base04.plugins.faults import Faults
from base04_hookspecs.module import ModuleInfo, ModuleStatus
from base04_hookspecs.provider import Provider

if TYPE_CHECKING:
    from base04.plugins.plugin_steps import Wait

Source = Literal["builtin", "installed", "path", "program"]

HOST_DISTRIBUTION: Final = "base04"


@dataclass(slots=True)
class Plugin:
    """One plugin that was found, whether or not it takes part.

    ``target`` is what its entry point names; ``error`` the traceback of what it raised; ``hooks`` the hooks that it
    implements; ``load_time`` the seconds that importing and registering it took, ``collect_time`` those of its hooks;
    ``stamp`` changes with its files; ``faults`` are the parts of it that failed.
    """

    name: str
    source: Source
    target: str
    distribution: str = ""
    version: str = ""
    status: ModuleStatus = "enabled"
    reason: str = ""
    error: str = ""
    load_time: float = 0.0
    hooks: list[str] = field(default_factory=list)
    packs: list[str] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    implementation: Any = None
    stamp: object = None
    faults: Faults = field(default_factory=Faults)
    collect_time: float = 0.0

    def fail(self, reason: str, traceback: str = "") -> None:
        """Take the plugin out, and say why."""
        self.status, self.reason, self.error = "failed", reason, traceback

    @property
    def origin(self) -> str:
        """Where it came from, for people: ``base04-redis 1.2`` or the file."""
        return f"{self.distribution} {self.version}".strip() or self.target

    def describe(self, running: list[str], warnings: Iterable[str] = (), waits: Iterable[Wait] = ()) -> ModuleInfo:
        """Return the plugin as JSON; ``running`` are the managers that it provides now."""
        values = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name not in ("implementation", "candidates", "hooks", "packs", "stamp", "faults", "collect_time")
        }
        contributes = {
            "providers": [f"{candidate.role}:{candidate.provider.name}" for candidate in self.candidates],
            "running": running,
            "hooks": list(self.hooks),
            "packs": list(self.packs),
        }
        values |= {
            "collect_time": self.collect_time,
            "warnings": list(warnings),
            "faults": [fault.describe() for fault in self.faults],
            "not_ready": [wait.describe() for wait in waits],
        }
        return ModuleInfo(**values, contributes=contributes)  # type: ignore[typeddict-item,no-any-return]  # the fields are its keys


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider that a plugin offers for a role."""

    role: str
    provider: Provider
    plugin: Plugin = field(compare=False)

    @property
    def qualified_name(self) -> str:
        """The name that settings can always use: ``plugin:provider``."""
        return f"{self.plugin.name}:{self.provider.name}"

    @property
    def built_in(self) -> bool:
        """Whether it comes with Base04 itself."""
        return self.plugin.source == "builtin"

    def __str__(self) -> str:
        return f"{self.provider.name} of plugin {self.plugin.name} ({self.plugin.origin})"
