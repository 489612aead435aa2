"""What the actions of the pack do."""

from __future__ import annotations

from typing import Any

from base04_chat.rooms import GUEST, LINE, ROOM
from base04_hookspecs.jwt import JWTManager
from base04_hookspecs.websocket import WebSocketManager


async def enter(name: str, jwt: JWTManager) -> dict[str, str]:
    """Make a token for a guest. Guests have no permissions, and a prefix keeps them from being anybody else."""
    return {"access_token": await jwt.create_access_token(f"{GUEST}{name}")}


async def history(room: str, websocket: WebSocketManager) -> dict[str, Any]:
    """Return the lines that the room still has, for a page that has just come or that has missed some."""
    kept = await websocket.room_history(room)
    lines = [
        {"sender": event.get("sender"), "text": event["data"]["text"], "offset": event["offset"]}
        for event in kept["events"]
        if event["event"] == LINE
    ]
    return {"lines": lines, "epoch": kept["epoch"], "offset": kept["offset"]}


async def rooms(websocket: WebSocketManager) -> list[str]:
    """Return the chat's rooms that somebody is in."""
    return [room for room in await websocket.list_rooms() if room.startswith(ROOM)]
