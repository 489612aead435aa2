"""The role ``state``: named states with versions, transitions and history."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Literal, NotRequired, TypedDict

from base04_hookspecs.errors import NotSupported
from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import Since, hookspec
from base04_hookspecs.provider import Provider


class StateType(StrEnum):
    """What a state describes."""

    SYSTEM = "system"
    USER = "user"
    SESSION = "session"
    RESOURCE = "resource"
    FEATURE = "feature"
    SUBSCRIPTION = "subscription"


class StateTransition(StrEnum):
    """What happened to a state. A plugin can add its own by name with ``register_transitions``."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    ACTIVATE = "activate"
    DEACTIVATE = "deactivate"
    SUSPEND = "suspend"
    RESUME = "resume"
    EXPIRE = "expire"
    RENEW = "renew"


class State(TypedDict):
    """A state as it is. Times are seconds since the epoch; ``version`` grows by one with each change."""

    state_id: str
    state_type: str
    status: str
    version: int
    data: dict[str, Any]
    allowed_transitions: list[str] | None
    created_at: float
    updated_at: float
    expires_at: float | None


class StateChange(TypedDict):
    """One entry of the history: who made which transition, and what the data were before and after it.

    ``gap`` is there when a durable callback is told of a change while earlier ones of the state are parked for it:
    their versions.
    """

    event_id: str
    state_id: str
    version: int
    transition: str
    from_status: str | None
    to_status: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    actor: str | None
    request_id: str | None
    at: float
    gap: NotRequired[list[int]]


class StateEvent(TypedDict):
    """A change that a durable callback has not taken in yet.

    ``parked`` ones have failed as often as they may, and wait for somebody to look at them; their successors do not
    wait for them. ``due`` is when the next attempt may be made. Times are seconds since the epoch.
    """

    name: str
    event_id: str
    state_id: str
    version: int
    status: Literal["waiting", "parked"]
    attempts: int
    error: str | None
    due: float


StateCallback = Callable[[StateChange], Awaitable[None] | None]

TransitionTable = Mapping[str, Mapping[str, str]]
"""For each transition the status it leads to from each status: ``{"suspend": {"active": "suspended"}}``."""


