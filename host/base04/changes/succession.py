"""The generations of a host: how the next one is made of what has started, and how it takes over."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING

from base04.actions.failures import Status
from base04.actions.limits import RouteChoices
from base04.actions.slots import Slots
from base04.blueprint import Blueprint
from base04.changes.announcements import Announcements
from base04.changes.retirement import hand_over
from base04.generation import Generation, GenerationManagers, Running
from base04.lifecycle import Started, start_all, stop_each
from base04.pipeline import Pipeline, Record, WorkerPool
from base04.plugins.authorizers import guarded
from base04.plugins.contributions import Contributions, collect
from base04.plugins.hook_timings import HookTimings
from base04.plugins.plugin_watch import PluginWatch, SlowCalls
from base04.resolution import Plan
from base04.selection import InstanceKey
from base04_hookspecs.context import RequestContext
from base04_hookspecs.websocket import WebSocketManager

if TYPE_CHECKING:
    from base04.app_manager import AppManager

_draft: ContextVar[Blueprint | None] = ContextVar("base04_draft", default=None)


class Succession:
    """Owns the generation that serves, and everything that has started.

    Args:
        app: the host.
        blueprint: what it is to be.
    """

    def __init__(self, app: AppManager, blueprint: Blueprint) -> None:
        self._app, self._blueprint = app, blueprint
        self.newest: Generation | None = None
        """The generation that new requests use, None where the host does not run."""
        self._drafts: set[Blueprint] = set()
        self._start_order: list[Running] = []
        self._announcements = Announcements()
        self._workers = WorkerPool()
        self._slots = Slots()
        self.slow_calls = SlowCalls()
        self.hook_timings: HookTimings | None = None
        """How long hooks and what they returned have taken, None where that is not asked for."""

    @property
    def blueprint(self) -> Blueprint:
        """What this host is; for a manager that is started for the next generation, what it is about to be."""
        draft = _draft.get()
        return draft if draft in self._drafts else self._blueprint

    @contextlib.contextmanager
    def drafting(self, blueprint: Blueprint) -> Iterator[None]:
        """Let what is started within see the host as it is about to be."""
        self._drafts.add(blueprint)
        token = _draft.set(blueprint)
        try:
            yield
        finally:
            _draft.reset(token)
            self._drafts.discard(blueprint)

    async def begin(self, plan: Plan) -> None:
        """Start what a plan has, and let it serve.

        Raises:
            StartError: one that is required cannot start; ``end`` stops what has.
        """
        self._workers = WorkerPool()
        started = await self.start_managers(plan)
        self._start_order = list(started.running.values())
        await self.adopt(self.build(started))

    async def end(self) -> list[Exception]:
        """Stop whatever has started, and return what went wrong."""
        errors = await stop_each(self._start_order)
        self._workers.close()
        self.newest, self._start_order = None, []
        self._announcements = Announcements()
        return errors

    async def start_managers(self, plan: Plan, *, reuse: Mapping[InstanceKey, Running] | None = None) -> Started:
        """Start what a plan has, beside what is taken as it is.

        Raises:
            StartError: one that is required cannot start.
        """
        telemetry = self._app.telemetry
        watch = None if telemetry is None else telemetry.watch
        return await start_all(plan, self._app, self._app.folder.path, reuse=reuse, watch=watch)

    def build(self, started: Started) -> Generation:
        """Make a generation of what has started, with the plugins' contributions collected and the ASGI stack built."""
        from base04.http.authentication import Authentication
        from base04.http.stack import build_stack

        app, blueprint = self._app, self.blueprint
        discovery = blueprint.discovery
        plugins = {name: item.implementation for name, item in discovery.plugins.items() if item.status == "enabled"}
        generation = Generation(
            blueprint.plan, dict(started.running), dict(started.down), self._collected(blueprint), plugins
        )
        pipeline = Pipeline if app.telemetry is None else app.telemetry.pipeline
        generation.pipeline = pipeline(
            GenerationManagers(generation),
            before=generation.contributions.before_action,
            after=generation.contributions.after_action,
            workers=self._workers,
            choices=RouteChoices(blueprint.settings.server.rate_limit_on_unavailable),
            hold=generation.hold,
            slots=self._slots,
            record=self._recorder(),
            refused=app.counts.refused,
            watch=PluginWatch(generation.contributions, self.slow_calls, blueprint.settings.plugins.slow_after),
        )
        generation.authentication = Authentication(generation)
        generation.asgi = build_stack(generation, app)
        return generation

    def _collected(self, blueprint: Blueprint) -> Contributions:
        if not blueprint.settings.plugins.trace_hooks:
            self.hook_timings = None
            return collect(blueprint.discovery, self._app)
        from base04.plugins.traced_hooks import traced  # only who traces loads what does it

        timings = self.hook_timings = self.hook_timings or HookTimings()
        return traced(collect(blueprint.discovery, self._app, timings=timings), timings)

    async def adopt(self, generation: Generation, blueprint: Blueprint | None = None) -> None:
        """Let a generation serve from now on, and stop what only the previous one held, once nobody uses it.

        The stopping goes on after this has returned: whoever asked for the change may be using the previous one.
        """
        websocket = generation.find("websocket")
        if isinstance(websocket, WebSocketManager):
            websocket.bind(self._app.run_action)
            websocket.bind_authorizers(guarded(generation.contributions))
        if self.newest is not None:
            await hand_over(self.newest, generation)
        previous, self.newest = self.newest, generation
        self._blueprint = blueprint or self._blueprint
        self._announcements.tell_replacements(self._blueprint)
        self._announcements.tell_outdated(self._blueprint)
        known = {id(item.manager) for item in self._start_order}
        self._start_order += [item for item in generation.running.values() if id(item.manager) not in known]
        await self._app.succeeded(previous, generation)

    def _recorder(self) -> Record:
        """Return what notes each run of an action: the counts, and the history where that is on."""
        executions, ran = self._app.executions, self._app.counts.ran
        history = executions.history.note if self._app.settings.executions.history else None

        def note(
            context: RequestContext, status: Status, began: float, duration: float, error: BaseException | None
        ) -> None:
            ran(str(context.action), status, duration)
            if history is not None:
                history(context, status, began, duration, error)

        return note

    def retired(self, generation: Generation) -> list[Running]:
        """Return what has started and is not part of a generation, in the order in which it started."""
        kept = {id(item.manager) for item in generation.running.values()}
        return [item for item in self._start_order if id(item.manager) not in kept]

    def forget(self, item: Running) -> None:
        """Count a manager as stopped: whoever calls this stops it."""
        self._start_order = [other for other in self._start_order if other.manager is not item.manager]
