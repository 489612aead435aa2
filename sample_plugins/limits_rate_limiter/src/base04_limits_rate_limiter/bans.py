"""Who is refused whatever they do."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ban:
    """A ban; ``expires_at`` is in seconds since the epoch, None for one without end."""

    reason: str
    expires_at: float | None

    def remaining_s(self) -> float:
        """Return how long it goes on; a day for one without end."""
        return max(0.0, self.expires_at - time.time()) if self.expires_at is not None else 86_400.0


class Bans:
    """Bans by limit type and identifier, in this process."""

    def __init__(self) -> None:
        self._bans: dict[tuple[str, str], Ban] = {}

    def add(self, limit_type: str, identifier: str, ban: Ban) -> None:
        """Ban an identifier, in place of a ban that it has."""
        now = time.time()
        self._bans = {key: old for key, old in self._bans.items() if old.expires_at is None or old.expires_at > now}
        self._bans[limit_type, identifier] = ban

    def find(self, limit_type: str, identifier: str) -> Ban | None:
        """Return the ban that holds now."""
        ban = self._bans.get((limit_type, identifier))
        if ban is not None and ban.expires_at is not None and ban.expires_at <= time.time():
            del self._bans[limit_type, identifier]
            return None
        return ban

    def lift(self, limit_type: str, identifier: str) -> bool:
        """Lift a ban; False where none holds."""
        held = self.find(limit_type, identifier) is not None
        self._bans.pop((limit_type, identifier), None)
        return held
