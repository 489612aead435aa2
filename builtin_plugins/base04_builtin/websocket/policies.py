"""What holds for a room, by its name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal

from base04_builtin.websocket.settings import NativeSettings, RoomSettings

USER_PREFIX: Final = "user_"
PRIVATE_PREFIX: Final = "private_"

_REMEMBERED: Final = 10_000

Kind = Literal["user", "private", "public", "dynamic"]


@dataclass(frozen=True, slots=True)
class RoomPolicy:
    """What holds for a room. ``age_ms`` is how long its history is kept; without ``message_rate`` it has no limit."""

    kind: Kind
    history_messages: int
    history_bytes: int
    age_ms: int
    message_rate: float | None
    message_burst: int


PolicyOf = Callable[[str], RoomPolicy]
"""Called with the name of a room."""


def room_policies(settings: NativeSettings) -> PolicyOf:
    """Return the function that knows what holds for a room; it remembers its latest answers."""
    return functools.lru_cache(_REMEMBERED)(functools.partial(_policy, settings))


def _policy(settings: NativeSettings, room: str) -> RoomPolicy:
    entry = next((entry for entry in settings.rooms if _matches(entry.match, room)), None)
    own = entry if entry is not None else RoomSettings(match="*")
    return RoomPolicy(
        kind=_kind(room, entry),
        history_messages=own.history_messages or settings.history_messages,
        history_bytes=own.history_bytes or settings.history_bytes,
        age_ms=max(1, round(1000 * (own.history_age or settings.history_age))),
        message_rate=own.message_rate,
        message_burst=own.message_burst,
    )


def _kind(room: str, entry: RoomSettings | None) -> Kind:
    if room.startswith(USER_PREFIX):
        return "user"
    if entry is not None:
        return entry.access
    return "private" if room.startswith(PRIVATE_PREFIX) else "dynamic"


def _matches(pattern: str, room: str) -> bool:
    """Tell whether a name has a pattern of ``*`` and ``?``; brackets stand for themselves."""
    return fnmatchcase(room, pattern.replace("[", "[[]"))
