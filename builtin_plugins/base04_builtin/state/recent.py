"""States that this process wrote or read for writing a moment ago: what a next change of them begins with."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import orjson

from base04_builtin.state.store import Place

_MOST: Final = 4096
_LONGEST: Final = 64 * 1024


class RecentPlaces:
    """At most some thousand places, as text, so that nobody who was handed one can change what is here.

    They spare a change the read before it. They may be old: the check of the version tells, when the change is written.
    """

    def __init__(self) -> None:
        self._places: OrderedDict[str, bytes] = OrderedDict()

    def get(self, state_id: str) -> Place | None:
        """Return what was at an id."""
        text = self._places.get(state_id)
        if text is None:
            return None
        state, version, pending, kept = orjson.loads(text)
        return Place(state, version, tuple(pending), kept)

    def put(self, state_id: str, place: Place) -> None:
        """Note what is at an id."""
        text = orjson.dumps(tuple(place))
        if len(text) > _LONGEST:
            self.drop(state_id)
            return
        self._places[state_id] = text
        self._places.move_to_end(state_id)
        if len(self._places) > _MOST:
            self._places.popitem(last=False)

    def drop(self, state_id: str) -> None:
        """Forget an id."""
        self._places.pop(state_id, None)
