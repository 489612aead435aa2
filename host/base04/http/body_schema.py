"""Bodies that are described by a JSON Schema: every fault is reported with its place."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
from starlette.requests import Request

from base04.http.bodies import read_object
from base04_hookspecs.errors import Fault, InvalidInput


def object_schema(properties: dict[str, Any], required: list[str]) -> jsonschema_rs.Draft202012Validator:
    """Return the validator of an object with these members and no others."""
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return jsonschema_rs.Draft202012Validator(schema)


async def read_described(
    request: Request, validator: jsonschema_rs.Draft202012Validator, what: str, max_bytes: int
) -> dict[str, Any]:
    """Read a JSON body that describes something.

    Raises:
        HTTPException, ClientDisconnect: as ``read_object``.
        InvalidInput: it does not describe ``what``; with every fault.
    """
    body = await read_object(request.scope, request.receive, max_bytes)
    faults = [Fault(_pointer(item), item.message) for item in validator.iter_errors(body)]
    if faults:
        raise InvalidInput(f"The body does not describe {what}.", faults)
    return body


def _pointer(error: jsonschema_rs.ValidationError) -> str:
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in error.instance_path)
    return "".join(f"/{part}" for part in parts)
