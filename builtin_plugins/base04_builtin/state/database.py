"""The provider ``database``: states whose truth is in the role ``database``."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

from pydantic import Field

from base04_builtin.state.notifier import Notifier
from base04_builtin.state.tables import HISTORY, MIGRATIONS, STATES, change_of, state_of
from base04_builtin.state.transitions import ACTIVE, DELETED, EXPIRED, Transitions
from base04_hookspecs import HealthReport, current_request, health_report
from base04_hookspecs.database import DatabaseManager, Operation
from base04_hookspecs.errors import ConfigurationError, Conflict, InvalidInput, ManagerError, NotFound, NotSupported
from base04_hookspecs.hooks import HooksManager
from base04_hookspecs.settings import ManagerSettings
from base04_hookspecs.state import (
    State,
    StateCallback,
    StateChange,
    StateManager,
    StateTransition,
    StateType,
    TransitionTable,
)

_PAUSE: Final = 0.005
_LONGEST: Final = 100 * 366 * 86400.0
_CHANGING: Final = frozenset({"status", "version", "data", "updated_at", "expires_at"})


class StateSettings(ManagerSettings):
    """How states are kept."""

    conflict_retries: int = Field(default=100, ge=0, le=10_000)
    """How often a change is tried again because another process changed the same state first."""


@dataclass(frozen=True, slots=True)
class _Planned:
    """A change that is worked out: how the row changes, and the history entry that is written with it."""

    operation: Operation
    state_type: str
    change: StateChange


class DatabaseStateManager(StateManager):
    """States in the database: each change and its history entry in one transaction, guarded by the version.

    Callbacks are live: they are called in the process that made the change, after it is durable.
    """

    def __init__(self, settings: StateSettings, database: DatabaseManager, hooks: HooksManager | None) -> None:
        self._retries = settings.conflict_retries
        self._database = database
        self._transitions = Transitions()
        self._notifier = Notifier(hooks)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def start(self) -> None:
        """Make or update the tables.

        Raises:
            ConfigurationError: the database cannot change a state and its history together.
        """
        if not self._database.supports_transactions():
            raise ConfigurationError(
                "A state and its history change together, and the server of the role 'database' has no transactions: "
                "use a MongoDB replica set (one member is enough), PostgreSQL or SQLite, or switch the role off with "
                "'state: {provider: none}'."
            )
        await self._database.migrate(self.role, MIGRATIONS)

    async def stop(self) -> None:
        """Wait for callbacks that are under way."""
        await self._notifier.stop()

    async def health_check(self) -> HealthReport:
        """Report whether states can be read."""
        began = time.perf_counter()
        dependency = await self._database.health_check()
        if dependency["status"] == "unhealthy":
            return health_report("unhealthy", dependency["details"], dependencies={"database": "unhealthy"})
        try:
            await self._database.find(STATES.name, limit=1, columns=["state_id"])
        except ManagerError as error:
            return health_report("unhealthy", str(error), dependencies={"database": dependency["status"]})
        return health_report(
            dependency["status"],
            "states can be read",
            response_time=time.perf_counter() - began,
            dependencies={"database": dependency["status"]},
            callback_failures=self._notifier.failures,
        )

    async def register_state(
        self,
        state_id: str,
        state_type: StateType | str,
        initial_data: Mapping[str, Any],
        allowed_transitions: Sequence[StateTransition | str] | None = None,
        *,
        ttl: float | None = None,
    ) -> bool:
        """Create a state; see the contract. Where the id was used before, its versions go on."""
        _check_id(state_id)
        kind = self._transitions.check_type(state_type)
        narrowed = self._narrowed(kind, allowed_transitions)
        data, lifetime = _data(initial_data), _lifetime(ttl)

        async def plan() -> _Planned | None:
            if await self._read(state_id) is not None:
                return None
            now = time.time()
            version = await self._last_version(state_id) + 1
            state = State(
                state_id=state_id,
                state_type=kind,
                status=ACTIVE,
                version=version,
                data=data,
                allowed_transitions=narrowed,
                created_at=now,
                updated_at=now,
                expires_at=None if lifetime is None else now + lifetime,
            )
            change = _change(None, state, StateTransition.CREATE)
            return _Planned({"type": "insert", "table": STATES.name, "data": dict(state)}, kind, change)

        return await self._carry_out(state_id, plan)

    async def get_state(self, state_id: str, *, fresh: bool = False) -> State | None:
        """Return a state, None where there is none. Reads are always fresh here."""
        _check_id(state_id)
        return await self._read(state_id)

    async def update_state(
        self,
        state_id: str,
        new_data: Mapping[str, Any],
        transition: StateTransition | str | None = None,
        *,
        expected_version: int | None = None,
        ttl: float | None = None,
    ) -> bool:
        """Merge data into a state and make a transition; see the contract."""
        given = _data(new_data)
        return await self._change(state_id, lambda old: {**old, **given}, transition, expected_version, ttl)

    async def replace_state(
        self,
        state_id: str,
        new_data: Mapping[str, Any],
        transition: StateTransition | str | None = None,
        *,
        expected_version: int | None = None,
        ttl: float | None = None,
    ) -> bool:
        """Replace the data of a state and make a transition; see the contract."""
        given = _data(new_data)
        return await self._change(state_id, lambda _: given, transition, expected_version, ttl)

    async def delete_state(self, state_id: str, *, expected_version: int | None = None) -> bool:
        """Delete a state and keep its history; see the contract."""
        _check_id(state_id)

        async def plan() -> _Planned | None:
            old = await self._read(state_id)
            if old is None:
                return None
            _check_version(old, expected_version)
            self._target(old, str(StateTransition.DELETE))
            where = {"state_id": state_id, "version": old["version"]}
            change = _change(old, None, StateTransition.DELETE)
            operation: Operation = {"type": "delete", "table": STATES.name, "where": where, "expect": 1}
            return _Planned(operation, old["state_type"], change)

        return await self._carry_out(state_id, plan)

    async def get_state_history(
        self, state_id: str, limit: int | None = None, *, before_version: int | None = None
    ) -> list[StateChange]:
        """Return the changes of a state, newest first; those of a deleted state too."""
        _check_id(state_id)
        where: dict[str, Any] = {"state_id": state_id}
        if before_version is not None:
            where["version"] = {"lt": before_version}
        return [change_of(row) for row in await self._database.find(HISTORY.name, where, ["-version"], limit)]

    async def register_callback(self, state_id: str, callback: StateCallback, *, name: str | None = None) -> bool:
        """Call back after changes, in this process; see the contract.

        A ``def`` runs in a worker thread. A writing method returns once the callbacks have been called, except where
        callbacks for the same state are under way already.
        """
        if name is not None:
            raise NotSupported("This provider has no durable callbacks: register without a name.")
        return self._notifier.register(state_id, callback)

    async def unregister_callback(self, state_id: str, callback: StateCallback) -> bool:
        """Stop calling back; False where there was no such callback."""
        return self._notifier.unregister(state_id, callback)

    async def register_transitions(self, state_type: StateType | str, transitions: TransitionTable) -> bool:
        """Add transitions for a type of state; see the contract."""
        self._transitions.register(str(state_type), transitions)
        return True

    async def _change(
        self,
        state_id: str,
        merge: Callable[[dict[str, Any]], dict[str, Any]],
        transition: StateTransition | str | None,
        expected_version: int | None,
        ttl: float | None,
    ) -> bool:
        _check_id(state_id)
        lifetime = _lifetime(ttl)
        wanted = StateTransition.UPDATE if transition is None else transition
        if wanted == StateTransition.DELETE:
            raise InvalidInput("A state is deleted with delete_state, not by an update.")

        async def plan() -> _Planned | None:
            old = await self._read(state_id)
            if old is None:
                raise NotFound(f"There is no state {state_id!r}: register it first.")
            _check_version(old, expected_version)
            name = self._transitions.check_transition(old["state_type"], wanted)
            new = _changed(old, self._target(old, name), merge(old["data"]), lifetime)
            operation: Operation = {
                "type": "update",
                "table": STATES.name,
                "data": {key: value for key, value in new.items() if key in _CHANGING},
                "where": {"state_id": state_id, "version": old["version"]},
                "expect": 1,
            }
            return _Planned(operation, old["state_type"], _change(old, new, name))

        return await self._carry_out(state_id, plan)

    def _target(self, state: State, transition: str) -> str:
        return self._transitions.target(state["state_type"], transition, state["status"], state["allowed_transitions"])

    def _narrowed(self, state_type: str, allowed: Sequence[StateTransition | str] | None) -> list[str] | None:
        if allowed is None:
            return None
        if isinstance(allowed, str) or not isinstance(allowed, Sequence):
            raise InvalidInput("The allowed transitions must be a list of names.")
        return list(dict.fromkeys(self._transitions.check_transition(state_type, each) for each in allowed))

    async def _read(self, state_id: str) -> State | None:
        rows = await self._database.find(STATES.name, {"state_id": state_id})
        return state_of(rows[0]) if rows else None

    async def _last_version(self, state_id: str) -> int:
        rows = await self._database.find(HISTORY.name, {"state_id": state_id}, ["-version"], 1, columns=["version"])
        return rows[0]["version"] if rows else 0

    async def _carry_out(self, state_id: str, plan: Callable[[], Awaitable[_Planned | None]]) -> bool:
        """Plan and write until nobody comes in between, then call back; False where there is nothing to do.

        The lock only saves the tasks of this process from racing each other; it is the version that decides.
        """
        async with self._locks.setdefault(state_id, asyncio.Lock()):
            planned = await self._written(state_id, plan)
            if planned is None:
                return False
            delivery = self._notifier.publish(planned.state_type, planned.change)
        if delivery is not None:
            await asyncio.shield(delivery)
        return True

    async def _written(self, state_id: str, plan: Callable[[], Awaitable[_Planned | None]]) -> _Planned | None:
        for tried in range(self._retries + 1):
            planned = await plan()
            if planned is None:
                return None
            entry: Operation = {"type": "insert", "table": HISTORY.name, "data": dict(planned.change)}
            try:
                await self._database.execute_transaction([planned.operation, entry])
            except Conflict:
                await asyncio.sleep(_PAUSE * random.random() * min(tried + 1, 20))  # noqa: S311 - jitter
            else:
                return planned
        raise Conflict(f"The state {state_id!r} is being changed by others all the time: try again later.")


def _check_id(state_id: object) -> None:
    if not isinstance(state_id, str) or not 0 < len(state_id) <= 255 or not state_id.isprintable():
        raise InvalidInput(f"The state id {state_id!r:.100} cannot be used: write 1 to 255 printable characters.")
    if "*" in state_id or state_id.startswith("type:"):
        raise InvalidInput(
            f"The state id {state_id!r:.100} cannot be used: '*' and 'type:' mean many states to register_callback."
        )


def _check_version(state: State, expected: int | None) -> None:
    if expected is not None and state["version"] != expected:
        raise Conflict(
            f"The state {state['state_id']!r} has version {state['version']} and not the expected {expected}: "
            "read it again and decide anew."
        )


def _data(data: object) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise InvalidInput(f"The data of a state must be a mapping, not {type(data).__name__}.")
    return dict(data)


def _lifetime(ttl: object) -> float | None:
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0 < ttl <= _LONGEST:
        raise InvalidInput(f"The ttl must be a positive number of seconds, not {ttl!r:.100}.")
    return float(ttl)


def _changed(old: State, status: str, data: dict[str, Any], lifetime: float | None) -> State:
    now = time.time()
    expires_at = old["expires_at"] if lifetime is None else now + lifetime
    if old["status"] == EXPIRED != status and expires_at is not None and expires_at <= now:
        raise InvalidInput(f"The time of the state {old['state_id']!r} has passed: give a ttl for its new life.")
    return {
        **old,
        "status": status,
        "version": old["version"] + 1,
        "data": data,
        "updated_at": now,
        "expires_at": expires_at,
    }


def _change(old: State | None, new: State | None, transition: str) -> StateChange:
    """Return the history entry of a change from one state to another, of which one may be missing."""
    request = current_request()
    state = new if new is not None else old
    if state is None:
        raise ValueError("a change needs a state before or after it")
    return {
        "event_id": uuid.uuid4().hex,
        "state_id": state["state_id"],
        "version": state["version"] if new is not None else state["version"] + 1,
        "transition": str(transition),
        "from_status": None if old is None else old["status"],
        "to_status": DELETED if new is None else new["status"],
        "before": None if old is None else old["data"],
        "after": None if new is None else new["data"],
        "actor": None if request is None else request.principal.user_id,
        "request_id": None if request is None else request.request_id,
        "at": time.time() if new is None else new["updated_at"],
    }
