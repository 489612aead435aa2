"""Reading request bodies: limited in size, and JSON."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope


async def read_json(scope: Scope, receive: Receive, max_bytes: int) -> Any:
    """Read a JSON body; None for an empty one.

    Raises:
        HTTPException: 413 where it is too large, 415 where it is declared as something else, 400 where it is not JSON.
        ClientDisconnect: the client went away.
    """
    content_type = declared = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_type = value
        elif name == b"content-length":
            declared = value
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    body = await _read(receive, max_bytes)
    if not body:
        return None
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type != b"application/json" and not media_type.endswith(b"+json"):
        raise HTTPException(415, "Send the body as JSON, with the header 'content-type: application/json'.")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HTTPException(
            400, f"The body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None


async def _read(receive: Receive, max_bytes: int) -> bytes:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        chunks, size = [body], len(body)
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > max_bytes:
                raise _too_large(max_bytes)
        body = b"".join(chunks)
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    return body


def _too_large(max_bytes: int) -> HTTPException:
    return HTTPException(413, f"The body may have {max_bytes} bytes at most (server.max_body_bytes).")
