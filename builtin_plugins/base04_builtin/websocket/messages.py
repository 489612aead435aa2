"""The JSON messages of the protocol, as docs/websocket.md describes it."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import orjson

from base04_builtin.websocket.codes import CloseCode, ConnectionEnds, Refusal
from base04_hookspecs.errors import InvalidInput

SUBPROTOCOL: Final = "base04.v1"

MessageId = str | int | None
Frame = MutableMapping[str, Any]
"""An ASGI message of the kinds ``websocket.send`` and ``websocket.receive``."""

_MAX_ID: Final = 128
_MAX_NAME: Final = 200


def encode(message: Mapping[str, Any]) -> Frame:
    """Return the ASGI message that sends a message; it may be sent to any number of connections.

    Raises:
        InvalidInput: the message holds something that is not JSON.
    """
    try:
        text = orjson.dumps(message).decode()
    except TypeError as exc:  # orjson.JSONEncodeError is one
        raise InvalidInput(f"The data cannot be sent as JSON: {exc}.") from exc
    return {"type": "websocket.send", "text": text}


def event(room: str, name: str, data: Any, sender: str | None = None) -> Frame:
    """Return an event for everyone in a room; ``sender`` is the user whose client emitted it."""
    message = {"type": "event", "room": room, "event": name, "data": data}
    if sender is not None:
        message["sender"] = sender
    return encode(message)


def auth_ok(sid: str, user_id: str | None, message_id: MessageId = None) -> Frame:
    """Return the message that tells a client who it is from now on."""
    return encode({"type": "auth_ok", "id": message_id, "sid": sid, "user_id": user_id})


def ack(message_id: MessageId, result: Any = None) -> Frame:
    """Return the acknowledgement of a message."""
    return encode({"type": "ack", "id": message_id, "result": result})


def error(message_id: MessageId, code: str, message: str, details: Mapping[str, Any] | None = None) -> Frame:
    """Return the refusal of a message, or the reason of the close that follows."""
    return encode({"type": "error", "id": message_id, "error": {"code": code, "message": message, **(details or {})}})


def decode(frame: Frame, max_bytes: int) -> dict[str, Any]:
    """Return the message in a frame.

    Raises:
        ConnectionEnds: the frame is binary, too large, or not a JSON object.
    """
    text = frame.get("text")
    if text is None:
        raise ConnectionEnds(
            CloseCode.UNSUPPORTED_DATA, "Binary frames are not accepted: send JSON as text.", error="invalid_message"
        )
    if len(text) > max_bytes or len(encoded := text.encode()) > max_bytes:
        raise ConnectionEnds(
            CloseCode.MESSAGE_TOO_BIG, f"The message is larger than {max_bytes} bytes.", error="too_large"
        )
    try:
        message = orjson.loads(encoded)
    except ValueError as exc:
        raise ConnectionEnds(CloseCode.INVALID_MESSAGE, "The message is not JSON.", error="invalid_message") from exc
    if not isinstance(message, dict):
        raise ConnectionEnds(CloseCode.INVALID_MESSAGE, "The message is not a JSON object.", error="invalid_message")
    return message


def copy_of_object(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a deep copy of a JSON object.

    Raises:
        InvalidInput: it is something else.
    """
    try:
        copy = orjson.loads(orjson.dumps(dict(value)))
    except TypeError as exc:
        raise InvalidInput(f"This is not a JSON object: {exc}.") from exc
    if not isinstance(copy, dict):
        raise InvalidInput(f"A JSON object was expected, and this is of type {type(value).__name__}.")
    return copy


def read_id(message: Mapping[str, Any]) -> MessageId:
    """Return the id under which the client wants an answer, None where it wants none.

    Raises:
        Refusal: it is neither a short string nor an integer.
    """
    value = message.get("id")
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str) and len(value) <= _MAX_ID:
        return value
    raise Refusal("invalid_message", f"'id' must be an integer or a string of at most {_MAX_ID} characters.")


def id_or_none(message: Mapping[str, Any]) -> MessageId:
    """Return the id of a message, None where it has none that can be used."""
    try:
        return read_id(message)
    except Refusal:
        return None


def read_name(message: Mapping[str, Any], key: str) -> str:
    """Return a name such as that of a room.

    Raises:
        Refusal: it is missing, empty, too long, or has characters that cannot be printed.
    """
    value = message.get(key)
    if isinstance(value, str) and is_name(value):
        return value
    raise Refusal("invalid_message", f"{key!r} must be a printable string of 1 to {_MAX_NAME} characters.")


def is_name(value: str) -> bool:
    """Tell whether a string can name a room or an event."""
    return 0 < len(value) <= _MAX_NAME and value.isprintable()


def read_object(message: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a JSON object, an empty one where it is missing.

    Raises:
        Refusal: it is something else.
    """
    value = message.get(key)
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise Refusal("invalid_message", f"{key!r} must be a JSON object.")
