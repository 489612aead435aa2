"""Giving an action's handler what its signature asks for."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import structlog

from base04.actions.supervision import supervise
from base04.actions.worker_pool import Hold, WorkerPool
from base04_hookspecs.action_discovery import Action, ActionContext, RunAction
from base04_hookspecs.context import RequestContext
from base04_hookspecs.errors import ManagerUnavailable
from base04_hookspecs.handler_signature import InjectedManager, handler_signature
from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import Use

Report = Callable[[float, float | None, str], None]

_DEFAULT: Final = Use()


class ManagerMissing(ManagerUnavailable):
    """A manager that a handler needs is not running, so it was not called."""


class ManagerLookup(Protocol):
    """Where a pipeline finds the managers of its generation."""

    def get(self, role: str, instance: str = "default") -> Manager | None:
        """Return a running manager; None where there is none just now."""

    def view(self, role: str, use: Use) -> Manager | None:
        """Return a running manager as ``use`` asks for it; None where there is none just now."""

    def blocking(self, manager: Manager) -> Any:
        """Return a proxy of a manager for code that is not async."""


@dataclass(frozen=True, slots=True)
class HandlerCall:
    """How the handler of one action is called; made once for each action."""

    action: Action
    handler: Callable[..., Any]
    asynchronous: bool
    managers: tuple[InjectedManager, ...]
    contexts: tuple[str, ...]
    timeout: float | None
    alone: bool
    """Whether the handler runs on the loop, once, at once, and asks for nothing but its arguments."""

    @classmethod
    def of(cls, action: Action) -> HandlerCall:
        """Plan the calls of an action.

        Raises:
            ConfigurationError: the handler's signature cannot be used; the message says what to write instead.
        """
        handler = action.load_handler()
        signature = handler_signature(handler)
        return cls(
            action,
            handler,
            signature.asynchronous,
            signature.managers,
            signature.contexts,
            action.info["timeout"],
            alone=signature.asynchronous
            and not (signature.managers or signature.contexts or action.policy.retry or action.policy.concurrency),
        )

    def injected(self, lookup: ManagerLookup, context: Callable[[], ActionContext]) -> dict[str, Any]:
        """Return the managers and contexts that the handler asks for, by parameter.

        Raises:
            ManagerMissing: one that it needs is not running just now.
        """
        found: dict[str, Any] = {}
        for wanted in self.managers:
            manager = lookup.get(wanted.role) if wanted.use == _DEFAULT else lookup.view(wanted.role, wanted.use)
            if manager is None and not wanted.optional:
                instance = "" if wanted.use.instance == "default" else f" (instance {wanted.use.instance!r})"
                raise ManagerMissing(
                    f"The action {self.action.name!r} needs the {wanted.role!r} manager{instance}, which is not "
                    "running just now."
                )
            found[wanted.parameter] = manager if manager is None or self.asynchronous else lookup.blocking(manager)
        for name in self.contexts:
            found[name] = context()
        return found

    async def run(
        self, arguments: Mapping[str, Any], workers: WorkerPool, grace: float, hold: Hold | None = None
    ) -> Any:
        """Call the handler under its timeout and return its result; raises ``CallTimeout`` and what it raises."""
        if self.asynchronous:
            return await supervise(self.handler(**arguments), self.timeout, grace=grace)
        result = await workers.run(partial(self.handler, **arguments), self.timeout, hold=hold)
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError("The handler returned a coroutine, but is no 'async def': write 'async def', or await it.")
        return result


def action_context(action: Action, request: RequestContext, run: RunAction, report: Report | None) -> ActionContext:
    """Build what a handler gets for a parameter annotated with ``ActionContext``."""
    log = structlog.get_logger(action=action.name, request_id=request.request_id)
    if report is None:
        return ActionContext(action.name, request.request_id, request.principal, log, run)
    return ActionContext(action.name, request.request_id, request.principal, log, run, _on_loop(report))


def _on_loop(report: Report) -> Report:
    """Let progress be told from any thread; who listens is called on the loop."""
    loop, thread = asyncio.get_running_loop(), threading.get_ident()

    def told(done: float, total: float | None, message: str) -> None:
        if threading.get_ident() == thread:
            report(done, total, message)
        else:
            loop.call_soon_threadsafe(report, done, total, message)

    return told
