"""``/state/{id}``: read, put, patch, delete, its history, and its changes as they come."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from base04.generation import Generation
from base04.http.access import context_of, demand
from base04.http.body_schema import object_schema, read_described
from base04.http.event_stream import event_stream
from base04.http.json_response import JSONAnswer
from base04.http.numbers import number_in
from base04.http.preconditions import Condition, condition_in, tag_of
from base04.state_permissions import StatePermissions
from base04_hookspecs.errors import Conflict, HistoryPruned, InvalidInput, ManagerUnavailable, NotFound, VersionConflict
from base04_hookspecs.state import State, StateManager

if TYPE_CHECKING:
    from base04.app_manager import AppManager

_MOST: Final = 1000
_HIGHEST: Final = 10**18
_LONGEST_WATCH_S: Final = 300.0
"""After which a watcher comes back, and shows again who it is."""

_TRANSITION: Final = {"type": "string", "minLength": 1}
_TTL: Final = {"type": "number", "exclusiveMinimum": 0}
_PUT: Final = object_schema(
    {
        "type": {"type": "string"},
        "data": {"type": "object"},
        "transition": _TRANSITION,
        "ttl": _TTL,
        "allowed_transitions": {"type": "array", "items": _TRANSITION},
    },
    ["data"],
)
_PATCH: Final = object_schema({"data": {"type": "object"}, "transition": _TRANSITION, "ttl": _TTL}, [])


def routes(generation: Generation, app: AppManager, max_body_bytes: int) -> list[Route]:
    """Return the routes. An id may hold slashes; what ends in ``/history`` or ``/watch`` is not taken for an id."""
    desk = _StateDesk(generation, app, max_body_bytes)
    return [
        Route("/state/{state_id:path}/history", desk.history, methods=["GET"]),
        Route("/state/{state_id:path}/watch", desk.watch, methods=["GET"]),
        Route("/state/{state_id:path}", desk.show, methods=["GET"]),
        Route("/state/{state_id:path}", desk.put, methods=["PUT"]),
        Route("/state/{state_id:path}", desk.patch, methods=["PATCH"]),
        Route("/state/{state_id:path}", desk.delete, methods=["DELETE"]),
    ]


class _StateDesk:
    """Serves states from the ``state`` manager of one generation."""

    def __init__(self, generation: Generation, app: AppManager, max_body_bytes: int) -> None:
        self._generation, self._app, self._max_body_bytes = generation, app, max_body_bytes
        self._permissions = StatePermissions(app.settings.server.state_permissions)

    async def show(self, request: Request) -> Response:
        """Show a state; ``fresh=true`` reads the database, past any cache."""
        states, state_id = self._entered(request, "read")
        state = await states.get_state(state_id, fresh=request.query_params.get("fresh") == "true")
        if state is None:
            raise _unknown(state_id)
        known = condition_in(request.headers, "if-none-match")
        if known is not None and (known.anything or tag_of(state) in known.tags):
            return Response(status_code=304, headers=_fields(state))
        return JSONAnswer(state, headers=_fields(state))

    async def put(self, request: Request) -> Response:
        """Create a state, or replace the data of the one that the request names by its version."""
        states, state_id = self._entered(request, "write")
        body = await read_described(request, _PUT, "a state", self._max_body_bytes)
        match, absent = (condition_in(request.headers, name) for name in ("if-match", "if-none-match"))
        if match is None:
            if absent is not None and not absent.anything:
                raise HTTPException(400, "To create a state, send 'If-None-Match: *'.")
            return await self._create(states, state_id, body, must_be_absent=absent is not None)
        if "allowed_transitions" in body:
            raise InvalidInput("The allowed transitions of a state are given when it is created, and stay.")
        return await self._replace(states, state_id, body, match)

    async def patch(self, request: Request) -> Response:
        """Merge data into a state at the top level, and make a transition."""
        states, state_id = self._entered(request, "write")
        body = await read_described(request, _PATCH, "a change of a state", self._max_body_bytes)
        match = condition_in(request.headers, "if-match")
        expected = None if match is None else await _expected(states, state_id, match)
        try:
            await states.update_state(
                state_id, body.get("data", {}), body.get("transition"), expected_version=expected, ttl=body.get("ttl")
            )
        except VersionConflict as error:
            raise _failed(str(error), error.version) from error
        return await self._now(states, state_id)

    async def delete(self, request: Request) -> Response:
        """Delete a state; its history stays."""
        states, state_id = self._entered(request, "write")
        match = condition_in(request.headers, "if-match")
        expected = None if match is None else await _expected(states, state_id, match)
        try:
            if not await states.delete_state(state_id, expected_version=expected):
                raise _unknown(state_id)
        except VersionConflict as error:
            raise _failed(str(error), error.version) from error
        return Response(status_code=204)

    async def history(self, request: Request) -> Response:
        """Show the changes of a state, newest first; ``next`` is the ``before`` of the next page."""
        states, state_id = self._entered(request, "read")
        query = request.query_params
        limit = number_in(query, "limit", _MOST)
        limit = 100 if limit is None else limit
        changes = await states.get_state_history(state_id, limit, before_version=number_in(query, "before", _HIGHEST))
        more = changes[-1]["version"] if changes and len(changes) == limit and changes[-1]["version"] > 1 else None
        return JSONAnswer({"history": changes, "next": more}, headers={"cache-control": "private, no-cache"})

    async def watch(self, request: Request) -> Response:
        """Send the changes of a state after the one that the client saw last, or from now on, as they come."""
        states, state_id = self._entered(request, "read")
        seen = request.headers.get("last-event-id")
        known = {"from_version": seen} if seen else request.query_params
        version = number_in(known, "from_version", _HIGHEST)
        if version is not None:
            await _check_kept(states, state_id, version)
        return event_stream(states.watch(state_id, from_version=version), self._ends(request))

    def _ends(self, request: Request) -> Any:
        """Return what tells that a stream is to end: the host drains, another generation serves, or it is time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LONGEST_WATCH_S
        expires_at = context_of(request).principal.claims.get("exp")

        def is_over() -> bool:
            return (
                self._app.draining
                or self._app.newest is not self._generation
                or loop.time() > deadline
                or (isinstance(expires_at, int | float) and time.time() > expires_at)
            )

        return is_over

    def _entered(self, request: Request, what: str) -> tuple[StateManager, str]:
        state_id: str = request.path_params["state_id"]
        demand(request, self._permissions.needed(state_id, what))
        return state_manager(self._generation), state_id

    async def _create(
        self, states: StateManager, state_id: str, body: dict[str, Any], *, must_be_absent: bool
    ) -> Response:
        if body.get("transition") not in (None, "create"):
            raise InvalidInput("A state that is created makes the transition 'create' and no other.")
        if "type" not in body:
            raise InvalidInput("A state that is created needs a 'type'.")
        if await states.register_state(
            state_id, body["type"], body["data"], body.get("allowed_transitions"), ttl=body.get("ttl")
        ):
            return await self._now(states, state_id, 201)
        if must_be_absent:
            raise _failed(f"There is a state {state_id!r} already.")
        raise HTTPException(
            428,
            f"There is a state {state_id!r} already: to replace it, send 'If-Match' with the entity tag of what you "
            "have read, or '*' for whatever is there; to change a part of it, send PATCH.",
        )

    async def _replace(self, states: StateManager, state_id: str, body: dict[str, Any], match: Condition) -> Response:
        expected = await _expected(states, state_id, match)
        wanted = body.get("type")
        if wanted is not None:
            state = await states.get_state(state_id)
            if state is not None and state["state_type"] != wanted:
                raise Conflict(f"The state {state_id!r} is of type {state['state_type']!r}, and stays so.")
        try:
            await states.replace_state(
                state_id, body["data"], body.get("transition"), expected_version=expected, ttl=body.get("ttl")
            )
        except VersionConflict as error:
            raise _failed(str(error), error.version) from error
        except NotFound as error:
            raise _failed(str(error)) from error
        return await self._now(states, state_id)

    async def _now(self, states: StateManager, state_id: str, status: int = 200) -> Response:
        """Answer with the state as it is now; somebody may have deleted it already."""
        state = await states.get_state(state_id)
        if state is None:
            return Response(status_code=204)
        place = {"location": f"/state/{quote(state_id)}"} if status == 201 else {}
        return JSONAnswer(state, status, headers={**_fields(state), **place})


