"""States as the database holds them: read, and changed together with their history and outbox.

Where several rows change together, a change is three rows in one transaction. Where they do not (a MongoDB that stands
alone), it is one document: the state carries its unshipped history entries, and a ``Relay`` moves them on.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from base04_builtin.state.tables import CARRYING_STATES, HISTORY, OUTBOX, STATES, change_of
from base04_builtin.state.transitions import DELETED, EXPIRED
from base04_hookspecs.database import DatabaseManager, Operation
from base04_hookspecs.errors import Conflict, ManagerUnavailable
from base04_hookspecs.state import State, StateChange

MOST_PENDING: Final = 200
_STATE: Final = tuple(State.__annotations__)


class Place(NamedTuple):
    """What there is at an id: a state or none, the last version there was, and what its document still carries.

    ``kept`` says that there is a document even where there is no state.
    """

    state: State | None
    version: int
    pending: tuple[dict[str, Any], ...] = ()
    kept: bool = False


class StateStore:
    """Reads and writes states.

    Args:
        database: where they are.
        carrying: whether a state carries its own history until it is moved on.
    """

    def __init__(self, database: DatabaseManager, *, carrying: bool) -> None:
        self.database = database
        self.carrying = carrying
        self._table = CARRYING_STATES if carrying else STATES
        self._columns = [*_STATE, "pending"] if carrying else list(_STATE)

    async def state(self, state_id: str) -> State | None:
        """Return a state as it is stored, None where there is none."""
        rows = await self.database.find(self._table.name, {"state_id": state_id}, columns=self._columns)
        return _place(rows[0]).state if rows else None

    async def place(self, state_id: str) -> Place:
        """Return what there is at an id."""
        rows = await self.database.find(self._table.name, {"state_id": state_id}, columns=self._columns)
        if rows:
            return _place(rows[0])
        last = await self.database.find(HISTORY.name, {"state_id": state_id}, ["-version"], 1, columns=["version"])
        return Place(None, last[0]["version"] if last else 0)

    async def write(self, place: Place, state: State | None, change: StateChange, state_type: str) -> Place:
        """Put a state, or none, where a place was looked at, and return what is there now.

        Raises:
            Conflict: somebody has changed it meanwhile; nothing was done.
            ManagerUnavailable: nothing was done.
            OutcomeUnknown: it may have been done.
        """
        if self.carrying:
            return await self._write_carrying(place, state, change, state_type)
        operations: list[Operation] = [
            _row_change(change["state_id"], place, state),
            {"type": "insert", "table": HISTORY.name, "data": dict(change)},
            {
                "type": "insert",
                "table": OUTBOX.name,
                "data": {
                    "event_id": change["event_id"],
                    "state_id": change["state_id"],
                    "version": change["version"],
                    "state_type": state_type,
                },
            },
        ]
        await self.database.execute_transaction(operations)
        return Place(state, change["version"])

    async def history(self, state_id: str, limit: int | None, before_version: int | None) -> list[StateChange]:
        """Return changes of a state, newest first."""
        carried = await self._carried(state_id)  # first: what is moved on meanwhile is then found in both places
        where: dict[str, Any] = {"state_id": state_id}
        if before_version is not None:
            where["version"] = {"lt": before_version}
        found = [change_of(row) for row in await self.database.find(HISTORY.name, where, ["-version"], limit)]
        if not carried:
            return found
        newest = found[0]["version"] if found else 0
        fresh = [one for one in carried if before_version is None or one["version"] < before_version]
        both = [one for one in reversed(fresh) if one["version"] > newest] + found
        return both if limit is None else both[:limit]

    async def history_after(self, state_id: str, version: int, limit: int) -> list[StateChange]:
        """Return the next changes of a state, oldest first."""
        carried = await self._carried(state_id)
        where = {"state_id": state_id, "version": {"gt": version}}
        found = [change_of(row) for row in await self.database.find(HISTORY.name, where, ["version"], limit)]
        newest = found[-1]["version"] if found else version
        if len(found) < limit:
            found += [one for one in carried if one["version"] > newest][: limit - len(found)]
        return found

    async def entries(self, state_id: str, versions: list[int]) -> dict[int, StateChange]:
        """Return those changes of a state that are in the history, by version."""
        rows = await self.database.find(HISTORY.name, {"state_id": state_id, "version": {"in": versions}})
        return {row["version"]: change_of(row) for row in rows}

    async def last_version(self, state_id: str) -> int:
        """Return the version of the last change of a state, 0 where there was none."""
        return (await self.place(state_id)).version

    async def due(self, now: float, limit: int) -> list[str]:
        """Return ids of states whose time has passed without an entry in their history."""
        rows = await self.database.find(
            STATES.name, {"sweep_at": {"lte": now}}, ["sweep_at"], limit, columns=["state_id"]
        )
        return [row["state_id"] for row in rows]

    async def _carried(self, state_id: str) -> list[StateChange]:
        if not self.carrying:
            return []
        rows = await self.database.find(STATES.name, {"state_id": state_id}, columns=["pending"])
        return [change_of(one["change"]) for one in rows[0]["pending"] or ()] if rows else []

    async def _write_carrying(self, place: Place, state: State | None, change: StateChange, state_type: str) -> Place:
        if len(place.pending) >= MOST_PENDING:
            raise ManagerUnavailable(
                f"The state {change['state_id']!r} changes faster than its history can be moved on: try again later."
            )
        pending = (*place.pending, {"change": dict(change), "state_type": state_type})
        row = _columns(state) if state is not None else {"status": DELETED, "data": {}, "sweep_at": None}
        row |= {"version": change["version"], "pending": list(pending), "unshipped": 1}
        operation: Operation
        if place.kept or place.state is not None:
            operation = {
                "type": "update",
                "table": STATES.name,
                "data": row,
                "where": {"state_id": change["state_id"], "version": place.version},
                "expect": 1,
            }
        else:
            operation = {"type": "insert", "table": STATES.name, "data": {"state_id": change["state_id"], **row}}
        await self.database.execute_transaction([operation])
        return Place(state, change["version"], pending, kept=True)


def _place(row: dict[str, Any]) -> Place:
    pending = tuple(row.pop("pending", None) or ())
    state: State | None = row if row["status"] != DELETED else None  # type: ignore[assignment]  # its very columns
    return Place(state, row["version"], pending, kept=True)


def _columns(state: State) -> dict[str, Any]:
    """Return all columns of a state but its key."""
    row: dict[str, Any] = {name: value for name, value in state.items() if name != "state_id"}
    row["sweep_at"] = None if state["status"] == EXPIRED else state["expires_at"]
    return row


def _row_change(state_id: str, place: Place, state: State | None) -> Operation:
    table = STATES.name
    if place.state is None:
        if state is None:
            raise Conflict(f"There is no state {state_id!r}.")
        return {"type": "insert", "table": table, "data": {"state_id": state_id, **_columns(state)}}
    where = {"state_id": state_id, "version": place.version}
    if state is None:
        return {"type": "delete", "table": table, "where": where, "expect": 1}
    data = {
        "status": state["status"],
        "version": state["version"],
        "data": state["data"],
        "updated_at": state["updated_at"],
        "expires_at": state["expires_at"],
        "sweep_at": None if state["status"] == EXPIRED else state["expires_at"],
    }
    return {"type": "update", "table": table, "data": data, "where": where, "expect": 1}
