"""The one way every action runs, whoever calls it.

Find, authorise, limit, validate and fill defaults, ``before_action`` callables, run under the timeout, check the
result, ``after_action`` callables, announce ``action.executed``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, Literal, cast

import structlog

from base04.injection import HandlerCall, ManagerLookup, Report, action_context
from base04.json_result import json_result
from base04.supervision import GRACE_S
from base04.worker_pool import CallTimeout, WorkerPool
from base04_hookspecs.action_discovery import Action, ActionCatalogue, ActionContext, ActionDiscoveryManager
from base04_hookspecs.context import Principal, RequestContext, use_request
from base04_hookspecs.errors import (
    ActionError,
    ActionFailed,
    ActionTimeout,
    AuthenticationError,
    Conflict,
    InvalidInput,
    ManagerUnavailable,
    NotFound,
    NotSupported,
    OutcomeUnknown,
    PermissionDenied,
    RateLimited,
    UnknownAction,
)
from base04_hookspecs.hooks import HooksManager
from base04_hookspecs.host_hooks import ActionCall, ActionOutcome, AfterAction, BeforeAction
from base04_hookspecs.rate_limiter import RateLimiterManager

__all__ = ["MAX_DEPTH", "ManagerLookup", "Pipeline", "WorkerPool"]

MAX_DEPTH: Final = 16
"""How deep actions may call each other."""

_LIMIT_TYPES: Final = ("ip", "user", "api_key")
_ACTION_LIMIT_TYPES: Final = (*_LIMIT_TYPES, "action")

_PASSED_ON: Final = (
    AuthenticationError,
    Conflict,
    InvalidInput,
    ManagerUnavailable,
    NotFound,
    NotSupported,
    OutcomeUnknown,
    PermissionDenied,
    RateLimited,
)
"""What a handler may raise for its caller to see. Anything else is a failure of the handler."""


class Pipeline:
    """Runs actions with the managers of one generation.

    Args:
        managers: where managers are looked up, each time they are needed.
        before: what is called before each action, after it was authorised, limited and validated.
        after: what is called after each action whose ``before`` callables ran.
        workers: the threads for handlers that are not async; several pipelines may share them.
        grace: how many seconds a handler that was cancelled may take to clean up.
    """

    def __init__(
        self,
        managers: ManagerLookup,
        *,
        before: Sequence[BeforeAction] = (),
        after: Sequence[AfterAction] = (),
        workers: WorkerPool | None = None,
        grace: float = GRACE_S,
    ) -> None:
        self._managers = managers
        self._before = tuple(before)
        self._after = tuple(after)
        self._workers = workers if workers is not None else WorkerPool()
        self._grace = grace
        self._calls: dict[str, HandlerCall] = {}

    @property
    def workers(self) -> WorkerPool:
        """The threads for handlers that are not async."""
        return self._workers

    async def run(
        self, name: str, args: Mapping[str, Any] | None, context: RequestContext, *, report: Report | None = None
    ) -> Any:
        """Run an action and return its result, which is JSON.

        A ``context`` that belongs to a running action makes this a nested call: same principal, not limited again.

        Raises:
            UnknownAction: there is none, or several have this short name.
            AuthenticationError: the caller is anonymous, and the action is not public.
            PermissionDenied: permissions are missing.
            RateLimited: too many calls.
            InvalidInput: the arguments are not as declared; every fault is listed.
            ManagerUnavailable: a manager that is needed is not running, or no thread is free.
            ActionTimeout: the handler took longer than its action allows.
            ActionFailed: the handler raised, or its result is not as declared; the log has the details.
        """
        action = self._find(name)
        nested = context.action is not None
        context = _entered(context, action, nested=nested)
        with use_request(context):
            _authorise(action, context.principal)
            if not nested and context.principal.method != "local":
                await self._limit(action, context)
            call = ActionCall(action.info, action.validate({} if args is None else args), context)
            if self._before:
                await self._prepare(action, call)
            outcome = await self._execute(action, call, report)
            for step in self._after:
                await self._follow(step, call, outcome)
            await self._announce(call, outcome)
        if outcome.error is not None:
            raise outcome.error
        return outcome.result

    def _find(self, name: str) -> Action:
        discovery = self._managers.get("action_discovery")
        if discovery is None:
            raise ManagerUnavailable("No 'action_discovery' manager is running just now, so no action can be found.")
        catalogue = cast(ActionDiscoveryManager, discovery).catalogue()
        action = catalogue.find(name)
        if action is None:
            raise _unknown(name, catalogue)
        return action

    async def _limit(self, action: Action, context: RequestContext) -> None:
        limiter = cast("RateLimiterManager | None", self._managers.get("rate_limiter"))
        if limiter is None:
            return
        if action.limits:
            result = await limiter.check_rate_limit(
                _ACTION_LIMIT_TYPES,
                identifiers={"action": f"{action.name}:{_caller(context)}"},
                limits={"action": action.limits},
            )
        else:
            result = await limiter.check_rate_limit(_LIMIT_TYPES)
        if not result["allowed"]:
            raise RateLimited(
                f"Too many calls: {action.name!r} can be called again in {result['retry_after']:.1f} s.",
                retry_after=result["retry_after"],
                exceeded=list(dict.fromkeys([*result["exceeded_types"], *result["banned"]])),
            )

    async def _prepare(self, action: Action, call: ActionCall) -> None:
        """Call what comes before, and check the arguments again: they may have been replaced."""
        for step in self._before:
            try:
                await step(call)
            except _PASSED_ON:
                raise
            except (Exception, SystemExit, KeyboardInterrupt) as error:
                raise _failed(call, error) from error
        try:
            call.args = action.validate(call.args)
        except InvalidInput as error:
            raise _failed(call, error) from error

    async def _execute(self, action: Action, call: ActionCall, report: Report | None) -> ActionOutcome:
        """Run the handler; whatever happens becomes an outcome."""
        result: Any = None
        error: BaseException | None = None
        status: Literal["succeeded", "failed", "timeout", "cancelled"] = "succeeded"
        started = time.perf_counter()
        try:
            result = await self._call(action, call, report)
            result = _checked(action, result)
        except asyncio.CancelledError as cancelled:
            status, error = "cancelled", cancelled
        except CallTimeout as late:
            status, error = "timeout", _timed_out(call, late)
        except _PASSED_ON as refused:
            status, error = "failed", refused
        except GeneratorExit:  # this very run is being closed
            raise
        except BaseException as raised:  # noqa: BLE001 - SystemExit and KeyboardInterrupt of a handler end only its run
            status, error = "failed", _failed(call, raised)
            error.__cause__ = raised
        return ActionOutcome(status, None if error is not None else result, error, time.perf_counter() - started)

    async def _call(self, action: Action, call: ActionCall, report: Report | None) -> Any:
        plan = self._calls.get(action.name)
        if plan is None or plan.action is not action:
            plan = self._calls[action.name] = HandlerCall.of(action)
        if not plan.managers and not plan.contexts:
            return await plan.run(call.args, self._workers, self._grace)

        def nested(name: str, args: Mapping[str, Any] | None = None) -> Awaitable[Any]:
            return self.run(name, args, call.request)

        def context() -> ActionContext:
            return action_context(action, call.request, nested, report)

        arguments = {**call.args, **plan.injected(self._managers, context)}
        return await plan.run(arguments, self._workers, self._grace)

    async def _follow(self, step: AfterAction, call: ActionCall, outcome: ActionOutcome) -> None:
        try:
            await step(call, outcome)
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - it changes nothing, and is logged
            structlog.get_logger().error(
                "after_action callable failed",
                callable=getattr(step, "__qualname__", repr(step)),
                action=call.action["name"],
                request_id=call.request.request_id,
                exc_info=error,
            )

    async def _announce(self, call: ActionCall, outcome: ActionOutcome) -> None:
        hooks = cast("HooksManager | None", self._managers.get("hooks"))
        if hooks is None:
            return
        try:
            await hooks.trigger_hook(
                "action.executed",
                action=call.action["name"],
                status=outcome.status,
                duration=outcome.duration,
                user_id=call.request.principal.user_id,
                request_id=call.request.request_id,
            )
        except Exception as error:  # noqa: BLE001 - the action has run, whoever hears of it
            structlog.get_logger().error(
                "action could not be announced",
                action=call.action["name"],
                request_id=call.request.request_id,
                exc_info=error,
            )


def _unknown(name: str, catalogue: ActionCatalogue) -> UnknownAction:
    matches = catalogue.close_matches(name)
    hint = f" Did you mean {' or '.join(map(repr, matches))}?" if matches else ""
    return UnknownAction(f"There is no action {name[:200]!r}.{hint}", action=name, matches=matches)


def _entered(context: RequestContext, action: Action, *, nested: bool) -> RequestContext:
    if not nested:
        return dataclasses.replace(context, action=action.name)
    if context.depth >= MAX_DEPTH:
        raise ActionFailed(
            f"The action {action.name!r} is not run: actions have called each other {MAX_DEPTH} deep already.",
            action=action.name,
        )
    return dataclasses.replace(context, action=action.name, source="action", depth=context.depth + 1)


def _authorise(action: Action, principal: Principal) -> None:
    if action.info["access"] == "public":
        return
    if not principal.authenticated:
        raise AuthenticationError(f"the action {action.name!r} is not public, and the caller is anonymous")
    missing = [permission for permission in action.info["permissions"] if not principal.may(permission)]
    if missing:
        needed = ", ".join(map(repr, missing))
        raise PermissionDenied(f"The action {action.name!r} needs the permission {needed}.", missing)


def _caller(context: RequestContext) -> str:
    """Return who an action's own limit counts; IPv6 addresses by /64, as all limits do."""
    principal = context.principal
    known = principal.user_id or principal.api_key_id
    if known:
        return known
    address = context.client_ip
    if address is None:
        return "anonymous"
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network(f"{address.partition('%')[0]}/64", strict=False))
    except ValueError:
        return address


def _checked(action: Action, result: Any) -> Any:
    """Return the result as JSON.

    Raises:
        TypeError, ValueError: it is not JSON, or not as declared.
    """
    result = json_result(result)
    if action.check_result is not None:
        try:
            action.check_result(result)
        except InvalidInput as error:
            raise ValueError(str(error)) from error
    return result


def _failed(call: ActionCall, error: BaseException) -> ActionFailed:
    """Log a failure, and return what the caller sees of it: no detail of what was raised."""
    name, request_id = call.action["name"], call.request.request_id
    log = structlog.get_logger()
    if isinstance(error, ActionError):  # of a nested action, which has been logged
        log.error("action failed", action=name, request_id=request_id, cause=str(error))
    else:
        log.error("action failed", action=name, request_id=request_id, exc_info=error)
    return ActionFailed(f"The action {name!r} failed; the log says why, under request id {request_id!r}.", action=name)


def _timed_out(call: ActionCall, error: CallTimeout) -> ActionTimeout:
    name = call.action["name"]
    late = ActionTimeout(f"The action {name!r} took longer than the {call.action['timeout']:g} s it may.", action=name)
    late.__cause__ = error
    return late
