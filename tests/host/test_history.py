from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from base04.executions.history import History
from base04_hookspecs.context import Principal, RequestContext
from base04_hookspecs.errors import Conflict, InvalidInput, ManagerUnavailable, NotFound, OutcomeUnknown

CONTEXT = RequestContext("request-1", Principal("ada", (), "token"), "192.0.2.7", "http", "pack.run")


class Table:
    """A table that fails as it is told to, and keeps the rest."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.batches: list[list[Mapping[str, Any]]] = []
        self.let_go: asyncio.Event | None = None

    async def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if self.let_go is not None:
            await self.let_go.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.batches.append(list(rows))

    @property
    def requests(self) -> list[Any]:
        return [row["duration"] for batch in self.batches for row in batch]


def history(table: Table | None, size: int = 10_000) -> History:
    return History(lambda: table, size)  # type: ignore[arg-type,return-value]  # as much of a table as it uses


def note(history: History, number: float, error: BaseException | None = None) -> None:
    history.note(CONTEXT, "succeeded" if error is None else "failed", 1_800_000_000.0 + number, number, error)


async def test_runs_are_written_in_batches_in_their_order() -> None:
    table = Table()
    found = history(table)
    for number in range(1200):
        note(found, number)
    assert table.batches == []
    await found.written()
    assert [len(batch) for batch in table.batches] == [500, 500, 200]
    assert table.requests == list(range(1200))
    note(found, 7, NotFound("gone"))
    await found.written()
    row = table.batches[-1][0]
    assert (row["status"], row["user_id"], row["request_id"], row["client_ip"]) == (
        *("failed", "ada", "request-1", "192.0.2.7"),
    )
    assert row["error"]["type"] == "urn:base04:problem:not-found"
    await found.close()


async def test_what_is_too_much_is_dropped_and_counted_successes_first() -> None:
    table = Table()
    table.let_go = asyncio.Event()
    found = history(table, size=3)
    for number in range(5):
        note(found, number)
    for number in range(5, 10):
        note(found, number, NotFound("gone"))
    assert (found.waiting, found.dropped) == (6, 4)
    table.let_go.set()
    with capture_logs() as logs:
        await found.close()
    assert table.requests == [0, 1, 2, 5, 6, 7]
    assert [(log["event"], log["runs"]) for log in logs] == [("runs are missing in the history", 4)]


@pytest.mark.parametrize("error", [ManagerUnavailable("away"), OutcomeUnknown("broke")])
async def test_what_cannot_be_written_just_now_is_written_later_in_its_order(error: Exception) -> None:
    table = Table(error)
    found = history(table)
    with capture_logs():
        for number in range(3):
            note(found, number)
        await found.written()
    assert table.requests == [0, 1, 2]
    assert found.dropped == 0
    await found.close()


async def test_batch_that_an_earlier_attempt_had_written_after_all_is_not_written_twice() -> None:
    table = Table(OutcomeUnknown("broke"), Conflict("exists"))
    found = history(table)
    with capture_logs():
        note(found, 1)
        await found.written()
    assert (table.batches, found.waiting, found.dropped) == ([], 0, 0)
    await found.close()


async def test_batch_that_can_never_be_written_is_dropped_and_the_next_goes_on() -> None:
    table = Table(InvalidInput("no such column"))
    found = history(table)
    with capture_logs() as logs:
        note(found, 1)
        await found.written()
        note(found, 2)
        await found.written()
    assert (table.requests, found.dropped) == ([2], 1)
    assert logs[0]["event"] == "runs cannot be written to the history"
    await found.close()


async def test_host_without_a_database_keeps_no_history_and_nothing_after_it_closed() -> None:
    found = history(None)
    note(found, 1)
    await found.written()
    assert found.waiting == 0
    await found.close()
    note(found, 2)
    assert found.waiting == 0
