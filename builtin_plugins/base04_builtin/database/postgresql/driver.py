"""The parts of asyncpg that are used, with the types that it does not declare."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import asyncpg  # type: ignore[import-untyped]  # it has neither stubs nor py.typed


class ServerType(Protocol):
    """A type of the server."""

    @property
    def name(self) -> str:
        """Its name."""


class Attribute(Protocol):
    """A column of a result."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def type(self) -> ServerType:
        """Its type."""


class PreparedStatement(Protocol):
    """A statement that the server has parsed."""

    def get_parameters(self) -> Sequence[ServerType]:
        """Return the types of its parameters."""

    def get_attributes(self) -> Sequence[Attribute]:
        """Return the columns of its result, none where it returns no rows."""

    def get_statusmsg(self) -> str | None:
        """Return what the server said last: ``UPDATE 3``."""

    async def fetch(self, *args: Any, timeout: float) -> list[Mapping[str, Any]]:
        """Run it and return its rows."""

    async def executemany(self, args: Sequence[Sequence[Any]], *, timeout: float) -> None:
        """Run it once for each sequence of values, all or none."""


class Connection(Protocol):
    """A connection to the server."""

    async def execute(self, query: str, *, timeout: float | None = None) -> str:
        """Run statements without values."""

    async def fetchval(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        """Run a statement and return the first value of its first row."""

    async def prepare(self, query: str, *, timeout: float) -> PreparedStatement:
        """Let the server parse a statement."""

    def is_closed(self) -> bool:
        """Tell whether the connection is gone."""

    def is_in_transaction(self) -> bool:
        """Tell whether a transaction is open."""

    async def close(self, *, timeout: float) -> None:
        """Say goodbye and close the connection."""

    def terminate(self) -> None:
        """Close the connection at once."""


connect: Final[Callable[..., Awaitable[Connection]]] = asyncpg.connect

PostgresError: Final[type[Any]] = asyncpg.PostgresError
"""What the server says; it has a ``sqlstate``."""

QueryCanceledError: Final[type[Any]] = asyncpg.QueryCanceledError
InterfaceError: Final[type[Any]] = asyncpg.InterfaceError
InternalClientError: Final[type[Any]] = asyncpg.InternalClientError

STALE: Final[tuple[type[Any], ...]] = (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError)
"""What a prepared statement raises that was made for a table that has changed since."""

FAILURES: Final[tuple[type[Any], ...]] = (OSError, PostgresError, InterfaceError, InternalClientError)
"""Everything that the driver raises, timeouts included."""
