"""The settings of the ``socketio`` provider."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from base04_builtin.websocket.settings import ConnectionSettings
from base04_hookspecs.settings import Duration


class SocketIOSettings(ConnectionSettings):
    """Limits of the Socket.IO endpoint; all times are in seconds, or written like ``5s`` or ``2m``.

    ``path`` is where the endpoint is and ends in ``/``; ``/socket.io/`` is where clients look unless told otherwise.
    ``transports`` are the ways in: ``polling`` needs every request of a client to reach the same process.
    ``allowed_origins`` lists the origins that browsers may connect from: ``self`` is the host that is connected to,
    ``*`` is any. ``auth_timeout`` is how long a client may take to authenticate. ``message_rate`` is in messages a
    second, ``message_burst`` how many may come at once. A connection whose queue of ``send_queue_messages`` is full is
    closed. ``close_timeout`` is how long a connection may take to close before it is cut off. ``ping_interval`` and
    ``ping_timeout`` are those of Engine.IO. ``revocation_interval`` is how old the knowledge that a token is not
    revoked may be; 0 asks for every message. ``channel`` carries events between processes through the ``redis`` role.
    ``drain_spread`` is the longest time over which ``drain`` spreads its closes, ``drain_timeout`` how long it waits
    for calls that are running, ``reconnect_spread`` the longest delay after which clients are told to come back.
    """

    path: Annotated[str, Field(pattern=r"^/.*[^/]/$")] = "/socket.io/"
    transports: Annotated[tuple[Literal["websocket", "polling"], ...], Field(min_length=1)] = ("websocket", "polling")
    ping_interval: Duration = 25.0
    ping_timeout: Duration = 20.0
    revocation_interval: Duration | Literal[0] = 10.0
    channel: Annotated[str, Field(min_length=1)] = "socketio"
