"""Listen to a room, and say something in it."""

from __future__ import annotations

import asyncio
import os

from base04.client import Gap, PresenceChange, RoomMessage, WebSocketClient


async def listen(url: str, token: str) -> str:
    """Return the first headline that comes."""
    async with WebSocketClient(url, token) as client:
        await client.join("news", presence=True)
        await client.emit("news", "headline", {"text": "Hello"})
        async for event in client.events():
            match event:
                case RoomMessage(event="headline", data=data, sender=sender):
                    print(f"{sender}: {data['text']}")  # noqa: T201 - it is what the program is for
                    return str(data["text"])
                case PresenceChange(users=users):
                    print("here:", ", ".join(users))  # noqa: T201 - the same
                case Gap(room=room):
                    print(f"something in {room} was missed: ask for the present state")  # noqa: T201 - the same
    return ""


if __name__ == "__main__":
    asyncio.run(listen(os.environ["SOCKET_URL"], os.environ["TOKEN"]))
