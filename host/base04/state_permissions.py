"""Which permission the states need whose ids begin like this or that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_EVERYWHERE: Final = "state"


class StatePermissions:
    """Finds the permission for an id: that of the longest pattern, ``state.read`` and ``state.write`` without any.

    Args:
        patterns: ids, or beginnings of ids with ``*``, each with the words before ``.read`` and ``.write``.
    """

    def __init__(self, patterns: Mapping[str, str]) -> None:
        self._ids = {pattern: words for pattern, words in patterns.items() if not pattern.endswith("*")}
        prefixes = [(pattern[:-1], words) for pattern, words in patterns.items() if pattern.endswith("*")]
        self._prefixes = sorted(prefixes, key=lambda pair: len(pair[0]), reverse=True)

    def needed(self, state_id: str, what: str) -> str:
        """Return the permission to ``read`` or to ``write`` a state."""
        words = self._ids.get(state_id)
        if words is None:
            found = (words for prefix, words in self._prefixes if state_id.startswith(prefix))
            words = next(found, _EVERYWHERE)
        return f"{words}.{what}"
