"""The accessors that the specification's examples use: one for each role."""

from __future__ import annotations

from typing import cast

from base04_hookspecs import app as contract
from base04_hookspecs.action_discovery import ActionDiscoveryManager
from base04_hookspecs.api_key import ApiKeyManager
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.hooks import HooksManager
from base04_hookspecs.jwt import JWTManager
from base04_hookspecs.markers import AccessRole
from base04_hookspecs.module import ModuleManager
from base04_hookspecs.rate_limiter import RateLimiterManager
from base04_hookspecs.redis import RedisManager
from base04_hookspecs.services import ServicesManager
from base04_hookspecs.state import StateManager
from base04_hookspecs.vault import VaultManager
from base04_hookspecs.websocket import WebSocketManager


class ManagerAccessors(contract.AppManager):
    """Finds every default manager by ``get_manager``."""

    def get_db_manager(self, role: AccessRole = "read_write", name: str = "default") -> DatabaseManager:
        """Return a database instance with an access role."""
        return cast("DatabaseManager", self.get_manager("database", name)).with_access(role)

    def get_state_manager(self) -> StateManager:
        """Return the default ``state`` manager."""
        return cast("StateManager", self.get_manager("state"))

    def get_redis_manager(self) -> RedisManager:
        """Return the default ``redis`` manager."""
        return cast("RedisManager", self.get_manager("redis"))

    def get_websocket_manager(self) -> WebSocketManager:
        """Return the default ``websocket`` manager."""
        return cast("WebSocketManager", self.get_manager("websocket"))

    @property
    def jwt_manager(self) -> JWTManager:
        """The default ``jwt`` manager."""
        return cast("JWTManager", self.get_manager("jwt"))

    @property
    def api_key_manager(self) -> ApiKeyManager:
        """The default ``api_key`` manager."""
        return cast("ApiKeyManager", self.get_manager("api_key"))

    @property
    def vault_manager(self) -> VaultManager:
        """The default ``vault`` manager."""
        return cast("VaultManager", self.get_manager("vault"))

    @property
    def rate_limiter_manager(self) -> RateLimiterManager:
        """The default ``rate_limiter`` manager."""
        return cast("RateLimiterManager", self.get_manager("rate_limiter"))

    @property
    def action_discovery_manager(self) -> ActionDiscoveryManager:
        """The default ``action_discovery`` manager."""
        return cast("ActionDiscoveryManager", self.get_manager("action_discovery"))

    @property
    def module_manager(self) -> ModuleManager:
        """The default ``module`` manager."""
        return cast("ModuleManager", self.get_manager("module"))

    @property
    def services_manager(self) -> ServicesManager:
        """The default ``services`` manager."""
        return cast("ServicesManager", self.get_manager("services"))

    @property
    def hooks_manager(self) -> HooksManager:
        """The default ``hooks`` manager."""
        return cast("HooksManager", self.get_manager("hooks"))
