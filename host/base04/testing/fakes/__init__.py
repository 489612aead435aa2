"""Fakes of the roles, for tests of plugins that need no host: ``fake_redis``, ``fake_database``, ...

A fake has everything that its contract has, in memory or in a temporary folder, and passes the conformance suite of its
role: behind it is the embedded provider, so that it cannot drift away from the real thing. In front of it a test
notes calls and injects failures (``Fake``) and moves time (``Clock``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from base04.testing.fakes.controls import Call, Fake, fake_class

if TYPE_CHECKING:
    from base04_hookspecs.action_discovery import ActionDiscoveryManager
    from base04_hookspecs.api_key import ApiKeyManager
    from base04_hookspecs.database import DatabaseManager
    from base04_hookspecs.executor import ExecutorManager
    from base04_hookspecs.hooks import HooksManager
    from base04_hookspecs.jwt import JWTManager
    from base04_hookspecs.module import ModuleManager
    from base04_hookspecs.rate_limiter import RateLimiterManager
    from base04_hookspecs.redis import RedisManager
    from base04_hookspecs.services import ServicesManager
    from base04_hookspecs.state import StateManager
    from base04_hookspecs.vault import VaultManager
    from base04_hookspecs.websocket import WebSocketManager

    class FakeActionDiscovery(Fake, ActionDiscoveryManager): ...

    class FakeApiKey(Fake, ApiKeyManager): ...

    class FakeDatabase(Fake, DatabaseManager): ...

    class FakeExecutor(Fake, ExecutorManager): ...

    class FakeHooks(Fake, HooksManager): ...

    class FakeJWT(Fake, JWTManager): ...

    class FakeModule(Fake, ModuleManager): ...

    class FakeRateLimiter(Fake, RateLimiterManager): ...

    class FakeRedis(Fake, RedisManager): ...

    class FakeServices(Fake, ServicesManager): ...

    class FakeState(Fake, StateManager): ...

    class FakeVault(Fake, VaultManager): ...

    class FakeWebSocket(Fake, WebSocketManager): ...


_ROLES: Final = {
    "FakeActionDiscovery": "action_discovery",
    "FakeApiKey": "api_key",
    "FakeDatabase": "database",
    "FakeExecutor": "executor",
    "FakeHooks": "hooks",
    "FakeJWT": "jwt",
    "FakeModule": "module",
    "FakeRateLimiter": "rate_limiter",
    "FakeRedis": "redis",
    "FakeServices": "services",
    "FakeState": "state",
    "FakeVault": "vault",
    "FakeWebSocket": "websocket",
}

__all__ = [  # noqa: PLE0604, RUF100 - the classes are made when they are asked for
    "Call",
    "Fake",
    "FakeActionDiscovery",
    "FakeApiKey",
    "FakeDatabase",
    "FakeExecutor",
    "FakeHooks",
    "FakeJWT",
    "FakeModule",
    "FakeRateLimiter",
    "FakeRedis",
    "FakeServices",
    "FakeState",
    "FakeVault",
    "FakeWebSocket",
]


def __getattr__(name: str) -> Any:
    """Make the class of a role when it is asked for."""
    if name in _ROLES:
        from base04_hookspecs.roles import ROLES

        return fake_class(ROLES[_ROLES[name]])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
