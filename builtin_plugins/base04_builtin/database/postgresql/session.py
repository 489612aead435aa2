"""One connection, and what is asked of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

from base04_builtin.database.postgresql.converters import Converter, decoder, encode, encoder
from base04_builtin.database.postgresql.driver import (
    FAILURES,
    STALE,
    Connection,
    InterfaceError,
    PostgresError,
    PreparedStatement,
)
from base04_builtin.database.postgresql.errors import Restart, asks_for_retry, is_unsettled, translated
from base04_builtin.database.postgresql.joining import joined, unmet
from base04_builtin.database.requests import Query, Rows, Step
from base04_hookspecs.errors import Conflict, InvalidInput, OutcomeUnknown

_STATEMENTS: Final = 256
_GRACE_S: Final = 1.0
_PLAIN: Final = frozenset(
    {"select", "insert", "update", "delete", "with", "values", "table", "merge", "show", "explain"}
)
_NOT_OURS: Final = frozenset(
    {
        *("begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "prepare", "execute"),
        *("deallocate", "set", "reset", "discard", "listen", "unlisten", "declare", "fetch", "move", "close"),
        *("copy", "load", "lock"),
    }
)
_TRACES: Final = re.compile(r"set_config|advisory|\binto\s+(local\s+)?temp", re.IGNORECASE)


class _Prepared(NamedTuple):
    """A statement that the server has parsed, and which of its values need a conversion."""

    statement: PreparedStatement
    returns_rows: bool
    encoders: tuple[tuple[int, Converter], ...]
    decoders: tuple[tuple[str, Converter], ...]


class PostgresSession:
    """A connection that belongs to one task at a time.

    ``interrupted`` says that the server may still be busy with something that nobody waits for; ``spent``, that a
    statement may have left something behind on the connection, which is then closed rather than used again.

    Args:
        connection: the connection.
        timeout_s: how long one statement or one transaction may run.
        patience_s: how long the server may take to answer a ping, or to end what was cancelled.
        read_only: whether callers' statements run in transactions that cannot write.
    """

    def __init__(self, connection: Connection, timeout_s: float, patience_s: float, *, read_only: bool) -> None:
        self.opened_at = self.used_at = asyncio.get_running_loop().time()
        self.interrupted = False
        self.spent = False
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s + _GRACE_S  # the server's own timeout comes first
        self._patience_s = patience_s
        self._read_only = read_only
        self._prepared: dict[str, _Prepared] = {}

    @property
    def usable(self) -> bool:
        """Whether the connection may be used again as it is."""
        connection = self._connection
        return not (self.interrupted or self.spent or connection.is_closed() or connection.is_in_transaction())

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return self._connection.is_closed()

    async def rows(self, query: Query) -> Rows:
        """Run a statement of the portable core that reads."""
        rows, _ = await self._run(query.sql, query.params, self._timeout_s)
        return rows

    async def query(self, query: Query) -> Rows | int:
        """Run a caller's own statement, and return its rows or how many it touched."""
        if query.keyword in _NOT_OURS:
            raise InvalidInput(
                f"The statement {query.keyword.upper()} is not accepted: transactions and settings of connections "
                "belong to the manager. Use execute_transaction for several changes at once."
            )
        self.spent = self.spent or query.keyword not in _PLAIN or _TRACES.search(query.sql) is not None
        timeout = self._timeout_s
        if not self._read_only:
            rows, touched = await self._run(query.sql, query.params, timeout)
        else:
            await self._connection.execute("BEGIN READ ONLY", timeout=timeout)
            rows, touched = await self._run(query.sql, query.params, timeout)
            await self._connection.execute("ROLLBACK; SELECT pg_advisory_unlock_all()", timeout=timeout)
        return rows if touched is None else touched

    async def transaction(self, steps: Sequence[Step]) -> bool:
        """Carry out steps, all or none.

        Raises:
            OutcomeUnknown: the connection broke, or the server fell silent, while it committed.
        """
        deadline = self._loop.time() + self._timeout_s
        one = joined(steps)
        if one is not None:
            await self._run_joined(one, deadline)
            return True
        runs = list(_runs(steps))
        if len(runs) == 1 and _commits_by_itself(runs[0]):
            await self._prepare_run(runs[0], deadline)
            try:
                await self._run_steps(runs[0], deadline)
            except Exception as error:
                _raise_unknown(error)
                raise
        else:
            await self._connection.execute("BEGIN", timeout=deadline - self._loop.time())
            for run in runs:
                await self._run_steps(run, deadline)
            await self.commit(deadline)
        return True

    async def begin(self) -> float:
        """Open a transaction, and return the time by which it must be over."""
        deadline = self._loop.time() + self._timeout_s
        await self._connection.execute("BEGIN", timeout=self._timeout_s)
        return deadline

    async def commit(self, deadline: float) -> None:
        """Commit the open transaction."""
        try:
            await self._connection.execute("COMMIT", timeout=max(_GRACE_S, deadline - self._loop.time()))
        except Exception as error:
            _raise_unknown(error)
            raise

    async def execute(self, sql: str, *values: Any) -> Rows:
        """Run a statement of the manager's own inside ``begin`` and ``commit``."""
        rows, _ = await self._run(sql, values, self._timeout_s)
        return rows

    async def answers(self) -> bool:
        """Tell whether the connection still works; it is not usable where it does not."""
        try:
            await self._connection.execute("SELECT 1", timeout=self._patience_s)
        except FAILURES:
            return False
        return True

    async def recover(self) -> None:
        """End whatever was interrupted, so that the connection can be used again; raises where it cannot."""
        unfinished = self._connection.is_in_transaction()
        await self._connection.execute("ROLLBACK" if unfinished else "SELECT 1", timeout=self._patience_s)
        if self._connection.is_in_transaction():  # a BEGIN was under way
            await self._connection.execute("ROLLBACK", timeout=self._patience_s)
        self.interrupted = False

    async def close(self) -> None:
        """Say goodbye to the server, or just hang up where it does not listen."""
        try:
            await self._connection.close(timeout=self._patience_s)
        except FAILURES:
            self._connection.terminate()

    def terminate(self) -> None:
        """Hang up at once."""
        self._connection.terminate()

    async def _run_steps(self, steps: Sequence[Step], deadline: float) -> None:
        try:
            if len(steps) == 1:
                await self._step(steps[0], deadline)
            else:
                await self._many(steps, deadline)
        except (PostgresError, InterfaceError) as error:
            if is_unsettled(error) or asks_for_retry(error):
                raise
            place = steps[0].place if len(steps) == 1 else f"{steps[0].place} or one of those like it"
            raise translated(error, read_only=False, place=place) from error

    async def _run_joined(self, step: Step, deadline: float) -> None:
        await self._prepare_run([step], deadline)
        try:
            await self._run(step.sql, step.params, deadline - self._loop.time())
        except (PostgresError, InterfaceError) as error:
            _raise_unknown(error)
            if asks_for_retry(error):
                raise
            raise unmet(step, error) or translated(error, read_only=False, place=step.place) from error
        except Exception as error:
            _raise_unknown(error)
            raise

    async def _prepare_run(self, steps: Sequence[Step], deadline: float) -> None:
        """Let the server parse what a run will execute, while a lost connection cannot have done anything yet."""
        step: Step | None = steps[0]
        while step is not None:
            if step.sql not in self._prepared:
                await self._prepare(step.sql, deadline - self._loop.time())
            step = step.otherwise

    async def _step(self, step: Step, deadline: float) -> None:
        touched = await self._touch(step, deadline)
        attempt = step.otherwise
        while not touched and attempt is not None:
            touched = await self._touch(attempt, deadline)
            attempt = attempt.otherwise
        if not touched and step.otherwise is not None:
            raise Restart("A row came and went while it was looked for.")
        if step.expect is not None and touched != step.expect:
            raise Conflict(
                f"The operation {step.place} touched {touched} rows where {step.expect} were expected; "
                "nothing was done."
            )

    async def _touch(self, step: Step, deadline: float) -> int:
        _, touched = await self._run(step.sql, step.params, deadline - self._loop.time())
        return touched or 0

    async def _many(self, steps: Sequence[Step], deadline: float) -> None:
        timeout = deadline - self._loop.time()
        prepared = self._prepared.get(steps[0].sql) or await self._prepare(steps[0].sql, timeout)
        values: list[Sequence[Any]] = [step.params for step in steps]
        if prepared.encoders:
            values = [encode(each, prepared.encoders) for each in values]
        await prepared.statement.executemany(values, timeout=timeout)

    async def _run(self, sql: str, values: Sequence[Any], timeout: float) -> tuple[Rows, int | None]:
        prepared = self._prepared.get(sql) or await self._prepare(sql, timeout)
        if prepared.encoders:
            values = encode(values, prepared.encoders)
        try:
            records = await prepared.statement.fetch(*values, timeout=timeout)
        except STALE:
            self._prepared.pop(sql, None)
            if self._connection.is_in_transaction():
                raise
            prepared = await self._prepare(sql, timeout)
            records = await prepared.statement.fetch(*values, timeout=timeout)
        if not prepared.returns_rows:
            return [], _touched(prepared.statement.get_statusmsg())
        rows = [dict(record) for record in records]
        for name, convert in prepared.decoders:
            for row in rows:
                row[name] = None if row[name] is None else convert(row[name])
        return rows, None

    async def _prepare(self, sql: str, timeout: float) -> _Prepared:
        statement = await self._connection.prepare(sql, timeout=timeout)
        attributes = statement.get_attributes()
        encoders = [(index, encoder(of)) for index, of in enumerate(statement.get_parameters())]
        decoders = {attribute.name: decoder(attribute.type) for attribute in attributes}
        prepared = _Prepared(
            statement,
            bool(attributes),
            tuple((index, convert) for index, convert in encoders if convert is not None),
            tuple((name, convert) for name, convert in decoders.items() if convert is not None),
        )
        if len(self._prepared) >= _STATEMENTS:
            del self._prepared[next(iter(self._prepared))]
        self._prepared[sql] = prepared
        return prepared


def _runs(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Group neighbouring steps that differ in values alone: the driver sends those in one go."""
    for (_, alone), group in groupby(enumerate(steps), lambda pair: _group_key(*pair)):
        del alone
        yield [step for _, step in group]


def _group_key(index: int, step: Step) -> tuple[str, int]:
    return (step.sql, -1) if step.expect is None and step.otherwise is None else (step.sql, index)


def _commits_by_itself(run: Sequence[Step]) -> bool:
    """Tell whether a run needs no transaction around it: the server does all of it or nothing.

    One row at most is touched where one is expected, so that an unmet expectation leaves nothing to undo.
    """
    step = run[0]
    return step.expect is None or (step.expect == 1 and step.single)


def _raise_unknown(error: Exception) -> None:
    if is_unsettled(error):
        raise OutcomeUnknown(
            "The connection to PostgreSQL broke during the commit: the change may or may not be there."
        ) from error


def _touched(status: str | None) -> int:
    last = (status or "").rpartition(" ")[2]
    return int(last) if last.isdigit() else 0
