"""The one way every action runs, whoever calls it.

Find, authorise, limit, validate and fill defaults, ``before_action`` callables, run under the timeout, check the
result, ``after_action`` callables, announce ``action.executed``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, Literal

import orjson
import structlog

from base04.injection import HandlerCall, ManagerLookup, Report, action_context
from base04.json_result import json_result
from base04.limits import ALL, Limits, RouteChoices
from base04.supervision import GRACE_S, supervise
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
from base04_hookspecs.rate_limiter import LimitState

__all__ = ["MAX_DEPTH", "ManagerLookup", "Pipeline", "WorkerPool"]

MAX_DEPTH: Final = 16
"""How deep actions may call each other."""

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


Status = Literal["succeeded", "failed", "timeout", "cancelled"]


class Pipeline:
    """Runs actions with the managers of one generation.

    Args:
        managers: where managers are looked up, each time they are needed.
        before: what is called before each action, after it was authorised, limited and validated.
        after: what is called after each action whose ``before`` callables ran.
        workers: the threads for handlers that are not async; several pipelines may share them.
        grace: how many seconds a handler that was cancelled may take to clean up.
        choices: what becomes of calls that cannot be counted.
    """

    def __init__(
        self,
        managers: ManagerLookup,
        *,
        before: Sequence[BeforeAction] = (),
        after: Sequence[AfterAction] = (),
        workers: WorkerPool | None = None,
        grace: float = GRACE_S,
        choices: RouteChoices | None = None,
    ) -> None:
        self._managers = managers
        self._before = tuple(before)
        self._after = tuple(after)
        self._workers = workers if workers is not None else WorkerPool()
        self._grace = grace
        self._limits = Limits(managers.get, choices)
        self._calls: dict[str, HandlerCall] = {}

    @property
    def workers(self) -> WorkerPool:
        """The threads for handlers that are not async."""
        return self._workers

    @property
    def limits(self) -> Limits:
        """What counts the calls."""
        return self._limits

    async def run(
        self, name: str, args: Mapping[str, Any] | None, context: RequestContext, *, report: Report | None = None
    ) -> Any:
        """Run an action and return its result, which is JSON.

        A ``context`` that belongs to a running action makes this a nested call: same principal, not limited again. One
        that came over HTTP has been counted there, and is counted here for the action's own limit alone.

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
        action = self.find(name)
        nested = context.action is not None
        context = _entered(context, action, nested=nested)
        with use_request(context):
            if nested:
                _authorise(action, context.principal)
            else:
                await self.admit(action, context, () if context.source == "http" else ALL)
            result, _ = await self._complete(action, args, context, report)
        return result

    def find(self, name: str) -> Action:
        """Return an action by its full or unambiguous short name.

        Raises:
            UnknownAction: there is none, or several have this short name.
        """
        discovery: ActionDiscoveryManager | None = self._managers.get("action_discovery")  # type: ignore[assignment]
        if discovery is None:
            raise ManagerUnavailable("No 'action_discovery' manager is running just now, so no action can be found.")
        catalogue = discovery.catalogue()
        action = catalogue.find(name)
        if action is None:
            raise _unknown(name, catalogue)
        return action

    async def admit(self, action: Action, context: RequestContext, levels: Sequence[str]) -> Sequence[LimitState]:
        """Authorise a caller and count the call at some levels and at the action's own; return how they stand.

        ``context`` is that of the run, which names the action.

        Raises:
            AuthenticationError: the caller is anonymous, and the action is not public.
            PermissionDenied: permissions are missing.
            RateLimited: too many calls.
        """
        _authorise(action, context.principal)
        if context.principal.method == "local" or not (levels or action.limits):
            return ()
        return await self._limits.count(
            levels, context.principal, context.client_ip, None, context.action, action.limits
        )

    async def run_admitted(self, action: Action, args: Mapping[str, Any] | None, context: RequestContext) -> bytes:
        """Run an action whose caller was admitted, in the context of the run, and return its result as JSON text.

        Raises:
            Base04Error: as ``run``.
        """
        if self._before or self._after or self._listeners() is not None:
            _, written = await self._complete(action, args, context, None)
            return written
        valid = action.validate({} if args is None else args)
        try:
            plan = self._plan(action)
            if plan.alone:
                result = await supervise(plan.handler(**valid), plan.timeout, grace=self._grace)
            else:
                result = await self._call(action, ActionCall(action.info, valid, context), None)
            return _checked(action, result)[1]
        except GeneratorExit:  # this very run is being closed
            raise
        except BaseException as raised:
            _, error = _failure(ActionCall(action.info, valid, context), raised)
            if error is raised:
                raise
            raise error from error.__cause__

    def _listeners(self) -> HooksManager | None:
        """Return who tells of actions that were run, None where nobody wants to hear of them."""
        hooks: HooksManager | None = self._managers.get("hooks")  # type: ignore[assignment]  # what has that role
        return hooks if hooks is not None and hooks.has_callbacks("action.executed") else None

    async def _complete(
        self, action: Action, args: Mapping[str, Any] | None, context: RequestContext, report: Report | None
    ) -> tuple[Any, bytes]:
        call = ActionCall(action.info, action.validate({} if args is None else args), context)
        if self._before:
            await self._prepare(action, call)
        outcome, written = await self._execute(action, call, report)
        if self._after:
            for step in self._after:
                await self._follow(step, call, outcome)
            if outcome.error is None:
                written = orjson.dumps(outcome.result)  # whoever followed may have changed it
        await self._announce(call, outcome)
        if outcome.error is not None:
            raise outcome.error
        return outcome.result, written

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

    async def _execute(self, action: Action, call: ActionCall, report: Report | None) -> tuple[ActionOutcome, bytes]:
        """Run the handler; whatever happens becomes an outcome. Return it, and the result as JSON text."""
        result: Any = None
        written = b"null"
        error: BaseException | None = None
        status: Status = "succeeded"
        started = time.perf_counter()
        try:
            result = await self._call(action, call, report)
            result, written = _checked(action, result)
        except GeneratorExit:  # this very run is being closed
            raise
        except BaseException as raised:  # noqa: BLE001 - SystemExit and KeyboardInterrupt of a handler end only its run
            status, error = _failure(call, raised)
        duration = time.perf_counter() - started
        return ActionOutcome(status, None if error is not None else result, error, duration), written

    async def _call(self, action: Action, call: ActionCall, report: Report | None) -> Any:
        plan = self._plan(action)
        if not plan.managers and not plan.contexts:
            return await plan.run(call.args, self._workers, self._grace)

        def nested(name: str, args: Mapping[str, Any] | None = None) -> Awaitable[Any]:
            return self.run(name, args, call.request)

        def context() -> ActionContext:
            return action_context(action, call.request, nested, report)

        arguments = {**call.args, **plan.injected(self._managers, context)}
        return await plan.run(arguments, self._workers, self._grace)

    def _plan(self, action: Action) -> HandlerCall:
        """Return how the handler of an action is called.

        Raises:
            ConfigurationError: its signature cannot be used.
        """
        name = action.info["name"]
        plan = self._calls.get(name)
        if plan is None or plan.action is not action:
            plan = self._calls[name] = HandlerCall.of(action)
        return plan

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
        hooks = self._listeners()
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
        return RequestContext(context.request_id, context.principal, context.client_ip, context.source, action.name)
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
    needed = action.info["permissions"]
    missing = [name for name in needed if not principal.may(name)] if needed else []
    if missing:
        names = ", ".join(map(repr, missing))
        raise PermissionDenied(f"The action {action.name!r} needs the permission {names}.", missing)


def _checked(action: Action, result: Any) -> tuple[Any, bytes]:
    """Return the result as JSON, and written as such.

    Raises:
        TypeError, ValueError: it is not JSON, or not as declared.
    """
    result, written = json_result(result)
    if action.check_result is not None:
        try:
            action.check_result(result)
        except InvalidInput as error:
            raise ValueError(str(error)) from error
    return result, written


def _failure(call: ActionCall, raised: BaseException) -> tuple[Status, BaseException]:
    """Return how a run ended that raised, and what its caller sees of it."""
    if isinstance(raised, asyncio.CancelledError):
        return "cancelled", raised
    if isinstance(raised, CallTimeout):
        return "timeout", _timed_out(call, raised)
    if isinstance(raised, _PASSED_ON):
        return "failed", raised
    error = _failed(call, raised)
    error.__cause__ = raised
    return "failed", error


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
