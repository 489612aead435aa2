"""The built-in providers of the role ``websocket``."""

from __future__ import annotations

from collections.abc import Iterable

from base04_hookspecs import Provider, hookimpl


@hookimpl
def websocket_providers() -> Iterable[Provider]:
    """Offer plain WebSocket with JSON text frames, and Socket.IO."""
    yield Provider(
        "native",
        "base04_builtin.websocket.native:NativeWebSocketManager",
        default=True,
        capabilities=frozenset({"presence", "recovery", "shared"}),
        contract="1.1",
        summary="plain WebSocket with JSON text frames",
    )
    yield Provider(
        "socketio",
        "base04_builtin.websocket.socketio.manager:SocketIOWebSocketManager",
        extra="socketio",
        capabilities=frozenset({"shared"}),
        contract="1.1",
        summary="the Socket.IO protocol, for its clients in other languages; events reach all processes",
    )
