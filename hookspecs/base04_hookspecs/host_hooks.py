"""What a plugin can add to the host beside managers.

Every hook only collects: the host calls each implementation once for each generation that it builds, on its own, and
keeps the callables that it returns. A request calls those, never pluggy. An implementation that raises is reported
with its plugin and contributes nothing; wrappers (``wrapper=True``, ``hookwrapper=True``) are refused, and the order
of contributions is that of the plugins' names. An implementation, and a callable that it returns, may take fewer
arguments than its specification offers; one that asks for something else is refused.

An implementation takes ``app`` where it has that parameter: a live view of the host, through which what it returns
finds managers when it is called. Managers are not there yet when the hook itself is called.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from base04_hookspecs.action_discovery import ActionInfo
from base04_hookspecs.context import Principal, RequestContext
from base04_hookspecs.markers import hookspec
from base04_hookspecs.provider import Provider
from base04_hookspecs.websocket import RoomAuthorizer

if TYPE_CHECKING:
    import typer
    from prometheus_client.registry import Collector
    from starlette.middleware import Middleware
    from starlette.routing import BaseRoute

    from base04_hookspecs.app import AppManager


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request brought to prove who is calling. ``headers`` have lower-case names; secrets are in them."""

    headers: Mapping[str, str]
    client_ip: str | None


@dataclass(slots=True)
class ActionCall:
    """One run of an action, as ``before_action`` and ``after_action`` callables see it.

    ``args`` are validated, with defaults filled; a ``before_action`` callable may replace them by others that the
    action's schema accepts. ``values`` is for passing something from before to after.
    """

    action: ActionInfo
    args: dict[str, Any]
    request: RequestContext
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ActionOutcome:
    """How a run ended: ``error`` is None for a success. ``duration`` is in seconds."""

    status: Literal["succeeded", "failed", "timeout", "cancelled"]
    result: Any
    error: BaseException | None
    duration: float


class AuditEvent(TypedDict):
    """Something that whoever is responsible wants to know of. ``at`` is in seconds since the epoch; no secrets."""

    event: str
    at: float
    outcome: Literal["success", "denied", "error"]
    user_id: str | None
    client_ip: str | None
    request_id: str | None
    details: dict[str, Any]


Authenticator = Callable[[Credentials], Awaitable[Principal | None]]
BeforeAction = Callable[[ActionCall], Awaitable[None]]
AfterAction = Callable[[ActionCall, ActionOutcome], Awaitable[None]]
LifecycleStep = Callable[["AppManager"], Awaitable[None]]
AuditListener = Callable[[AuditEvent], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the host calls the callables of a hook with.

    ``positional`` are given by place, as in the first version; a callable may take fewer. What came later is ``named``,
    and given to callables that have a parameter of that name.
    """

    positional: tuple[str, ...]
    named: tuple[str, ...] = ()


ARGUMENTS: Final[Mapping[str, Arguments]] = MappingProxyType(
    {
        "authenticate": Arguments(("credentials",)),
        "before_action": Arguments(("call",)),
        "after_action": Arguments(("call", "outcome")),
        "startup": Arguments(("app",)),
        "shutdown": Arguments(("app",)),
        "audit_event": Arguments(("event",)),
        "authorize_room": Arguments(("principal", "room", "operation")),
    }
)
"""The arguments of the callables of each hook that collects callables."""


@hookspec
def extra_providers() -> Iterable[Provider]:
    """Offer providers of roles that Base04 does not know; each names its ``role``.

    The host calls each implementation once, when it discovers plugins. None or an empty iterable offers nothing.
    """


@hookspec
def routes(app: AppManager) -> Iterable[BaseRoute]:
    """Add Starlette routes, after the host's own. A path that is taken is refused and named.

    The host calls each implementation once for each generation. None or an empty iterable adds nothing.
    """


@hookspec
def middleware(app: AppManager) -> Iterable[Middleware]:
    """Add pure ASGI middleware around everything that the host serves, the first plugin's outermost.

    The host calls each implementation once for each generation. None or an empty iterable adds nothing.
    """


@hookspec
def cli_commands() -> Iterable[typer.Typer]:
    """Add commands to ``base04``: each Typer application becomes the group of its ``name``.

    The command line calls each implementation once, when it starts. None or an empty iterable adds nothing.
    """


@hookspec
def authenticate(app: AppManager) -> Iterable[Authenticator]:
    """Add ways to prove who is calling.

    The host calls each implementation once for each generation. A request that carries neither a Bearer token nor an
    API key is shown to the callables in order: the first that returns a principal decides, None leaves it to the
    next, ``AuthenticationError`` refuses the request.
    """


@hookspec
def action_packs() -> Iterable[Mapping[str, Any]]:
    """Define action packs in Python: mappings as an action file holds them, whose ``handler`` may be the function.

    The host calls each implementation once for each discovery of actions. None or an empty iterable defines nothing.
    What is wrong with a pack is reported with the plugin, as the faults of a file are with the file.
    """


@hookspec
def before_action(app: AppManager) -> Iterable[BeforeAction]:
    """Add what happens before each action, after it was authorised, limited and validated.

    The host calls each implementation once for each generation, the callables for every run. One that raises stops
    the run with its error.
    """


@hookspec
def after_action(app: AppManager) -> Iterable[AfterAction]:
    """Add what happens after each action whose ``before_action`` callables ran, however it ended.

    The host calls each implementation once for each generation, the callables for every run. One that raises is
    logged and changes nothing.
    """


@hookspec
def startup() -> Iterable[LifecycleStep]:
    """Add steps for when all managers have started, before the host serves.

    The host calls each implementation once, the callables once in each run of the host. One that raises is reported
    and does not stop the host.
    """


@hookspec
def shutdown() -> Iterable[LifecycleStep]:
    """Add steps for when the host has stopped serving, before managers stop.

    The host calls each implementation once, the callables once, in reverse order. One that raises is reported and
    does not stop the next.
    """


@hookspec
def metrics(app: AppManager) -> Iterable[Collector]:
    """Add metrics: collectors of ``prometheus_client``, registered nowhere else.

    The host calls each implementation once for each generation, and the collectors for every ``GET /metrics``, in a
    thread. One that raises, or takes longer than five seconds, is reported and left out of that answer. None or an
    empty iterable adds nothing.
    """


@hookspec
def audit_event(app: AppManager) -> Iterable[AuditListener]:
    """Listen to audit events: tokens issued, keys changed, callers denied.

    The host calls each implementation once for each generation, the callables for every event: what was done is
    answered once they have heard of it. One that raises, or takes longer than five seconds, is logged and changes
    nothing.
    """


@hookspec
def authorize_room(app: AppManager) -> Iterable[RoomAuthorizer]:
    """Decide who may join a room or emit to it.

    The host calls each implementation once for each generation, the callables for every join and emit: one False
    refuses, one True allows, None leaves it to the others and then to the role's own rules.
    """
