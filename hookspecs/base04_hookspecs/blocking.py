"""The contracts for code that is not async.

Each class has the methods of its namesake without ``async``, but for those that only the host calls. Code
that is not async annotates with these classes, and the host hands it blocking proxies of the managers.

Generated: do not edit, run ``python -m base04_hookspecs._generate_blocking``.
"""

# mypy: disable-error-code="type-abstract"
# CONTRACTS holds abstract classes to compare with, never to make one.

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from base04_hookspecs import (
    action_discovery,
    api_key,
    database,
    executor,
    hooks,
    jwt,
    manager,
    module,
    rate_limiter,
    redis,
    services,
    state,
    vault,
    websocket,
)
from base04_hookspecs.action_discovery import ActionInfo, ActionListing, DefinitionFault, DiscoveryReport, PackInfo
from base04_hookspecs.api_key import ApiKeyInfo
from base04_hookspecs.app import ActionPackSource, ActionSource, ApplicationHealth, ReloadReport
from base04_hookspecs.context import Principal
from base04_hookspecs.database import Migration, Operation, PoolStatus, TableSchema, Where
from base04_hookspecs.executor import ExecutionJob, Perform, QueueStatus
from base04_hookspecs.health import HealthReport
from base04_hookspecs.hooks import HookCallback, HookInfo
from base04_hookspecs.jwt import ClaimsSource, TokenPair
from base04_hookspecs.markers import AccessRole
from base04_hookspecs.module import ModuleInfo
from base04_hookspecs.rate_limiter import OnUnavailable, RateLimit, RateLimitInfo, RateLimitResult
from base04_hookspecs.redis import AtomicScript, GapCallback, MessageCallback
from base04_hookspecs.services import ServiceHook, ServiceInfo
from base04_hookspecs.state import (
    State,
    StateCallback,
    StateChange,
    StateEvent,
    StateTransition,
    StateType,
    TransitionTable,
)
from base04_hookspecs.vault import RotationCallback, VaultConnectionInfo
from base04_hookspecs.websocket import EventHandler, Position, RoomHistory, RoomInfo, SessionInfo

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import Scope


class Manager(Protocol):
    """Looks after one domain of a backend service."""

    def health_check(self) -> HealthReport:
        """Report the present health, by asking the backend rather than from memory."""


class ServicesManager(Manager, Protocol):
    """Keeps services by name; starts them with the host or when first asked for, stops them in reverse order."""

    def register_service(
        self,
        name: str,
        service_or_factory: Any,
        *,
        start: ServiceHook | None = None,
        stop: ServiceHook | None = None,
        lazy: bool = True,
    ) -> bool:
        """Make a service known: an object, or a function without parameters (``def`` or ``async def``) that makes
        it.
        """

    def get_service(self, name: str) -> Any:
        """Return a service, started; concurrent callers get the same one."""

    def unregister_service(self, name: str) -> bool:
        """Stop a service and forget it; False where there is none."""

    def list_services(self) -> list[ServiceInfo]:
        """Return all services in the order of their registration."""


class HooksManager(Manager, Protocol):
    """Calls back whoever listens to a named event, highest priority first."""

    def register_hook(self, name: str, description: str = "") -> bool:
        """Declare a hook; False where it is known. Listening and triggering work without."""

    def register_callback(self, name: str, callback: HookCallback, priority: int = 0) -> bool:
        """Call back when the hook is triggered; False where this callback listens already."""

    def unregister_callback(self, name: str, callback: HookCallback) -> bool:
        """Stop calling back; False where it was not listening."""

    def trigger_hook(self, name: str, /, **data: Any) -> list[Any]:
        """Call all callbacks, one after the other, and return what those that succeeded returned."""

    def has_callbacks(self, name: str) -> bool:
        """Tell whether somebody listens; where nobody does, ``trigger_hook`` need not be called. Does no I/O."""

    def list_hooks(self) -> list[HookInfo]:
        """Return all hooks that were declared, listened to or triggered, by name."""


