"""The packets of Socket.IO, with JSON as everything else here has it."""

from __future__ import annotations

from typing import Any, Final

import orjson
from socketio.packet import Packet

from base04_hookspecs.errors import InvalidInput

RESERVED: Final = frozenset(
    {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}
)
"""Events that the clients' libraries make themselves: nobody may send them."""


class StrictJSON:
    """What python-socketio expects of a JSON module."""

    @staticmethod
    def dumps(value: Any, **options: Any) -> str:
        """Return JSON text without white space, whatever the options say."""
        return orjson.dumps(value).decode()

    @staticmethod
    def loads(text: str | bytes) -> Any:
        """Read JSON text; refuses NaN, and nesting that is too deep to be walked through."""
        return orjson.loads(text)


class JSONPacket(Packet):
    """A packet whose data is JSON: there are no binary attachments."""

    json = StrictJSON
    uses_binary_events = False


def check_json(data: Any) -> None:
    """Refuse what is not JSON.

    Raises:
        InvalidInput: the data holds something else.
    """
    try:
        orjson.dumps(data)
    except TypeError as exc:  # orjson.JSONEncodeError is one
        raise InvalidInput(f"The data cannot be sent as JSON: {exc}.") from exc
