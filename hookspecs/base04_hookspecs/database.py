"""The role ``database``: the place where the truth is kept."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NotRequired, TypedDict

from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import AccessRole, hookspec
from base04_hookspecs.provider import Provider

ColumnType = Literal["string", "text", "integer", "float", "boolean", "json", "timestamp", "bytes"]
"""``string`` is for keys and short text (indexable), ``timestamp`` a float of seconds since the epoch."""

Where = Mapping[str, Any]
"""Conditions that must all hold: ``{"id": 1}`` (equal; None: is null), or ``{"age": {"gte": 18, "lt": 65}}`` with the
operators ``eq``, ``ne``, ``lt``, ``lte``, ``gt``, ``gte``, ``in`` (a list), ``prefix`` (a string). ``ne`` matches null
where the value is not null, and ``in`` may list None."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table that ``ensure_table`` makes."""

    name: str
    type: ColumnType
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A table that ``ensure_table`` makes: portable between SQL and document stores.

    ``unique`` and ``indexes`` are tuples of tuples of column names.
    """

    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    unique: tuple[tuple[str, ...], ...] = field(default=())
    indexes: tuple[tuple[str, ...], ...] = field(default=())


class Operation(TypedDict):
    """One step of a transaction.

    * ``insert``: ``data``; a violated key raises ``Conflict``.
    * ``update``: ``data``, and ``where``; without ``where`` every row, an empty or None one is refused.
    * ``delete``: ``where``, required and not empty.
    * ``upsert``: ``data`` for the row that ``where`` names by equality on its primary or a unique key; it is inserted
      from both together where there is none; empty ``data`` inserts it only where there is none.

    ``expect`` is the number of rows that must be touched; another number raises ``Conflict`` and nothing is done.
    """

    type: Literal["insert", "update", "delete", "upsert"]
    table: str
    data: NotRequired[Mapping[str, Any]]
    where: NotRequired[Where | None]
    expect: NotRequired[int]


class PoolStatus(TypedDict):
    """Connections of one instance: ``size`` is the most there may be, ``waiting`` who waits for one now."""

    size: int
    in_use: int
    idle: int
    waiting: int


Migration = Callable[["DatabaseManager"], Awaitable[None]]
"""One step of a role's stored schema. It may be run again after a crash, so it must bear that."""


class DatabaseManager(Manager):
    """Queries, transactions, and a portable core that works on SQL and document stores alike.

    Table and column names are validated and quoted; values are always bound.

    Capabilities: ``sql``, ``transactions`` (several rows change together; ``supports_transactions`` tells whether they
    do where that depends on the server), ``shared`` (several processes).
    """

    role: ClassVar[str] = "database"
    one_for_all: ClassVar[bool] = True

    @abstractmethod
    def with_access(self, access: AccessRole) -> DatabaseManager:
        """Return a view of the same instance with an access role; ``read_only`` is enforced by the server."""

    def supports_transactions(self) -> bool:
        """Tell whether several rows change together on the server at hand; asked once it has started.

        False where ``execute_transaction`` refuses that, or carries operations out in order and takes them back.
        """
        return True

    @abstractmethod
    async def check_connection(self) -> bool:
        """Tell whether the database answers. Never raises for an unreachable one."""

    @abstractmethod
    async def execute_query(self, query: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Run one statement and return its rows as a list of dicts, or the number of rows it touched.

        SQL takes ``:name``, ``%(name)s`` and ``%s`` (the values of ``params`` in order) and one statement at a time.
        A document store takes a command document.

        Raises:
            InvalidInput: the statement is not valid, or parameters are missing.
            Conflict: a constraint refuses it.
            NotSupported: it writes, and the access role is read-only.
            ManagerUnavailable: the database cannot be reached or no connection became free in time.
            OutcomeUnknown: the connection broke during the commit.
        """

    @abstractmethod
    async def execute_transaction(self, operations: Sequence[Operation]) -> bool:
        """Carry out all operations, in order, or none, and return True once they are durable.

        Raises:
            Conflict: an ``expect`` is unmet or a key exists; nothing was done.
            InvalidInput: an operation is not valid; nothing was done.
            NotSupported: the access role is read-only.
            ManagerUnavailable: nothing was done.
            OutcomeUnknown: the connection broke during the commit.
        """

    @abstractmethod
    async def find(
        self,
        table: str,
        where: Where | None = None,
        order_by: Sequence[str] = (),
        limit: int | None = None,
        *,
        offset: int = 0,
        columns: Sequence[str] | None = None,
    ) -> list[dict[str, Any]]:
        """Return matching rows. ``order_by`` holds column names, ``-name`` for descending."""

    @abstractmethod
    async def count(self, table: str, where: Where | None = None) -> int:
        """Return how many rows match."""

    @abstractmethod
    async def ensure_table(self, table: TableSchema) -> None:
        """Create the table and its indexes where missing, and add missing nullable columns. Safe to repeat."""

    @abstractmethod
    async def migrate(self, owner: str, migrations: Sequence[Migration]) -> int:
        """Bring the stored schema of ``owner`` (a role) up to date and return its version, ``len(migrations)``.

        Runs the steps that have not run yet, in order, under a lock across processes; each is recorded when it is
        done. A stored version beyond the list raises ``ConfigurationError``: newer code has been here.
        """

    @abstractmethod
    async def get_connection_pool_status(self) -> PoolStatus:
        """Return the use of the connection pool."""


@hookspec
def database_providers() -> Iterable[Provider]:
    """Offer providers of the role ``database``.

    The host calls each implementation once, when it discovers plugins. None or an empty iterable offers nothing.
    """
