"""The one way every action runs, whoever calls it.

Find, authorise, limit, validate and fill defaults, ``before_action`` callables, run under the timeout, check the
result, ``after_action`` callables, announce ``action.executed``, record.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import orjson
import structlog

from base04.actions.attempts import with_retries
from base04.actions.failures import PASSED_ON, Status, failed, failure
from base04.actions.injection import HandlerCall, ManagerLookup, Report, action_context
from base04.actions.json_result import json_result
from base04.actions.limits import ALL, Limits, NoteRefusal, RouteChoices
from base04.actions.slots import Slots
from base04.actions.supervision import GRACE_S, supervise
from base04.actions.worker_pool import Hold, WorkerPool
from base04.plugins.isolation import escapes
from base04.plugins.plugin_watch import PluginWatch
from base04_hookspecs.action_discovery import Action, ActionCatalogue, ActionContext, ActionDiscoveryManager
from base04_hookspecs.context import Principal, RequestContext, use_request
from base04_hookspecs.errors import (
    ActionFailed,
    AuthenticationError,
    InvalidInput,
    ManagerUnavailable,
    NotSupported,
    PermissionDenied,
    UnknownAction,
)
from base04_hookspecs.hooks import HooksManager
from base04_hookspecs.host_hooks import ActionCall, ActionOutcome, AfterAction, BeforeAction
from base04_hookspecs.rate_limiter import LimitState

__all__ = ["MAX_DEPTH", "ManagerLookup", "Pipeline", "WorkerPool"]

MAX_DEPTH: Final = 16
"""How deep actions may call each other."""

Record = Callable[[RequestContext, Status, float, float, BaseException | None], None]
"""Notes who ran what, how it ended, when it began (since the epoch), how long it took (in seconds), and its error."""


class Pipeline:
    """Runs actions with the managers of one generation.

    Args:
        managers: where managers are looked up, each time they are needed.
        before: what is called before each action, after it was authorised, limited and validated.
        after: what is called after each action whose ``before`` callables ran.
        workers: the threads for handlers that are not async; several pipelines may share them.
        grace: how many seconds a handler that was cancelled may take to clean up.
        choices: what becomes of calls that cannot be counted.
        hold: keeps the generation for a thread whose caller has given up.
        slots: how often actions run at once; several pipelines may share them.
        record: what notes each run that has ended.
        refused: what notes each call that a limit refused.
        watch: is told of each of ``before`` and ``after`` that failed or was slow, and knows whose it is.
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
        hold: Hold | None = None,
        slots: Slots | None = None,
        record: Record | None = None,
        refused: NoteRefusal | None = None,
        watch: PluginWatch | None = None,
    ) -> None:
        self._managers = managers
        self._before = tuple(before)
        self._after = tuple(after)
        self._workers = workers if workers is not None else WorkerPool()
        self._grace = grace
        self._hold = hold
        self._slots = slots if slots is not None else Slots()
        self._record = record
        self._watch = watch
        self._slow_after_s = watch.slow_after_s if watch is not None else math.inf
        self._under_way = watch.under_way if watch is not None else {}
        self._limits = Limits(managers.get, choices, refused)
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
            ActionBusy: it runs as often as it may at once.
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
            outcome, _ = await self._complete(action, args, context, report)
        return outcome.result

    async def perform(
        self, name: str, args: Mapping[str, Any], context: RequestContext, report: Report
    ) -> tuple[ActionOutcome, bytes]:
        """Run an action whose call was admitted earlier, and return how it ended, and its result as JSON text.

        Whether the caller may is looked at again; nothing is counted, and nothing is recorded. It waits for as long as
        it takes until it may run beside others.

        Raises:
            Base04Error: it was not begun.
        """
        action = self.find(name)
        context = _entered(context, action, nested=False)
        with use_request(context):
            _authorise(action, context.principal)
            call = ActionCall(action.info, action.validate(args), context)
            return await self._run(action, call, report, patient=True)

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

    async def admit(
        self, action: Action, context: RequestContext, levels: Sequence[str], *, to_run: bool = True
    ) -> Sequence[LimitState]:
        """Authorise a caller and count the call at some levels and at the action's own; return how they stand.

        ``context`` is that of the run, which names the action. What is not to run does not spend the action's own.

        Raises:
            AuthenticationError: the caller is anonymous, and the action is not public.
            PermissionDenied: permissions are missing.
            RateLimited: too many calls.
        """
        _authorise(action, context.principal)
        own = action.limits if to_run else ()
        if context.principal.method == "local" or not (levels or own):
            return ()
        return await self._limits.count(levels, context.principal, context.client_ip, None, context.action, own)

    async def run_admitted(self, action: Action, args: Mapping[str, Any] | None, context: RequestContext) -> bytes:
        """Run an action whose caller was admitted, in the context of the run, and return its result as JSON text.

        Raises:
            Base04Error: as ``run``.
        """
        if self._before or self._after or self._listeners() is not None:
            _, written = await self._complete(action, args, context, None)
            return written
        valid = action.validate({} if args is None else args)
        began, started = time.time(), time.perf_counter()
        try:
            plan = self._plan(action)
            if plan.alone:
                result = await supervise(plan.handler(**valid), plan.timeout, grace=self._grace)
            else:
                result = await self._call(action, ActionCall(action.info, valid, context), None)
            written = _checked(action, result)[1]
        except GeneratorExit:  # this very run is being closed
            raise
        except BaseException as raised:
            status, error = failure(ActionCall(action.info, valid, context), raised)
            self._note(context, status, began, time.perf_counter() - started, error)
            if error is raised:
                raise
            raise error from error.__cause__
        if self._record is not None:
            self._record(context, "succeeded", began, time.perf_counter() - started, None)
        return written

    def _listeners(self) -> HooksManager | None:
        """Return who tells of actions that were run, None where nobody wants to hear of them."""
        hooks: HooksManager | None = self._managers.get("hooks")  # type: ignore[assignment]  # what has that role
        try:
            return hooks if hooks is not None and hooks.has_callbacks("action.executed") else None
        except NotSupported:
            return hooks

    async def _complete(
        self, action: Action, args: Mapping[str, Any] | None, context: RequestContext, report: Report | None
    ) -> tuple[ActionOutcome, bytes]:
        """Run an action, record it, and raise its error."""
        call = ActionCall(action.info, action.validate({} if args is None else args), context)
        began = time.time()
        outcome, written = await self._run(action, call, report)
        self._note(context, outcome.status, began, outcome.duration, outcome.error)
        if outcome.error is not None:
            raise outcome.error
        return outcome, written

    async def _run(
        self, action: Action, call: ActionCall, report: Report | None, *, patient: bool = False
    ) -> tuple[ActionOutcome, bytes]:
        if self._before:
            await self._prepare(action, call)
        outcome, written = await self._execute(action, call, report, patient=patient)
        if self._after:
            for step in self._after:
                await self._follow(step, call, outcome)
            if outcome.error is None:
                written = orjson.dumps(outcome.result)  # whoever followed may have changed it
        await self._announce(call, outcome)
        return outcome, written

    def _note(
        self, context: RequestContext, status: Status, began: float, duration: float, error: BaseException | None
    ) -> None:
        if self._record is not None:
            self._record(context, status, began, duration, error)

    async def _prepare(self, action: Action, call: ActionCall) -> None:
        """Call what comes before, and check the arguments again: they may have been replaced."""
        for step in self._before:
            began = time.perf_counter()
            self._under_way[id(call)] = (call, "before_action", step, began)
            try:
                await step(call)
            except PASSED_ON:
                raise
            except BaseException as error:
                if escapes(error):
                    raise
                self._blamed("before_action", step, error)
                raise failed(call, error) from error
            finally:
                del self._under_way[id(call)]
                if (seconds := time.perf_counter() - began) > self._slow_after_s:
                    self._was_slow("before_action", step, seconds)
        try:
            call.args = action.validate(call.args)
        except InvalidInput as error:
            raise failed(call, error) from error

    async def _execute(
        self, action: Action, call: ActionCall, report: Report | None, *, patient: bool
    ) -> tuple[ActionOutcome, bytes]:
        """Run the handler; whatever happens becomes an outcome. Return it, and the result as JSON text."""
        result: Any = None
        written = b"null"
        error: BaseException | None = None
        status: Status = "succeeded"
        started = time.perf_counter()
        try:
            result = await self._call(action, call, report, patient=patient)
            result, written = _checked(action, result)
        except GeneratorExit:  # this very run is being closed
            raise
        except BaseException as raised:  # noqa: BLE001 - SystemExit and KeyboardInterrupt of a handler end only its run
            status, error = failure(call, raised)
        duration = time.perf_counter() - started
        return ActionOutcome(status, None if error is not None else result, error, duration), written

    async def _call(self, action: Action, call: ActionCall, report: Report | None, *, patient: bool = False) -> Any:
        limit = action.policy.concurrency
        if limit is None:
            return await self._attempt(action, call, report)
        async with self._slots.taken(action.name, limit, call.args, patient=patient):
            return await self._attempt(action, call, report)

    async def _attempt(self, action: Action, call: ActionCall, report: Report | None) -> Any:
        async def once(args: Mapping[str, Any]) -> Any:
            return await self._once(action, args, call.request, report)

        retry = action.policy.retry
        return await (once(call.args) if retry is None else with_retries(retry, call, once))

    async def _once(
        self, action: Action, args: Mapping[str, Any], request: RequestContext, report: Report | None
    ) -> Any:
        plan = self._plan(action)
        if not plan.managers and not plan.contexts:
            return await plan.run(args, self._workers, self._grace, self._hold)

        def nested(name: str, args: Mapping[str, Any] | None = None) -> Awaitable[Any]:
            return self.run(name, args, request)

        def context() -> ActionContext:
            return action_context(action, request, nested, report)

        arguments = {**args, **plan.injected(self._managers, context)}
        return await plan.run(arguments, self._workers, self._grace, self._hold)

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
        began = time.perf_counter()
        self._under_way[id(call)] = (call, "after_action", step, began)
        try:
            await step(call, outcome)
        except BaseException as error:
            if escapes(error):
                raise
            structlog.get_logger().error(
                "after_action callable failed",
                plugin=self._blamed("after_action", step, error),
                callable=getattr(step, "__qualname__", repr(step)),
                action=call.action["name"],
                request_id=call.request.request_id,
                exc_info=error,
            )
        finally:
            del self._under_way[id(call)]
            if (seconds := time.perf_counter() - began) > self._slow_after_s:
                self._was_slow("after_action", step, seconds)

    def _blamed(self, hook: str, step: object, error: BaseException) -> str:
        return self._watch.blame(hook, step, error) if self._watch is not None else ""

    def _was_slow(self, hook: str, step: object, seconds: float) -> None:
        if self._watch is not None:
            self._watch.slow(hook, step, seconds)

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
