"""What a host tells of its choices when it starts or changes."""

from __future__ import annotations

import structlog

from base04.blueprint import Blueprint
from base04.selection import InstanceKey

_log = structlog.get_logger()


class Announcements:
    """Tells, and of what stays as it is only once, however often things change."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._replaced: dict[InstanceKey, str] = {}

    def tell_replacements(self, blueprint: Blueprint) -> None:
        """Tell which built-in managers are replaced, and by whom, where that was otherwise before."""
        before, self._replaced = self._replaced, {}
        for choice in blueprint.selection.choices.values():
            if choice.replaces is None:
                continue
            self._replaced[choice.key] = choice.candidate.qualified_name
            if before.get(choice.key) != choice.candidate.qualified_name:
                _log.info(
                    "a built-in manager is replaced",
                    manager=str(choice.key),
                    by=str(choice.candidate),
                    instead_of=choice.replaces.provider.name,
                )

    def tell_outdated(self, blueprint: Blueprint) -> None:
        """Tell of each chosen provider that lacks something of its contract."""
        for item in blueprint.outdated:
            if str(item) not in self._told:
                self._told.add(str(item))
                _log.warning(
                    "a provider is written for an older contract",
                    plugin=item.candidate.plugin.name,
                    provider=item.candidate.provider.name,
                    contract=item.candidate.role,
                    written_for=item.candidate.provider.written_for,
                    serves=item.serves,
                    lacks=item.lacks,
                    advice=str(item),
                )
