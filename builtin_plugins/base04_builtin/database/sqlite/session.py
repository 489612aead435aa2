"""One connection to the file, with the guards that make it safe to run somebody else's statements on it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import structlog

from base04_builtin.database.ddl import OWN_PREFIX
from base04_builtin.database.requests import EnsureTable, Query, Request, Rows, Step, Transaction
from base04_builtin.database.sqlite.errors import breaks_connection, primary_code, translated
from base04_builtin.database.sqlite.job import Outcome
from base04_builtin.database.sqlite.rows import joined, like
from base04_builtin.database.sqlite.settings import SqliteSettings
from base04_builtin.database.sqlite.tables import ensure_table
from base04_hookspecs.errors import Conflict, InvalidInput, ManagerError, ManagerUnavailable, OutcomeUnknown

log = structlog.get_logger()

_DENIED: Final = frozenset(
    {
        sqlite3.SQLITE_TRANSACTION,
        sqlite3.SQLITE_SAVEPOINT,
        sqlite3.SQLITE_ATTACH,
        sqlite3.SQLITE_DETACH,
        sqlite3.SQLITE_CREATE_TEMP_INDEX,
        sqlite3.SQLITE_CREATE_TEMP_TABLE,
        sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
        sqlite3.SQLITE_CREATE_TEMP_VIEW,
    }
)
_CHANGES: Final = frozenset(
    {
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_DELETE,
        sqlite3.SQLITE_DROP_TABLE,
        sqlite3.SQLITE_ALTER_TABLE,
    }
)
_PRAGMAS: Final = frozenset(
    {
        "table_info",
        "table_xinfo",
        "table_list",
        "index_list",
        "index_info",
        "index_xinfo",
        "foreign_key_list",
        "foreign_key_check",
        "integrity_check",
        "quick_check",
        "compile_options",
        "database_list",
    }
)
_DRIVER_ERRORS: Final = (sqlite3.Error, sqlite3.Warning, OverflowError, UnicodeError)
_PROGRESS: Final = 10_000
_RETRY: Final = 0.02


class SqliteSession:
    """A connection that belongs to one thread.

    Args:
        settings: the provider's settings.
        writable: whether it writes; one that does not is refused every change by SQLite itself.
    """

    def __init__(self, settings: SqliteSettings, *, writable: bool) -> None:
        self.broken = False
        self._settings = settings
        self._writable = writable
        self._trusted = True
        self._deadline = float("inf")
        self._abandoned: Callable[[], bool] = _never
        try:
            self._connection = _connect(settings, writable=writable)
        except sqlite3.Error as error:
            raise translated(error, writable=writable) from error
        try:
            _configure(self._connection, settings, writable=writable)
        except sqlite3.Error as error:
            self._connection.close()
            raise translated(error, writable=writable) from error
        except BaseException:
            self._connection.close()
            raise
        self._changes = self._connection.cursor()
        self._connection.set_authorizer(self._authorize)
        self._connection.set_progress_handler(self._must_interrupt, _PROGRESS)
        self._trusted = False

    def perform(self, request: Request, abandoned: Callable[[], bool]) -> Any:
        """Carry out a request.

        Raises:
            ManagerError: as the contract says; whatever was begun has been rolled back.
        """
        self._deadline = time.monotonic() + self._settings.statement_timeout
        self._abandoned = _never if self._writable else abandoned
        try:
            return self._perform(request)
        except _DRIVER_ERRORS as error:
            raise self._failed(error) from error
        finally:
            self._deadline = float("inf")
            self._abandoned = _never

    def perform_together(self, transactions: Sequence[Transaction]) -> list[Outcome] | None:
        """Carry out transactions with one commit, each in a savepoint.

        Returns None, with everything rolled back, where an error ended the transaction or the commit was refused:
        nobody can tell whose fault it was, so each has to be carried out alone.

        Raises:
            ManagerError: the transaction could not be opened; nothing was done.
        """
        self._deadline = time.monotonic() + self._settings.statement_timeout
        try:
            self._begin()
        except sqlite3.Error as error:
            raise self._failed(error) from error
        try:
            outcomes = [self._entry(transaction.steps) for transaction in transactions]
        except Exception as error:  # noqa: BLE001 - whose it is shows when each is alone
            self.broken = self.broken or breaks_connection(error)
            self._roll_back()
            return None
        try:
            self._commit()
        except OutcomeUnknown as error:
            return [_unsettled(outcome, error) for outcome in outcomes]
        except sqlite3.Error as error:
            self._failed(error)
            return None
        return outcomes

    def close(self) -> None:
        """Close the connection."""
        self._trusted = True
        self._connection.close()

    def _perform(self, request: Request) -> Any:
        if isinstance(request, Transaction) and not request.own:
            return self._in_transaction(lambda: self._steps(request.steps))
        match request:
            case Query() if not self._writable:
                return self._query(request)
            case Query():
                return self._in_transaction(lambda: self._query(request))
            case Transaction(steps, own=True):
                return self._in_transaction(lambda: self._own(lambda: self._steps(steps)))
            case EnsureTable(table):
                return self._in_transaction(lambda: self._own(lambda: ensure_table(self._connection, table)))

    def _in_transaction(self, work: Callable[[], Any]) -> Any:
        self._begin()
        try:
            result = work()
        except BaseException:
            self._roll_back()
            raise
        self._commit()
        return result

    def _begin(self) -> None:
        self._execute_own("BEGIN IMMEDIATE")

    def _commit(self) -> None:
        self._deadline = float("inf")
        try:
            self._execute_own("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            if primary_code(error) == sqlite3.SQLITE_IOERR:
                self.broken = True
                raise OutcomeUnknown(
                    "The disk reported an error during the commit: the change may or may not be there."
                ) from error
            raise

    def _roll_back(self) -> None:
        self._deadline = float("inf")
        try:
            self._own(self._connection.rollback)
        except sqlite3.Error:
            self.broken = True
            log.warning("rollback failed, the connection is opened anew", exc_info=True)

    def _entry(self, steps: tuple[Step, ...]) -> Outcome:
        """Carry out steps in a savepoint of the open transaction.

        Raises:
            sqlite3.Error: the whole transaction has ended, and every entry with it.
        """
        self._deadline = time.monotonic() + self._settings.statement_timeout
        self._execute_own("SAVEPOINT entry")
        try:
            self._steps(steps)
        except (ManagerError, *_DRIVER_ERRORS) as error:
            if not self._connection.in_transaction:
                self._failed(error)
                raise sqlite3.OperationalError("An error ended the transaction.") from error
            self._deadline = float("inf")
            self._execute_own("ROLLBACK TO entry")
            self._execute_own("RELEASE entry")
            return Outcome(None, self._failed(error))
        self._execute_own("RELEASE entry")
        return Outcome(True)

    def _steps(self, steps: tuple[Step, ...]) -> bool:
        first = 0
        while first < len(steps):
            count = like(steps, first)
            if count > 1 and self._insert(steps[first : first + count]):
                first += count
                continue
            step = steps[first]
            first += 1
            touched = self._step(step)
            if step.expect is not None and touched != step.expect:
                raise Conflict(
                    f"The operation {step.place} touched {touched} rows where {step.expect} were expected; "
                    "nothing was done."
                )
        return True

    def _insert(self, steps: Sequence[Step]) -> bool:
        """Insert the rows of steps by one statement; False where one is refused, and nothing was done."""
        try:
            self._changes.execute(*joined(steps))
        except sqlite3.IntegrityError:  # whose row it is shows when each is inserted by itself
            return False
        return True

    def _step(self, step: Step) -> int:
        try:
            touched = self._changes.execute(step.sql, step.params).rowcount
        except sqlite3.IntegrityError as error:
            kind = InvalidInput if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_NOTNULL else Conflict
            raise kind(f"The operation {step.place} is refused: {error}; nothing was done.") from error
        if touched == 0 and step.otherwise is not None:
            return self._step(step.otherwise)
        return touched

    def _query(self, query: Query) -> Rows | int:
        before = self._connection.total_changes
        with closing(self._connection.execute(query.sql, query.params)) as cursor:
            if cursor.description is not None:
                names = [column[0] for column in cursor.description]
                return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
            touched = cursor.rowcount
        if touched >= 0 or self._connection.total_changes == before:
            return max(touched, 0)
        return int(self._connection.execute("SELECT changes()").fetchone()[0])  # WITH ... UPDATE has no rowcount

    def _failed(self, error: Exception) -> ManagerError:
        """Return the contract's error, and take note where the connection is of no more use."""
        if isinstance(error, ManagerError):
            return error
        self.broken = self.broken or breaks_connection(error)
        failure = translated(error, writable=self._writable)
        failure.__cause__ = error
        return failure

    def _execute_own(self, sql: str) -> None:
        self._trusted = True
        try:
            self._changes.execute(sql)
        finally:
            self._trusted = False

    def _own(self, work: Callable[[], Any]) -> Any:
        """Run statements of the manager's own, to which the authorizer does not apply."""
        self._trusted = True
        try:
            return work()
        finally:
            self._trusted = False

    def _authorize(self, action: int, first: str | None, second: str | None, *_where: str | None) -> int:
        if self._trusted:
            return sqlite3.SQLITE_OK
        if action in _DENIED:
            return sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_PRAGMA and (first or "").lower() not in _PRAGMAS:
            return sqlite3.SQLITE_DENY
        table = second if action == sqlite3.SQLITE_ALTER_TABLE else first
        if action in _CHANGES and (table or "").startswith(OWN_PREFIX):
            return sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_FUNCTION and second == "load_extension":
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    def _must_interrupt(self) -> bool:
        return time.monotonic() > self._deadline or self._abandoned()


