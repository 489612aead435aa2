"""One span for each run of an action, whoever calls it, and one for each call of its handler."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry.trace import SpanKind, Tracer

from base04.actions.failures import Status
from base04.actions.injection import HandlerCall, ManagerLookup, Report
from base04.pipeline import Pipeline
from base04.telemetry.spans import REFUSALS, PresentSpan, context_here, may_be_recorded, sendable
from base04_hookspecs.action_discovery import Action
from base04_hookspecs.context import RequestContext
from base04_hookspecs.errors import ActionTimeout
from base04_hookspecs.host_hooks import ActionCall, ActionOutcome

_attempts: Final[ContextVar[Iterator[int] | None]] = ContextVar("base04_attempts", default=None)


class TracedPipeline(Pipeline):
    """The pipeline, with spans. Where nothing is traced the host builds the plain one, and pays nothing."""

    def __init__(self, managers: ManagerLookup, *, tracer: Tracer, **options: Any) -> None:
        super().__init__(managers, **options)
        self._tracer = tracer

    async def run(
        self, name: str, args: Mapping[str, Any] | None, context: RequestContext, *, report: Report | None = None
    ) -> Any:
        """Run an action and return its result, which is JSON."""
        action = self.find(name)
        with self._traced(action, context, nested=context.action is not None):
            return await super().run(name, args, context, report=report)

    async def run_admitted(self, action: Action, args: Mapping[str, Any] | None, context: RequestContext) -> bytes:
        """Run an action whose caller was admitted, and return its result as JSON text."""
        with self._traced(action, context):
            return await super().run_admitted(action, args, context)

    async def perform(
        self, name: str, args: Mapping[str, Any], context: RequestContext, report: Report
    ) -> tuple[ActionOutcome, bytes]:
        """Run an action whose call was admitted earlier, as a part of the trace that it was admitted in."""
        action = self.find(name)
        with self._traced(action, context, kind=SpanKind.CONSUMER) as present:
            outcome, written = await super().perform(name, args, context, report)
            if present is not None:
                if outcome.error is not None:
                    present.failed(outcome.error)
                present.say({"base04.outcome": outcome.status})
        return outcome, written

    @contextlib.contextmanager
    def _traced(
        self, action: Action, context: RequestContext, *, nested: bool = False, kind: SpanKind = SpanKind.INTERNAL
    ) -> Iterator[PresentSpan | None]:
        if not may_be_recorded():
            yield None
            return
        said = {
            "base04.action": action.name,
            "base04.source": "action" if nested else context.source,
            "base04.request_id": context.request_id,
        }
        if context.principal.user_id is not None:
            said["user.id"] = sendable(context.principal.user_id)
        place = context_here()
        with PresentSpan(self._tracer, f"action {action.name}", said, kind=kind, context=place) as present:
            try:
                yield present
            except BaseException as error:
                present.say({"base04.outcome": _outcome(error)})
                raise
            if kind is SpanKind.INTERNAL:
                present.say({"base04.outcome": "succeeded"})

    async def _attempt(self, action: Action, call: ActionCall, report: Report | None) -> Any:
        token = _attempts.set(None if action.policy.retry is None else itertools.count(1))
        try:
            return await super()._attempt(action, call, report)
        finally:
            _attempts.reset(token)

    async def _once(
        self, action: Action, args: Mapping[str, Any], request: RequestContext, report: Report | None
    ) -> Any:
        if not may_be_recorded():
            return await super()._once(action, args, request, report)
        said: dict[str, str | int] = {"base04.action": action.name}
        attempts = _attempts.get()
        if attempts is not None:
            said["base04.attempt"] = next(attempts)
        with PresentSpan(self._tracer, f"handler {action.name}", said):
            return await super()._once(action, args, request, report)

    def _plan(self, action: Action) -> HandlerCall:
        plan = super()._plan(action)
        if plan.alone:  # which would be called without `_once`
            plan = self._calls[action.info["name"]] = dataclasses.replace(plan, alone=False)
        return plan


def _outcome(error: BaseException) -> Status | str:
    if isinstance(error, REFUSALS):
        return "refused"
    if isinstance(error, ActionTimeout):
        return "timeout"
    return "failed" if isinstance(error, Exception) else "cancelled"
