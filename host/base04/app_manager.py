"""AppManager: the one object that owns a running application."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.metadata
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from weakref import WeakKeyDictionary

import structlog

from base04.accessors import ManagerAccessors
from base04.actions.idempotency import Idempotency
from base04.blueprint import Blueprint
from base04.changes.changeover import Changeover
from base04.changes.recovery import Recovery
from base04.changes.renewal import Renewal
from base04.changes.retirement import Retirement
from base04.changes.rotation import Rotation
from base04.changes.succession import Succession
from base04.data_folder import DataFolder
from base04.discovery import Discovery
from base04.errors import StopError
from base04.executions.executions import Executions
from base04.generation import Generation, pinned_generation
from base04.health import HealthMonitor
from base04.inventory import describe_plugins
from base04.metrics.counts import Counts
from base04.plugins.contributions import collect_packs
from base04.plugins.module_choices import ModuleChoices
from base04.plugins.plugin_steps import PluginSteps
from base04.records.audit import AuditLog
from base04.resolution import Plan
from base04.selection import Selection
from base04.settings import HostSettings, load_settings
from base04.telemetry.switch import telemetry_of
from base04_hookspecs.app import ActionPackSource, ActionSource, ApplicationHealth, ReloadReport
from base04_hookspecs.context import LOCAL, Principal, RequestContext, current_request
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.errors import ManagerUnavailable
from base04_hookspecs.manager import Manager
from base04_hookspecs.module import ModuleInfo
from base04_hookspecs.redis import RedisManager

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
        blueprint = Blueprint(
            loaded,
            self.folder.path,
            extra_plugins=plugins,
            safe_mode=safe_mode,
            only=only,
            disabled=frozenset() if safe_mode else self._switched_off(),
        )
        self.succession = Succession(self, blueprint)
        self.draining = False
        self.health = HealthMonitor(self, self.settings.server.health_interval)
        self._lifecycle = asyncio.Lock()
        renewal = Renewal(self)
        self._changeover = Changeover(self, renewal)
        self._recovery = Recovery(self, renewal)
        self._rotation = Rotation(self, renewal)
        self._retirement = Retirement(self)
        self.steps = PluginSteps(self, renewal.collect_anew)
        self.packs_not_ready: dict[tuple[str, str], str] = {}
        self.audit = AuditLog(self)
        self.executions = Executions(self)
        self.counts = Counts()
        kept = self.settings.executions
        self.idempotency = Idempotency(self._default_database, kept.lease, kept.keep_answers)
        self.telemetry: Telemetry | None = None

    def _data_folder(self, path: Path) -> DataFolder:
        return DataFolder(path)

    def _switched_off(self) -> frozenset[str]:
        return self.choices.read()

    # The way from entry points to running managers

    @property
    def blueprint(self) -> Blueprint:
        """What this host is; for a manager that is started for the next generation, what it is about to be."""
        return self.succession.blueprint

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
            if self.succession.newest is not None:
                return
            plan = self.plan
            telemetry = telemetry_of(self.settings.telemetry)
            self.folder.acquire()
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
        await self.succession.begin(plan)
        await self.audit.start()
        await self.executions.start()
        self.idempotency.start()
        await self.steps.start_up(self.generation)
        self.health.start()
        self._recovery.start()
        self._rotation.start()

    async def succeeded(self, previous: Generation | None, current: Generation) -> None:
        """Let everything that looks after a generation look after the one that has just taken over."""
        self.steps.adopt(current)
        await self.audit.adopt(current)
        await self.executions.adopt()
        if previous is not None:
            self._retirement.begin(previous, current)
            self._rotation.look()
            self._recovery.start()

    async def stop(self) -> None:
        """Stop all managers in reverse order. Does nothing where nothing runs.

        Raises:
            StopError: some failed to stop; all others were stopped.
        """
        async with self._lifecycle:
            generation = self.succession.newest
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
        errors = await self.succession.end()
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
        generation = self.succession.newest
        if generation is None:
            from base04.http.problems import not_started

            await not_started(scope, receive, send)
        elif scope["type"] == "http":
            await generation.serve(scope, receive, send)
        else:
            await generation.asgi(scope, receive, send)

    def run(self, app: Starlette | None = None, **kwargs: Any) -> None:
        """Serve until a signal ends it. ``kwargs`` (``host``, ``port``) take the place of settings."""
        from base04.server.serving import run

        run(self, app, **kwargs)

    def _default_database(self) -> DatabaseManager | None:
        found = self.succession.newest.find("database") if self.succession.newest is not None else None
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
        generation = pinned_generation() or self.succession.newest
        if generation is None:
            raise ManagerUnavailable("The host has not started: call `await app.start()` first.")
        return generation

    @property
    def newest(self) -> Generation | None:
        """The generation that new requests use, None where the host does not run."""
        return self.succession.newest

    def is_initialized(self) -> bool:
        """Tell whether everything has started."""
        return self.succession.newest is not None

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
        generation = pinned_generation() or self.newest
        return describe_plugins(self.blueprint, generation, self.steps.waits, self.succession.hook_timings)

    def list_action_sources(self) -> list[ActionSource]:
        """Return the packages that offer action packs, by name."""
        return list(self.discovery.action_sources)

    def list_action_packs(self) -> list[ActionPackSource]:
        """Return the packs that plugins define, by the names of the plugins."""
        packs, self.packs_not_ready = collect_packs(self.discovery)
        return packs
