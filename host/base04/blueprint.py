"""What the host is to be: settings, and what follows from them before anything starts."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from base04.discovery import Discovery, discover
from base04.plugins.compatibility import Outdated, all_outdated
from base04.provider_settings import check_all
from base04.resolution import Plan, resolve
from base04.selection import Selection, select
from base04.settings import HostSettings


class Blueprint:
    """The way from settings to a plan; each step is taken when first asked for, and once.

    Args:
        settings: what was written.
        data_dir: where the host keeps what it keeps.
        extra_plugins: names and plugin objects that the program brings itself.
        safe_mode: only what comes with Base04, and ``extra_plugins``, takes part.
        only: the roles to plan for, with what they need; None plans for all.
        disabled: the plugins that were switched off.
        previous: the one that this follows; what it has imported is not imported again.
    """

    def __init__(
        self,
        settings: HostSettings,
        data_dir: Path,
        *,
        extra_plugins: Iterable[tuple[str, object]] = (),
        safe_mode: bool = False,
        only: Iterable[str] | None = None,
        disabled: frozenset[str] = frozenset(),
        previous: Blueprint | None = None,
    ) -> None:
        self.settings, self.data_dir, self.disabled = settings, data_dir, disabled
        self._extra_plugins, self._safe_mode = tuple(extra_plugins), safe_mode
        self._only = None if only is None else tuple(only)
        self._previous = previous
        self._outdated: list[Outdated] = []

    @cached_property
    def discovery(self) -> Discovery:
        """All plugins that were found."""
        previous, self._previous = self._previous, None  # nothing keeps the long line of them
        return discover(
            self.settings.plugins,
            safe_mode=self._safe_mode,
            extra_plugins=self._extra_plugins,
            disabled=self.disabled,
            previous=previous.discovery if previous is not None else None,
        )

    @cached_property
    def selection(self) -> Selection:
        """The provider of each instance."""
        return select(self.discovery, self.settings)

    @cached_property
    def plan(self) -> Plan:
        """The managers to be, in the order in which they start; importing the chosen providers is part of it."""
        plan = resolve(self.selection, self.settings)
        check_all(plan, self.data_dir)
        plan = plan if self._only is None else plan.restricted_to(self._only)
        self._outdated = all_outdated((node.choice.candidate, node.constructor.cls) for node in plan.nodes.values())
        return plan

    @property
    def outdated(self) -> list[Outdated]:
        """What chosen providers lack of their contracts."""
        return self._outdated if self.plan is not None else []

    def following(self, settings: HostSettings | None = None, disabled: frozenset[str] | None = None) -> Blueprint:
        """Return one with other settings, or other plugins switched off; plugins are discovered anew."""
        return Blueprint(
            self.settings if settings is None else settings,
            self.data_dir,
            extra_plugins=self._extra_plugins,
            safe_mode=self._safe_mode,
            only=self._only,
            disabled=self.disabled if disabled is None else disabled,
            previous=self,
        )
