"""Clients of a Base04 host, for Python programs."""

from __future__ import annotations

from base04.client.errors import ClientClosed, ClientError, ConnectionLost, NoAnswer, Refused
from base04.client.rooms import Gap, PresenceChange, RoomMessage
from base04.client.settings import ClientSettings
from base04.client.websocket import WebSocketClient

__all__ = [
    "ClientClosed",
    "ClientError",
    "ClientSettings",
    "ConnectionLost",
    "Gap",
    "NoAnswer",
    "PresenceChange",
    "Refused",
    "RoomMessage",
    "WebSocketClient",
]
