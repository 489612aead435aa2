"""Which transitions there are, and where each leads from which status."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from base04_hookspecs.errors import Conflict, InvalidInput
from base04_hookspecs.state import StateTransition, StateType, TransitionTable

ACTIVE: Final = "active"
INACTIVE: Final = "inactive"
SUSPENDED: Final = "suspended"
EXPIRED: Final = "expired"
DELETED: Final = "deleted"

STANDARD: Final[TransitionTable] = {
    StateTransition.UPDATE: {ACTIVE: ACTIVE, INACTIVE: INACTIVE, SUSPENDED: SUSPENDED},
    StateTransition.ACTIVATE: {INACTIVE: ACTIVE},
    StateTransition.DEACTIVATE: {ACTIVE: INACTIVE},
    StateTransition.SUSPEND: {ACTIVE: SUSPENDED},
    StateTransition.RESUME: {SUSPENDED: ACTIVE},
    StateTransition.EXPIRE: {ACTIVE: EXPIRED, INACTIVE: EXPIRED, SUSPENDED: EXPIRED},
    StateTransition.RENEW: {ACTIVE: ACTIVE, EXPIRED: ACTIVE},
}
"""``create`` and ``delete`` stand beside the table: one makes a state, the other ends it from any status."""

_STANDARD_NAMES: Final = tuple(map(str, STANDARD))
_NAME: Final = re.compile(r"[a-z][a-z0-9_.-]{0,62}\Z")


class Transitions:
    """The standard transitions and those that plugins have added, by type of state."""

    def __init__(self) -> None:
        self._added: dict[str, dict[str, dict[str, str]]] = {str(each): {} for each in StateType}

    def register(self, state_type: str, transitions: TransitionTable) -> None:
        """Add transitions to a type, and the type itself where it is new.

        Raises:
            InvalidInput: a name is not usable.
            Conflict: a transition leads elsewhere from the same status already.
        """
        _check_name(state_type, "type")
        if not isinstance(transitions, Mapping):
            raise InvalidInput("The transitions must be a mapping of transitions to mappings of statuses.")
        added = {name: self._ends(state_type, name, ends) for name, ends in transitions.items()}
        known = self._added.setdefault(state_type, {})
        for name, ends in added.items():
            known.setdefault(str(name), {}).update(ends)

    def check_type(self, state_type: object) -> str:
        """Return a type that is known.

        Raises:
            InvalidInput: it is not.
        """
        if not isinstance(state_type, str) or str(state_type) not in self._added:
            raise InvalidInput(
                f"The type of state {state_type!r:.100} is unknown: there are {', '.join(self._added)}. "
                "Add one with register_transitions."
            )
        return str(state_type)

    def check_transition(self, state_type: str, transition: object) -> str:
        """Return the name of a transition that states of a type can make.

        Raises:
            InvalidInput: there is none of that name, or it is ``create``.
        """
        known = [*self._names(state_type), str(StateTransition.DELETE)]
        if not isinstance(transition, str) or str(transition) not in known:
            raise InvalidInput(
                f"A state of type {state_type!r} has no transition {transition!r:.100}: it can make {', '.join(known)}."
            )
        return str(transition)

    def target(self, state_type: str, transition: str, status: str, narrowed: Iterable[str] | None) -> str:
        """Return the status that a transition leads to.

        Args:
            state_type: the type of the state.
            transition: what it is to do.
            status: where it is.
            narrowed: the only transitions that this state may make, None for all.

        Raises:
            Conflict: it does not lead anywhere from that status, or is not among those of the state.
        """
        ends = self._all_ends(state_type, transition)
        leads = status in ends or transition == StateTransition.DELETE
        if leads and (narrowed is None or transition in narrowed):
            return ends.get(status, DELETED)
        possible = self.possible(state_type, status, narrowed)
        towards = " or ".join(repr(end) for end in dict.fromkeys(ends.values())) or repr(DELETED)
        raise Conflict(
            f"The transition {transition!r} from {status!r} to {towards} is not allowed; "
            f"allowed are {', '.join(possible) or 'none'}."
        )

    def possible(self, state_type: str, status: str, narrowed: Iterable[str] | None) -> list[str]:
        """Return the transitions that lead somewhere from a status."""
        names = [name for name in self._names(state_type) if status in self._all_ends(state_type, name)]
        names.append(str(StateTransition.DELETE))
        return names if narrowed is None else [name for name in names if name in set(narrowed)]

    def _names(self, state_type: str) -> list[str]:
        return list(dict.fromkeys([*_STANDARD_NAMES, *self._added.get(state_type, {})]))

    def _all_ends(self, state_type: str, transition: str) -> dict[str, str]:
        added = self._added.get(state_type, {}).get(transition)
        standard = STANDARD.get(transition, {})
        return {**standard, **added} if added else dict(standard)

    def _ends(self, state_type: str, transition: str, ends: Mapping[str, str]) -> dict[str, str]:
        _check_name(transition, "transition")
        if transition in (StateTransition.CREATE, StateTransition.DELETE):
            raise InvalidInput(f"The transition {str(transition)!r} cannot be changed: choose another name.")
        if not isinstance(ends, Mapping) or not ends:
            raise InvalidInput(f"The transition {str(transition)!r} must say to which status it leads from which.")
        known = self._all_ends(state_type, transition)
        for start, end in ends.items():
            _check_name(start, "status")
            _check_name(end, "status")
            if DELETED in (start, end):
                raise InvalidInput(f"The transition {str(transition)!r} cannot use {DELETED!r}: use delete_state.")
            if known.get(start, end) != end:
                raise Conflict(
                    f"The transition {str(transition)!r} leads from {start!r} to {known[start]!r} already, and cannot "
                    f"lead to {end!r} as well."
                )
        return {str(start): str(end) for start, end in ends.items()}


def _check_name(name: object, kind: str) -> None:
    if not isinstance(name, str) or not _NAME.match(name):
        raise InvalidInput(
            f"The {kind} name {name!r:.100} cannot be used: write lower-case letters, digits, '_', '-' and '.', "
            "beginning with a letter, at most 63 characters."
        )
