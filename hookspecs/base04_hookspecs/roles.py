"""All roles that Base04 knows, with the modules of their contracts."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Final

from base04_hookspecs import (
    action_discovery,
    api_key,
    database,
    executor,
    hooks,
    host_hooks,
    jwt,
    module,
    rate_limiter,
    redis,
    services,
    state,
    vault,
    websocket,
)
from base04_hookspecs.manager import Manager

ROLES: Final[Mapping[str, type[Manager]]] = MappingProxyType(
    {
        contract.role: contract
        for contract in (
            services.ServicesManager,
            hooks.HooksManager,
            vault.VaultManager,
            database.DatabaseManager,
            redis.RedisManager,
            jwt.JWTManager,
            api_key.ApiKeyManager,
            state.StateManager,
            rate_limiter.RateLimiterManager,
            action_discovery.ActionDiscoveryManager,
            executor.ExecutorManager,
            websocket.WebSocketManager,
            module.ModuleManager,
        )
    }
)
"""The contract of each role, in the order in which the specification starts them."""

HOOK_SPECIFICATIONS: Final[tuple[ModuleType, ...]] = (
    action_discovery,
    api_key,
    database,
    executor,
    hooks,
    host_hooks,
    jwt,
    module,
    rate_limiter,
    redis,
    services,
    state,
    vault,
    websocket,
)
"""The modules whose functions are the hook specifications."""
