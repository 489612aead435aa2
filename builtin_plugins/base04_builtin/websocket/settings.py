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


Origin = Annotated[str, AfterValidator(_check_origin)]


class NativeSettings(ManagerSettings):
    """Limits of the WebSocket endpoint; all times are in seconds, or written like ``5s`` or ``2m``.

    ``path`` is where ``initialize`` adds the endpoint; the host itself serves it at ``/ws``. ``allowed_origins``
    lists the origins that browsers may connect from: ``self`` is the host that is connected to, ``*`` is any.
    ``auth_timeout`` is how long a client may take to authenticate. ``message_rate`` is in messages a second,
    ``message_burst`` how many may come at once. The send queue of a connection is used only while its writes block;
    one that is full, or whose write blocks for ``send_timeout``, closes the connection. ``close_timeout`` is how long
    a close frame may wait for its client. ``revocation_interval`` is how old the knowledge that a token is not
    revoked may be; 0 asks for every message. ``drain_spread`` is the longest time over which ``drain`` spreads its
    closes, ``drain_timeout`` how long it waits for calls that are running.
    """

    path: Annotated[str, Field(pattern=r"^/")] = "/ws"
    allowed_origins: tuple[Origin, ...] = ("self",)
    auth_timeout: Duration = 10.0
    max_connections: Annotated[int, Field(ge=1)] = 10_000
    max_rooms_per_connection: Annotated[int, Field(ge=1)] = 100
    max_calls_per_connection: Annotated[int, Field(ge=1)] = 16
    max_message_bytes: Annotated[int, Field(ge=128)] = 65_536
    message_rate: Annotated[float, Field(gt=0)] = 50.0
    message_burst: Annotated[int, Field(ge=1)] = 100
    send_queue_messages: Annotated[int, Field(ge=1)] = 256
    send_queue_bytes: Annotated[int, Field(ge=1024)] = 1_048_576
    send_timeout: Duration = 20.0
    close_timeout: Duration = 5.0
    revocation_interval: Duration | Literal[0] = 10.0
    drain_spread: Duration | Literal[0] = 5.0
    drain_timeout: Duration | Literal[0] = 10.0
