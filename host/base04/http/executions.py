"""``GET /executions``, ``GET /executions/{id}``, its ``/events``, and ``POST /executions/{id}/cancel``."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from base04.executions.record import shown
from base04.executions.table import FINAL, OPEN, ExecutionQuery
from base04.http.access import context_of
from base04.http.json_response import JSONAnswer
from base04.http.page_parameters import read_before, read_choice, read_limit, read_moment, refuse_unknown
from base04_hookspecs.context import Principal
from base04_hookspecs.errors import AuthenticationError, Fault, InvalidInput, NotFound, PermissionDenied

if TYPE_CHECKING:
    from base04.app_manager import AppManager
    from base04.generation import Generation

READ: Final = "executions.read"
CANCEL: Final = "executions.cancel"

_BEAT_S: Final = 10.0
_PARAMETERS: Final = ("action", "status", "mode", "user", "request_id", "since", "until", "before", "limit")


def routes(generation: Generation, app: AppManager) -> list[Route]:
    """Return the routes. Everybody may see and cancel what is their own, more with a permission."""
    executions = app.executions

    async def visible(request: Request, permission: str) -> dict[str, Any]:
        """Return the execution that a request names; who may not see it is told that there is none."""
        identity = request.path_params["id"]
        row = await executions.get(identity)
        if not _owns(context_of(request).principal, row, permission):
            raise NotFound(f"There is no execution {identity[:100]!r}.")
        return row

    async def list_executions(request: Request) -> Response:
        """List executions, newest first: one's own; those of others need ``executions.read``."""
        principal = context_of(request).principal
        rows, more = await executions.query(_query(request.query_params, principal))
        inside = principal.may(READ)
        return JSONAnswer({"executions": [shown(row, inside=inside) for row in rows], "next": more})

    async def show_execution(request: Request) -> Response:
        """Show an execution; that of another needs ``executions.read``."""
        row = await visible(request, READ)
        return JSONAnswer(shown(row, inside=context_of(request).principal.may(READ)))

    async def cancel_execution(request: Request) -> Response:
        """Cancel an execution; that of another needs ``executions.cancel``."""
        row = await visible(request, CANCEL)
        row = await executions.cancel(row["id"])
        return JSONAnswer(shown(row), 200 if row["status"] in FINAL else 202)

    async def follow_execution(request: Request) -> Response:
        """Send how an execution gets on as Server-Sent Events, to its end."""
        row = await visible(request, READ)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(events(row["id"]), headers=headers, media_type="text/event-stream")

    async def events(identity: str) -> AsyncIterator[bytes]:
        """Yield Server-Sent Events: ``progress`` whenever something has changed, ``end`` with the result.

        A stream that ends without ``end`` is to be asked for again: the host stops, or something in it was replaced.
        """
        yield b"retry: 1000\n\n"
        before: dict[str, Any] | None = None
        async with contextlib.aclosing(executions.follow(identity, _BEAT_S)) as rows:
            async for row in rows:
                yield b": still here\n\n" if row == before else _event(row)
                before = row
                if app.newest is not generation:
                    return

    return [
        Route("/executions", list_executions),
        Route("/executions/{id}", show_execution),
        Route("/executions/{id}/events", follow_execution),
        Route("/executions/{id}/cancel", cancel_execution, methods=["POST"]),
    ]


def _event(row: Mapping[str, Any]) -> bytes:
    kind = b"end" if row["status"] in FINAL else b"progress"
    return b"event: %s\ndata: %s\n\n" % (kind, orjson.dumps(shown(row)))


def _owns(principal: Principal, row: Mapping[str, Any], permission: str) -> bool:
    """Tell whether somebody may see an execution: with the permission, or if it is their own.

    What an anonymous caller began belongs to whoever knows its id, which cannot be guessed.
    """
    if principal.may(permission):
        return True
    if row["user_id"] is None and row["api_key_id"] is None:
        return bool(row["mode"] == "background")
    if row["user_id"] is None:
        return bool(row["api_key_id"] == principal.api_key_id)
    return bool(row["user_id"] == principal.user_id)


def _query(parameters: Mapping[str, str], principal: Principal) -> ExecutionQuery:
    """Read the parameters.

    Raises:
        AuthenticationError: the caller is anonymous.
        PermissionDenied: the executions of another are asked for.
        InvalidInput: with everything that is wrong with the parameters.
    """
    if not principal.authenticated:
        raise AuthenticationError("no credentials were shown")
    user = parameters.get("user")
    if not principal.may(READ):
        if principal.user_id is None or user not in (None, principal.user_id):
            raise PermissionDenied(f"To see the executions of others needs the permission {READ!r}.", [READ])
        user = principal.user_id
    faults: list[Fault] = []
    refuse_unknown(parameters, _PARAMETERS, faults)
    status = read_choice("status", parameters, (*OPEN, *FINAL), faults)
    mode = read_choice("mode", parameters, ("wait", "background"), faults)
    limit, before = read_limit(parameters, faults), read_before(parameters, faults)
    since, until = (read_moment(name, parameters, faults) for name in ("since", "until"))
    if faults:
        raise InvalidInput("The executions that are asked for are not described well.", faults)
    return ExecutionQuery(
        action=parameters.get("action"),
        status=status,
        mode=mode,
        user_id=user,
        request_id=parameters.get("request_id"),
        since=since,
        until=until,
        before=before,
        limit=limit,
    )
