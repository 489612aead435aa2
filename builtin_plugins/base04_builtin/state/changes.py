"""What a change makes of a state, worked out before anything is written. Nothing here does any I/O."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import NamedTuple

from base04_builtin.state.transitions import DELETED, EXPIRED
from base04_hookspecs import current_request
from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.state import State, StateChange, StateTransition


class Decision(NamedTuple):
    """The state to be, None for none, and the transition that leads to it. Its version is set by who writes it."""

    state: State | None
    transition: str


Decide = Callable[[State | None], Decision | None]
"""Makes a decision from the state as it is; None changes nothing. It may be asked several times."""


def changed(old: State, status: str, data: dict[str, object], ttl: float | None) -> State:
    """Return a state with another status and other data.

    Raises:
        InvalidInput: it would be alive again, and its time has passed.
    """
    now = time.time()
    expires_at = old["expires_at"] if ttl is None else now + ttl
    if old["status"] == EXPIRED != status and expires_at is not None and expires_at <= now:
        raise InvalidInput(f"The time of the state {old['state_id']!r} has passed: give a ttl for its new life.")
    return {**old, "status": status, "data": data, "updated_at": now, "expires_at": expires_at}


def expiry(old: State) -> Decision:
    """Return what becomes of a state when its time has passed, whatever transitions it is allowed."""
    return Decision({**old, "status": EXPIRED, "updated_at": time.time()}, str(StateTransition.EXPIRE))


def is_due(state: State) -> bool:
    """Tell whether the time of a state, as it is stored, has passed without an entry in its history."""
    expires_at = state["expires_at"]
    return expires_at is not None and expires_at <= time.time() and state["status"] != EXPIRED


def entry(old: State | None, new: State | None, transition: str, version: int, *, own: bool = False) -> StateChange:
    """Return the history entry of a change from one state to another, of which one may be missing.

    ``own`` says that nobody asked for it.
    """
    request = None if own else current_request()
    state = new if new is not None else old
    if state is None:
        raise ValueError("a change needs a state before or after it")
    return {
        "event_id": uuid.uuid4().hex,
        "state_id": state["state_id"],
        "version": version,
        "transition": transition,
        "from_status": None if old is None else old["status"],
        "to_status": DELETED if new is None else new["status"],
        "before": None if old is None else old["data"],
        "after": None if new is None else new["data"],
        "actor": None if request is None else request.principal.user_id,
        "request_id": None if request is None else request.request_id,
        "at": time.time() if new is None else new["updated_at"],
    }
