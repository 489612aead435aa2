"""The same host and managers for code that is not async.

``AppManager`` runs a host on an event loop of its own, in a background thread, and hands out blocking proxies of its
managers. ``run(app)`` serves on that loop. Another server may serve the application over HTTP, which is then handed
over to that loop; WebSocket connections have to be served by ``run``.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from base04.app_manager import AppManager as AsyncAppManager
from base04.proxies import blocking_form, blocking_proxy, refuse_own_thread, run_on_loop
from base04.server.exit_calls import ExitCalls
from base04.server.foreground import ForegroundServer
from base04.server.loop_bridge import OnLoop
from base04.server.loop_thread import LoopThread
from base04.settings import HostSettings
from base04_hookspecs import blocking as contracts
from base04_hookspecs.app import ActionPackSource, ActionSource, ApplicationHealth, ReloadReport
from base04_hookspecs.context import Principal
from base04_hookspecs.errors import Conflict, ManagerUnavailable
from base04_hookspecs.markers import AccessRole
from base04_hookspecs.module import ModuleInfo

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import Receive, Scope, Send

_at_exit: Final = ExitCalls()


class AppManager(contracts.AppManager):
    """Starts, serves and stops a host, and blocks until each is done.

    The arguments are those of ``base04.AppManager``. The thread starts with the host and ends with it; a host that
    still runs when the interpreter exits is stopped then. May be used from any thread but that of the host's loop.
    """

    def __init__(
        self,
        settings: HostSettings | Mapping[str, Any] | str | Path | None = None,
        *,
        plugins: Iterable[tuple[str, object]] = (),
        safe_mode: bool = False,
        only: Iterable[str] | None = None,
    ) -> None:
        self._options: dict[str, Any] = {
            "plugins": tuple(plugins),
            "safe_mode": safe_mode,
            "only": None if only is None else tuple(only),
        }
        self._host = AsyncAppManager(settings, **self._options)
        self._changing = threading.RLock()
        self._thread: LoopThread | None = None
        self._server: ForegroundServer | None = None

    # From start to stop

    def start(self) -> None:
        """Discover, select, resolve and start everything. Does nothing where it has started."""
        self._refuse_own_thread("start")
        with self._changing:
            thread = self._begin()
            try:
                run_on_loop(thread.loop, self._host.start)
            except BaseException:
                if not self._host.is_initialized():
                    self._end()
                raise

    def stop(self) -> None:
        """Stop serving, then all managers in reverse order. Does nothing where nothing runs.

        Raises:
            StopError: some managers failed to stop; all others were stopped.
        """
        self._refuse_own_thread("stop")
        with self._changing:
            thread = self._thread
            if thread is None:
                return
            try:
                if thread.is_alive():
                    if self._server is not None:
                        self._server.end()
                    run_on_loop(thread.loop, self._host.stop)
            finally:
                self._end()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _begin(self) -> LoopThread:
        """Return the thread of the host, started."""
        if self._thread is not None and not self._thread.is_alive():
            self._end()
        if self._thread is None:
            self._thread = LoopThread()
            _at_exit.add(self, self.stop)
        return self._thread

    def _end(self) -> None:
        """End the thread; the next one gets a fresh host, since this one may have ties to the loop that goes."""
        thread, self._thread = self._thread, None
        _at_exit.discard(self)
        if thread is not None:
            thread.stop()
        self._host = AsyncAppManager(self._host.settings, **self._options)

    def _refuse_own_thread(self, method: str) -> None:
        thread = self._thread
        if thread is not None:
            refuse_own_thread(thread.loop, f"AppManager.{method}")

    def _running_loop(self) -> asyncio.AbstractEventLoop | None:
        thread = self._thread
        return thread.loop if thread is not None and thread.is_alive() else None

    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = self._running_loop()
        if loop is None:
            raise ManagerUnavailable("The host has not started: call `start()` or `initialize(app)` first.")
        return loop

    # Serving

    def initialize(self, app: Starlette) -> None:
        """Start at once and join an existing Starlette application: serve what it does not serve itself.

        Where another server than ``run`` serves the application, the host stops with it.
        """
        self.start()
        inner = app.router.lifespan_context

        @contextlib.asynccontextmanager
        async def lifespan(application: Starlette) -> AsyncIterator[Any]:
            async with self._kept_running(), inner(application) as state:
                yield state

        app.router.lifespan_context = lifespan
        app.router.default = OnLoop(self._serve, self._running_loop)

    @contextlib.asynccontextmanager
    async def _kept_running(self) -> AsyncIterator[None]:
        if asyncio.get_running_loop() is self._running_loop():  # `run` starts and stops the host itself
            yield
            return
        await asyncio.to_thread(self.start)
        try:
            yield
        finally:
            await asyncio.to_thread(self.stop)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._host.serve(scope, receive, send)

    def run(self, app: Starlette | None = None, **kwargs: Any) -> None:
        """Serve until a signal or ``stop`` ends it, then stop the host.

        ``kwargs`` (``host``, ``port``) take the place of settings. Signals are taken in the main thread alone.
        """
        self._refuse_own_thread("run")
        with self._changing:
            if self._server is not None:
                raise Conflict("The host serves already: one `run` at a time.")
            server = self._server = ForegroundServer(self._host, self._begin().loop)
        try:
            server.run(app, kwargs)
        finally:
            self._server = None
            self.stop()

    # What others ask

    @property
    def version(self) -> str:
        """The version of Base04."""
        return self._host.version

    @property
    def settings(self) -> HostSettings:
        """The settings."""
        return self._host.settings

    @property
    def data_dir(self) -> Path:
        """The folder that holds what this host keeps."""
        return self._host.data_dir

    def is_initialized(self) -> bool:
        """Tell whether everything has started."""
        return self._running_loop() is not None and self._host.is_initialized()

    def check_database_connection(self) -> bool:
        """Tell whether the default database answers."""
        answer: bool = run_on_loop(self._loop(), self._host.check_database_connection)
        return answer

    def check_redis_connection(self) -> bool:
        """Tell whether the default ``redis`` answers."""
        answer: bool = run_on_loop(self._loop(), self._host.check_redis_connection)
        return answer

    def health_check(self) -> ApplicationHealth:
        """Ask all managers for their health, at the same time and each under a timeout."""
        health: ApplicationHealth = run_on_loop(self._loop(), self._host.health_check)
        return health

    def run_action(
        self, name: str, args: Mapping[str, Any] | None = None, *, principal: Principal | None = None
    ) -> Any:
        """Run an action through the whole pipeline, as ``principal`` or else whoever the current request is for."""
        return run_on_loop(self._loop(), self._host.run_action, name, args, principal=principal)

    def identify(self, scope: Scope) -> Principal:
        """Return who a request comes from. For middleware, which is called before the host asks that."""
        principal: Principal = run_on_loop(self._loop(), self._host.identify, scope)
        return principal

    def reload(self, *, dry_run: bool = False) -> ReloadReport:
        """Read settings, plugins and packs anew, and move over to what has changed."""
        report: ReloadReport = run_on_loop(self._loop(), self._host.reload, dry_run=dry_run)
        return report

    def enable_plugin(self, name: str) -> bool:
        """Let a plugin take part, from the next request on; False where it does already."""
        changed: bool = run_on_loop(self._loop(), self._host.enable_plugin, name)
        return changed

    def disable_plugin(self, name: str, *, swap: bool = False) -> bool:
        """Take a plugin out, from the next request on; False where it is out already."""
        changed: bool = run_on_loop(self._loop(), self._host.disable_plugin, name, swap=swap)
        return changed

    def reload_plugin(self, name: str) -> bool:
        """Read everything anew, and renew what a plugin provides even where nothing has changed."""
        changed: bool = run_on_loop(self._loop(), self._host.reload_plugin, name)
        return changed

    def list_plugins(self) -> list[ModuleInfo]:
        """Return all plugins that were found, by name."""
        return self._host.list_plugins()

    def list_action_sources(self) -> list[ActionSource]:
        """Return the packages that offer action packs, by name."""
        return self._host.list_action_sources()

    def list_action_packs(self) -> list[ActionPackSource]:
        """Return the packs that plugins define, by the names of the plugins."""
        return self._host.list_action_packs()

    def get_manager(self, role: str, instance: str = "default") -> Any:
        """Return a blocking proxy of a running manager; its type is in ``base04_hookspecs.blocking``.

        Raises:
            NotFound: there is no such role or instance.
            ManagerUnavailable: it is not up just now, or the host has not started.
        """
        loop = self._loop()
        return blocking_proxy(self._host.get_manager(role, instance), loop)

    # The accessors of the specification

    def get_db_manager(self, role: AccessRole = "read_write", name: str = "default") -> contracts.DatabaseManager:
        """Return a database instance with an access role."""
        loop = self._loop()
        manager: contracts.DatabaseManager = blocking_form(
            run_on_loop(loop, self._host.get_db_manager, role, name), loop
        )
        return manager

    def get_state_manager(self) -> contracts.StateManager:
        """Return the default ``state`` manager."""
        manager: contracts.StateManager = self.get_manager("state")
        return manager

    def get_redis_manager(self) -> contracts.RedisManager:
        """Return the default ``redis`` manager."""
        manager: contracts.RedisManager = self.get_manager("redis")
        return manager

    def get_websocket_manager(self) -> contracts.WebSocketManager:
        """Return the default ``websocket`` manager."""
        manager: contracts.WebSocketManager = self.get_manager("websocket")
        return manager

    @property
    def jwt_manager(self) -> contracts.JWTManager:
        """The default ``jwt`` manager."""
        manager: contracts.JWTManager = self.get_manager("jwt")
        return manager

    @property
    def api_key_manager(self) -> contracts.ApiKeyManager:
        """The default ``api_key`` manager."""
        manager: contracts.ApiKeyManager = self.get_manager("api_key")
        return manager

    @property
    def vault_manager(self) -> contracts.VaultManager:
        """The default ``vault`` manager."""
        manager: contracts.VaultManager = self.get_manager("vault")
        return manager

    @property
    def rate_limiter_manager(self) -> contracts.RateLimiterManager:
        """The default ``rate_limiter`` manager."""
        manager: contracts.RateLimiterManager = self.get_manager("rate_limiter")
        return manager

    @property
    def action_discovery_manager(self) -> contracts.ActionDiscoveryManager:
        """The default ``action_discovery`` manager."""
        manager: contracts.ActionDiscoveryManager = self.get_manager("action_discovery")
        return manager

    @property
    def module_manager(self) -> contracts.ModuleManager:
        """The default ``module`` manager."""
        manager: contracts.ModuleManager = self.get_manager("module")
        return manager

    @property
    def services_manager(self) -> contracts.ServicesManager:
        """The default ``services`` manager."""
        manager: contracts.ServicesManager = self.get_manager("services")
        return manager

    @property
    def hooks_manager(self) -> contracts.HooksManager:
        """The default ``hooks`` manager."""
        manager: contracts.HooksManager = self.get_manager("hooks")
        return manager
