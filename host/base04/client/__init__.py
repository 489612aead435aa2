"""Clients of a Base04 host, for Python programs.

The clients of actions need ``pip install 'base04[client]'``, and are imported when they are first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from base04.client.errors import ClientClosed, ClientError, ConnectionLost, NoAnswer, Refused
from base04.client.problems import ExecutionCancelled, UnexpectedAnswer
from base04.client.rooms import Gap, PresenceChange, RoomMessage
from base04.client.settings import ClientSettings
from base04.client.websocket import WebSocketClient

if TYPE_CHECKING:
    from base04.client.actions import ActionsClient, AsyncActionsClient
    from base04.client.executions import AsyncExecution, Execution, ExecutionInfo

__all__ = [
    "ActionsClient",
    "AsyncActionsClient",
    "AsyncExecution",
    "ClientClosed",
    "ClientError",
    "ClientSettings",
    "ConnectionLost",
    "Execution",
    "ExecutionCancelled",
    "ExecutionInfo",
    "Gap",
    "NoAnswer",
    "PresenceChange",
    "Refused",
    "RoomMessage",
    "UnexpectedAnswer",
    "WebSocketClient",
]


_LATER: Final = {
    "ActionsClient": "base04.client.actions",
    "AsyncActionsClient": "base04.client.actions",
    "AsyncExecution": "base04.client.executions",
    "Execution": "base04.client.executions",
    "ExecutionInfo": "base04.client.executions",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
