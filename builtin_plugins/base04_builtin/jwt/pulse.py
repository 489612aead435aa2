"""Heartbeats on the channel of revocations: what they prove about what has come through it.

Each process sends heartbeats on the channel and hears them itself, the whole way through the server. A channel keeps
the order, so when one's own comes back, everything has come that was announced before it was sent. The heartbeat of
another process says that all it had revoked and answered before has been announced; where one falls silent, it may be
revoking something that it cannot announce.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final

_FORGET: Final = 60.0
"""After how many seconds of silence a process is taken for gone."""

_MAX_PEERS: Final = 10_000
_MAX_UNHEARD: Final = 1000


class Pulse:
    """The heartbeats that this process sends and hears. Times are on its steady clock, in seconds."""

    def __init__(self) -> None:
        self.name = secrets.token_urlsafe(16)
        self._number = 0
        self._sent: dict[int, float] = {}
        self._peers: dict[str, float] = {}

    def beat(self, now: float) -> dict[str, Any]:
        """Return the next heartbeat."""
        self._number += 1
        self._sent[self._number] = now
        if len(self._sent) > _MAX_UNHEARD:
            del self._sent[next(iter(self._sent))]
        return {"type": "beat", "from": self.name, "number": self._number}

    def hear(self, message: Mapping[str, Any], now: float) -> float | None:
        """Take in a heartbeat; return until when all announcements are known to have come, None for no news of it."""
        name, number = message.get("from"), message.get("number")
        if name != self.name:
            if isinstance(name, str) and (name in self._peers or len(self._peers) < _MAX_PEERS):
                self._peers[name] = now
            return None
        sent = self._sent.get(number) if isinstance(number, int) else None
        if sent is None:
            return None
        self._sent = {one: at for one, at in self._sent.items() if one > number}  # type: ignore[operator]  # an int
        self._peers = {peer: heard for peer, heard in self._peers.items() if now - heard < _FORGET}
        return min(sent, *self._peers.values()) if self._peers else sent

    def forget(self, name: object) -> None:
        """Expect no more from a process that has said goodbye."""
        if isinstance(name, str):
            self._peers.pop(name, None)