def _never() -> bool:
    return False


def _unsettled(outcome: Outcome, error: OutcomeUnknown) -> Outcome:
    """Return what to tell a caller whose entry was in a commit of which nobody knows whether it happened.

    An entry that failed was not done; but what it failed of may have been another entry, which may not be there.
    """
    if outcome.error is None:
        return Outcome(None, error)
    return Outcome(None, ManagerUnavailable("The disk reported an error during the commit; nothing was done."))


def _connect(settings: SqliteSettings, *, writable: bool) -> sqlite3.Connection:
    mode = "rw" if writable else "ro"
    return sqlite3.connect(
        f"file:{quote(str(Path(settings.path).absolute()))}?mode={mode}",
        uri=True,
        timeout=settings.busy_timeout,
        isolation_level=None,
        cached_statements=512,
    )


def _configure(connection: sqlite3.Connection, settings: SqliteSettings, *, writable: bool) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, min(settings.max_value_bytes * 8, 1_000_000_000))
    if not writable:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return
    _use_wal(connection, time.monotonic() + settings.busy_timeout)
    connection.execute(f"PRAGMA synchronous = {settings.synchronous}")


def _use_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """Switch to WAL. SQLite does not wait for its lock here, whatever the busy timeout, so this does."""
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY)
            continue
        if mode == "wal":
            return
        raise ManagerUnavailable(
            f"The database cannot use a write-ahead log here, SQLite stays in mode {mode!r}: "
            "put the file on a local disk rather than a network share."
        )
