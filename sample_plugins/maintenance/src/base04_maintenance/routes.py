"""``/maintenance``: how it is, closing and opening."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from base04_hookspecs import require_permission
from base04_hookspecs.app import AppManager
from base04_hookspecs.errors import Fault, InvalidInput
from base04_hookspecs.settings import Duration
from base04_maintenance.accept import wants_page
from base04_maintenance.contract import WRITE, Closure, MaintenanceManager
from base04_maintenance.page import HEADERS, page

_LONGEST_BODY: Final = 16_384


class Wish(BaseModel):
    """What somebody who closes the application says."""

    model_config = ConfigDict(extra="forbid")

    message: str = Field(default="", max_length=2000)
    duration: Duration | None = None


def maintenance_routes(app: AppManager) -> Iterator[BaseRoute]:
    """Yield the routes."""

    def manager() -> MaintenanceManager:
        found = app.get_manager(MaintenanceManager.role)
        if not isinstance(found, MaintenanceManager):
            raise TypeError(f"The manager of the role 'maintenance' is a {type(found).__name__}.")
        return found

    async def show(request: Request) -> Response:
        closure = manager().current()
        if wants_page(request.scope):
            return HTMLResponse(page(closure), headers=HEADERS)
        return JSONResponse(_described(closure))

    async def close(request: Request) -> Response:
        who = require_permission(WRITE)
        wish = _wish_in(await _body(request))
        return JSONResponse(_described(await manager().close(wish.message, wish.duration, who.user_id)))

    async def reopen(request: Request) -> Response:
        require_permission(WRITE)
        return JSONResponse({"changed": await manager().reopen()})

    yield Route("/maintenance", show)
    yield Route("/maintenance", close, methods=["PUT"])
    yield Route("/maintenance", reopen, methods=["DELETE"])


def _described(closure: Closure | None) -> dict[str, Any]:
    """Return what everybody may know: not who has closed it."""
    if closure is None:
        return {"closed": False}
    return {"closed": True, "message": closure.message, "since": closure.since, "ends_at": closure.ends_at}


async def _body(request: Request) -> bytes:
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > _LONGEST_BODY:
            raise InvalidInput(f"The body is longer than {_LONGEST_BODY} bytes.")
    return content


def _wish_in(content: bytes) -> Wish:
    try:
        return Wish.model_validate_json(content or b"{}")
    except ValidationError as error:
        faults = [
            Fault("".join(f"/{part}" for part in fault["loc"]), fault["msg"])
            for fault in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        raise InvalidInput("The body does not say how to close the application.", faults) from error