class StateManager(Manager):
    """Keeps states in the database, with a history entry for each change in the same transaction.

    When a writing method returns True, the change and its history entry are durable.

    Capabilities: ``ttl`` (states expire by themselves), ``durable_callbacks`` (``name=``), ``watch``.

    What is asked for one that the provider lacks raises ``NotSupported``: a ``ttl``, for example.
    """

    role: ClassVar[str] = "state"
    contract_version: ClassVar[str] = "1.1"

    @abstractmethod
    async def register_state(
        self,
        state_id: str,
        state_type: StateType | str,
        initial_data: Mapping[str, Any],
        allowed_transitions: Sequence[StateTransition | str] | None = None,
        *,
        ttl: float | None = None,
    ) -> bool:
        """Create a state with version 1 and status ``active``; ``allowed_transitions`` narrows what may follow.

        Returns False, and changes nothing, where the id is taken. ``ttl`` is in seconds.

        Raises:
            InvalidInput: the id, the type, the data or a transition is not acceptable.
        """

    @abstractmethod
    async def get_state(self, state_id: str, *, fresh: bool = False) -> State | None:
        """Return a state, None where there is none; ``fresh`` reads the database, past any cache."""

    @abstractmethod
    async def update_state(
        self,
        state_id: str,
        new_data: Mapping[str, Any],
        transition: StateTransition | str | None = None,
        *,
        expected_version: int | None = None,
        ttl: float | None = None,
    ) -> bool:
        """Merge data into a state at the top level and make a transition, ``update`` where none is given.

        ``ttl`` starts a new life; without one the expiry stays. Concurrent updates never lose one another.

        Raises:
            NotFound: there is no such state.
            Conflict: the transition is not allowed from the present status (both ends are named).
            VersionConflict: the version is not the expected one.
        """

    @abstractmethod
    async def replace_state(
        self,
        state_id: str,
        new_data: Mapping[str, Any],
        transition: StateTransition | str | None = None,
        *,
        expected_version: int | None = None,
        ttl: float | None = None,
    ) -> bool:
        """As ``update_state``, with the data replaced as a whole."""

    @abstractmethod
    async def delete_state(self, state_id: str, *, expected_version: int | None = None) -> bool:
        """Delete a state and keep its history; False where there is none.

        Raises:
            Conflict: deletion is not among its allowed transitions.
            VersionConflict: the version is not the expected one.
        """

    @abstractmethod
    async def get_state_history(
        self, state_id: str, limit: int | None = None, *, before_version: int | None = None
    ) -> list[StateChange]:
        """Return the changes of a state, newest first; those of a deleted state too."""

    @abstractmethod
    async def register_callback(self, state_id: str, callback: StateCallback, *, name: str | None = None) -> bool:
        """Call back after changes of a state, of a prefix (``user_*``) or of a type (``type:session``).

        Without ``name``: live, in this process, from now on. With it: durable, at least once, in order of version for
        each state, by one process at a time, and again after a restart, with an ``event_id`` for those who must not
        act twice; what happens while no process has registered the name waits for the next that does. A name has one
        pattern, the one that was registered last. False where this callback is registered already.

        Raises:
            Conflict: another callback has that name in this process.
            NotSupported: there is a name, and the provider lacks ``durable_callbacks``.
        """

    @abstractmethod
    async def unregister_callback(self, state_id: str, callback: StateCallback) -> bool:
        """Stop calling back in this process; False where there was no such callback.

        For a durable one changes go on to be kept, until ``forget_callback``.
        """

    async def forget_callback(self, name: str) -> bool:
        """End a durable callback in all processes, and drop all that waits for it; False where there is none."""
        raise NotSupported(f"{type(self).__name__} has no durable callbacks.")

    async def get_events(
        self, name: str | None = None, *, status: Literal["waiting", "parked"] | None = None, limit: int = 100
    ) -> list[StateEvent]:
        """Return what durable callbacks have not taken in yet, of one name or of all, in order of version."""
        raise NotSupported(f"{type(self).__name__} has no durable callbacks.")

    async def retry_event(self, name: str, event_id: str) -> bool:
        """Deliver a parked event again, now; False where there is no such event."""
        raise NotSupported(f"{type(self).__name__} has no durable callbacks.")

    async def discard_event(self, name: str, event_id: str) -> bool:
        """Drop a parked event for good; False where there is no such event."""
        raise NotSupported(f"{type(self).__name__} has no durable callbacks.")

    @abstractmethod
    async def register_transitions(self, state_type: StateType | str, transitions: TransitionTable) -> bool:
        """Add transitions for a type of state, or a type of a plugin's own, to the standard ones."""

    @Since("1.1")
    async def take_over(self, previous: Manager) -> None:
        """Take on the callbacks that were registered with the instance whose place this one takes.

        Called once, after ``start`` and before this instance serves. A provider that leaves this as it is loses them
        at each change.
        """

    def watch(self, state_id: str, *, from_version: int | None = None) -> AsyncIterator[StateChange]:
        """Yield the changes of a state after ``from_version``, or from now on, without end.

        Whoever comes back with the version that they saw last misses nothing. Changes of all processes are seen.

        Raises:
            HistoryPruned: some of the changes after ``from_version`` are kept no more.
            NotSupported: the provider lacks ``watch``.
        """
        raise NotSupported(f"{type(self).__name__} cannot watch states.")


@hookspec
def state_providers() -> Iterable[Provider]:
    """Offer providers of the role ``state``.

    The host calls each implementation once, when it discovers plugins. None or an empty iterable offers nothing.
    """
