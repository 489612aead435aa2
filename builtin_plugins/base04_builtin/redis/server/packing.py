"""Commands as bytes."""

from __future__ import annotations

from hiredis import pack_command


def pack(*parts: str | bytes | int) -> bytes:
    """Return a command in RESP (https://redis.io/docs/reference/protocol-spec/)."""
    packed: bytes = pack_command(parts)  # type: ignore[arg-type]  # its stub means a tuple of any length
    return packed
