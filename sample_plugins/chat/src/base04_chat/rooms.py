"""The names that the chat uses, and who may use them."""

from __future__ import annotations

from typing import Final

from base04_hookspecs import Principal

ROOM: Final = "chat_"
GUEST: Final = "guest-"
LINE: Final = "line"


def guests_chat(principal: Principal, room: str, operation: str) -> bool | None:
    """Keep guests in the chat's rooms; what others may do is for others to say."""
    if not (principal.user_id or "").startswith(GUEST) or room.startswith(ROOM):
        return None
    return False