class VaultManager(Manager, Protocol):
    """Reads, writes and watches secrets: strings at a path and a key, as in ``app/database``, ``password``."""

    def get_secret_value(self, path: str, key: str) -> str:
        """Return a secret."""

    def set_secret_value(self, path: str, key: str, value: str) -> bool:
        """Store a secret durably, keep the other keys of the path, and return True."""

    def create_secret_value(self, path: str, key: str, value: str) -> str:
        """Store a secret where there is none, and return the one that is there now: the first writer wins."""

    def delete_secret(self, path: str) -> bool:
        """Delete all keys of a path and tell whether there were any."""

    def list_secrets(self, prefix: str = "") -> list[str]:
        """Return the paths that begin with the prefix, sorted; no values."""

    def watch_secret(self, path: str, callback: RotationCallback) -> bool:
        """Call back when a secret of the path has changed, by this process or another."""

    def get_connection_info(self) -> VaultConnectionInfo:
        """Return where secrets come from."""


class DatabaseManager(Manager, Protocol):
    """Queries, transactions, and a portable core that works on SQL and document stores alike."""

    def with_access(self, access: AccessRole) -> DatabaseManager:
        """Return a view of the same instance with an access role; ``read_only`` is enforced by the server."""

    def supports_transactions(self) -> bool:
        """Tell whether several rows change together on the server at hand; asked once it has started."""

    def check_connection(self) -> bool:
        """Tell whether the database answers. Never raises for an unreachable one."""

    def execute_query(self, query: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Run one statement and return its rows as a list of dicts, or the number of rows it touched."""

    def execute_transaction(self, operations: Sequence[Operation]) -> bool:
        """Carry out all operations, in order, or none, and return True once they are durable."""

    def find(
        self,
        table: str,
        where: Where | None = None,
        order_by: Sequence[str] = (),
        limit: int | None = None,
        *,
        offset: int = 0,
        columns: Sequence[str] | None = None,
    ) -> list[dict[str, Any]]:
        """Return matching rows. ``order_by`` holds column names, ``-name`` for descending."""

    def count(self, table: str, where: Where | None = None) -> int:
        """Return how many rows match."""

    def ensure_table(self, table: TableSchema) -> None:
        """Create the table and its indexes where missing, and add missing nullable columns. Safe to repeat."""

    def migrate(self, owner: str, migrations: Sequence[Migration]) -> int:
        """Bring the stored schema of ``owner`` (a role) up to date and return its version, ``len(migrations)``."""

    def get_connection_pool_status(self) -> PoolStatus:
        """Return the use of the connection pool."""


class RedisManager(Manager, Protocol):
    """Cache, counters, atomic scripts, publish and subscribe."""

    def ping(self) -> bool:
        """Tell whether the store answers. Never raises for an unreachable one."""

    def get(self, key: str) -> Any:
        """Return the value at the key, None where there is none or it has expired."""

    def set(
        self, key: str, value: Any, ttl: float | None = None, *, only_if_absent: bool = False, tags: Iterable[str] = ()
    ) -> bool:
        """Store a JSON value for ``ttl`` seconds, or without end, and return True."""

    def delete(self, key: str) -> bool:
        """Delete the key and tell whether there was one."""

    def exists(self, key: str) -> bool:
        """Tell whether there is a value at the key."""

    def expire(self, key: str, ttl: float) -> bool:
        """Let the key live for ``ttl`` more seconds; False where there is none."""

    def ttl(self, key: str) -> float | None:
        """Return the remaining life in seconds, None for a key without end."""

    def incr(self, key: str, amount: int = 1, *, ttl: float | None = None) -> int:
        """Add to the integer at the key, 0 where there is none, and return the sum."""

    def delete_by_prefix(self, prefix: str) -> int:
        """Delete all keys that begin with the prefix and return how many; an empty prefix is refused."""

    def delete_by_tag(self, tag: str) -> int:
        """Delete all keys that were set with the tag and return how many."""

    def run_script(self, script: AtomicScript, keys: Sequence[str], args: Sequence[str | int | float]) -> Any:
        """Run an atomic script. In a cluster all keys must share a slot: build them with ``key_name(slot=...)``."""

    def local_object(self, name: str, make: Callable[[], object]) -> object | None:
        """Return the object of that name that lives as long as this store, made by the first who asks for it."""

    def publish(self, channel: str, message: Any) -> int:
        """Send a JSON message to a channel and return how many subscribers got it, as far as is known."""

    def subscribe(self, channel: str, callback: MessageCallback, *, on_gap: GapCallback | None = None) -> bool:
        """Call back for each message of a channel, in the order of arrival, from when this returns True."""

    def unsubscribe(self, channel: str, callback: MessageCallback) -> bool:
        """Stop calling back; False where there was no such subscription."""


class JWTManager(Manager, Protocol):
    """Creates, validates, refreshes and revokes tokens (RFC 7519, 8725, 9068)."""

    def create_access_token(
        self, user_id: str, additional_claims: Mapping[str, Any] | None = None, *, source: str | None = None
    ) -> str:
        """Create an access token; ``additional_claims`` may not replace a registered claim."""

    def create_refresh_token(self, user_id: str, *, source: str | None = None) -> str:
        """Create a refresh token, the first of a new family."""

    def register_claims_source(self, name: str, source: ClaimsSource) -> None:
        """Make a source of claims known, such as ``api_key`` for tokens that were had for an API key."""

    def claims_sources(self) -> Mapping[str, ClaimsSource]:
        """Return the sources that are known, by name, for the instance that takes the place of this one."""

    def validate_token(self, token: str) -> dict[str, Any]:
        """Return the payload of an access token that is valid now."""

    def refresh_token(self, refresh_token: str) -> TokenPair:
        """Give a new pair for a refresh token, which is then used up."""

    def blacklist_token(self, token: str) -> bool:
        """Revoke a token, with its family if it is a refresh token; False if it could not have been used anyway."""

    def is_still_valid(self, token: str) -> bool:
        """Tell at once, asking nobody, that an access token is valid now and its payload is what it was."""

    def is_token_blacklisted(self, token: str) -> bool:
        """Tell whether a token is revoked, by itself, its family, its user or its API key."""

    def revoke_user_tokens(self, user_id: str) -> bool:
        """Revoke all tokens of a user that were issued until now."""

    def revoke_source_tokens(self, source: str) -> bool:
        """Revoke all tokens that came from a source, such as ``api_key:<id>``."""

    def get_jwks(self) -> dict[str, Any]:
        """Return the public keys as a JWK set (RFC 7517); an empty one where keys are symmetric."""

    def rotate_keys(self, *, revoke: bool = False) -> str:
        """Make a new signing key and return its id (``kid``)."""


class ApiKeyManager(Manager, Protocol):
    """Generates, validates and revokes API keys. A key is shown once; only a keyed hash of it is kept."""

    def generate_api_key(
        self,
        user_id: str,
        permissions: Sequence[str] | None = None,
        *,
        name: str = "",
        expires_in: float | None = None,
        rate_limit: str | None = None,
    ) -> str:
        """Create a key and return it; it cannot be had again. ``expires_in`` is in seconds."""

    def validate_api_key(self, api_key: str) -> ApiKeyInfo:
        """Return what is known of a key that is valid now."""

    def revoke_api_key(self, api_key: str) -> bool:
        """Revoke a key durably; False where there is none or it is revoked already."""

    def roll_api_key(self, api_key: str, *, overlap: float = 0.0) -> str:
        """Create a key that takes the place of another, which goes on for ``overlap`` seconds, and return it."""

    def get_api_key_info(self, api_key: str) -> ApiKeyInfo:
        """Return what is known of a key, valid or not."""

    def update_api_key_permissions(self, api_key: str, permissions: Sequence[str]) -> bool:
        """Replace the permissions of a key; False where there is none. Within a request as ``generate_api_key``."""

    def list_api_keys(
        self, user_id: str | None = None, *, limit: int = 100, offset: int = 0, include_revoked: bool = False
    ) -> list[ApiKeyInfo]:
        """Return keys, newest first, of one user or all."""


class StateManager(Manager, Protocol):
    """Keeps states in the database, with a history entry for each change in the same transaction."""

    def register_state(
        self,
        state_id: str,
        state_type: StateType | str,
        initial_data: Mapping[str, Any],
        allowed_transitions: Sequence[StateTransition | str] | None = None,
        *,
        ttl: float | None = None,
    ) -> bool:
        """Create a state with version 1 and status ``active``; ``allowed_transitions`` narrows what may follow."""

    def get_state(self, state_id: str, *, fresh: bool = False) -> State | None:
        """Return a state, None where there is none; ``fresh`` reads the database, past any cache."""

    def update_state(
        self,
        state_id: str,
        new_data: Mapping[str, Any],
        transition: StateTransition | str | None = None,
        *,
        expected_version: int | None = None,
        ttl: float | None = None,
    ) -> bool:
        """Merge data into a state at the top level and make a transition, ``update`` where none is given."""

    def replace_state(
        self,
        state_id: str,
        new_data: Mapping[str, Any],
        transition: StateTransition | str | None = None,
        *,
        expected_version: int | None = None,
        ttl: float | None = None,
    ) -> bool:
        """As ``update_state``, with the data replaced as a whole."""

    def delete_state(self, state_id: str, *, expected_version: int | None = None) -> bool:
        """Delete a state and keep its history; False where there is none."""

    def get_state_history(
        self, state_id: str, limit: int | None = None, *, before_version: int | None = None
    ) -> list[StateChange]:
        """Return the changes of a state, newest first; those of a deleted state too."""

    def register_callback(self, state_id: str, callback: StateCallback, *, name: str | None = None) -> bool:
        """Call back after changes of a state, of a prefix (``user_*``) or of a type (``type:session``)."""

    def unregister_callback(self, state_id: str, callback: StateCallback) -> bool:
        """Stop calling back in this process; False where there was no such callback."""

    def forget_callback(self, name: str) -> bool:
        """End a durable callback in all processes, and drop all that waits for it; False where there is none."""

    def get_events(
        self, name: str | None = None, *, status: Literal["waiting", "parked"] | None = None, limit: int = 100
    ) -> list[StateEvent]:
        """Return what durable callbacks have not taken in yet, of one name or of all, in order of version."""

    def retry_event(self, name: str, event_id: str) -> bool:
        """Deliver a parked event again, now; False where there is no such event."""

    def discard_event(self, name: str, event_id: str) -> bool:
        """Drop a parked event for good; False where there is no such event."""

    def register_transitions(self, state_type: StateType | str, transitions: TransitionTable) -> bool:
        """Add transitions for a type of state, or a type of a plugin's own, to the standard ones."""

    def watch(self, state_id: str, *, from_version: int | None = None) -> Iterator[StateChange]:
        """Yield the changes of a state after ``from_version``, or from now on, without end."""


class RateLimiterManager(Manager, Protocol):
    """Limits by address (``ip``), ``user``, ``api_key`` and ``action``."""

    def check_rate_limit(
        self,
        limit_types: Sequence[str],
        *,
        identifiers: Mapping[str, str] | None = None,
        limits: Mapping[str, Sequence[RateLimit]] | None = None,
        cost: int = 1,
        on_unavailable: OnUnavailable | None = None,
    ) -> RateLimitResult:
        """Check the limits of all types and, if all allow it, consume ``cost`` from each."""

    def get_rate_limit_info(self, identifier: str, limit_type: str) -> RateLimitInfo:
        """Return how an identifier stands, without consuming anything."""

    def reset_rate_limit(self, identifier: str, limit_type: str) -> bool:
        """Forget what an identifier has consumed; False where nothing was counted."""

    def ban_identifier(
        self, identifier: str, duration: float | None = None, *, limit_type: str | None = None, reason: str = ""
    ) -> bool:
        """Refuse everything from an identifier for ``duration`` seconds, or without end."""

    def unban_identifier(self, identifier: str) -> bool:
        """Lift the bans of an identifier; False where there were none."""


class ActionDiscoveryManager(Manager, Protocol):
    """Finds actions in packs and folders, checks their definitions, and keeps the catalogue that the host runs from."""

    def discover_all_actions(self) -> DiscoveryReport:
        """Read all packs and folders anew. A pack with a fault keeps its last good version, where it had one."""

    def find_action(self, action_name: str) -> ActionInfo | None:
        """Return what is known of an action, by full or unambiguous short name; None where there is none."""

    def validate_action_args(self, action_info: ActionInfo, args: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments with defaults filled."""

    def execute_action_logic(self, action_info: ActionInfo, args: Mapping[str, Any]) -> Any:
        """Run an action through the host's pipeline, as the current principal, and return its result."""

    def list_all_actions(self) -> ActionListing:
        """Return all actions by full name."""

    def list_packs(self) -> dict[str, PackInfo]:
        """Return the packs by name, with all their actions, also those that operators have switched off."""

    def get_faults(self) -> list[DefinitionFault]:
        """Return what is wrong with action files as they were last read, ordered by file and line."""


class ExecutorManager(Manager, Protocol):
    """Performs executions, a bounded number at once."""

    def bind(self, perform: Perform) -> None:
        """Take the way to perform executions in this process. The host calls it once, after start."""

    def submit(self, job: ExecutionJob) -> None:
        """Accept a job, to be performed when there is room. One that waits or runs already is not taken twice."""

    def cancel(self, execution_id: str) -> bool:
        """Drop a job that waits, or cancel what performs it; False where neither is known here."""

    def get_queue_status(self) -> QueueStatus:
        """Return how much there is to do."""

    def drain(self) -> None:
        """Take nothing more, and begin nothing that waits; what runs goes on. Called before the host stops."""


class WebSocketManager(Manager, Protocol):
    """Connections, rooms, and events to everyone in a room."""

    def initialize(self, app: Starlette, use_builtin_handlers: bool = True) -> None:
        """Serve the WebSocket endpoint from an existing Starlette application too."""

    def emit_to_room(self, room: str, event: str, data: Any) -> int:
        """Send an event to everyone in a room and return how many connections of this process it was queued for."""

    def join_room(self, room: str, sid: str | None = None) -> bool:
        """Put a connection into a room; without ``sid`` the one being served. False where there is no such one."""

    def leave_room(self, room: str, sid: str | None = None) -> bool:
        """Take a connection out of a room; False where it was not in it."""

    def get_room_info(self, room: str) -> RoomInfo:
        """Return who is in a room; an empty one where nobody is."""

    def list_rooms(self) -> list[str]:
        """Return the rooms that somebody is in, sorted."""

    def room_history(self, room: str, since: Position | None = None) -> RoomHistory:
        """Return the events after ``since``, or all that are kept."""

    def list_sessions(self, user_id: str | None = None) -> list[SessionInfo]:
        """Return the connections of this process, of one user or all."""

    def get_session(self, sid: str | None = None) -> SessionInfo | None:
        """Return a connection of this process; without ``sid`` the one being served. None where there is none."""

    def set_metadata(self, metadata: Mapping[str, Any], sid: str | None = None) -> bool:
        """Note something about a connection, for as long as it lasts; a key with None is forgotten."""

    def disconnect(self, sid: str, *, code: int = 1000, reason: str = "") -> bool:
        """Close a connection; False where there is no such one."""

    def register_handler(self, event: str, handler: EventHandler) -> bool:
        """Answer an event that clients send; False where it has a handler."""


class ModuleManager(Manager, Protocol):
    """Lists, inspects and switches the plugins of a running host."""

    def list_modules(self) -> list[ModuleInfo]:
        """Return all plugins that were found, those left out and those that failed included, by name."""

    def get_module(self, name: str) -> ModuleInfo:
        """Return one plugin."""

    def get_module_health(self, name: str) -> HealthReport:
        """Return the worst health of the running managers that a plugin provides; healthy where it has none."""

    def enable_module(self, name: str) -> bool:
        """Let a plugin take part, from the next request on; False where it did already."""

    def disable_module(self, name: str, *, swap: bool = False) -> bool:
        """Take a plugin out, from the next request on; False where it was out already."""

    def reload_module(self, name: str) -> bool:
        """Read the settings and action files of a plugin anew."""


class AppManager(Protocol):
    """A live view of the host: it answers from the generation that the present request has pinned, or the newest."""

    @property
    def data_dir(self) -> Path:
        """The folder that holds what this host keeps."""

    def start(self) -> None:
        """Discover, select, resolve and start everything. Does nothing where it has started."""

    def stop(self) -> None:
        """Stop all managers in reverse order; errors are reported together. Does nothing where nothing runs."""

    def initialize(self, app: Starlette) -> None:
        """Join an existing Starlette application: start and stop with it, and serve what it does not serve itself."""

    def is_initialized(self) -> bool:
        """Tell whether everything has started."""

    def check_database_connection(self) -> bool:
        """Tell whether the default database answers."""

    def check_redis_connection(self) -> bool:
        """Tell whether the default ``redis`` answers."""

    def health_check(self) -> ApplicationHealth:
        """Ask all managers for their health, at the same time and each under a timeout."""

    def run(self, app: Starlette | None = None, **kwargs: Any) -> None:
        """Serve until a signal ends it. ``kwargs`` (``host``, ``port``) take the place of settings."""

    def get_manager(self, role: str, instance: str = "default") -> Manager:
        """Return a running manager."""

    def run_action(
        self, name: str, args: Mapping[str, Any] | None = None, *, principal: Principal | None = None
    ) -> Any:
        """Run an action through the whole pipeline, as ``principal`` or else whoever the current request is for."""

    def identify(self, scope: Scope) -> Principal:
        """Return who a request comes from. For middleware, which is called before the host asks that."""

    def reload(self, *, dry_run: bool = False) -> ReloadReport:
        """Read settings, plugins and action packs anew, and move over to what has changed, in one step."""

    def enable_plugin(self, name: str) -> bool:
        """Let a plugin take part, from the next request on and after restarts; False where it does already."""

    def disable_plugin(self, name: str, *, swap: bool = False) -> bool:
        """Take a plugin out, from the next request on and after restarts; False where it is out already."""

    def reload_plugin(self, name: str) -> bool:
        """Do what ``reload`` does, and renew what a plugin provides even where nothing has changed."""

    def list_plugins(self) -> list[ModuleInfo]:
        """Return all plugins that were found, by name."""

    def list_action_sources(self) -> list[ActionSource]:
        """Return the packages that offer action packs, by name."""

    def list_action_packs(self) -> list[ActionPackSource]:
        """Return the packs that plugins define, by the names of the plugins; asks the plugins each time."""

    def get_db_manager(self, role: AccessRole = "read_write", name: str = "default") -> DatabaseManager:
        """Return a database instance with an access role."""

    def get_state_manager(self) -> StateManager:
        """Return the default ``state`` manager."""

    def get_redis_manager(self) -> RedisManager:
        """Return the default ``redis`` manager."""

    def get_websocket_manager(self) -> WebSocketManager:
        """Return the default ``websocket`` manager."""

    @property
    def jwt_manager(self) -> JWTManager:
        """The default ``jwt`` manager."""

    @property
    def api_key_manager(self) -> ApiKeyManager:
        """The default ``api_key`` manager."""

    @property
    def vault_manager(self) -> VaultManager:
        """The default ``vault`` manager."""

    @property
    def rate_limiter_manager(self) -> RateLimiterManager:
        """The default ``rate_limiter`` manager."""

    @property
    def action_discovery_manager(self) -> ActionDiscoveryManager:
        """The default ``action_discovery`` manager."""

    @property
    def module_manager(self) -> ModuleManager:
        """The default ``module`` manager."""

    @property
    def services_manager(self) -> ServicesManager:
        """The default ``services`` manager."""

    @property
    def hooks_manager(self) -> HooksManager:
        """The default ``hooks`` manager."""


CONTRACTS: Final[Mapping[type, type[manager.Manager]]] = MappingProxyType(
    {
        ServicesManager: services.ServicesManager,
        HooksManager: hooks.HooksManager,
        VaultManager: vault.VaultManager,
        DatabaseManager: database.DatabaseManager,
        RedisManager: redis.RedisManager,
        JWTManager: jwt.JWTManager,
        ApiKeyManager: api_key.ApiKeyManager,
        StateManager: state.StateManager,
        RateLimiterManager: rate_limiter.RateLimiterManager,
        ActionDiscoveryManager: action_discovery.ActionDiscoveryManager,
        ExecutorManager: executor.ExecutorManager,
        WebSocketManager: websocket.WebSocketManager,
        ModuleManager: module.ModuleManager,
    }
)
"""For each blocking contract of a manager the contract of the role."""
