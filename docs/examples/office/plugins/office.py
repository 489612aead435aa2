"""A local plugin with every host-wide hook."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable
from typing import Any

import structlog
import typer
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from base04_hookspecs import Principal, current_request, hookimpl, require_permission
from base04_hookspecs.app import AppManager
from base04_hookspecs.command_line import CommandSession
from base04_hookspecs.errors import AuthenticationError, PermissionDenied
from base04_hookspecs.host_hooks import (
    ActionCall,
    ActionOutcome,
    AfterAction,
    AuditEvent,
    AuditListener,
    Authenticator,
    BeforeAction,
    Credentials,
    LifecycleStep,
)
from base04_hookspecs.websocket import RoomAuthorizer

log = structlog.get_logger()


# routes


async def who_am_i(request: Request) -> Response:
    """Tell callers who they are."""
    context = current_request()
    return JSONResponse({"user_id": context.principal.user_id if context else None})


@hookimpl
def routes(app: AppManager) -> Iterable[BaseRoute]:
    """Add routes. What serves them finds managers through `app`."""

    async def knock(request: Request) -> Response:
        require_permission("office.knock")
        return JSONResponse({"knocks": await app.get_redis_manager().incr("office:knocks")})

    yield Route("/whoami", who_am_i)
    yield Route("/knock", knock, methods=["POST"])


# middleware


class ServedBy:
    """Adds a header to every answer."""

    def __init__(self, app: ASGIApp, name: str) -> None:
        self.app, self.header = app, (b"x-served-by", name.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""

        async def send_with_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), self.header]
            await send(message)

        await self.app(scope, receive, send_with_header)


@hookimpl
def middleware() -> Iterable[Middleware]:
    """Add middleware."""
    yield Middleware(ServedBy, name="office")


# cli_commands

office = typer.Typer(name="office", help="Look after the office.", no_args_is_help=True)


@office.command()
def hours() -> None:
    """Print when the office is open."""
    typer.echo("Monday to Friday, 9 to 17")


@office.command()
def knock(ctx: typer.Context) -> None:
    """Knock at the door of the host that runs."""
    session: CommandSession = ctx.obj
    typer.echo(f"Knocked {session.ask('POST', '/knock')['knocks']} times.")


@hookimpl
def cli_commands() -> Iterable[typer.Typer]:
    """Add `base04 office`."""
    yield office


# authenticate


async def by_badge(credentials: Credentials) -> Principal | None:
    """Accept whoever shows the badge of the office."""
    shown, badge = credentials.headers.get("x-badge"), os.environ.get("OFFICE_BADGE")
    if shown is None or not badge:
        return None
    if not hmac.compare_digest(shown.encode(), badge.encode()):
        raise AuthenticationError("the badge is another one")
    return Principal("office", ("notes.*",), method="plugin")


@hookimpl
def authenticate() -> Iterable[Authenticator]:
    """Add a way to prove who is calling."""
    yield by_badge


# action_packs


async def nameplate(name: str) -> str:
    """Say what is to stand on a door."""
    return f"{name}, floor 3"


@hookimpl
def action_packs() -> Iterable[dict[str, Any]]:
    """Define a pack, whose handler is the function itself."""
    action = {
        "handler": nameplate,
        "access": "public",
        "parameters": {"name": {"type": "string"}},
        "required": ["name"],
    }
    yield {"pack": "office", "version": "1.0.0", "actions": {"nameplate": action}}


# before_action and after_action


async def tidy(call: ActionCall) -> None:
    """Strip texts, and refuse the actions of a pack that is closed."""
    if call.action["pack"] == "archive":
        raise PermissionDenied("The archive is closed.")
    call.args = {name: value.strip() if isinstance(value, str) else value for name, value in call.args.items()}


async def note_how_it_ended(call: ActionCall, outcome: ActionOutcome) -> None:
    """Write down what was run."""
    log.info("an action ended", action=call.action["name"], status=outcome.status, seconds=outcome.duration)


@hookimpl
def before_action() -> Iterable[BeforeAction]:
    """Add what happens before each action."""
    yield tidy


@hookimpl
def after_action() -> Iterable[AfterAction]:
    """Add what happens after each action."""
    yield note_how_it_ended


# startup and shutdown


async def listen(app: AppManager) -> None:
    """Listen to an event of the application, and share a service."""
    await app.hooks_manager.register_callback("action.executed", on_executed)
    await app.services_manager.register_service("office", {"floor": 3})


def on_executed(**data: Any) -> None:
    """Count elsewhere, for example."""
    log.debug("heard of an action", action=data["action"])


async def close_the_door(app: AppManager) -> None:
    """Use the managers a last time: they are still up."""
    office = await app.services_manager.get_service("office")
    log.info("the office closes", floor=office["floor"])


@hookimpl
def startup() -> Iterable[LifecycleStep]:
    """Add a step for when all managers have started."""
    yield listen


@hookimpl
def shutdown() -> Iterable[LifecycleStep]:
    """Add a step for when the host has stopped serving."""
    yield close_the_door


# audit_event


async def keep(event: AuditEvent) -> None:
    """Send it to wherever such events are kept."""
    log.info("audit", what=event["event"], outcome=event["outcome"], user_id=event["user_id"])


@hookimpl
def audit_event() -> Iterable[AuditListener]:
    """Listen to audit events."""
    yield keep


# metrics


class Visitors(Collector):
    """Counts who is in the office."""

    def collect(self) -> Iterable[Metric]:
        """Return how many there are now."""
        yield GaugeMetricFamily("office_visitors", "Who is in the office.", 2)


@hookimpl
def metrics() -> Iterable[Collector]:
    """Tell Prometheus who is here."""
    yield Visitors()


# authorize_room


def staff_only(principal: Principal, room: str, operation: str) -> bool | None:
    """Let only staff into the room of the staff, and decide on no other."""
    return principal.may("office.staff") if room == "staff" else None


@hookimpl
def authorize_room() -> Iterable[RoomAuthorizer]:
    """Decide who may join a room or emit to it."""
    yield staff_only
