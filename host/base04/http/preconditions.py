"""Entity tags and the conditions of a request on them (RFC 9110, sections 8.8.3 and 13.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from base04_hookspecs.state import State

_TAG: Final = re.compile(r'(W/)?"([^"]*)"')
_OWN: Final = re.compile(r"(\d{1,18})(-expired)?\Z")


class Condition(NamedTuple):
    """What a request demands: that there is something (``anything``), or one of these versions."""

    anything: bool
    versions: frozenset[int]
    tags: frozenset[str]


def tag_of(state: State) -> str:
    """Return the entity tag of a state. One that has expired differs without another version, until it is swept."""
    return f'"{state["version"]}{"-expired" if state["status"] == "expired" else ""}"'


def condition_in(headers: Mapping[str, str], name: str) -> Condition | None:
    """Return the condition in a header, None where there is none. Tags that nobody here made match nothing."""
    text = headers.get(name)
    if text is None:
        return None
    if text.strip() == "*":
        return Condition(True, frozenset(), frozenset())
    found = [(weak, tag) for weak, tag in _TAG.findall(text) if not weak or name == "if-none-match"]
    own = (_OWN.match(tag) for _, tag in found)
    return Condition(False, frozenset(int(one[1]) for one in own if one), frozenset(f'"{tag}"' for _, tag in found))
