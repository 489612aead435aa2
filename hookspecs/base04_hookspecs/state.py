"""The role ``state``: named states with versions, transitions and history."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, TypedDict

from base04_hookspecs.errors import NotSupported
from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import hookspec
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
    """One entry of the history: who made which transition, and what the data were before and after it."""

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


StateCallback = Callable[[StateChange], Awaitable[None] | None]

TransitionTable = Mapping[str, Mapping[str, str]]
"""For each transition the status it leads to from each status: ``{"suspend": {"active": "suspended"}}``."""


class StateManager(Manager):
    """Keeps states in the database, with a history entry for each change in the same transaction.

    When a writing method returns True, the change and its history entry are durable.

    Capabilities: ``ttl`` (states expire by themselves), ``durable_callbacks`` (``name=``), ``watch``.
    """

    role: ClassVar[str] = "state"

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
            Conflict: the transition is not allowed from the present status (both ends are named), or the version is
                not the expected one.
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
            Conflict: deletion is not among its allowed transitions, or the version is not the expected one.
        """

    @abstractmethod
    async def get_state_history(
        self, state_id: str, limit: int | None = None, *, before_version: int | None = None
    ) -> list[StateChange]:
        """Return the changes of a state, newest first; those of a deleted state too."""

    @abstractmethod
    async def register_callback(self, state_id: str, callback: StateCallback, *, name: str | None = None) -> bool:
        """Call back after changes of a state, of a prefix (``user_*``) or of a type (``type:session``).

        Without ``name``: live, in this process, from now on. With it: durable, at least once, in order of version,
        by one process at a time; providers without ``durable_callbacks`` raise ``NotSupported``.
        """

    @abstractmethod
    async def unregister_callback(self, state_id: str, callback: StateCallback) -> bool:
        """Stop calling back; False where there was no such callback."""

    @abstractmethod
    async def register_transitions(self, state_type: StateType | str, transitions: TransitionTable) -> bool:
        """Add transitions for a type of state, or a type of a plugin's own, to the standard ones."""

    def watch(self, state_id: str, *, from_version: int | None = None) -> AsyncIterator[StateChange]:
        """Yield the changes of a state after ``from_version``, or from now on, without end.

        Raises:
            NotSupported: the provider lacks ``watch``.
        """
        raise NotSupported(f"{type(self).__name__} cannot watch states.")


@hookspec
def state_providers() -> Iterable[Provider]:
    """Offer providers of the role ``state``.

    The host calls each implementation once, when it discovers plugins. None or an empty iterable offers nothing.
    """
