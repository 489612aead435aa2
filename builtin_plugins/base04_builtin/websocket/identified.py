"""What the parts of all providers need to know of a connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from base04_hookspecs import Principal


class Identified(Protocol):
    """A connection that is somebody's once its token has been checked."""

    sid: str
    client_ip: str | None
    principal: Principal
    token: str
    expires_at: float | None
    checked_at: float

    @property
    def live(self) -> bool:
        """Whether nobody has asked to close it yet."""

    def identify(self, principal: Principal, token: str, expires_at: float | None) -> None:
        """Take who the client is from its token, and close the connection when that expires."""

    def close(self, code: int, reason: str) -> bool:
        """Close the connection; False if it is so."""


class Sessions(Protocol):
    """Who knows the connections of a manager."""

    def sessions(self) -> Sequence[Identified]:
        """Return the connections that have a user, as of now."""