def state_manager(generation: Generation) -> StateManager:
    """Return the ``state`` manager of a generation.

    Raises:
        ManagerUnavailable: none is running.
    """
    found = generation.find("state")
    if not isinstance(found, StateManager):
        raise ManagerUnavailable("No state manager is running.")
    return found


async def _expected(states: StateManager, state_id: str, match: Condition) -> int | None:
    """Return the version that a request demands, None for any.

    Raises:
        HTTPException: 412 where there is nothing like that.
    """
    if not match.anything and len(match.versions) == 1:
        return next(iter(match.versions))
    state = await states.get_state(state_id, fresh=True)
    if state is None or (not match.anything and state["version"] not in match.versions):
        raise _failed(f"The state {state_id!r} is not what 'If-Match' names.", state and state["version"])
    return None if match.anything else state["version"]


async def _check_kept(states: StateManager, state_id: str, version: int) -> None:
    """Refuse a watcher that has missed changes which are kept no more, before the answer begins.

    Raises:
        HistoryPruned: there are such changes.
    """
    newest = await states.get_state_history(state_id, 1)
    if not newest or newest[0]["version"] <= version:
        return
    following = await states.get_state_history(state_id, 1, before_version=version + 2)
    if not following or following[0]["version"] != version + 1:
        raise HistoryPruned(
            f"The changes of the state {state_id!r} after version {version} are not all kept any more: read it, and "
            "watch it from its version."
        )


def _fields(state: State) -> dict[str, str]:
    return {"etag": tag_of(state), "cache-control": "private, no-cache"}


def _failed(detail: str, version: int | None = None) -> HTTPException:
    return HTTPException(412, detail, None if version is None else {"etag": f'"{version}"'})


def _unknown(state_id: str) -> NotFound:
    return NotFound(f"There is no state {state_id!r}.")
