"""The JSON messages of the protocol, as docs/websocket.md describes it."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import orjson

from base04_builtin.websocket.codes import CloseCode, ConnectionEnds, Refusal
from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.websocket import Position, RoomEvent

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


def event_text(room: str, name: str, data: Any, sender: str | None = None) -> str:
    """Return an event for everyone in a room as JSON without its last brace, ahead of which its position goes.

    Raises:
        InvalidInput: the data is not JSON.
    """
    message = {"type": "event", "room": room, "event": name, "data": data}
    if sender is not None:
        message["sender"] = sender
    text: str = encode(message)["text"]
    return text[:-1]


def event_frame(text: str, epoch: str | None = None, offset: int = 0) -> Frame:
    """Return the ASGI message that sends an event; without an epoch it has no position."""
    place = f',"epoch":"{epoch}","offset":{offset}}}' if epoch is not None else "}"
    return {"type": "websocket.send", "text": text + place}


def read_event(text: str, offset: int) -> RoomEvent:
    """Return an event of a room from its text."""
    message = orjson.loads(text + "}")
    event: RoomEvent = {"event": message["event"], "data": message["data"], "offset": offset}
    if "sender" in message:
        event["sender"] = message["sender"]
    return event


def gap(room: str, epoch: str, offset: int) -> Frame:
    """Return the message that tells the members of a room that something is missing up to a position."""
    return encode({"type": "gap", "room": room, "epoch": epoch, "offset": offset})


def presence(room: str, event: str, user_id: str) -> Frame:
    """Return the message that tells who watches a room that a user came or went."""
    return encode({"type": "presence", "room": room, "event": event, "user_id": user_id})


def reconnect(after: float) -> Frame:
    """Return the message that tells a client in how many seconds to come back."""
    return encode({"type": "reconnect", "after": round(after, 2)})


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


def read_flag(message: Mapping[str, Any], key: str) -> bool | None:
    """Return a boolean, None where there is none.

    Raises:
        Refusal: it is something else.
    """
    value = message.get(key)
    if value is None or isinstance(value, bool):
        return value
    raise Refusal("invalid_message", f"{key!r} must be true or false.")


def read_position(message: Mapping[str, Any], key: str) -> Position | None:
    """Return a position in a room's events, None where there is none.

    Raises:
        Refusal: it is something else.
    """
    value = message.get(key)
    if value is None:
        return None
    epoch, offset = (value.get("epoch"), value.get("offset")) if isinstance(value, dict) else (None, None)
    if isinstance(epoch, str) and 0 < len(epoch) <= _MAX_ID and type(offset) is int and 0 <= offset < 1 << 53:
        return {"epoch": epoch, "offset": offset}
    raise Refusal("invalid_message", f"{key!r} must have an 'epoch' and an 'offset', as events have them.")
