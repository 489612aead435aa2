"""What operators say otherwise of actions than their packs do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

from base04_builtin.action_discovery.faults import START, FaultLog, nearest
from base04_builtin.action_discovery.settings import ActionOverride
from base04_hookspecs.action_discovery import Action, ActionInfo, DefinitionFault
from base04_hookspecs.rate_limiter import RateLimit

_SETTING = "managers.action_discovery.overrides"


class Overrides:
    """Changes actions as the settings say."""

    def __init__(self, overrides: Mapping[str, ActionOverride]) -> None:
        self._overrides = overrides

    def apply(self, actions: Iterable[Action]) -> Iterator[Action]:
        """Yield the actions as they are to be; those that are switched off are left out."""
        for action in actions:
            found = [self._overrides.get(f"{action.info['pack']}.*"), self._overrides.get(action.name)]
            overrides = [override for override in found if override is not None]
            if all(override.enabled for override in overrides):
                yield _changed(action, overrides) if overrides else action

    def faults(self, actions: Iterable[Action]) -> list[DefinitionFault]:
        """Return the overrides of actions that there are not: one that protects nothing must not go unnoticed."""
        log = FaultLog(_SETTING)
        known = {name for action in actions for name in (action.name, f"{action.info['pack']}.*")}
        for name in self._overrides:
            if name not in known:
                log.add(START, f"There is no action {name!r}, for which there are settings{nearest(name, known)}")
        return log.sorted()


def _changed(action: Action, overrides: list[ActionOverride]) -> Action:
    info = action.info.copy()
    limits = action.limits
    for override in overrides:
        _tighten(info, override)
        if override.timeout is not None:
            info["timeout"] = override.timeout
        if override.rate_limit is not None:
            info["rate_limit"] = list(override.rate_limit)
            limits = tuple(map(RateLimit.parse, override.rate_limit))
    return dataclasses.replace(action, info=info, limits=limits)


def _tighten(info: ActionInfo, override: ActionOverride) -> None:
    if override.access == "authenticated":
        info["access"] = "authenticated" if info["access"] == "public" else info["access"]
    elif override.access is not None:
        info["access"] = "permissions"
        info["permissions"] = list(dict.fromkeys((*info["permissions"], *override.access.permissions)))
