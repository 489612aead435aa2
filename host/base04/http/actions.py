"""``GET /actions``, ``GET /actions/{name}``, ``POST /actions/{name}``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope

from base04.generation import Generation
from base04.http.access import context_of
from base04.http.action_runs import ActionRuns
from base04.http.bodies import read_json_as
from base04.http.exchange import Exchange
from base04.http.gate import Gate
from base04.http.json_response import JSONAnswer
from base04.http.run_options import PLAIN, options_of
from base04_hookspecs.action_discovery import ActionCatalogue, ActionDiscoveryManager, ActionInfo
from base04_hookspecs.context import Principal, RequestContext, use_request
from base04_hookspecs.errors import (
    AuthenticationError,
    Fault,
    InvalidInput,
    ManagerUnavailable,
    PermissionDenied,
    UnknownAction,
)

if TYPE_CHECKING:
    from base04.app_manager import AppManager

_INSIDE: Final = frozenset({"module", "handler", "source"})
"""What of an action concerns only those who run the host."""


class ActionEndpoint:
    """Runs an action for ``POST /actions/{name}``; called ahead of the router."""

    def __init__(self, generation: Generation, gate: Gate, app: AppManager) -> None:
        self._pipeline, self._gate = generation.pipeline, gate
        self._max_body_bytes = app.settings.server.max_body_bytes
        self._runs = ActionRuns(generation, app)

    async def __call__(
        self,
        name: str,
        principal: Principal,
        client_ip: str | None,
        levels: Sequence[str],
        exchange: Exchange,
        scope: Scope,
        receive: Receive,
    ) -> bytes | Response:
        """Admit the caller, read the arguments, run the action, and return the result as JSON text, or the answer."""
        pipeline = self._pipeline
        try:
            action = pipeline.find(name)
        except UnknownAction:
            context = RequestContext(exchange.request_id, principal, client_ip, "http")
            await self._gate.count(levels, context, exchange, scope["path"])
            raise
        context = RequestContext(exchange.request_id, principal, client_ip, "http", action.info["name"])
        scope["base04.context"] = context
        with use_request(context):
            try:
                options = options_of(exchange.fields, scope)
                exchange.add_limits(await pipeline.admit(action, context, levels, to_run=not options.dry_run))
            except (AuthenticationError, PermissionDenied):
                await self._gate.count(levels, context, exchange, scope["path"])
                raise
            args = await read_json_as(exchange.fields, receive, self._max_body_bytes)
            if args is not None and not isinstance(args, dict):
                raise InvalidInput("The body must be a JSON object.", [Fault("", "This is not an object.")])
            if options is PLAIN and not action.policy.background:
                return await pipeline.run_admitted(action, args, context)
            return await self._runs.answer(action, args, context, options, scope.get("root_path", ""))


def routes(generation: Generation) -> list[Route]:
    """Return the routes that tell what actions there are."""

    def discovery() -> ActionDiscoveryManager:
        manager = generation.find("action_discovery")
        if not isinstance(manager, ActionDiscoveryManager):
            raise ManagerUnavailable("No action_discovery manager is running.")
        return manager

    def catalogue() -> ActionCatalogue:
        return discovery().catalogue()

    async def list_actions(request: Request) -> Response:
        """List all actions; with the permission ``host.read`` also the faults of action files."""
        actions = {action.name: _shown(action.info, request) for action in catalogue()}
        listing: dict[str, Any] = {"actions": actions, "total": len(actions)}
        if _may_see_inside(request):
            listing["faults"] = await discovery().get_faults()
        return JSONAnswer(listing)

    async def show_action(request: Request) -> Response:
        """Describe an action: what it takes, what it gives, who may run it."""
        name = request.path_params["name"]
        found = catalogue().find(name)
        if found is None:
            matches = catalogue().close_matches(name)
            hint = f" Did you mean {' or '.join(map(repr, matches))}?" if matches else ""
            raise UnknownAction(f"There is no action {name[:200]!r}.{hint}", action=name, matches=matches)
        return JSONAnswer(_shown(found.info, request))

    return [Route("/actions", list_actions), Route("/actions/{name}", show_action)]


def _may_see_inside(request: Request) -> bool:
    return context_of(request).principal.may("host.read")


def _shown(info: ActionInfo, request: Request) -> dict[str, Any]:
    """Return what a caller may know of an action: files and modules only with the permission ``host.read``."""
    inside = _may_see_inside(request)
    return {key: value for key, value in info.items() if inside or key not in _INSIDE}
