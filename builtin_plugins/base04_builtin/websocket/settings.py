"""The settings of the ``native`` provider."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from base04_hookspecs.settings import Duration, ManagerSettings


def _check_origin(origin: str) -> str:
    if origin in ("self", "*"):
        return origin
    parts = urlsplit(origin)
    if not parts.scheme or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
        raise ValueError("an allowed origin is 'self', '*', or like 'https://app.example.com' with nothing behind it")
    return origin.lower()


HistoryMessages = Annotated[int, Field(ge=16, le=100_000)]
HistoryBytes = Annotated[int, Field(ge=1024)]
Origin = Annotated[str, AfterValidator(_check_origin)]


class RoomSettings(ManagerSettings):
    """What holds for the rooms whose name has a pattern, in which ``*`` stands for anything and ``?`` for a character.

    ``access`` ``public`` is for every authenticated user, ``private`` for who has ``rooms.join`` or ``rooms.emit`` and
    whom a plugin lets in. Clients together may send ``message_burst`` messages at once into a room and
    ``message_rate`` a second in the long run, in each process. History that is not set here is as for all rooms.
    """

    match: Annotated[str, Field(min_length=1, max_length=200)]
    access: Literal["public", "private"] = "public"
    history_messages: HistoryMessages | None = None
    history_age: Duration | None = None
    history_bytes: HistoryBytes | None = None
    message_rate: Annotated[float, Field(gt=0)] | None = None
    message_burst: Annotated[int, Field(ge=1)] = 10


class ConnectionSettings(ManagerSettings):
    """What every provider limits of connections."""

    allowed_origins: tuple[Origin, ...] = ("self",)
    auth_timeout: Duration = 10.0
    max_connections: Annotated[int, Field(ge=1)] = 10_000
    max_rooms_per_connection: Annotated[int, Field(ge=1)] = 100
    max_calls_per_connection: Annotated[int, Field(ge=1)] = 16
    max_message_bytes: Annotated[int, Field(ge=128)] = 65_536
    message_rate: Annotated[float, Field(gt=0)] = 50.0
    message_burst: Annotated[int, Field(ge=1)] = 100
    send_queue_messages: Annotated[int, Field(ge=1)] = 256
    close_timeout: Duration = 5.0
    drain_spread: Duration | Literal[0] = 5.0
    drain_timeout: Duration | Literal[0] = 10.0
    reconnect_spread: Duration | Literal[0] = 10.0


class NativeSettings(ConnectionSettings):
    """Limits of the WebSocket endpoint; all times are in seconds, or written like ``5s`` or ``2m``.

    ``path`` is where ``initialize`` adds the endpoint; the host itself serves it at ``/ws``. ``allowed_origins``
    lists the origins that browsers may connect from: ``self`` is the host that is connected to, ``*`` is any.
    ``auth_timeout`` is how long a client may take to authenticate. ``message_rate`` is in messages a second,
    ``message_burst`` how many may come at once. The send queue of a connection is used only while its writes block;
    one that is full, or whose write blocks for ``send_timeout``, closes the connection. ``close_timeout`` is how long
    a close frame may wait for its client. ``revocation_interval`` is how old the knowledge that a token is not
    revoked may be; 0 asks for every message. ``drain_spread`` is the longest time over which ``drain`` spreads its
    closes, ``drain_timeout`` how long it waits for calls that are running, ``reconnect_spread`` the longest delay
    after which clients are told to come back.

    ``rooms`` has what holds for rooms by their names, the first that matches counts; ``dynamic_rooms`` is whether
    there are others. ``history_messages``, ``history_age`` and ``history_bytes`` bound what is kept of each room,
    ``history_total_bytes`` what is kept of all where nobody shares it. ``presence_lease`` is after how long the users
    of a process that has died are gone.
    """

    path: Annotated[str, Field(pattern=r"^/")] = "/ws"
    send_queue_bytes: Annotated[int, Field(ge=1024)] = 1_048_576
    send_timeout: Duration = 20.0
    revocation_interval: Duration | Literal[0] = 0.5
    rooms: tuple[RoomSettings, ...] = ()
    dynamic_rooms: bool = True
    history_messages: HistoryMessages = 100
    history_age: Duration = 300.0
    history_bytes: HistoryBytes = 262_144
    history_total_bytes: HistoryBytes = 67_108_864
    presence_lease: Annotated[Duration, Field(ge=1)] = 15.0
