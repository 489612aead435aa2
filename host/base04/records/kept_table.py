"""What a host keeps in a table of the default database: rows whose ids begin with the time, listed newest first."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from base04.records.retention import AT_ONCE, delete_oldest
from base04.records.time_ids import moment
from base04_hookspecs.database import DatabaseManager, TableSchema


@dataclass(frozen=True, slots=True, kw_only=True)
class PageQuery:
    """Which rows are asked for; None asks for any. ``before`` is the id of the last one of the page before.

    ``since`` and ``until`` are seconds since the epoch.
    """

    since: float | None = None
    until: float | None = None
    before: str | None = None
    limit: int = 100

    def where(self) -> dict[str, Any]:
        """Return the conditions; times are those of ids, which have an index."""
        ends = [end for end in (self.before, None if self.until is None else moment(self.until)) if end is not None]
        bounds: dict[str, str] = {"lt": min(ends)} if ends else {}
        if self.since is not None:
            bounds["gte"] = moment(self.since)
        return {"id": bounds} if bounds else {}


def given(**values: Any) -> dict[str, Any]:
    """Return conditions on the columns for which a value is given."""
    return {name: value for name, value in values.items() if value is not None}


def dotted(pattern: str | None) -> Any:
    """Return the condition on dotted names; ``notes.*`` stands for all that begin with ``notes.``."""
    return {"prefix": pattern[:-1]} if pattern is not None and pattern.endswith(".*") else pattern


class KeptTable:
    """One table of one database, made when it is first used."""

    schema: ClassVar[TableSchema]
    owner: ClassVar[str]
    """Whose stored schema it is."""
    versions: ClassVar[int] = 1
    """One, and one more for each time that the schema got further columns."""
    listed: ClassVar[tuple[str, ...] | None] = None
    """The columns of a page; None for all."""
    sweepable: ClassVar[Mapping[str, Any]] = {}
    """Which rows may be deleted when they are old."""

    def __init__(self, database: DatabaseManager) -> None:
        self.database = database
        self._there = False

    async def prepare(self) -> None:
        """Make the table where it is missing; once."""
        if not self._there:
            await self.database.migrate(self.owner, (self._complete,) * self.versions)
            self._there = True

    async def _complete(self, database: DatabaseManager) -> None:
        await database.ensure_table(self.schema)

    async def page(self, query: PageQuery) -> tuple[list[dict[str, Any]], str | None]:
        """Return rows, newest first, and the id to go on ``before``, None where there are no more."""
        await self.prepare()
        found = await self.database.find(
            self.schema.name, query.where(), ("-id",), query.limit + 1, columns=self.listed
        )
        rows = found[: query.limit]
        return rows, rows[-1]["id"] if len(found) > len(rows) else None

    async def sweep_older(self, retention: float) -> int:
        """Delete what is older than ``retention`` seconds, some at once, and return how many."""
        await self.prepare()
        old = {**self.sweepable, "id": {"lt": moment(time.time() - retention)}}
        return await delete_oldest(self.database, self.schema.name, old, AT_ONCE)

    async def sweep_beyond(self, where: Mapping[str, Any], most: int) -> int:
        """Delete the oldest rows beyond a number, some at once, and return how many."""
        beyond = await self.database.count(self.schema.name, where) - most
        return await delete_oldest(self.database, self.schema.name, where, min(beyond, AT_ONCE)) if beyond > 0 else 0
