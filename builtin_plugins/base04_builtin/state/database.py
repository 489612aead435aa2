"""The provider ``database``: states whose truth is in the role ``database``."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Literal

from base04_builtin.state.arguments import check_id, lifetime, natural, own_data
from base04_builtin.state.cache import StateCache
from base04_builtin.state.changes import Decision, changed
from base04_builtin.state.commits import Committer
from base04_builtin.state.events import DurableCallbacks
from base04_builtin.state.housekeeping import Housekeeping, Leadership
from base04_builtin.state.notifier import Notifier
from base04_builtin.state.outbox import move_leftovers
from base04_builtin.state.settings import StateSettings
from base04_builtin.state.store import StateStore
from base04_builtin.state.tables import AGING_HISTORY, CARRYING_STATES, MIGRATIONS, STATES, as_of_now
from base04_builtin.state.transitions import ACTIVE, Transitions
from base04_builtin.state.wakeups import Wakeups
from base04_builtin.state.watching import Watch
from base04_hookspecs import HealthReport, HealthStatus, health_report
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.errors import InvalidInput, ManagerError, ManagerUnavailable, NotFound
from base04_hookspecs.hooks import HooksManager
from base04_hookspecs.manager import Manager
from base04_hookspecs.redis import RedisManager, held_here
from base04_hookspecs.state import (
    State,
    StateCallback,
    StateChange,
    StateEvent,
    StateManager,
    StateTransition,
    StateType,
    TransitionTable,
)

__all__ = ["DatabaseStateManager", "StateSettings"]

Merge = Callable[[dict[str, Any]], dict[str, Any]]


class DatabaseStateManager(StateManager):
    """States in the database: each change, its history entry and its event in one step, guarded by the version.

    Where the ``redis`` role is shared between processes, states are cached there, and processes wake each other. Live
    callbacks are called in the process that made the change, after it is durable.
    """

    def __init__(
        self,
        settings: StateSettings,
        database: DatabaseManager,
        redis: RedisManager | None,
        hooks: HooksManager | None,
    ) -> None:
        self._settings, self._database, self._redis = settings, database, redis
        self._transitions = Transitions()
        self._notifier = Notifier(hooks)
        self._running: _Parts | None = None

    async def start(self) -> None:
        """Make or update the tables, and begin to look after states."""
        await self._database.migrate(self.role, MIGRATIONS)
        carrying = not self._database.supports_transactions()
        if carrying:
            await self._database.ensure_table(CARRYING_STATES)
        else:
            await move_leftovers(self._database)
        if self._settings.history_age is not None:
            await self._database.ensure_table(AGING_HISTORY)
        self._running = _Parts(self._settings, self._database, self._redis, self._published, carrying=carrying)
        await self._running.start()

    async def take_over(self, previous: Manager) -> None:
        """Call back whom the previous instance calls back, and know the transitions that it was told."""
        if isinstance(previous, DatabaseStateManager):
            self._transitions = previous._transitions
            self._notifier.take_over(previous._notifier)
            await self._parts.durable.take_over(previous._parts.durable)

    async def stop(self) -> None:
        """Wait for callbacks that are under way, and end."""
        await self._notifier.stop()
        if self._running is not None:
            await self._running.stop()

    async def health_check(self) -> HealthReport:
        """Report whether states can be read, and whether the cache answers."""
        began = time.perf_counter()
        dependency = await self._database.health_check()
        dependencies: dict[str, HealthStatus] = {"database": dependency["status"]}
        if dependency["status"] == "unhealthy":
            return health_report("unhealthy", dependency["details"], dependencies=dependencies)
        try:
            await self._database.find(STATES.name, limit=1, columns=["state_id"])
        except ManagerError as error:
            return health_report("unhealthy", str(error), dependencies=dependencies)
        took = time.perf_counter() - began
        parts = self._parts
        cache = parts.cache
        if cache is not None:
            dependencies["redis"] = "unhealthy" if cache.failing else "healthy"
        failing = cache is not None and cache.failing and dependency["status"] == "healthy"
        return health_report(
            "degraded" if failing else dependency["status"],
            "states can be read, past the cache" if failing else "states can be read",
            response_time=took,
            dependencies=dependencies,
            callback_failures=self._notifier.failures + parts.durable.failures,
            cache_errors=0 if cache is None else cache.errors,
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
        check_id(state_id)
        kind = self._transitions.check_type(state_type)
        narrowed = self._narrowed(kind, allowed_transitions)
        data, life = own_data(initial_data), lifetime(ttl)

        def decide(old: State | None) -> Decision | None:
            if old is not None:
                return None
            now = time.time()
            state = State(
                state_id=state_id,
                state_type=kind,
                status=ACTIVE,
                version=0,
                data=data,
                allowed_transitions=narrowed,
                created_at=now,
                updated_at=now,
                expires_at=None if life is None else now + life,
            )
            return Decision(state, str(StateTransition.CREATE))

        return await self._parts.committer.carry_out(state_id, decide)

    async def get_state(self, state_id: str, *, fresh: bool = False) -> State | None:
        """Return a state, None where there is none; see the contract.

        From the cache it is as old as ``cache_ttl`` at most, and that only where a writer could not reach the cache.
        """
        check_id(state_id)
        parts = self._parts
        if parts.cache is None:
            state = await parts.store.state(state_id)
            return None if state is None else as_of_now(state)
        if not fresh:
            cached = await parts.cache.get(state_id)
            if cached is not None:
                return cached.state
        state = await parts.store.state(state_id)
        if state is None:
            return None
        await parts.cache.keep(state_id, state["version"], state)
        return as_of_now(state)

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
        given = own_data(new_data)
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
        given = own_data(new_data)
        return await self._change(state_id, lambda _: given, transition, expected_version, ttl)

    async def delete_state(self, state_id: str, *, expected_version: int | None = None) -> bool:
        """Delete a state and keep its history; see the contract."""
        check_id(state_id)
        transition = str(StateTransition.DELETE)

        def decide(old: State | None) -> Decision | None:
            if old is None:
                return None
            self._target(old, transition)
            return Decision(None, transition)

        return await self._parts.committer.carry_out(state_id, decide, expected_version)

    async def get_state_history(
        self, state_id: str, limit: int | None = None, *, before_version: int | None = None
    ) -> list[StateChange]:
        """Return the changes of a state, newest first; those of a deleted state too."""
        check_id(state_id)
        if limit is not None:
            natural(limit, "limit")
        return await self._parts.store.history(state_id, limit, before_version)

    async def register_callback(self, state_id: str, callback: StateCallback, *, name: str | None = None) -> bool:
        """Call back after changes; see the contract.

        A ``def`` runs in a worker thread. Without a name, a writing method returns once the callbacks have been called,
        except where callbacks for the same state are under way already.
        """
        if name is not None:
            return await self._parts.durable.register(state_id, callback, name)
        return self._notifier.register(state_id, callback)

    async def unregister_callback(self, state_id: str, callback: StateCallback) -> bool:
        """Stop calling back in this process; see the contract."""
        if self._notifier.unregister(state_id, callback):
            return True
        return await self._parts.durable.unregister(state_id, callback)

    async def forget_callback(self, name: str) -> bool:
        """End a durable callback in all processes; see the contract."""
        return await self._parts.durable.forget(name)

    async def get_events(
        self, name: str | None = None, *, status: Literal["waiting", "parked"] | None = None, limit: int = 100
    ) -> list[StateEvent]:
        """Return what durable callbacks have not taken in yet; see the contract."""
        return await self._parts.durable.events(name, status, limit)

    async def retry_event(self, name: str, event_id: str) -> bool:
        """Deliver a parked event again; see the contract."""
        return await self._parts.durable.retry(name, event_id)

    async def discard_event(self, name: str, event_id: str) -> bool:
        """Drop a parked event for good; see the contract."""
        return await self._parts.durable.discard(name, event_id)

    async def register_transitions(self, state_type: StateType | str, transitions: TransitionTable) -> bool:
        """Add transitions for a type of state; see the contract."""
        self._transitions.register(str(state_type), transitions)
        return True

    def watch(self, state_id: str, *, from_version: int | None = None) -> AsyncIterator[StateChange]:
        """Yield the changes of a state, of all processes; see the contract."""
        check_id(state_id)
        if from_version is not None:
            natural(from_version, "version to watch from")
        parts = self._parts
        return Watch(parts.store, parts.wakeups, state_id, from_version, self._settings.poll_interval)

    @property
    def _parts(self) -> _Parts:
        if self._running is None:
            raise ManagerUnavailable("The state manager is not running: it has not started.")
        return self._running

    async def _change(
        self,
        state_id: str,
        merge: Merge,
        transition: StateTransition | str | None,
        expected_version: int | None,
        ttl: float | None,
    ) -> bool:
        check_id(state_id)
        life = lifetime(ttl)
        wanted = StateTransition.UPDATE if transition is None else transition
        if wanted == StateTransition.DELETE:
            raise InvalidInput("A state is deleted with delete_state, not by an update.")

        def decide(old: State | None) -> Decision:
            if old is None:
                raise NotFound(f"There is no state {state_id!r}: register it first.")
            name = self._transitions.check_transition(old["state_type"], wanted)
            return Decision(changed(old, self._target(old, name), merge(old["data"]), life), name)

        return await self._parts.committer.carry_out(state_id, decide, expected_version)

    def _target(self, state: State, transition: str) -> str:
        return self._transitions.target(state["state_type"], transition, state["status"], state["allowed_transitions"])

    def _narrowed(self, state_type: str, allowed: Sequence[StateTransition | str] | None) -> list[str] | None:
        if allowed is None:
            return None
        if isinstance(allowed, str) or not isinstance(allowed, Sequence):
            raise InvalidInput("The allowed transitions must be a list of names.")
        return list(dict.fromkeys(self._transitions.check_transition(state_type, each) for each in allowed))

    def _published(self, state_type: str, change: StateChange) -> Any:
        parts = self._parts
        parts.housekeeping.grown(change["state_id"], change["version"])
        parts.wakeups.changed(change["state_id"])
        return self._notifier.publish(state_type, change)


class _Parts:
    """What a manager that has started consists of."""

    def __init__(
        self,
        settings: StateSettings,
        database: DatabaseManager,
        redis: RedisManager | None,
        published: Callable[[str, StateChange], Any],
        *,
        carrying: bool,
    ) -> None:
        owner = uuid.uuid4().hex
        shared = redis if redis is not None and held_here(redis, "state", dict) is None else None
        self.cache = StateCache(shared, settings.cache_ttl, settings.cache_timeout) if shared is not None else None
        self.store = StateStore(database, carrying=carrying)
        self.committer = Committer(self.store, self.cache, settings.conflict_retries, published)
        self.wakeups = Wakeups(shared)
        self.durable = DurableCallbacks(self.store, self.wakeups, settings, owner)
        leadership = Leadership(redis, owner, max(5.0, 3 * settings.sweep_interval))
        self.housekeeping = Housekeeping(self.store, self.committer, leadership, settings)

    async def start(self) -> None:
        """Begin to look after states."""
        await self.wakeups.start()
        self.durable.start()
        self.housekeeping.start()

    async def stop(self) -> None:
        """End."""
        await self.housekeeping.stop()
        await self.durable.stop()
        await self.wakeups.stop()
