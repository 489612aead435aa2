"""The middleware, and what keeps actions of open connections from running."""

from __future__ import annotations

from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from base04_hookspecs.app import AppManager
from base04_hookspecs.errors import AuthenticationError, ManagerUnavailable, NotFound
from base04_hookspecs.host_hooks import ActionCall
from base04_maintenance.accept import wants_page
from base04_maintenance.contract import PASS, Closure, MaintenanceManager
from base04_maintenance.page import HEADERS, page

_DEFAULT_MESSAGE = "Closed for maintenance."


def maintenance_of(app: AppManager) -> MaintenanceManager | None:
    """Return the manager, None where none is up: then nobody has closed anything."""
    try:
        manager = app.get_manager(MaintenanceManager.role)
    except (NotFound, ManagerUnavailable):
        return None
    return manager if isinstance(manager, MaintenanceManager) else None


class MaintenanceGuard:
    """Answers 503 while the application is closed: a page to browsers, a problem (RFC 9457) to everybody else."""

    def __init__(self, app: ASGIApp, host: AppManager) -> None:
        self._app = app
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        manager = maintenance_of(self._host)
        closure = manager.current() if manager is not None else None
        if manager is None or closure is None or _is_open(scope, manager) or await self._may_pass(scope):
            await self._app(scope, receive, send)
            return
        seconds = closure.retry_after(manager.retry_after)
        if scope["type"] == "http" and wants_page(scope):
            headers = {**HEADERS, "retry-after": str(round(seconds))}
            await HTMLResponse(page(closure), 503, headers)(scope, receive, send)
            return
        raise ManagerUnavailable(closure.message or _DEFAULT_MESSAGE, retry_after=seconds)

    async def _may_pass(self, scope: Scope) -> bool:
        try:
            return (await self._host.identify(scope)).may(PASS)
        except AuthenticationError:
            return True  # the host refuses it, and charges whoever guesses
        except ManagerUnavailable:
            return False


async def refuse_calls(host: AppManager, call: ActionCall) -> None:
    """Refuse actions that come through a connection from before the application was closed.

    Raises:
        ManagerUnavailable: it is closed, and the caller may not pass.
    """
    manager = maintenance_of(host)
    closure: Closure | None = manager.current() if manager is not None else None
    if manager is None or closure is None or call.request.source != "websocket" or call.request.principal.may(PASS):
        return
    raise ManagerUnavailable(closure.message or _DEFAULT_MESSAGE, retry_after=closure.retry_after(manager.retry_after))


def _is_open(scope: Scope, manager: MaintenanceManager) -> bool:
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    path = path.removeprefix(root) if root else path
    return any(path == each or path.startswith(f"{each.rstrip('/')}/") for each in manager.open_paths)
