"""The contract of the host itself: what managers, plugins and programs may ask of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from base04_hookspecs.action_discovery import ActionDiscoveryManager
from base04_hookspecs.api_key import ApiKeyManager
from base04_hookspecs.context import Principal
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.health import HealthReport, HealthStatus
from base04_hookspecs.hooks import HooksManager
from base04_hookspecs.jwt import JWTManager
from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import AccessRole
from base04_hookspecs.module import ModuleInfo, ModuleManager
from base04_hookspecs.rate_limiter import RateLimiterManager
from base04_hookspecs.redis import RedisManager
from base04_hookspecs.services import ServicesManager
from base04_hookspecs.state import StateManager
from base04_hookspecs.vault import VaultManager
from base04_hookspecs.websocket import WebSocketManager

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import Scope


class ActionSource(TypedDict):
    """A package that the host found in the entry-point group ``base04.actions``."""

    name: str
    package: str
    distribution: str
    version: str


class ActionPackSource(TypedDict):
    """A pack that a plugin defines by the hook ``action_packs``, as an action file would hold it."""

    plugin: str
    definition: Mapping[str, Any]


class WorkerReport(TypedDict):
    """One of several processes that serve as one host.

    ``worker`` is its number, from 1 on; ``status`` is ``serving``, ``starting``, ``draining``, ``silent`` (it does not
    answer) or ``down``; ``revision`` counts the changes that it has followed, and ``health`` is what its managers said
    last, None before they have.
    """

    worker: int
    pid: int | None
    status: Literal["serving", "starting", "draining", "silent", "down"]
    revision: int
    health: HealthStatus | None


class ApplicationHealth(TypedDict):
    """The health of the whole: the worst status of what is required, and each manager's own report.

    Where several processes serve, ``GET /health`` adds ``workers``, and the ``revision`` that all should serve.
    """

    status: HealthStatus
    managers: dict[str, HealthReport]
    revision: NotRequired[int]
    workers: NotRequired[list[WorkerReport]]


class ReloadReport(TypedDict):
    """What a reload found, and did unless it was a dry run.

    ``settings`` are the keys that were ``added``, ``removed`` or ``changed``, without their values; ``plugins`` maps
    the names of those that changed to ``enabled``, ``disabled``, ``failed``, ``gone`` or ``changed``; ``started``,
    ``renewed`` and ``stopped`` are managers, in the order in which they start; ``providers`` has the managers that
    somebody else provides from then on, each with who did and who does. ``restart_needed`` says, in sentences, what
    takes effect only when the host starts again. ``generation`` is the number of the one that serves.
    """

    applied: bool
    settings: list[str]
    plugins: dict[str, str]
    started: list[str]
    renewed: list[str]
    stopped: list[str]
    providers: dict[str, str]
    restart_needed: list[str]
    generation: int


class AppManager(ABC):
    """A live view of the host: it answers from the generation that the present request has pinned, or the newest.

    A manager that takes it in its constructor starts after every manager that does not depend on it, and uses it only
    once it has started.
    """

    @property
    @abstractmethod
    def data_dir(self) -> Path:
        """The folder that holds what this host keeps."""

    @abstractmethod
    async def start(self) -> None:
        """Discover, select, resolve and start everything. Does nothing where it has started."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop all managers in reverse order; errors are reported together. Does nothing where nothing runs."""

    @abstractmethod
    def initialize(self, app: Starlette) -> None:
        """Join an existing Starlette application: start and stop with it, and serve what it does not serve itself."""

    @abstractmethod
    def is_initialized(self) -> bool:
        """Tell whether everything has started."""

    @abstractmethod
    async def check_database_connection(self) -> bool:
        """Tell whether the default database answers."""

    @abstractmethod
    async def check_redis_connection(self) -> bool:
        """Tell whether the default ``redis`` answers."""

    @abstractmethod
    async def health_check(self) -> ApplicationHealth:
        """Ask all managers for their health, at the same time and each under a timeout."""

    @abstractmethod
    def run(self, app: Starlette | None = None, **kwargs: Any) -> None:
        """Serve until a signal ends it. ``kwargs`` (``host``, ``port``) take the place of settings."""

    @abstractmethod
    def get_manager(self, role: str, instance: str = "default") -> Manager:
        """Return a running manager.

        Raises:
            NotFound: there is no such role or instance, or it is switched off; the message has those that there are.
            ManagerUnavailable: it is not required and not up just now, or the host has not started.
        """

    @abstractmethod
    async def run_action(
        self, name: str, args: Mapping[str, Any] | None = None, *, principal: Principal | None = None
    ) -> Any:
        """Run an action through the whole pipeline, as ``principal`` or else whoever the current request is for.

        Outside of a request it is the program itself that calls, which may do everything.
        """

    @abstractmethod
    async def identify(self, scope: Scope) -> Principal:
        """Return who a request comes from. For middleware, which is called before the host asks that.

        It is who the host will find: anonymous where nothing is shown, or, for a WebSocket connection, where a token is
        shown otherwise than in a header. Nothing is counted: who answers a request instead of handing it on should
        hand on what cannot be identified, for the host to refuse and to count.

        Raises:
            AuthenticationError: what is shown does not prove it.
            ManagerUnavailable: whether it does cannot be known just now.
        """

    @abstractmethod
    async def reload(self, *, dry_run: bool = False) -> ReloadReport:
        """Read settings, plugins and action packs anew, and move over to what has changed, in one step.

        New instances start beside the old ones, for managers whose settings, provider or plugin changed and for whoever
        depends on them; requests under way go on with the old ones to their end. ``dry_run`` only says what would be
        done.

        Raises:
            Conflict: what was found cannot serve; the message says why, and nothing has changed.
        """

    @abstractmethod
    async def enable_plugin(self, name: str) -> bool:
        """Let a plugin take part, from the next request on and after restarts; False where it does already.

        Raises:
            NotFound: there is no such plugin.
            Conflict: it cannot take part; the message says why, and nothing has changed.
        """

    @abstractmethod
    async def disable_plugin(self, name: str, *, swap: bool = False) -> bool:
        """Take a plugin out, from the next request on and after restarts; False where it is out already.

        Raises:
            NotFound: there is no such plugin.
            Conflict: it provides a running manager, and ``swap`` is false or nobody else provides it; the message lists
                who depends on it, and nothing has changed.
        """

    @abstractmethod
    async def reload_plugin(self, name: str) -> bool:
        """Do what ``reload`` does, and renew what a plugin provides even where nothing has changed.

        Raises:
            NotFound: there is no such plugin.
            Conflict: what was found cannot serve; the message says why, and nothing has changed.
        """

    @abstractmethod
    def list_plugins(self) -> list[ModuleInfo]:
        """Return all plugins that were found, by name."""

    @abstractmethod
    def list_action_sources(self) -> list[ActionSource]:
        """Return the packages that offer action packs, by name."""

    @abstractmethod
    def list_action_packs(self) -> list[ActionPackSource]:
        """Return the packs that plugins define, by the names of the plugins; asks the plugins each time."""

    @abstractmethod
    def get_db_manager(self, role: AccessRole = "read_write", name: str = "default") -> DatabaseManager:
        """Return a database instance with an access role."""

    @abstractmethod
    def get_state_manager(self) -> StateManager:
        """Return the default ``state`` manager."""

    @abstractmethod
    def get_redis_manager(self) -> RedisManager:
        """Return the default ``redis`` manager."""

    @abstractmethod
    def get_websocket_manager(self) -> WebSocketManager:
        """Return the default ``websocket`` manager."""

    @property
    @abstractmethod
    def jwt_manager(self) -> JWTManager:
        """The default ``jwt`` manager."""

    @property
    @abstractmethod
    def api_key_manager(self) -> ApiKeyManager:
        """The default ``api_key`` manager."""

    @property
    @abstractmethod
    def vault_manager(self) -> VaultManager:
        """The default ``vault`` manager."""

    @property
    @abstractmethod
    def rate_limiter_manager(self) -> RateLimiterManager:
        """The default ``rate_limiter`` manager."""

    @property
    @abstractmethod
    def action_discovery_manager(self) -> ActionDiscoveryManager:
        """The default ``action_discovery`` manager."""

    @property
    @abstractmethod
    def module_manager(self) -> ModuleManager:
        """The default ``module`` manager."""

    @property
    @abstractmethod
    def services_manager(self) -> ServicesManager:
        """The default ``services`` manager."""

    @property
    @abstractmethod
    def hooks_manager(self) -> HooksManager:
        """The default ``hooks`` manager."""
