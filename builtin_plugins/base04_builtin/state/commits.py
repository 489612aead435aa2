"""Changing states: decide on what is there, write it if nobody came in between, tell whoever wants to know."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from base04_builtin.state.arguments import check_version
from base04_builtin.state.cache import StateCache
from base04_builtin.state.changes import Decide, Decision, entry, expiry, is_due
from base04_builtin.state.recent import RecentPlaces
from base04_builtin.state.store import Place, StateStore
from base04_hookspecs.errors import Conflict, ManagerError
from base04_hookspecs.state import State, StateChange

_PAUSE: Final = 0.005

Published = Callable[[str, StateChange], asyncio.Task[None] | None]
"""Called with the type of a state and a change that is durable, in order of versions; returns who delivers it."""


class _Step(NamedTuple):
    decision: Decision
    state_type: str
    change: StateChange
    by_itself: bool


class Committer:
    """Makes changes. ``True`` from it means that the change and its history entry are durable.

    Args:
        store: where states are.
        cache: where they are kept beside it, None for nowhere.
        retries: how often to try again where another process came in between.
        published: is told of each change.
    """

    def __init__(self, store: StateStore, cache: StateCache | None, retries: int, published: Published) -> None:
        self._store, self._cache, self._retries, self._published = store, cache, retries, published
        self._recent = RecentPlaces()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def carry_out(self, state_id: str, decide: Decide, expected: int | None = None) -> bool:
        """Change a state as ``decide`` says; False where it says that there is nothing to do.

        The lock only saves the tasks of this process from racing each other; it is the version that decides.

        Raises:
            Conflict: others change the state all the time.
            VersionConflict: it has not the version ``expected``.
        """
        deliveries: list[asyncio.Task[None]] = []
        async with self._locks.setdefault(state_id, asyncio.Lock()):
            done = await self._changed(state_id, decide, expected, deliveries)
        for delivery in deliveries:
            await asyncio.shield(delivery)
        return done

    async def _changed(
        self, state_id: str, decide: Decide, expected: int | None, deliveries: list[asyncio.Task[None]]
    ) -> bool:
        place, certain, tried = self._recent.get(state_id), False, 0
        while True:
            if place is None:
                place, certain = await self._store.place(state_id), True
            try:
                step = _planned(place, decide, expected)
            except ManagerError:
                if certain:
                    raise
                step = None
            if step is None:
                if certain:
                    return False
                place = None  # what was remembered may be old: nothing is refused because of it
                continue
            try:
                place = await self._written(state_id, place, step)
            except Conflict:
                tried += 1
                if tried > self._retries:
                    raise Conflict(
                        f"The state {state_id!r} is being changed by others all the time: try later."
                    ) from None
                place, certain = None, False
                await asyncio.sleep(_PAUSE * random.random() * min(tried, 20))  # noqa: S311 - jitter
                continue
            delivery = self._published(step.state_type, step.change)
            if delivery is not None:
                deliveries.append(delivery)
            if self._cache is not None:
                await self._cache.keep(state_id, place.version, place.state)
            if not step.by_itself:
                return True
            expected = None if expected is None else place.version

    async def _written(self, state_id: str, place: Place, step: _Step) -> Place:
        self._recent.drop(state_id)
        if self._cache is not None:
            await self._cache.announce(state_id, step.change["version"])
        written = await self._store.write(place, step.decision.state, step.change, step.state_type)
        if not self._store.carrying:  # there, what a state carries goes away without a change of its version
            self._recent.put(state_id, written)
        return written


def _planned(place: Place, decide: Decide, expected: int | None) -> _Step | None:
    old = place.state
    by_itself = False
    if old is not None:
        check_version(old, expected)
        by_itself = is_due(old)
    decision = expiry(old) if old is not None and by_itself else decide(old)
    if decision is None:
        return None
    version = place.version + 1
    state: State | None = None if decision.state is None else {**decision.state, "version": version}
    known = state if state is not None else old
    if known is None:
        return None
    change = entry(old, state, decision.transition, version, own=by_itself)
    return _Step(Decision(state, decision.transition), known["state_type"], change, by_itself)
