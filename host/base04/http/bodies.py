"""Reading request bodies: limited in size, JSON or forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from base04_hookspecs.errors import Fault, InvalidInput


async def read_json(scope: Scope, receive: Receive, max_bytes: int) -> Any:
    """Read a JSON body; None for an empty one.

    Raises:
        HTTPException: 413 where it is too large, 415 where it is declared as something else, 400 where it is not JSON.
        ClientDisconnect: the client went away.
        InvalidInput: it is ``null``, which must not be taken for an empty one.
    """
    return await read_json_as(dict(scope["headers"]), receive, max_bytes)


async def read_json_as(fields: Mapping[bytes, bytes], receive: Receive, max_bytes: int) -> Any:
    """As ``read_json``, for header fields that were looked at already."""
    declared = fields.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.disconnect" or message.get("more_body") or len(body) > max_bytes:
        body = await _rest_of(message, receive, max_bytes)
    if not body:
        return None
    content_type = fields.get(b"content-type", b"")
    if content_type != b"application/json" and not _is_json(content_type):
        raise HTTPException(415, "Send the body as JSON, with the header 'content-type: application/json'.")
    value = _parsed(body)
    if value is None:
        raise InvalidInput("The body must be a JSON object, or nothing at all.", [Fault("", "This is null.")])
    return value


async def read_object(scope: Scope, receive: Receive, max_bytes: int) -> dict[str, Any]:
    """Read a JSON body that is an object, an empty one where there is none.

    Raises:
        HTTPException, ClientDisconnect: as ``read_json``.
        InvalidInput: it is something else.
    """
    return _as_object(await read_json(scope, receive, max_bytes))


async def read_fields(scope: Scope, receive: Receive, max_bytes: int) -> dict[str, Any]:
    """Read a body of named values: a form, as OAuth's clients send it, or a JSON object.

    Raises:
        HTTPException, ClientDisconnect: as ``read_json``; 400 for a name that comes twice (RFC 6749, section 3.2).
        InvalidInput: it is JSON, but no object.
    """
    fields = dict(scope["headers"])
    declared = fields.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    body = await read_whole(receive, max_bytes)
    if not body:
        return {}
    content_type = fields.get(b"content-type", b"")
    if _is_json(content_type):
        return _as_object(_parsed(body))
    if content_type.partition(b";")[0].strip().lower() != b"application/x-www-form-urlencoded":
        raise HTTPException(415, "Send a form (application/x-www-form-urlencoded) or JSON (application/json).")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100)
    except ValueError as error:
        raise HTTPException(400, "The body is not a form in UTF-8 with at most 100 fields.") from error
    form = dict(pairs)
    if len(form) < len(pairs):
        raise HTTPException(400, "The form names a field twice.")
    return form


def _as_object(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput("The body must be a JSON object.", [Fault("", "This is not an object.")])
    return value


def _is_json(content_type: bytes) -> bool:
    media_type = content_type.partition(b";")[0].strip().lower()
    return media_type == b"application/json" or media_type.endswith(b"+json")


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HTTPException(
            400, f"The body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None


async def read_whole(receive: Receive, max_bytes: int) -> bytes:
    """Read a body in one piece.

    Raises:
        HTTPException: 413 where it is too large.
        ClientDisconnect: the client went away.
    """
    return await _rest_of(await receive(), receive, max_bytes)


async def _rest_of(message: Message, receive: Receive, max_bytes: int) -> bytes:
    """Read on from the first message of a body."""
    chunks, size = [], 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > max_bytes:
            raise _too_large(max_bytes)
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()


def _too_large(max_bytes: int) -> HTTPException:
    return HTTPException(413, f"The body may have {max_bytes} bytes at most (server.max_body_bytes).")
