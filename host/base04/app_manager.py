"""AppManager: the one object that owns a running application."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.metadata
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from weakref import WeakKeyDictionary

import structlog

from base04.accessors import ManagerAccessors
from base04.audit import AuditLog
from base04.authorizers import guarded
from base04.blueprint import Blueprint
from base04.changeover import Changeover
from base04.compatibility import may_be_outdated
from base04.contributions import Contributions, collect, collect_packs
from base04.data_folder import DataFolder
from base04.discovery import Discovery
from base04.errors import HostError, StopError
from base04.executions.executions import Executions
from base04.failures import Status
from base04.generation import Generation, GenerationManagers, Running, pinned_generation
from base04.health import HealthMonitor
from base04.hook_timings import HookTimings
from base04.idempotency import Idempotency
from base04.lifecycle import Started, start_all, stop_each
from base04.limits import RouteChoices
from base04.metrics.counts import Counts
from base04.module_choices import ModuleChoices
from base04.pipeline import Pipeline, Record, WorkerPool
from base04.plugin_steps import PluginSteps
from base04.plugin_watch import PluginWatch, SlowCalls
from base04.recovery import Recovery
from base04.renewal import Renewal
from base04.resolution import Plan
from base04.retirement import Retirement, hand_over
from base04.rotation import Rotation
from base04.selection import InstanceKey, Selection
from base04.settings import HostSettings, load_settings
from base04.slots import Slots
from base04.telemetry.switch import telemetry_of
from base04_hookspecs.app import ActionPackSource, ActionSource, ApplicationHealth, ReloadReport
from base04_hookspecs.context import LOCAL, Principal, RequestContext, current_request
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.errors import ManagerUnavailable
from base04_hookspecs.manager import Manager
from base04_hookspecs.module import ModuleInfo
from base04_hookspecs.redis import RedisManager
from base04_hookspecs.websocket import WebSocketManager

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import Scope

    from base04.telemetry.telemetry import Telemetry

_log = structlog.get_logger()
_draft: ContextVar[Blueprint | None] = ContextVar("base04_draft", default=None)

running_hosts: Final[WeakKeyDictionary[AppManager, asyncio.AbstractEventLoop]] = WeakKeyDictionary()
"""The hosts of this process that have started, and the loop of each: for tests, to find those that were forgotten."""


class AppManager(ManagerAccessors):
    """Discovers, selects, resolves, starts, serves and stops; nothing of it before ``start``.

    Args:
        settings: settings, a mapping, the path of a YAML file, or None for ``base04.yaml`` of the present folder.
        plugins: names and plugin objects to register beside those that are found.
        safe_mode: only what comes with Base04, and ``plugins``, takes part.
        only: start the default instances of these roles, and what they need, instead of everything.
    """

    def __init__(
        self,
        settings: HostSettings | Mapping[str, Any] | str | Path | None = None,
        *,
        plugins: Iterable[tuple[str, object]] = (),
        safe_mode: bool = False,
        only: Iterable[str] | None = None,
    ) -> None:
        loaded = load_settings(settings)
        self.folder = self._data_folder(loaded.data_dir)
        self.choices = ModuleChoices(self.folder.path)
        self._blueprint = Blueprint(
            loaded,
            self.folder.path,
            extra_plugins=plugins,
            safe_mode=safe_mode,
            only=only,
            disabled=frozenset() if safe_mode else self._switched_off(),
        )
        self._drafts: set[Blueprint] = set()
        self.draining = False
        self.health = HealthMonitor(self, self.settings.server.health_interval)
        self._generation: Generation | None = None
        self._lifecycle = asyncio.Lock()
        renewal = Renewal(self)
        self._changeover = Changeover(self, renewal)
        self._recovery = Recovery(self, renewal)
        self._rotation = Rotation(self, renewal)
        self._retirement = Retirement(self)
        self.steps = PluginSteps(self, renewal.collect_anew)
        self.hook_timings: HookTimings | None = None
        self._slow_calls = SlowCalls()
        self.packs_not_ready: dict[tuple[str, str], str] = {}
        self.audit = AuditLog(self)
        self.executions = Executions(self)
        self.counts = Counts()
        kept = self.settings.executions
        self.idempotency = Idempotency(self._default_database, kept.lease, kept.keep_answers)
        self._start_order: list[Running] = []
        self._told: set[str] = set()
        self._workers = WorkerPool()
        self._slots = Slots()
        self.telemetry: Telemetry | None = None

    def _data_folder(self, path: Path) -> DataFolder:
        return DataFolder(path)

    def _switched_off(self) -> frozenset[str]:
        return self.choices.read()

    # The way from entry points to running managers

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

    @property
    def settings(self) -> HostSettings:
        """The settings."""
        return self.blueprint.settings

    @property
    def discovery(self) -> Discovery:
        """All plugins that were found; finds them when first asked."""
        return self.blueprint.discovery

    @property
    def selection(self) -> Selection:
        """The provider of each instance."""
        return self.blueprint.selection

    @property
    def plan(self) -> Plan:
        """The managers to be, in the order in which they start; imports the chosen providers when first asked."""
        return self.blueprint.plan

    async def start(self) -> None:
        """Discover, select, resolve and start everything. Does nothing where it has started."""
        async with self._lifecycle:
            if self._generation is not None:
                return
            plan = self.plan
            telemetry = telemetry_of(self.settings.telemetry)
            self.folder.acquire()
            self._workers = WorkerPool()
            self.telemetry = telemetry
            try:
                if telemetry is not None:
                    telemetry.start()
                await self._bring_up(plan)
            except BaseException:
                for error in await asyncio.shield(self._wind_up()):
                    _log.warning("a manager failed to stop after a failed start", error=str(error))
                raise
            running_hosts[self] = asyncio.get_running_loop()

    async def _bring_up(self, plan: Plan) -> None:
        started = await self.start_managers(plan)
        self._start_order = list(started.running.values())
        self._announce_replacements()
        await self.adopt(self.build(started))
        await self.audit.start()
        await self.executions.start()
        self.idempotency.start()
        await self.steps.start_up(self.generation)
        self.health.start()
        self._recovery.start()
        self._rotation.start()

    async def start_managers(self, plan: Plan, *, reuse: Mapping[InstanceKey, Running] | None = None) -> Started:
        """Start what a plan has, beside what is taken as it is.

        Raises:
            StartError: one that is required cannot start.
        """
        watch = None if self.telemetry is None else self.telemetry.watch
        return await start_all(plan, self, self.folder.path, reuse=reuse, watch=watch)

    def build(self, started: Started) -> Generation:
        """Make a generation of what has started, with the plugins' contributions collected and the ASGI stack built."""
        from base04.http.authentication import Authentication
        from base04.http.stack import build_stack

        discovery = self.discovery
        plugins = {name: item.implementation for name, item in discovery.plugins.items() if item.status == "enabled"}
        generation = Generation(self.plan, dict(started.running), dict(started.down), self._collected(), plugins)
        pipeline = Pipeline if self.telemetry is None else self.telemetry.pipeline
        generation.pipeline = pipeline(
            GenerationManagers(generation),
            before=generation.contributions.before_action,
            after=generation.contributions.after_action,
            workers=self._workers,
            choices=RouteChoices(self.settings.server.rate_limit_on_unavailable),
            hold=generation.hold,
            slots=self._slots,
            record=self._recorder(),
            refused=self.counts.refused,
            watch=PluginWatch(generation.contributions, self._slow_calls, self.settings.plugins.slow_after),
        )
        generation.authentication = Authentication(generation)
        generation.asgi = build_stack(generation, self)
        return generation

    def _collected(self) -> Contributions:
        if not self.settings.plugins.trace_hooks:
            self.hook_timings = None
            return collect(self.discovery, self)
        from base04.traced_hooks import traced  # only who traces loads what does it

        timings = self.hook_timings = self.hook_timings or HookTimings()
        return traced(collect(self.discovery, self, timings=timings), timings)

    async def adopt(self, generation: Generation, blueprint: Blueprint | None = None) -> None:
        """Let a generation serve from now on, and stop what only the previous one held, once nobody uses it.

        The stopping goes on after this has returned: whoever asked for the change may be using the previous one.
        """
        websocket = generation.find("websocket")
        if isinstance(websocket, WebSocketManager):
            websocket.bind(self.run_action)
            websocket.bind_authorizers(guarded(generation.contributions))
        if self._generation is not None:
            await hand_over(self._generation, generation)
        previous, self._generation = self._generation, generation
        self._blueprint = blueprint or self._blueprint
        self._announce_outdated()
        known = {id(item.manager) for item in self._start_order}
        self._start_order += [item for item in generation.running.values() if id(item.manager) not in known]
        self.steps.adopt(generation)
        await self.audit.adopt(generation)
        await self.executions.adopt()
        if previous is not None:
            self._retirement.begin(previous, generation)
            self._rotation.look()
            self._recovery.start()

    def _recorder(self) -> Record:
        """Return what notes each run of an action: the counts, and the history where that is on."""
        ran = self.counts.ran
        history = self.executions.history.note if self.settings.executions.history else None

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

    async def stop(self) -> None:
        """Stop all managers in reverse order. Does nothing where nothing runs.

        Raises:
            StopError: some failed to stop; all others were stopped.
        """
        async with self._lifecycle:
            generation = self._generation
            if generation is None:
                return
            try:
                await self._end_background_work()
                await self.executions.drain()
                await generation.unpinned(self.settings.server.drain_timeout)
                await self.steps.shut_down(generation, generation.plugins)
            finally:
                errors = await asyncio.shield(self._wind_up())
        if errors:
            raise StopError("\n".join(str(error) for error in errors), errors)

    async def _wind_up(self) -> list[Exception]:
        """Stop whatever has started, let go of the folder, and return what went wrong."""
        await self._end_background_work()
        await self.executions.stop()
        await self.idempotency.stop()
        await self.audit.stop()
        errors = await stop_each(self._start_order)
        self._workers.close()
        self._generation, self._start_order = None, []
        self._told.clear()
        self.steps.forget()
        if self.telemetry is not None:
            await self.telemetry.stop()
        self.telemetry = None
        self.folder.release()
        running_hosts.pop(self, None)
        return errors

    async def _end_background_work(self) -> None:
        await self.steps.stop()
        await self._retirement.stop()
        await self._rotation.stop()
        await self._recovery.stop()
        await self.health.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def _announce_replacements(self) -> None:
        for choice in self.selection.choices.values():
            if choice.replaces is not None:
                _log.info(
                    "a built-in manager is replaced",
                    manager=str(choice.key),
                    by=str(choice.candidate),
                    instead_of=choice.replaces.provider.name,
                )

    def _announce_outdated(self) -> None:
        """Tell once of each chosen provider that lacks something of its contract, however often things change."""
        for item in self._blueprint.outdated:
            if str(item) not in self._told:
                self._told.add(str(item))
                _log.warning(
                    "a provider is written for an older contract",
                    plugin=item.candidate.plugin.name,
                    provider=item.candidate.provider.name,
                    contract=item.candidate.role,
                    written_for=item.candidate.provider.written_for,
                    serves=item.serves,
                    lacks=item.lacks,
                    advice=str(item),
                )

    # Serving

    def initialize(self, app: Starlette) -> None:
        """Join an existing Starlette application: start and stop with it, and serve what it does not serve itself."""
        inner = app.router.lifespan_context

        @contextlib.asynccontextmanager
        async def lifespan(application: Starlette) -> AsyncIterator[Any]:
            async with self, inner(application) as state:
                yield state

        app.router.lifespan_context = lifespan
        app.router.default = self.serve

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request or connection, as an ASGI application; a request keeps its generation to its end."""
        generation = self._generation
        if generation is None:
            from base04.http.problems import not_started

            await not_started(scope, receive, send)
        elif scope["type"] == "http":
            await generation.serve(scope, receive, send)
        else:
            await generation.asgi(scope, receive, send)

    def run(self, app: Starlette | None = None, **kwargs: Any) -> None:
        """Serve until a signal ends it. ``kwargs`` (``host``, ``port``) take the place of settings."""
        from base04.serving import run

        run(self, app, **kwargs)

    def _default_database(self) -> DatabaseManager | None:
        found = self._generation.find("database") if self._generation is not None else None
        return found if isinstance(found, DatabaseManager) else None

    # What others ask

    @property
    def version(self) -> str:
        """The version of Base04."""
        return importlib.metadata.version("base04")

    @property
    def data_dir(self) -> Path:
        """The folder that holds what this host keeps."""
        return self.folder.path

    @property
    def generation(self) -> Generation:
        """The generation that the current task has pinned, or the newest.

        Raises:
            ManagerUnavailable: the host has not started.
        """
        generation = pinned_generation() or self._generation
        if generation is None:
            raise ManagerUnavailable("The host has not started: call `await app.start()` first.")
        return generation

    @property
    def newest(self) -> Generation | None:
        """The generation that new requests use, None where the host does not run."""
        return self._generation

    def is_initialized(self) -> bool:
        """Tell whether everything has started."""
        return self._generation is not None

    async def check_database_connection(self) -> bool:
        """Tell whether the default database answers."""
        database = self.generation.find("database")
        return isinstance(database, DatabaseManager) and await database.check_connection()

    async def check_redis_connection(self) -> bool:
        """Tell whether the default ``redis`` answers."""
        redis = self.generation.find("redis")
        return isinstance(redis, RedisManager) and await redis.ping()

    async def health_check(self) -> ApplicationHealth:
        """Ask all managers for their health, at the same time and each under a timeout."""
        return await self.health.probe()

    def get_manager(self, role: str, instance: str = "default") -> Manager:
        """Return a running manager.

        Raises:
            NotFound: there is no such role or instance.
            ManagerUnavailable: it is not up just now, or the host has not started.
        """
        return self.generation.get(role, instance)

    async def identify(self, scope: Scope) -> Principal:
        """Return who a request comes from.

        Raises:
            AuthenticationError: what is shown does not prove it.
            ManagerUnavailable: whether it does cannot be known just now.
        """
        return await self.generation.authentication.identify(scope)

    async def run_action(
        self, name: str, args: Mapping[str, Any] | None = None, *, principal: Principal | None = None
    ) -> Any:
        """Run an action through the whole pipeline, as ``principal`` or else whoever the current request is for.

        Outside of a request it is the program itself that calls, which may do everything.
        """
        context = current_request() or RequestContext(uuid.uuid4().hex, LOCAL)
        if principal is not None:
            context = dataclasses.replace(context, principal=principal)
        with self.generation.pin() as generation:
            return await generation.pipeline.run(name, args, context)

    # Changes while it runs

    async def reload(self, *, dry_run: bool = False) -> ReloadReport:
        """Read settings, plugins and packs anew, and move over to what has changed.

        Raises:
            Conflict: what was found cannot serve; nothing has changed.
        """
        return await self._changeover.reload(dry_run=dry_run)

    async def enable_plugin(self, name: str) -> bool:
        """Let a plugin take part, from the next request on; False where it does already."""
        return await self._changeover.enable(name)

    async def disable_plugin(self, name: str, *, swap: bool = False) -> bool:
        """Take a plugin out, from the next request on; False where it is out already."""
        return await self._changeover.disable(name, swap=swap)

    async def reload_plugin(self, name: str) -> bool:
        """Read everything anew, and renew what a plugin provides even where nothing has changed."""
        return await self._changeover.renew(name)

    def admit(self, blueprint: Blueprint) -> None:
        """Refuse what this host is not to become, before anything of it starts.

        Raises:
            HostError: it cannot serve; the message says why.
        """

    # What all processes of a host say together: here it is one

    def whole_health(self, own: ApplicationHealth) -> ApplicationHealth:
        """Return the health of the whole host, of which this process knows its own part."""
        return own

    async def whole_metrics(self, own: bytes) -> bytes:
        """Return the metrics of the whole host, of which this process knows its own part."""
        return own

    def convergence(self) -> dict[str, Any]:
        """Return what is told beside the answer to a change: which processes serve it."""
        return {}

    def list_plugins(self) -> list[ModuleInfo]:
        """Return all plugins that were found, by name."""
        running: dict[str, list[str]] = {}
        generation = pinned_generation() or self._generation
        for item in generation.running.values() if generation else ():
            candidate = item.node.choice.candidate
            running.setdefault(candidate.plugin.name, []).append(f"{item.key}:{candidate.provider.name}")
        warnings = self._warnings()
        found = []
        for name, plugin in self.discovery.plugins.items():
            module = plugin.describe(running.get(name, []), warnings.get(name, ()), self.steps.waits(name))
            if self.hook_timings is not None:
                module["timings"] = self.hook_timings.of(name)
            found.append(module)
        return found

    def _warnings(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        if self._generation is None and not may_be_outdated(self.discovery.candidates):
            return found  # a list of plugins imports no provider without need
        try:
            outdated = self.blueprint.outdated
        except HostError:  # what keeps the host from starting is told where it is started
            return found
        for item in outdated:
            found.setdefault(item.candidate.plugin.name, []).append(str(item))
        return found

    def list_action_sources(self) -> list[ActionSource]:
        """Return the packages that offer action packs, by name."""
        return list(self.discovery.action_sources)

    def list_action_packs(self) -> list[ActionPackSource]:
        """Return the packs that plugins define, by the names of the plugins."""
        packs, self.packs_not_ready = collect_packs(self.discovery)
        return packs
