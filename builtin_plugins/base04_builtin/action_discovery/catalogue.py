"""All actions at one moment."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from typing import Final

from base04_hookspecs.action_discovery import Action

_MATCHES: Final = 5
_COMPARED: Final = 20
_CLOSE: Final = 0.6
_MAX_NAME: Final = 120


class Catalogue:
    """Finds actions by full name, or by a short name that only one of them has."""

    def __init__(self, actions: Iterable[Action] = ()) -> None:
        self._by_name = {action.name: action for action in sorted(actions, key=lambda action: action.name)}
        self._by_short: dict[str, list[Action]] = {}
        for action in self._by_name.values():
            self._by_short.setdefault(_short(action.name), []).append(action)
        self._unambiguous = {short: found[0] for short, found in self._by_short.items() if len(found) == 1}

    def find(self, name: str) -> Action | None:
        """Return the action of a name, None where there is none or the short name is ambiguous."""
        return self._by_name.get(name) or self._unambiguous.get(name)

    def close_matches(self, name: str) -> list[str]:
        """Return the actions that share a short name, or else those whose full or short names come close.

        Only the names that share most pairs of letters are compared: whoever asks for names that do not exist must
        not be able to keep the host busy.
        """
        if name in self._by_short:
            return [action.name for action in self._by_short[name]]
        name = name[:_MAX_NAME]
        shared: Counter[str] = Counter()
        for pair in _pairs(name):
            shared.update(self._pairs.get(pair, ()))
        rated = [(_likeness(name, known), known) for known, _ in shared.most_common(_COMPARED)]
        return [known for likeness, known in sorted(rated, key=lambda pair: -pair[0]) if likeness >= _CLOSE][:_MATCHES]

    @functools.cached_property
    def _pairs(self) -> Mapping[str, list[str]]:
        names: dict[str, list[str]] = {}
        for name in self._by_name:
            for pair in _pairs(name):
                names.setdefault(pair, []).append(name)
        return names

    def __iter__(self) -> Iterator[Action]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _pairs(name: str) -> set[str]:
    return {name[index : index + 2] for index in range(len(name) - 1)}


def _likeness(name: str, known: str) -> float:
    """Return how alike two names are, from 0 to 1: the full names, or a short one and the other's short one."""
    full = SequenceMatcher(None, known, name).ratio()
    return full if "." in name else max(full, SequenceMatcher(None, _short(known), name).ratio())
