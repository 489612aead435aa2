"""What a host tells of its choices when it starts or changes."""

from __future__ import annotations

import structlog

from base04.blueprint import Blueprint

_log = structlog.get_logger()


class Announcements:
    """Tells, and of what stays as it is only once, however often things change."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell_replacements(self, blueprint: Blueprint) -> None:
        """Tell which built-in managers are replaced."""
        for choice in blueprint.selection.choices.values():
            if choice.replaces is not None:
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
