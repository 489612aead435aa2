"""Clients of a Base04 host, for Python programs.

The clients of actions need ``pip install 'base04[client]'``, and are imported when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from base04.client.errors import ClientClosed, ClientError, ConnectionLost, NoAnswer, Refused
from base04.client.problems import UnexpectedAnswer
from base04.client.rooms import Gap, PresenceChange, RoomMessage
from base04.client.settings import ClientSettings
from base04.client.websocket import WebSocketClient

if TYPE_CHECKING:
    from base04.client.actions import ActionsClient, AsyncActionsClient

__all__ = [
    "ActionsClient",
    "AsyncActionsClient",
    "ClientClosed",
    "ClientError",
    "ClientSettings",
    "ConnectionLost",
    "Gap",
    "NoAnswer",
    "PresenceChange",
    "Refused",
    "RoomMessage",
    "UnexpectedAnswer",
    "WebSocketClient",
]


def __getattr__(name: str) -> Any:
    if name not in ("ActionsClient", "AsyncActionsClient"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from base04.client import actions

    return getattr(actions, name)
